"""The firewall plugin's verbs: rules of iptables as iptables-save shows them, and records that outlive everything."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from support import orphans
from support.firewall import PROGRAMS, Firewall, guards, mentioning, poll, records, rules
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import GO, Plugins
from support.topology import A6, A

from cni_plugins.sdk import walls
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.walls import Wall
from cni_plugins.spec.ip import parse_address
from cni_plugins.spec.record import replace
from cni_plugins.spec.steps import Plan

IPTABLES = ("nft table ip* filter", "nft chain ip* filter *", "nft rule ip* filter *")
pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, *IPTABLES, "file /run/plugins/*", "in netns *")

ENTRY = ['-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD']
ADMIN = '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j {}'
THEIRS = (
    "-A CNI-FORWARD -d {0} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A CNI-FORWARD -s {0} -j ACCEPT",
)
COMMENT = '-m comment --comment "CNI firewall plugin published ports"'
PUBLISHED = f"-A CNI-FORWARD -d {{0}} -m conntrack --ctstate DNAT {COMMENT} -j ACCEPT"


@pytest.fixture
def firewall(machine: Machine) -> Firewall:
    for name in ("a", "b", "c"):
        machine.netns(name)
    return Firewall(machine)


@pytest.fixture
def go(machine: Machine) -> Firewall:
    return Firewall(machine, Plugins(machine, GO))


def listed(machine: Machine) -> dict[str, list[str]]:
    return {program: rules(machine, "FORWARD", "CNI-FORWARD", program=program) for program in PROGRAMS}


# --- ADD --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_P7_the_result_is_passed_on_as_it_came(firewall: Firewall, version: str, backend: str) -> None:
    before = firewall.result("a", version)
    answer = firewall.add("a", version=version, backend=backend)
    assert {"dns": {}} | answer == before
    firewall.delete("a")


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1"])
def test_versions_that_have_no_check_are_not_spoken(firewall: Firewall, version: str) -> None:
    """As upstream: the firewall needs prevResult, and CHECK."""
    assert firewall.call("ADD", "a", version=version, prevResult=None).error["code"] == 1


def test_the_rules_are_the_reference_plugins_and_one_for_published_ports(firewall: Firewall, machine: Machine) -> None:
    for _again in range(2):
        firewall.add("a", backend="iptables")
        for program, cidr in zip(PROGRAMS, (f"{A}/32", f"{A6}/128"), strict=True):
            wanted = [*THEIRS, PUBLISHED]
            assert listed(machine)[program] == [
                *ENTRY,
                ADMIN.format("CNI-ADMIN"),
                *(line.format(cidr) for line in wanted),
            ]
    firewall.check("a", backend="iptables").done()
    firewall.delete("a", backend="iptables")
    assert mentioning(machine, "a") == []


def test_the_administrators_chain_is_asked_first_and_kept(firewall: Firewall, machine: Machine) -> None:
    machine.run("iptables", "-N", "SITE")
    machine.run("iptables", "-A", "SITE", "-s", A, "-j", "REJECT")
    firewall.add("a", backend="iptables", iptablesAdminChainName="SITE")
    assert listed(machine)["iptables"][1] == ADMIN.format("SITE")
    assert rules(machine, "SITE")[0].startswith(f"-A SITE -s {A}/32 -j REJECT")
    firewall.delete("a")
    assert len(rules(machine, "SITE")) == 1


def test_a_chain_that_would_mean_something_else_is_refused_and_leaves_nothing(
    firewall: Firewall, machine: Machine
) -> None:
    """`-j ACCEPT` at the head of the chain would open the host."""
    error = firewall.call("ADD", "a", backend="iptables", iptablesAdminChainName="ACCEPT").error
    assert error["msg"].startswith("iptables -w 2 -N ACCEPT: ")
    assert (records(machine), mentioning(machine, "a")) == ([], [])
    assert all(" -j ACCEPT" not in line for lines in listed(machine).values() for line in lines)


def test_an_add_of_another_mind_takes_back_what_the_first_one_put_up(firewall: Firewall, machine: Machine) -> None:
    firewall.add("a", backend="iptables")
    firewall.add("a", backend="nftables", ingressPolicy="same-bridge")
    assert mentioning(machine, "a") == []
    assert guards(machine)["guarded"] == ["cni0"]
    firewall.delete("a")
    assert (records(machine), guards(machine)) == ([], {})


def test_B8_two_interfaces_of_one_container_have_each_their_own(firewall: Firewall, machine: Machine) -> None:
    second = firewall.result("b")
    second["interfaces"][2] = {"name": "eth1", "sandbox": "/run/netns/a"}
    firewall.add("a", backend="iptables")
    firewall.add("a", ifname="eth1", backend="iptables", prevResult=second)
    firewall.delete("a", prevResult=None)
    assert mentioning(machine, "a") == []
    assert len(mentioning(machine, "b")) == 6
    firewall.delete("a", ifname="eth1", prevResult=None)
    assert (mentioning(machine, "b"), records(machine)) == ([], [])


@pytest.mark.leaves("file /run/xtables.lock")
def test_U8_the_lock_that_somebody_holds_is_waited_for_and_then_told(firewall: Firewall, machine: Machine) -> None:
    """Code 11: the runtime tries again later. iptables' legacy form is the one that has a lock."""
    machine.run("mount", "--bind", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi")
    try:
        with open("/run/xtables.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            error = firewall.call("ADD", "a", backend="iptables").error
        assert (error["code"], error["msg"]) == (11, "iptables is being used by somebody else")
        assert "lock" in error["details"]
        firewall.add("a", backend="iptables")
        assert len(mentioning(machine, "a")) == 6
        firewall.check("a").done()
        firewall.delete("a")
        assert (mentioning(machine, "a"), records(machine)) == ([], [])
    finally:
        machine.run("umount", "/usr/sbin/xtables-nft-multi")


def test_U9_U10_many_at_once_get_all_their_rules_and_leave_none(firewall: Firewall, machine: Machine) -> None:
    """The chains that all need are made by whoever comes first; nobody fails because another was quicker."""
    calls = [(name, ifname) for name in ("a", "b", "c") for ifname in ("eth0", "eth1", "eth2")]

    def all_at_once(command: str) -> None:
        started = [firewall.start(command, name, ifname, backend="iptables") for name, ifname in calls]
        assert [firewall.plugins.finish(process).exit for process in started] == [0] * len(calls)

    all_at_once("ADD")
    assert [len(mentioning(machine, name)) for name in ("a", "b", "c")] == [6, 6, 6]
    assert len(rules(machine, "FORWARD")) == 1
    all_at_once("DEL")
    assert [line for name in ("a", "b", "c") for line in mentioning(machine, name)] == []
    assert records(machine) == []


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_U10_one_attachment_may_be_deleted_by_many_at_once(firewall: Firewall, machine: Machine, backend: str) -> None:
    keys = {"backend": backend, "ingressPolicy": "same-bridge"}
    firewall.add("a", **keys)
    started = [firewall.start("DEL", "a", **keys) for _ in range(6)]
    for process in started:
        firewall.plugins.finish(process).done()
    assert (records(machine), mentioning(machine, "a"), guards(machine)) == ([], [], {})


def test_an_add_again_that_fails_takes_nothing_of_the_first_one(firewall: Firewall, machine: Machine) -> None:
    firewall.add("a", backend="iptables")
    before = listed(machine)
    Path("/run/broken").write_text("#!/bin/sh\necho no tables today >&2\nexit 3\n", encoding="utf-8")
    Path("/run/broken").chmod(0o755)
    machine.run("mount", "--bind", "/run/broken", "/usr/sbin/ip6tables")
    try:
        error = firewall.call("ADD", "a", backend="iptables").error
        assert (error["code"], "no tables today" in error["msg"]) == (50, True)
        failed = firewall.call("ADD", "b", backend="iptables").error
        assert failed["code"] == 50
    finally:
        machine.run("umount", "/usr/sbin/ip6tables")
        Path("/run/broken").unlink()
    assert listed(machine) == before
    assert [path.rpartition("/")[2] for path in records(machine) if "/on-cni0/" in path] == ["a:eth0"] * 3
    firewall.check("a").done()
    firewall.delete("a")


def test_nothing_is_accepted_that_the_guards_have_not_seen(firewall: Firewall, machine: Machine) -> None:
    """The reference plugin puts its jump to CNI-FORWARD before the one to the guards, when it finds the first gone."""
    firewall.add("a", backend="iptables", ingressPolicy="same-bridge")
    for program in PROGRAMS:
        machine.run(program, "-D", "FORWARD", "1")
        machine.run(program, "-D", "FORWARD", "1")
    firewall.add("a", backend="iptables", ingressPolicy="same-bridge")
    machine.run("iptables", "-D", "FORWARD", "2")
    machine.run("iptables", "-I", "FORWARD", "-i", "lo", "-j", "ACCEPT")
    firewall.add("b", backend="iptables")
    jumps = [line.rpartition(" ")[2] for line in rules(machine, "FORWARD")]
    assert jumps == ["ACCEPT", "CNI-ISOLATION-STAGE-1", "CNI-FORWARD"]
    for name in ("a", "b"):
        firewall.delete(name)


def test_what_the_steps_say_is_what_they_do(firewall: Firewall, machine: Machine) -> None:
    """Typed into a shell, the words of the steps leave an ADD nothing to do, and those of a DEL the DEL."""
    firewall.add("b", backend="iptables")  # so that not everything has to be made
    addresses = (parse_address(A), parse_address(A6))
    plain = Wall("net", Owner("a", "eth0"), "iptables", addresses, "isolated", "cni0", admin="CNI-ADMIN")
    for wall in (plain, replace(plain, backend="nftables")):
        with Nftables() as nftables, Plan() as plan:
            before, doing = state(machine), walls.steps(wall, nftables)
            for step in doing:
                machine.run("bash", "-ec", step.describe())
            typed = state(machine)
            plan.do(*doing)
            assert state(machine) == typed != before
            back = walls.Forget(nftables, wall.network, wall.owner)
            machine.run("bash", "-ec", back.describe())
            without = state(machine)
            back.apply()
            assert state(machine) == without
            assert back.describe() == ""
    assert [line for line in rules(machine) if A in line or " cni0" in line] == []
    assert guards(machine) == {}
    firewall.delete("b")


def state(machine: Machine) -> list[list[str]]:
    return [sorted(rules(machine, program=program)) for program in PROGRAMS] + [
        sorted(map(str, guards(machine).items()))
    ]


# --- with the reference plugin ----------------------------------------------------------------------------------------


def test_the_reference_plugin_takes_down_what_we_put_up(firewall: Firewall, go: Firewall, machine: Machine) -> None:
    """All but the rule for published ports, of which it knows nothing; GC finds that one."""
    firewall.add("a", backend="iptables", version="1.0.0")
    go.check("a", backend="iptables", version="1.0.0").done()
    go.delete("a", backend="iptables", version="1.0.0")
    left = [PUBLISHED.format(f"{A}/32"), PUBLISHED.format(f"{A6}/128")]
    assert mentioning(machine, "a") == left
    firewall.gc().done()
    assert (mentioning(machine, "a"), records(machine)) == ([], [])


def test_we_take_down_what_the_reference_plugin_put_up(firewall: Firewall, go: Firewall, machine: Machine) -> None:
    go.add("a", backend="iptables", version="1.0.0")
    assert len(mentioning(machine, "a")) == 4
    firewall.delete("a", version="1.0.0")
    assert mentioning(machine, "a") == []


def test_both_put_up_the_same_rules(firewall: Firewall, go: Firewall, machine: Machine) -> None:
    go.add("a", backend="iptables", version="1.0.0")
    theirs = listed(machine)
    firewall.add("a", backend="iptables", version="1.0.0")
    assert {key: [line for line in lines if "DNAT" not in line] for key, lines in listed(machine).items()} == theirs
    firewall.delete("a")


# --- DEL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_P9_P10_P11_B3_del_needs_neither_result_nor_namespace_nor_configuration_and_works_twice(
    firewall: Firewall, machine: Machine, backend: str
) -> None:
    firewall.add("a", backend=backend, ingressPolicy="same-bridge")
    for _again in range(2):
        firewall.delete("a", netns="", prevResult=None, ingressPolicy="nonsense", backend=7)
    assert (records(machine), mentioning(machine, "a"), guards(machine)) == ([], [], {})


def test_U5_del_bears_that_the_rules_are_gone(firewall: Firewall, machine: Machine) -> None:
    for name in ("a", "b"):
        firewall.add(name, backend="iptables", ingressPolicy="isolated" if name == "b" else "open", version="1.1.0")
    machine.run("iptables", "-F")
    machine.run("ip6tables", "-D", "CNI-FORWARD", "-s", A6, "-j", "ACCEPT")
    firewall.delete("a")
    for program in PROGRAMS:
        machine.run(program, "-F")
        machine.run(program, "-X")
    firewall.delete("b")
    assert (records(machine), mentioning(machine, "a"), mentioning(machine, "b")) == ([], [], [])


def test_B3_what_a_killed_add_has_written_down_is_enough_for_del(firewall: Firewall, machine: Machine) -> None:
    """The record comes before the deed."""
    firewall.add("a", backend="iptables")
    kept = Path("/run/cni/firewall/on-cni0/a:eth0").read_bytes()
    for program in PROGRAMS:
        machine.run(program, "-F", "CNI-FORWARD")
    firewall.add("b", backend="iptables")
    assert Path("/run/cni/firewall/on-cni0/a:eth0").read_bytes() == kept
    firewall.delete("a", prevResult=None)
    assert len(mentioning(machine, "b")) == 6
    firewall.delete("b", prevResult=None)
    assert records(machine) == []


@pytest.mark.parametrize("backend", ["nftables", "iptables"])
def test_B3_an_add_that_was_killed_is_taken_down_whole(firewall: Firewall, machine: Machine, backend: str) -> None:
    keys = {"backend": backend, "ingressPolicy": "isolated"}
    record = Path("/run/cni/firewall/on-cni0/a:eth0")
    for _attempt in range(3):
        process = firewall.start("ADD", "a", **keys)
        while not record.exists() and process.poll() is None:
            pass
        assert record.exists()
        process.kill()
        process.communicate()
        poll(lambda: not any("tables" in command for command in orphans.processes().values()))
        firewall.delete("a", prevResult=None, **keys)
        assert (records(machine), mentioning(machine, "a"), guards(machine)) == ([], [], {})


def test_a_record_that_tells_nothing_is_no_reason_to_fail(firewall: Firewall) -> None:
    firewall.add("a", backend="iptables")
    record = Path("/run/cni/firewall/on-cni0/a:eth0")
    kept = record.read_text(encoding="utf-8")
    record.write_text('{"addresses": [7]}', encoding="utf-8")
    answer = firewall.call("DEL", "a")
    answer.done()
    assert "does not tell what container a eth0 has" in answer.stderr
    record.parent.mkdir()
    record.write_text(kept, encoding="utf-8")
    firewall.delete("a")


# --- CHECK ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(5))
def test_P14_B5_check_misses_every_rule(firewall: Firewall, machine: Machine, place: int) -> None:
    firewall.add("a", backend="iptables")
    firewall.check("a").done()
    chain, *words = listed(machine)["ip6tables"][place].removeprefix("-A ").split(" ", 1)
    machine.run("sh", "-c", f"ip6tables -D {chain} {words[0]}")
    error = firewall.check("a").error
    assert error["msg"].startswith("a rule is missing: ip6tables -w 2 ")
    firewall.add("a", backend="iptables")  # and ADD puts it back
    firewall.check("a").done()
    firewall.delete("a")


def test_check_sees_what_add_was_not_asked_for(firewall: Firewall) -> None:
    firewall.add("a", backend="nftables")
    firewall.check("a").done()
    error = firewall.check("a", backend="iptables").error
    assert error["msg"] == "container a eth0: ADD had backend nftables, the configuration says iptables"
    assert "ingressPolicy open" in firewall.check("a", ingressPolicy="same-bridge").error["msg"]
    firewall.delete("a")
    assert "has nothing in the firewall" in firewall.check("a").error["msg"]


# --- GC and STATUS ----------------------------------------------------------------------------------------------------


def test_P18_B1_gc_takes_down_what_belongs_to_nobody_that_is_alive(firewall: Firewall, machine: Machine) -> None:
    for name in ("a", "b", "c"):
        firewall.add(name, backend="iptables", ingressPolicy="same-bridge")
    firewall.gc("b").done()
    assert [len(mentioning(machine, name)) for name in ("a", "b", "c")] == [0, 6, 6]
    firewall.gc().done()
    assert len(mentioning(machine, "c")) == 6  # of another network
    firewall.gc(network="on-cni1").done()
    assert records(machine) == []
    assert [line for line in rules(machine) if " cni" in line] == []


def test_B2_status_names_the_chains_that_no_rule_of_ours_can_overrule(firewall: Firewall, machine: Machine) -> None:
    firewall.status().done()
    machine.run(
        "nft", "add table inet site; add chain inet site gate { type filter hook forward priority 0; policy drop; }"
    )
    error = firewall.status().error
    assert error["code"] == 51
    assert "inet site gate" in error["msg"]
    machine.run("nft", "delete", "table", "inet", "site")


@pytest.mark.parametrize(
    ("backend", "program", "package"),
    [("iptables", "iptables", "iptables"), ("nftables", "nft", "nftables")],
)
def test_B2_a_program_that_is_missing_is_named_with_its_package(
    firewall: Firewall, machine: Machine, backend: str, program: str, package: str
) -> None:
    """A file that cannot be executed is as good as none."""
    Path("/run/nothing").touch()
    machine.run("mount", "--bind", "/run/nothing", f"/usr/sbin/{program}")
    try:
        for answer in (
            firewall.status(backend=backend),
            firewall.call("ADD", "a", backend=backend, ingressPolicy="same-bridge"),
        ):
            assert (answer.error["code"], answer.error["msg"]) == (50, f"the {program} program is missing")
            assert f"install the {package} package" in answer.error["details"]
        assert records(machine) == []
    finally:
        machine.run("umount", f"/usr/sbin/{program}")
        Path("/run/nothing").unlink()


def test_firewalld_that_does_not_run_is_said_so(firewall: Firewall, machine: Machine) -> None:
    for answer in (firewall.status(backend="firewalld"), firewall.call("ADD", "a", backend="firewalld")):
        assert answer.error["code"] == 50
        assert "firewalld" in answer.error["msg"]
    assert records(machine) == []
