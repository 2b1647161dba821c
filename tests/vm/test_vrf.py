"""The vrf plugin, ours and the reference's, on containers whose interfaces `ip` made; `ip -j` and pings are the judges.

machine 10.1.0.1 wire0 ── eth0 10.1.0.2 ┐
        fd00:1::1         fd00:1::2     │ box, with routes to 10.9.0.0/16 and fd00:9::/64 by the machine
        10.1.0.1 wire1 ── net1 10.1.0.2 ┘ the same addresses, where a test wants a second interface
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails

pytestmark = pytest.mark.leaves(*FOLDERS)

BOX = "/run/netns/box"
NET, FAR = {4: "10.1.0.0/24", 6: "fd00:1::/64"}, {4: "10.9.0.0/16", 6: "fd00:9::/64"}
GATEWAY = {4: "10.1.0.1", 6: "fd00:1::1"}


def result(name: str = "eth0") -> dict[str, Any]:
    """What the plugin before says of the interface."""
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "wire0"}, {"name": name, "sandbox": BOX}],
        "ips": [{"address": "10.1.0.2/24", "interface": 1}, {"address": "fd00:1::2/64", "interface": 1}],
        "routes": [{"dst": FAR[4], "gw": GATEWAY[4]}, {"dst": FAR[6], "gw": GATEWAY[6]}],
    }


class Box:
    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine = machine
        self.plugins = plugins

    def run(self, command: str) -> None:
        self.machine.run(*command.split())

    def wire(self, number: int, name: str) -> None:
        """An interface with addresses and routes, as a plugin would leave it."""
        self.run(f"ip link add wire{number} up type veth peer name {name} netns box")
        self.run(
            f"ip netns exec box sysctl -qw net.ipv6.conf.{name}.keep_addr_on_down=1 net.ipv6.conf.{name}.accept_dad=0"
        )
        here, there = f"ip addr add %s dev wire{number}", f"ip -n box addr add %s dev {name}"
        if not number:
            self.run(here % "10.1.0.1/24")
            self.run(here % "fd00:1::1/64" + " nodad")
        self.run(f"ip -n box link set {name} up")
        self.run(there % "10.1.0.2/24")
        self.run(there % "fd00:1::2/64" + " nodad")

    def routes(self, name: str = "eth0") -> None:
        for family in (4, 6):
            self.run(f"ip -n box -{family} route add {FAR[family]} via {GATEWAY[family]} dev {name}")

    def conf(self, vrfname: str = "red", version: str = "1.0.0", name: str = "eth0", **keys: Any) -> dict[str, Any]:
        common = {"cniVersion": version, "name": "net", "type": "vrf", "vrfname": vrfname}
        return common | {"prevResult": result(name)} | keys

    def error(self, command: str, conf: dict[str, Any], **more: str) -> str:
        error = self.plugins.call(command, conf, BOX, **more).error
        return f"{error['code']} {error['msg']}"

    def table(self, table: int | str, family: int = 4) -> set[tuple[str, str, str]]:
        """(destination, gateway, link), without what the kernel has for itself."""
        argv = ("ip", "-n", "box", "-j", f"-{family}", "route", "show", "table", str(table), "type", "unicast")
        shown = json.loads(self.machine.run(*argv, check=False).stdout or "[]")
        own = ("fe80::/64", "ff00::/8")
        return {(way["dst"], way.get("gateway", ""), way["dev"]) for way in shown if way["dst"] not in own}

    def expected(self, family: int, name: str = "eth0") -> set[tuple[str, str, str]]:
        return {(NET[family], "", name), (FAR[family], GATEWAY[family], name)}

    def vrfs(self) -> dict[str, int]:
        shown = self.machine.ip("link", "show", netns="box")
        infos = {link["ifname"]: link.get("linkinfo", {}) for link in shown}
        return {name: info["info_data"]["table"] for name, info in infos.items() if info.get("info_kind") == "vrf"}

    def master(self, name: str = "eth0") -> str:
        return str(self.machine.ip("link", "show", name, netns="box")[0].get("master", ""))

    def state(self) -> list[Any]:
        tables = [self.table("main", family) for family in (4, 6)]
        return [tables, self.machine.links("box"), self.machine.addresses("eth0", "box"), self.master()]

    def pings(self, vrf: str, address: str) -> bool:
        argv = ("ip", "netns", "exec", "box", "ping", "-n", "-c1", "-W2", "-I", vrf, address)
        return self.machine.run(*argv, check=False).returncode == 0


@pytest.fixture
def plain(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    machine.leaves("link wire?", "address *")
    yield machine
    machine.run("ip", "netns", "del", "box")


@pytest.fixture
def box(plain: Machine, side: Plugins) -> Box:
    made = Box(plain, side)
    made.wire(0, "eth0")
    return made


@pytest.fixture
def ours(plain: Machine, tmp_path: Path) -> Box:
    made = Box(plain, Plugins(plain, tmp_path / "bin"))
    made.wire(0, "eth0")
    made.routes()
    return made


def test_the_interface_moves_into_the_vrf_with_its_addresses(box: Box) -> None:
    conf = box.conf()
    before = box.machine.addresses("eth0", "box")
    assert box.plugins.add(conf, BOX)["ips"] == result()["ips"]
    assert (box.vrfs(), box.master()) == ({"red": 1}, "red")
    assert box.machine.addresses("eth0", "box") == before
    for family in (4, 6):
        assert (box.table(1, family), box.table("main", family)) == ({(NET[family], "", "eth0")}, set())
    assert box.pings("red", "10.1.0.1") and box.pings("red", "fd00:1::1")
    box.plugins.check(conf | {"prevResult": None}, result() | {"routes": []}, BOX).done()
    box.plugins.delete(conf, BOX)
    assert (box.vrfs(), box.master()) == ({}, "")


@reference_fails("loses the routes that lead through a gateway")
def test_the_routes_of_the_interface_move_with_it(box: Box) -> None:
    box.routes()
    box.plugins.add(box.conf(table=77), BOX)
    for family in (4, 6):
        assert box.table(77, family) == box.expected(family)
        assert box.table("main", family) == set()
    box.plugins.delete(box.conf(), BOX)


def test_ipv6_addresses_come_back_where_the_kernel_does_not_keep_them(ours: Box) -> None:
    ours.run("ip netns exec box sysctl -qw net.ipv6.conf.eth0.keep_addr_on_down=0")
    assert ours.plugins.add(ours.conf(), BOX) == result()
    assert ours.machine.addresses("eth0", "box") == {"10.1.0.2/24", "fd00:1::2/64"}
    assert ours.table(1, 6) == ours.expected(6)
    ours.plugins.delete(ours.conf(), BOX)


def test_interfaces_share_a_vrf_or_have_the_same_addresses_in_two(box: Box) -> None:
    box.wire(1, "net1")
    conf, other = box.conf(), box.conf("blue", name="net1")
    box.plugins.add(conf, BOX)
    box.plugins.add(other, BOX, ifname="net1")
    assert box.vrfs() == {"red": 1, "blue": 2}
    assert (box.table(1), box.table(2)) == ({(NET[4], "", "eth0")}, {(NET[4], "", "net1")})
    box.plugins.delete(other, BOX, ifname="net1")
    assert (box.vrfs(), box.table(1)) == ({"red": 1}, {(NET[4], "", "eth0")})
    box.plugins.add(box.conf(name="net1"), BOX, ifname="net1")
    assert (box.vrfs(), box.master("net1")) == ({"red": 1}, "red")
    box.plugins.delete(conf, BOX)
    assert (box.vrfs(), box.master("net1")) == ({"red": 1}, "red")
    box.plugins.delete(box.conf(name="net1"), BOX, ifname="net1")
    assert box.vrfs() == {}


@reference_fails("leaves the VRF that it made for an interface which has a master")
def test_an_interface_with_a_master_is_refused(box: Box) -> None:
    for words in ("link add br0 type bridge", "link set eth0 master br0"):
        box.run(f"ip -n box {words}")
    assert "master" in box.error("ADD", box.conf())
    assert (box.master(), box.vrfs()) == ("br0", {})


@reference_fails("fails when the interface has gone and the VRF has not", "p#1282")
def test_P9_P10_U5_B10_delete_bears_an_interface_that_has_gone(box: Box) -> None:
    box.plugins.add(box.conf(), BOX)
    box.run("ip link del wire0")
    for _ in range(2):
        box.plugins.delete(box.conf(), BOX)
        assert box.vrfs() == {}


def test_P18_gc_and_delete_without_a_namespace_go_by_what_add_wrote_down(ours: Box) -> None:
    ours.wire(1, "net1")
    ours.plugins.add(ours.conf(), BOX)
    ours.plugins.add(ours.conf(name="net1"), BOX, ifname="net1")
    gc = {"cniVersion": "1.1.0", "name": "net", "type": "vrf", "vrfname": "red"}
    valid = [{"containerID": "web", "ifname": "net1"}]
    for _ in range(2):
        ours.plugins.call("GC", gc | {"cni.dev/valid-attachments": valid}).done()
        assert (ours.vrfs(), ours.master(), ours.master("net1")) == ({"red": 1}, "", "red")
    ours.plugins.delete({"cniVersion": "1.0.0", "name": "net", "type": "vrf"}, "", ifname="net1")
    assert (ours.vrfs(), ours.master("net1")) == ({}, "")


def test_a_vrf_that_exists_keeps_its_table(ours: Box) -> None:
    ours.run("ip -n box link add red up type vrf table 9")
    assert ours.error("ADD", ours.conf(table=8)) == f"100 VRF red in {BOX} exists with the table 9, not 8"
    assert (ours.master(), ours.vrfs()) == ("", {"red": 9})
    ours.plugins.add(ours.conf(table=9), BOX)
    assert ours.table(9) == ours.expected(4)
    ours.run("ip -n box link add other up type vrf table 1")
    ours.wire(1, "net1")
    ours.run("ip -n box route add 10.8.0.0/16 dev net1 table 2")
    ours.plugins.add(ours.conf("blue", name="net1"), BOX, ifname="net1")
    assert ours.vrfs() == {"red": 9, "other": 1, "blue": 3}
    ours.plugins.delete(ours.conf(), BOX)
    ours.plugins.delete(ours.conf("blue"), BOX, ifname="net1")
    assert ours.vrfs() == {"other": 1}


def test_P14_check_sees_what_is_broken(ours: Box) -> None:
    conf = ours.conf()
    ours.plugins.add(conf, BOX)
    ours.plugins.check(conf, result(), BOX).done()
    route, address = f"{FAR[4]} via {GATEWAY[4]} vrf red", "fd00:1::2/64 dev eth0"
    for command, back, said in (
        (f"route del {route}", f"route add {route}", f"there is no route to {FAR[4]}"),
        (f"addr del {address}", f"addr add {address} nodad", "does not have the address fd00:1::2"),
        ("link set red down", "link set red up", "VRF red in /run/netns/box is down"),
        ("link set eth0 nomaster", "link set eth0 master red", "eth0 in /run/netns/box is not in VRF red"),
    ):
        ours.run(f"ip -n box {command}")
        error = ours.plugins.check(conf, result(), BOX).error
        assert (error["code"], said in error["msg"]) == (100, True), error
        ours.run(f"ip -n box {back}")
    ours.plugins.delete(conf, BOX)
    assert "is not there" in ours.plugins.check(conf, result(), BOX).error["msg"]


def test_routes_come_back_whose_gateway_is_no_neighbour(ours: Box) -> None:
    ours.run("ip -n box route add 10.7.0.0/16 via 10.77.0.1 dev eth0 onlink")
    ours.run("ip -n box -6 route add fd00:77::/64 dev eth0")
    ours.run("ip -n box -6 route add fd00:7::/64 via fd00:77::1 dev eth0")
    ours.run("ip -n box -6 route del fd00:77::/64 dev eth0")
    ours.plugins.add(ours.conf(), BOX)
    assert ("10.7.0.0/16", "10.77.0.1", "eth0") in ours.table(1)
    assert ("fd00:7::/64", "fd00:77::1", "eth0") in ours.table(1, 6)
    ours.plugins.delete(ours.conf(), BOX)


def test_an_add_that_fails_leaves_everything_as_it_was(ours: Box) -> None:
    """The last step is refused: a VRF has a loopback of its own, and takes no other."""
    before = ours.state()
    previous = result() | {"interfaces": [{"name": "lo", "sandbox": BOX}], "ips": []}
    said = ours.error("ADD", ours.conf(prevResult=previous), ifname="lo")
    assert "ip -n box link set lo master red: " in said
    assert (ours.vrfs(), ours.state()) == ({}, before)
