"""The bandwidth plugin behind a veth pair that `ip` made; `tc -j`, `ip -j` and real TCP are the judges."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.machine import Machine
from support.plugins import GO, Plugins
from support.sides import reference_fails
from support.topology import inside

BOX = "/run/netns/box"
HOST, WEB = "10.9.0.1", "10.9.0.2"
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "other0"}, {"name": "host0"}, {"name": "host1"}, {"name": "eth0", "sandbox": BOX}],
    "ips": [{"address": f"{WEB}/24", "interface": 3}],
}
PREVIOUS["interfaces"].append({"name": "eth1", "sandbox": BOX})  # type: ignore[attr-defined]

MEGABYTE = 8_000_000  # bits a second
SLOW: dict[str, Any] = {
    "ingressRate": 2 * MEGABYTE,
    "ingressBurst": 256_000,
    "egressRate": MEGABYTE,
    "egressBurst": 160_000,
}
SMALL: dict[str, Any] = {
    "ingressRate": 8000,
    "ingressBurst": 80,
    "egressRate": 16000,
    "egressBurst": 160,
}  # upstream's numbers


class Shaped:
    """eth0 and eth1 in the namespace box, their other ends on the machine, and the plugin called for them."""

    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine = machine
        self.plugins = plugins

    def conf(self, version: str = "1.0.0", **keys: Any) -> dict[str, Any]:
        return {"cniVersion": version, "name": "net", "type": "bandwidth", "prevResult": PREVIOUS} | keys

    def add(self, conf: dict[str, Any], **more: str) -> dict[str, Any]:
        return self.plugins.add(conf, BOX, **more)

    def error(self, command: str, conf: dict[str, Any], netns: str = BOX, **more: str) -> str:
        error = self.plugins.call(command, conf, netns, **more).error
        return f"{error['code']} {error['msg']}"

    def qdiscs(self, link: str) -> list[tuple[str, str]]:
        """(kind, handle) of what somebody put on a link."""
        shown = json.loads(self.machine.text("tc", "-j", "qdisc", "show", "dev", link))
        return [(item["kind"], item["handle"]) for item in shown if item["kind"] != "noqueue"]

    def tbf(self, link: str) -> dict[str, Any]:
        shown = json.loads(self.machine.text("tc", "-j", "-s", "qdisc", "show", "dev", link, "root"))
        options: dict[str, Any] = shown[0]["options"]
        return options

    def redirected(self, link: str) -> list[str]:
        shown = json.loads(self.machine.text("tc", "-j", "filter", "show", "dev", link, "parent", "ffff:"))
        actions = [action for item in shown for action in item.get("options", {}).get("actions", ())]
        return [action["to_dev"] for action in actions if action["mirred_action"] == "redirect"]

    def ifbs(self) -> list[dict[str, Any]]:
        return [link for link in self.machine.ip("link", "show") if link.get("linkinfo", {}).get("info_kind") == "ifb"]


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    for number in (0, 1):
        pair = f"link add host{number} type veth peer name eth{number} netns box"
        machine.run("ip", *pair.split())
        machine.run("ip", "link", "set", f"host{number}", "mtu", "1400", "up")
        machine.run("ip", "-n", "box", "link", "set", f"eth{number}", "up")
    machine.run("ip", "addr", "add", f"{HOST}/24", "dev", "host0")
    machine.run("ip", "-n", "box", "addr", "add", f"{WEB}/24", "dev", "eth0")
    yield machine
    for number in (0, 1):
        machine.run("ip", "link", "del", f"host{number}", check=False)
    machine.run("ip", "netns", "del", "box")


@pytest.fixture
def ours(box: Machine, tmp_path: Path) -> Shaped:
    return Shaped(box, Plugins(box, tmp_path / "bin"))


@pytest.fixture
def both(box: Machine, side: Plugins) -> Shaped:
    return Shaped(box, side)


def rate(to: str, there: str, here: str, seconds: float = 0.8) -> float:
    """Bytes a second that a connection from the namespace `here` brings to `to`, in the namespace `there`."""
    with inside(there):
        server = socket.create_server((to, 0))
    with inside(here):
        sender = socket.create_connection((to, server.getsockname()[1]), timeout=5)
    receiver, _ = server.accept()
    server.close()
    sender.setblocking(False)
    received, chunk = 0, bytes(1 << 16)
    begin = time.monotonic()
    with sender, receiver:
        while (now := time.monotonic()) < begin + seconds:
            readable, writable, _ = select.select([receiver], [sender], [], 0.05)
            received += len(receiver.recv(1 << 20)) if readable else 0
            if writable:
                sender.send(chunk)
    return received / (now - begin)


@pytest.mark.parametrize("way", ["ingress", "egress", "both"])
def test_what_is_sent_and_received_is_as_fast_as_was_said(ours: Shaped, way: str) -> None:
    keys = {key: value for key, value in SLOW.items() if way == "both" or key.startswith(way)}
    conf = ours.conf(**keys)
    ours.add(conf)
    received = rate(WEB, "box", "") / 2_000_000
    sent = rate(HOST, "", "box") / 1_000_000
    assert 0.6 < received < 1.3 if way != "egress" else received > 5
    assert 0.6 < sent < 1.3 if way != "ingress" else sent > 10
    ours.plugins.delete(conf, BOX)
    assert (ours.qdiscs("host0"), ours.ifbs()) == ([], [])
    assert min(rate(WEB, "box", "", 0.2), rate(HOST, "", "box", 0.2)) > 10_000_000  # the pair lives on, and is free


def test_rate_queue_and_burst_are_the_reference_plugins(ours: Shaped) -> None:
    result = ours.add(ours.conf(**SMALL))
    ifb = ours.ifbs()[0]
    assert ours.tbf("host0") == {"rate": 1000, "burst": 10, "lat": 25000}
    assert ours.tbf(ifb["ifname"]) == {"rate": 2000, "burst": 20, "lat": 25000}
    assert (ifb["mtu"], "UP" in ifb["flags"]) == (1400, True)
    assert ours.redirected("host0") == [ifb["ifname"]]
    added = {"name": ifb["ifname"], "mac": ifb["address"], "mtu": 1400}
    assert result["interfaces"] == [*PREVIOUS["interfaces"], added]
    assert result["ips"] == PREVIOUS["ips"]
    ours.plugins.delete(ours.conf(), BOX)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"runtimeConfig": {"bandwidth": SMALL}}, (1000, 2000)),
        ({"RuntimeConfig": {"bandWidth": SMALL}}, (1000, 2000)),
        ({"ingressRate": 80000, "ingressBurst": 800, "runtimeConfig": {"bandwidth": SMALL}}, (10000, None)),
        ({"runtimeConfig": {"bandwidth": {"egressRate": 16000, "egressBurst": 160}}}, (None, 2000)),
    ],
)
def test_a_runtime_is_heard_where_the_configuration_says_nothing(
    both: Shaped, keys: dict[str, Any], expected: tuple[int | None, int | None]
) -> None:
    both.add(both.conf(**keys))
    ingress = both.tbf("host0")["rate"] if ("tbf", "1:") in both.qdiscs("host0") else None
    egress = both.tbf(both.ifbs()[0]["ifname"])["rate"] if both.ifbs() else None
    assert (ingress, egress) == expected
    both.plugins.delete(both.conf(**keys), BOX)


@pytest.mark.parametrize("keys", [{}, dict.fromkeys(SMALL, 0), {"runtimeConfig": {"bandwidth": {}}}])
def test_without_a_limit_nothing_is_done(ours: Shaped, keys: dict[str, Any]) -> None:
    conf = ours.conf(**keys)
    assert ours.add(conf) == PREVIOUS
    assert (ours.qdiscs("host0"), ours.ifbs()) == ([], [])
    ours.plugins.check(conf, PREVIOUS, BOX).done()
    ours.plugins.delete(conf, BOX)


@pytest.mark.parametrize(
    ("rate", "burst"), [(10**6, 2**31 - 1), (80 * 10**9, 10**9), (8, 16), (10**9, 8 * (2**32 - 2)), (333, 3333)]
)
def test_whatever_fits_into_the_kernel_is_kept_by_it(ours: Shaped, rate: int, burst: int) -> None:
    """The first is what kubelet asks for when nobody said how large a burst may be: half an hour of sending."""
    conf = ours.conf(ingressRate=rate, ingressBurst=burst)
    result = ours.add(conf)
    assert ours.tbf("host0")["rate"] == rate // 8
    ours.plugins.check(conf, result, BOX).done()
    other = ours.conf(ingressRate=rate, ingressBurst=burst - max(8, burst // 50))
    assert ours.plugins.check(other, result, BOX).error["code"] == 100
    ours.plugins.delete(conf, BOX)


def test_a_burst_of_more_ticks_than_the_kernel_counts_is_a_burst(ours: Shaped) -> None:
    """275 s of sending: in 32 bits of ticks no more than 0.12 s would be left of them."""
    conf = ours.conf(ingressRate=MEGABYTE, ingressBurst=275 * MEGABYTE)
    ours.add(conf)
    assert rate(WEB, "box", "", 0.3) > 10_000_000
    ours.plugins.delete(conf, BOX)


def test_a_way_that_leads_nowhere_any_more_is_taken_away(ours: Shaped) -> None:
    """Of a pair that another made, a DEL that is told no namespace finds the ifb alone; the next one the rest."""
    conf = ours.conf(**SLOW)
    ours.add(conf)
    ours.plugins.delete(conf)
    assert ours.ifbs() == []
    ours.plugins.delete(conf, BOX)
    assert ours.qdiscs("host0") == []


# --- CHECK ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("tc qdisc del dev host0 root", "host0 sends as fast as it can"),
        ("tc qdisc replace dev host0 root handle 2: pfifo", "host0 sends as fast as it can"),
        ("tc qdisc change dev host0 root handle 1: tbf rate 1001bps burst 10b limit 35b", "host0 is limited to 1001 "),
        ("tc qdisc change dev host0 root handle 1: tbf rate 1000bps burst 11b limit 35b", "host0 is limited to 1000 "),
        ("tc qdisc change dev host0 root handle 1: tbf rate 1000bps burst 10b limit 36b", "host0 is limited to 1000 "),
        ("tc qdisc del dev IFB root", "IFB sends as fast as it can"),
        ("tc qdisc del dev host0 ingress", "what host0 receives is not redirected to IFB"),
        ("tc filter del dev host0 parent ffff:", "what host0 receives is not redirected to IFB"),
        ("ip link set IFB down", "IFB, through which eth0 sends, is down"),
        ("ip link del IFB", "IFB, through which eth0 sends, is not there"),
    ],
)
def test_P14_check_sees_what_is_broken(ours: Shaped, change: str, said: str) -> None:
    conf = ours.conf(**SMALL)
    result = ours.add(conf)
    ours.plugins.check(conf, result, BOX).done()
    ifb = ours.ifbs()[0]["ifname"]
    ours.machine.run(*change.replace("IFB", ifb).split())
    error = ours.plugins.check(conf, result, BOX).error
    assert error["code"] == 100
    assert error["msg"].startswith(said.replace("IFB", ifb))
    ours.plugins.delete(conf, BOX)


# --- DEL and GC -------------------------------------------------------------------------------------------------------


@reference_fails("refuses to delete what it refused to add")
@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_P9_P10_P11_B3_the_ifb_goes_whatever_is_missing(both: Shaped, netns: str) -> None:
    both.add(both.conf(**SMALL))
    both.machine.run("ip", "link", "del", "host0")
    for _ in range(2):
        bare = {"cniVersion": "1.0.0", "name": "net", "type": "bandwidth", "ingressRate": "what ADD would refuse"}
        both.plugins.delete(bare, netns)
        assert both.ifbs() == []


def test_a_link_that_is_down_is_relieved_too(ours: Shaped) -> None:
    ours.machine.run("ip", "link", "set", "host0", "down")
    conf = ours.conf(egressRate=8000, egressBurst=8000)
    ours.add(conf)
    ours.plugins.delete(conf, BOX)
    assert (ours.qdiscs("host0"), ours.ifbs()) == ([], [])


def test_what_others_put_on_the_link_stays(both: Shaped) -> None:
    for words in ("add dev host0 root handle 5: pfifo", "add dev host0 ingress"):
        both.machine.run("tc", "qdisc", *words.split())
    both.plugins.delete(both.conf(**SMALL), BOX)
    assert both.qdiscs("host0") == [("pfifo", "5:"), ("ingress", "ffff:")]


@reference_fails("has one ifb for all interfaces of a container: the second ADD fails")
def test_B8_two_interfaces_of_one_container_have_an_ifb_each(both: Shaped) -> None:
    conf = both.conf(**SMALL)
    both.add(conf)
    both.add(conf, ifname="eth1")
    assert len(both.ifbs()) == 2
    assert both.redirected("host0") != both.redirected("host1")
    both.plugins.delete(conf, BOX, ifname="eth0")
    assert both.redirected("host1") == [both.ifbs()[0]["ifname"]]
    assert len(both.ifbs()) == 1
    both.plugins.delete(conf, BOX, ifname="eth1")
    assert both.ifbs() == []


def test_P18_gc_removes_the_ifbs_of_those_who_are_no_more(ours: Shaped) -> None:
    conf = ours.conf("1.1.0", **SMALL)
    ours.add(conf)
    ours.add(conf, ifname="eth1")
    kept = ours.redirected("host1")
    valid = [{"containerID": "web", "ifname": "eth1"}]
    ours.plugins.call("GC", conf | {"cni.dev/valid-attachments": valid}).done()
    assert [link["ifname"] for link in ours.ifbs()] == kept
    ours.plugins.call("GC", conf | {"name": "other", "cni.dev/valid-attachments": []}).done()
    assert [link["ifname"] for link in ours.ifbs()] == kept
    ours.plugins.call("GC", conf | {"cni.dev/valid-attachments": []}).done()
    assert ours.ifbs() == []


# --- what is refused --------------------------------------------------------------------------------------------------


def test_P6_B4_added_twice_is_an_error_that_changes_nothing(ours: Shaped) -> None:
    for keys in (SMALL, {"ingressRate": 8000, "ingressBurst": 80}):
        conf = ours.conf(**keys)
        result = ours.add(conf)
        assert "File exists" in ours.error("ADD", conf) or "NLM_F_REPLACE" in ours.error("ADD", conf)
        ours.plugins.check(conf, result, BOX).done()
        ours.plugins.delete(conf, BOX)


def test_an_add_that_fails_leaves_nothing(ours: Shaped) -> None:
    """The last of its steps is refused: somebody limits the link already."""
    ours.machine.run("tc", "qdisc", "add", "dev", "host0", "root", "handle", "5:", "pfifo")
    assert "tc qdisc add dev host0 root handle 1: tbf rate 1000bps burst 10b limit 35b" in ours.error(
        "ADD", ours.conf(**SMALL)
    )
    assert (ours.qdiscs("host0"), ours.ifbs()) == ([("pfifo", "5:")], [])


def test_a_queue_of_somebody_elses_gets_no_filter_of_ours(ours: Shaped) -> None:
    ours.machine.run("tc", "qdisc", "add", "dev", "host0", "ingress")
    assert "tc qdisc add dev host0 ingress: " in ours.error("ADD", ours.conf(**SMALL))
    assert (ours.qdiscs("host0"), ours.redirected("host0"), ours.ifbs()) == ([("ingress", "ffff:")], [], [])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ingressRate": 8000}, "7 ingressRate is set, so ingressBurst must be, too"),
        ({"egressBurst": 8000}, "7 egressBurst is set, so egressRate must be, too"),
        (
            {"runtimeConfig": {"bandwidth": {"egressRate": 1}}},
            "7 runtimeConfig.bandwidth.egressRate is set, so egressBurst must be, too",
        ),
        (
            {"ingressRate": 8000, "ingressBurst": 8 * (2**32 - 1)},
            "7 ingressBurst: expected less than 4 GiB, in bits, got 34359738360",
        ),
        ({"ingressRate": "8000"}, '7 ingressRate: expected an integer, got "8000"'),
        ({"ingresRate": 8000}, "7 ingresRate: unknown key"),
        ({"shapedSubnets": ["10.0.0.0/8"]} | SMALL, '2 shapedSubnets: ["10.0.0.0/8"] is not supported'),
        ({"prevResult": None} | SMALL, "7 prevResult is missing"),
        ({"prevResult": {"ips": []}} | SMALL, "7 prevResult has no interfaces: there is nothing to limit"),
        (
            {"prevResult": {"interfaces": [{"name": "host1"}, {"name": "eth0", "sandbox": BOX}]}} | SMALL,
            "100 host0, the host's end of eth0, is not in prevResult",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(ours: Shaped, keys: dict[str, Any], said: str) -> None:
    assert ours.error("ADD", ours.conf(**keys)) == said
    assert (ours.qdiscs("host0"), ours.ifbs()) == ([], [])


def test_an_interface_without_another_end_on_the_host_is_refused(ours: Shaped) -> None:
    ours.machine.run("ip", "-n", "box", "link", "add", "eth2", "type", "veth", "peer", "name", "eth3")
    said = "eth2 in /run/netns/box has no other end on the host: it is not one of a veth pair"
    assert ours.error("ADD", ours.conf(**SMALL), ifname="eth2") == f"100 {said}"


def test_an_end_in_a_third_namespace_is_not_taken_for_the_hosts(ours: Shaped) -> None:
    """Links are known by numbers, which each namespace gives anew."""
    number = ours.machine.ip("link", "show", "host0")[0]["ifindex"]
    ours.machine.netns("third")
    words = f"-n third link add name far index {number} type veth peer name eth2 netns box"
    ours.machine.run("ip", *words.split())
    interfaces = [{"name": "host0"}, {"name": "eth2", "sandbox": BOX}]
    said = ours.error("ADD", ours.conf(**SMALL, prevResult={"interfaces": interfaces}), ifname="eth2")
    assert said.startswith("100 eth2 in /run/netns/box has no other end on the host")
    ours.machine.run("ip", "netns", "del", "third")


def test_a_burst_that_is_smaller_than_a_packet_is_warned_of(ours: Shaped) -> None:
    answer = ours.plugins.call("ADD", ours.conf(**SMALL), BOX)
    assert answer.exit == 0
    assert "ingressBurst is 10 bytes: packets that are larger do not pass" in answer.stderr
    ours.plugins.delete(ours.conf(), BOX)


def test_status_is_well_where_the_kernel_has_ifbs(ours: Shaped) -> None:
    conf = ours.conf("1.1.0", **SMALL)
    ours.plugins.call("STATUS", conf).done()
    assert ours.error("STATUS", conf | {"egressRate": 0}, "").startswith("7 egressBurst")
    assert ours.ifbs() == []


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_a_version_without_interfaces_is_not_spoken(ours: Shaped, version: str) -> None:
    assert ours.error("ADD", ours.conf(version, **SMALL)).startswith("1 ")


# --- with the reference plugin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["ours", "go"])
def test_each_side_finds_the_others_work_in_order(ours: Shaped, first: str) -> None:
    """The reference plugin removes no ifb of ours, whose name it cannot know: that is left to our GC."""
    sides = {"ours": ours.plugins, "go": Plugins(ours.machine, GO)}
    conf = ours.conf(ingressRate=MEGABYTE, ingressBurst=256_000, egressRate=333_333, egressBurst=256_000)
    if first == "ours":
        del conf["egressRate"], conf["egressBurst"]  # it looks for the ifb by name
    one, other = sides.pop(first), next(iter(sides.values()))
    result = one.add(conf, BOX)
    other.check(conf, result, BOX).done()
    other.delete(conf, BOX)
    assert ours.ifbs() == []
    assert ours.qdiscs("host0") == ([] if first == "go" else [("tbf", "1:")])
