"""The sbr plugin on a container with two interfaces; `ip -j` and real packets are the judges.

    far 192.0.2.2 ── 192.0.2.1 machine 10.1.0.1 ── eth0 10.1.0.2 ┐ box, whose default route is by eth0
                               fd00:1::1           fd00:1::2     │
                                       10.2.0.1 ── net1 10.2.0.2 ┘
                                       fd00:2::1        fd00:2::2

The machine drops packets that come by a link to which it would not send (rp_filter): so does many a router.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import GO, Plugins
from support.sides import reference_fails

pytestmark = pytest.mark.leaves(*FOLDERS)

BOX = "/run/netns/box"
FAR = "192.0.2.2"
FAMILIES = {4: "10.{}.0.{}", 6: "fd00:{}::{}"}
LENGTHS = {4: 24, 6: 64}


def address(network: int, host: int, family: int = 4) -> str:
    return FAMILIES[family].format(network, host)


def result(number: int, *hosts: int, families: tuple[int, ...] = (4, 6)) -> dict[str, Any]:
    """What the plugin before says of eth0 (1) or net1 (2)."""
    ips = [
        {
            "address": f"{address(number, host, family)}/{LENGTHS[family]}",
            "gateway": address(number, 1, family),
            "interface": 1,
        }
        for family in families
        for host in hosts or (2,)
    ]
    name = {1: "eth0", 2: "net1"}[number]
    return {"cniVersion": "1.0.0", "interfaces": [{"name": "wire"}, {"name": name, "sandbox": BOX}], "ips": ips}


class Routed:
    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine = machine
        self.plugins = plugins

    def conf(self, number: int = 2, version: str = "1.0.0", **keys: Any) -> dict[str, Any]:
        return {"cniVersion": version, "name": "net", "type": "sbr", "prevResult": result(number)} | keys

    def add(self, conf: dict[str, Any], ifname: str = "net1") -> dict[str, Any]:
        return self.plugins.add(conf, BOX, ifname=ifname)

    def delete(self, conf: dict[str, Any], netns: str = BOX, ifname: str = "net1") -> None:
        self.plugins.delete(conf, netns, ifname=ifname)

    def error(self, command: str, conf: dict[str, Any], ifname: str = "net1") -> str:
        error = self.plugins.call(command, conf, BOX, ifname=ifname).error
        return f"{error['code']} {error['msg']}"

    def run(self, command: str) -> None:
        self.machine.run(*command.split())

    def rules(self) -> dict[str, str]:
        shown = self.machine.ip("rule", "show", netns="box") + self.machine.ip("-6", "rule", "show", netns="box")
        return {rule["src"]: rule["table"] for rule in shown if rule["src"] != "all"}

    def routes(self, table: int | str, family: int = 4, link: str = "net1") -> set[tuple[str, str]]:
        argv = ("ip", "-n", "box", "-j", f"-{family}", "route", "show", "table", str(table), "dev", link)
        done = self.machine.run(*argv, check=False)
        return {(way["dst"], way.get("gateway", "")) for way in json.loads(done.stdout or "[]")}

    def state(self) -> list[Any]:
        return [self.machine.ip(f"-{family}", "route", "show", "table", "all", netns="box") for family in (4, 6)] + [
            self.rules()
        ]

    def answers(self, network: int, family: int = 4) -> bool:
        """Whether a packet from far away is answered by that address of the box."""
        asked = address(network, 2, family)
        done = self.machine.run(*f"ip netns exec far ping -n -c1 -W1 {asked}".split(), check=False)
        return done.returncode == 0


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    for name in ("box", "far"):
        machine.netns(name)

    def run(command: str) -> None:
        machine.run(*command.split())

    run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1")
    for number, name in ((1, "eth0"), (2, "net1")):
        run(f"ip link add wire{number} up type veth peer name {name} netns box")
        run(f"ip -n box link set {name} up")
        for family, length in LENGTHS.items():
            nodad = "nodad" if family == 6 else ""
            run(f"ip addr add {address(number, 1, family)}/{length} dev wire{number} {nodad}")
            run(f"ip -n box addr add {address(number, 2, family)}/{length} dev {name} {nodad}")
    run("ip link add wan up type veth peer name eth0 netns far")
    run("ip -n far link set eth0 up")
    run("ip addr add 192.0.2.1/24 dev wan")
    run(f"ip -n far addr add {FAR}/24 dev eth0")
    run("ip -n far route add default via 192.0.2.1")
    for family in (4, 6):
        run(f"ip -n box -{family} route add default via {address(1, 1, family)}")
        run(f"ip -n box -{family} route add {address(9, 0, family)}/24 via {address(2, 1, family)}")
    machine.leaves("link *", "address *", "route *")
    yield machine
    for name in ("box", "far"):
        run(f"ip netns del {name}")


@pytest.fixture
def ours(box: Machine, tmp_path: Path) -> Routed:
    return Routed(box, Plugins(box, tmp_path / "bin"))


@pytest.fixture
def either(box: Machine, side: Plugins) -> Routed:
    return Routed(box, side)


def test_each_address_answers_by_its_own_interface(either: Routed) -> None:
    assert (either.answers(1), either.answers(2)) == (True, False)
    conf = either.conf()
    assert either.add(conf)["ips"] == result(2)["ips"]
    assert (either.answers(1), either.answers(2)) == (True, True)
    either.plugins.check(conf, result(2), BOX, ifname="net1").done()
    either.delete(conf)
    assert either.rules() == {}


def test_the_interfaces_routes_are_in_tables_of_their_own(either: Routed) -> None:
    either.add(either.conf())
    rules = either.rules()
    assert rules == {address(2, 2, 4): "100", address(2, 2, 6): "101"}
    for family, table in ((4, 100), (6, 101)):
        length = LENGTHS[family]
        net, far = f"{address(2, 0, family)}/{length}", f"{address(9, 0, family)}/24"
        if family == 6:
            net, far = "fd00:2::/64", "fd00::/24"
        expected = {(net, ""), (far, address(2, 1, family)), ("default", address(2, 1, family))}
        assert either.routes(table, family) >= expected
    assert either.routes("main") == set()
    assert either.routes("main", link="eth0") == {("default", "10.1.0.1"), ("10.1.0.0/24", "")}
    either.delete(either.conf())


@reference_fails("moves the routes to link-local addresses away, too")
def test_link_local_neighbours_stay_in_reach(either: Routed) -> None:
    either.add(either.conf())
    assert ("fe80::/64", "") in either.routes("main", 6)
    either.delete(either.conf())
    assert (either.routes(100), either.routes(101, 6)) == (set(), set())


def test_both_interfaces_can_be_routed_so(either: Routed) -> None:
    either.add(either.conf(1), ifname="eth0")
    either.add(either.conf(2))
    assert sorted(either.rules().values()) == ["100", "101", "102", "103"]
    assert (either.answers(1), either.answers(2)) == (True, True)
    either.delete(either.conf(2))
    assert sorted(either.rules()) == ["10.1.0.2", "fd00:1::2"]
    assert either.answers(1)
    either.delete(either.conf(1), ifname="eth0")


def test_several_addresses_have_a_table_each(either: Routed) -> None:
    either.run("ip -n box addr add 10.2.0.3/24 dev net1")
    conf = either.conf(prevResult=result(2, 2, 3, families=(4,)))
    either.add(conf)
    assert either.rules() == {"10.2.0.2": "100", "10.2.0.3": "101"}
    assert either.routes(100) == either.routes(101) != set()
    either.delete(conf)
    assert either.rules() == {}


def test_a_table_that_is_named_is_somebody_elses_to_fill(ours: Routed) -> None:
    before = ours.routes("main")
    conf = ours.conf(table=2000)
    ours.add(conf)
    assert set(ours.rules().values()) == {"2000"}
    assert ours.routes("main") == before
    ours.plugins.check(conf, result(2), BOX, ifname="net1").done()
    ours.run("ip -n box rule add from 10.2.0.2 lookup 300")
    ours.delete(conf)
    assert ours.rules() == {"10.2.0.2": "300"}
    ours.run("ip -n box rule del from 10.2.0.2")


@pytest.mark.parametrize("family", [4, 6])
def test_a_gateway_that_is_named_is_the_gateway(ours: Routed, family: int) -> None:
    gateway = address(2, 254, family)
    ours.add(ours.conf(gateways=[gateway]))
    table = ours.rules()[address(2, 2, family)]
    assert ("default", gateway) in ours.routes(table, family)
    other = 10 - family
    assert ("default", address(2, 1, other)) in ours.routes(ours.rules()[address(2, 2, other)], other)
    ours.delete(ours.conf())


def test_a_default_route_that_is_there_already_moves(either: Routed) -> None:
    either.run("ip -n box route add default via 10.2.0.1 metric 50")
    either.add(either.conf(prevResult=result(2, families=(4,))))
    assert ("default", "10.2.0.1") in either.routes(100)
    assert either.routes("main") == set()
    either.delete(either.conf())


def test_with_hints_the_main_table_still_leads_to_neighbours(ours: Routed) -> None:
    ours.add(ours.conf(addSourceHints=True))
    shown = ours.machine.ip("route", "show", "dev", "net1", netns="box")
    assert [(way["dst"], way["prefsrc"]) for way in shown] == [("10.2.0.0/24", "10.2.0.2")]
    ours.run("ip netns exec box ping -n -c1 -W1 10.2.0.1")
    ours.delete(ours.conf())


def test_hints_are_given_for_ipv6_where_the_kernel_gives_none(ours: Routed) -> None:
    ours.add(ours.conf(addSourceHints=True))
    shown = ours.machine.ip("-6", "route", "show", "dev", "net1", netns="box")
    assert {way["dst"]: way.get("prefsrc") for way in shown} == {"fd00:2::/64": "fd00:2::2", "fe80::/64": None}
    ours.delete(ours.conf())


def test_tables_in_use_are_left_alone(ours: Routed) -> None:
    for words in ("route add 10.77.0.0/16 dev eth0 table 100", "rule add from 10.77.0.1 lookup 101"):
        ours.machine.run("ip", "-n", "box", *words.split())
    ours.add(ours.conf())
    assert ours.rules() == {"10.77.0.1": "101", "10.2.0.2": "102", "fd00:2::2": "103"}
    ours.delete(ours.conf())
    assert ours.routes(100, link="eth0") == {("10.77.0.0/16", "")}
    ours.run("ip -n box rule del from 10.77.0.1")


# --- CHECK ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("rule del from 10.2.0.2", f"there is no rule from 10.2.0.2 in {BOX}"),
        ("-6 rule del from fd00:2::2", f"there is no rule from fd00:2::2 in {BOX}"),
        ("route del default table 100", "table 100 of 10.2.0.2 has no default route via 10.2.0.1 by net1"),
        ("-6 route flush table 101", "table 101 of fd00:2::2 has no default route via fd00:2::1 by net1"),
    ],
)
@reference_fails("looks at nothing in CHECK")
def test_P14_B5_check_sees_what_is_missing(either: Routed, change: str, said: str) -> None:
    conf = either.conf()
    either.add(conf)
    either.plugins.check(conf, result(2), BOX, ifname="net1").done()
    either.machine.run("ip", "-n", "box", *change.split())
    error = either.plugins.check(conf, result(2), BOX, ifname="net1").error
    assert (error["code"], error["msg"].startswith(said)) == (100, True)
    either.delete(conf)


# --- DEL --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
@reference_fails("fails, having made a file at the namespace's path")
def test_P9_P10_P11_B10_delete_succeeds_without_a_namespace_and_makes_no_file(either: Routed, netns: str) -> None:
    bare = {"cniVersion": "1.0.0", "name": "net", "type": "sbr"}
    try:
        for _ in range(2):
            either.delete(bare, netns)
    finally:
        made = Path("/run/netns/gone").exists()
        Path("/run/netns/gone").unlink(missing_ok=True)
    assert not made


def test_delete_without_prevresult_and_twice(ours: Routed) -> None:
    ours.add(ours.conf())
    for _ in range(2):
        ours.delete({"cniVersion": "1.0.0", "name": "net", "type": "sbr"})
        assert ours.rules() == {}


@reference_fails("fails when the interface has gone, and leaves its rules")
def test_the_rules_of_an_interface_that_has_gone_are_found(either: Routed) -> None:
    either.add(either.conf(1), ifname="eth0")
    either.add(either.conf(2))
    either.run("ip link del wire2")
    either.delete({"cniVersion": "1.0.0", "name": "net", "type": "sbr"})
    assert sorted(either.rules()) == ["10.1.0.2", "fd00:1::2"]
    either.delete(either.conf(1), ifname="eth0")


def test_rules_that_an_interface_has_left_behind_stop_nobody(ours: Routed) -> None:
    """As when GC took the interface of a namespace that lives on."""
    ours.add(ours.conf())
    for command in (
        "ip link del wire2",
        "ip link add wire2 up type veth peer name net1 netns box",
        "ip -n box link set net1 up",
        "ip -n box addr add 10.2.0.2/24 dev net1",
        "ip -n box addr add fd00:2::2/64 dev net1 nodad",
    ):
        ours.run(command)
    ours.add(ours.conf())
    ours.delete(ours.conf())
    assert ours.rules() == {}


def test_P18_gc_takes_the_rules_and_tables_of_those_who_are_no_more(ours: Routed) -> None:
    """The namespace lives on, and so does another attachment in it."""
    ours.add(ours.conf(1), ifname="eth0")
    ours.add(ours.conf(2))
    gc = {"cniVersion": "1.1.0", "name": "net", "type": "sbr"}
    valid = [{"containerID": "web", "ifname": "eth0"}]
    ours.plugins.call("GC", gc | {"name": "other", "cni.dev/valid-attachments": []}).done()
    assert len(ours.rules()) == 4
    for _ in range(2):
        ours.plugins.call("GC", gc | {"cni.dev/valid-attachments": valid}).done()
        assert ours.rules() == {"10.1.0.2": "100", "fd00:1::2": "101"}
    assert [ours.routes(table, family) for table, family in ((102, 4), (103, 6))] == [set(), set()]
    assert ours.answers(1)
    ours.plugins.call("GC", gc | {"cni.dev/valid-attachments": []}).done()
    assert ours.rules() == {}
    assert not Path("/run/cni/sbr").exists() or not list(Path("/run/cni/sbr").rglob("*:*"))


def test_P10_delete_without_a_namespace_finds_it_by_what_add_wrote_down(ours: Routed) -> None:
    ours.add(ours.conf())
    ours.delete({"cniVersion": "1.0.0", "name": "net", "type": "sbr"}, netns="")
    assert (ours.rules(), ours.routes(100)) == ({}, set())


def test_a_path_that_has_come_to_mean_another_namespace_is_left_alone(ours: Routed) -> None:
    ours.add(ours.conf())
    ours.machine.netns("twin")
    ours.run("ip -n twin rule add from 10.2.0.2 lookup 100 protocol 109")
    ours.run(f"mount --bind /run/netns/twin {BOX}")
    gc = {"cniVersion": "1.1.0", "name": "net", "type": "sbr", "cni.dev/valid-attachments": []}
    ours.plugins.call("GC", gc).done()
    ours.run(f"umount {BOX}")
    twin = [rule["src"] for rule in ours.machine.ip("rule", "show", netns="twin")]
    ours.run("ip netns del twin")
    assert "10.2.0.2" in twin
    assert len(ours.rules()) == 2
    ours.delete(ours.conf())


@pytest.mark.leaves("file /run/cni/sbr/*")  # the reference plugin's DEL knows nothing of our record
@pytest.mark.parametrize("first", ["ours", "go"])
def test_what_one_side_added_the_other_deletes(ours: Routed, first: str) -> None:
    sides = {"ours": ours.plugins, "go": Plugins(ours.machine, GO)}
    one, other = sides.pop(first), next(iter(sides.values()))
    one.add(ours.conf(), BOX, ifname="net1")
    other.check(ours.conf(), result(2), BOX, ifname="net1").done()
    other.delete(ours.conf(), BOX, ifname="net1")
    assert ours.rules() == {}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_P6_B4_added_twice_is_an_error_that_changes_nothing(either: Routed) -> None:
    either.add(either.conf())
    before = either.state()
    said = either.error("ADD", either.conf())
    assert either.state() == before
    if either.plugins.folder != GO:
        assert said == f"100 {BOX} already has a rule from 10.2.0.2, to table 100"
    either.delete(either.conf())


@reference_fails("leaves what it has done before it failed")
def test_an_add_that_fails_leaves_everything_as_it_was(either: Routed) -> None:
    """The gateway of the second address is nobody's neighbour."""
    before = either.state()
    previous = result(2)
    previous["ips"][1]["gateway"] = "fd00:77::1"
    said = either.error("ADD", either.conf(prevResult=previous))
    assert either.state() == before
    assert "route replace default via fd00:77::1 dev net1" in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prevResult": None}, "7 prevResult is missing"),
        ({"prevResult": {"ips": []}}, "7 prevResult has no address of net1: there is nothing to route by"),
        ({"prevResult": result(1)}, "7 prevResult has no address of net1: there is nothing to route by"),
        (
            {"gateways": ["10.2.0.1", "10.2.0.3"]},
            '7 gateways: expected one of each family at most, got ["10.2.0.1", "10.2.0.3"]',
        ),
        ({"gateways": ["10.2.0.0/24"]}, "7 gateways[0]: '10.2.0.0/24' is not an IP address"),
        ({"table": 0}, "7 table: expected an integer from 1 to 4294967295, got 0"),
        ({"gateway": []}, "7 gateway: unknown key"),
    ],
)
def test_what_makes_no_sense_is_refused(ours: Routed, keys: dict[str, Any], said: str) -> None:
    assert ours.error("ADD", ours.conf(**keys)) == said
    assert ours.rules() == {}


def test_P16_status_is_asked_of_the_kernel_and_of_the_configuration(ours: Routed) -> None:
    ours.plugins.call("STATUS", ours.conf(version="1.1.0")).done()
    assert ours.plugins.call("STATUS", ours.conf(version="1.1.0", table=-1)).error["code"] == 7
    ours.plugins.call("GC", ours.conf(version="1.1.0") | {"cni.dev/valid-attachments": []}).done()


def test_without_a_chain_old_versions_are_told_so(ours: Routed) -> None:
    conf = {"cniVersion": "0.2.0", "name": "net", "type": "sbr"}
    assert ours.error("ADD", conf) == "7 prevResult is missing"
