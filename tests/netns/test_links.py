"""Steps on links, in the kernel; `ip -j` and pyroute2 are the judges."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute
from support.machine import Machine

from cni_plugins.sdk.links import (
    AddAddress,
    AddBridge,
    AddRoute,
    AddSharedAddress,
    AddVeth,
    DeleteAddress,
    DeleteLink,
    LinkStep,
    SetLink,
    SetPort,
    Together,
    wait_running,
)
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.rtmsg import AF_INET, AF_INET6
from cni_plugins.sdk.sysctl import SetSysctl, read_sysctl
from cni_plugins.spec.errors import INVALID_NETNS, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.result import Route
from cni_plugins.spec.steps import Plan, Step

EEXIST, ENODEV = 17, 19
BRIDGE_MAC, PORT_MAC, MAC = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"


class Place:
    """Two namespaces of the machine, as a host and a container."""

    def __init__(self, machine: Machine, host: str = "host", inside: str = "box") -> None:
        self.machine = machine
        self.host, self.inside = Namespace(machine.netns(host)), Namespace(machine.netns(inside))
        for name in (host, inside):  # no link-local addresses: they come and settle when they please
            machine.run("ip", "netns", "exec", name, "sysctl", "-qw", "net/ipv6/conf/default/addr_gen_mode=1")

    def bridge(self, **more: Any) -> AddBridge:
        return AddBridge(self.host, "br0", BRIDGE_MAC, **more)

    def veth(self, name: str = "v0", peer: str = "eth0", **more: Any) -> AddVeth:
        return AddVeth(self.host, name, PORT_MAC, self.inside, peer, MAC, "br0", **more)

    def everything(self) -> list[Step]:
        """A step of every kind that makes something."""
        first = (
            self.veth(mtu=1400),
            SetLink(self.host, "v0", alias="cni net web eth0"),
            SetPort(self.host, "v0", True),
        )
        then: tuple[LinkStep, ...] = (
            AddAddress(self.inside, "eth0", parse_cidr("10.1.0.2/24")),
            AddAddress(self.inside, "eth0", parse_cidr("10.9.0.2/31")),
            AddAddress(self.inside, "eth0", parse_cidr("fd00:1::2/64")),
            SetLink(self.inside, "eth0", up=True),
            AddRoute(self.inside, "eth0", Route(parse_cidr("0.0.0.0/0"), parse_address("10.1.0.1"))),
            AddRoute(self.inside, "eth0", Route(parse_cidr("::/0"), parse_address("fd00:1::1"))),
            AddRoute(self.inside, "eth0", Route(parse_cidr("10.2.0.0/16"), None, mtu=1300, advmss=1200)),
            AddRoute(
                self.inside, "eth0", Route(parse_cidr("10.3.0.0/16"), parse_address("10.1.0.7"), priority=9, table=77)
            ),
            AddRoute(self.inside, "eth0", Route(parse_cidr("10.4.0.0/16"), None, scope=200)),
        )
        return [
            self.bridge(mtu=1450),
            SetLink(self.host, "br0", up=True),
            Together(self.host, first),
            AddSharedAddress(self.host, "br0", parse_cidr("10.1.0.1/24"), "v0"),
            SetLink(self.host, "br0", promisc=True),
            SetSysctl(self.host, "net/ipv4/ip_forward", "1"),
            SetSysctl(self.inside, "net/ipv4/conf/eth0/arp_notify", "1"),
            Together(self.inside, then),
            SetLink(self.inside, "eth0", mac="02:00:00:00:00:09"),
        ]

    def state(self) -> list[Any]:
        """All that `ip -j` shows of both, without the kernel's own numbers."""
        shown = []
        for namespace in (self.host, self.inside):
            name = os.path.basename(namespace.path)
            for words in ("addr show", "route show table all", "-6 route show table all"):
                shown.append(self.machine.run("ip", "-j", "-d", "-n", name, *words.split()).stdout)
        return [
            re.sub(r'"(ifindex|link_index|link_netnsid|pref\w*|\w*_timer|valid\w*|fdb_n_learned)":-?[\d.]+,?', "", text)
            for text in shown
        ]

    def close(self) -> None:
        self.host.close()
        self.inside.close()


@pytest.fixture
def place(machine: Machine) -> Iterator[Place]:
    made = Place(machine)
    yield made
    made.host.close()
    made.inside.close()
    for name in ("host", "box"):
        machine.run("ip", "netns", "del", name)


def test_what_a_step_describes_does_what_the_step_does(machine: Machine, place: Place) -> None:
    """The same steps, applied by us in one pair of namespaces and typed into a shell in another."""
    typed = Place(machine, "host2", "box2")
    Plan().do(*place.everything())
    for step in typed.everything():
        for line in step.describe().splitlines():
            machine.run("sh", "-ec", line)
    wait_running(place.host, "v0")
    wait_running(typed.host, "v0")
    try:
        assert place.state() == typed.state()
    finally:
        typed.close()
        for name in ("host2", "box2"):
            machine.run("ip", "netns", "del", name)


def test_a_plan_that_fails_leaves_the_kernel_as_it_was(place: Place) -> None:
    before = place.state()
    with pytest.raises(RuntimeError), Plan() as plan:
        plan.do(*place.everything())
        raise RuntimeError("no more")
    assert place.state() == before


def test_pyroute2_sees_the_pair_as_it_was_meant(place: Place) -> None:
    Plan().do(place.bridge(), place.veth(mtu=1400))
    with IPRoute(netns="host") as host, IPRoute(netns="box") as inside:
        bridge, port = host.get_links(ifname="br0")[0], host.get_links(ifname="v0")[0]
        end = inside.get_links(ifname="eth0")[0]
    assert (bridge.get("state"), bridge.get("address")) == ("down", BRIDGE_MAC)
    assert (port.get("state"), port.get("address"), port.get("mtu")) == ("up", PORT_MAC, 1400)
    assert port.get("master") == bridge["index"]
    assert (end.get("state"), end.get("address"), end.get("mtu")) == ("down", MAC, 1400)
    assert (end.get("link"), port.get("link")) == (port["index"], end["index"])


def test_our_readings_are_those_of_ip(place: Place) -> None:
    Plan().do(*place.everything())
    machine, inside = place.machine, place.inside
    link = inside.rtnl.link("eth0")
    shown = machine.ip("addr", "show", "dev", "eth0", netns="box")[0]
    assert link is not None
    assert (link.index, link.mac, link.mtu, link.kind, link.up) == (
        shown["ifindex"],
        shown["address"],
        shown["mtu"],
        shown["linkinfo"]["info_kind"],
        "UP" in shown["flags"],
    )
    assert {str(found.cidr) for found in inside.rtnl.addresses(link.index)} == {
        f"{item['local']}/{item['prefixlen']}" for item in shown["addr_info"]
    }
    for family, flag in ((AF_INET, "-4"), (AF_INET6, "-6")):
        ours = {(str(way.dst), str(way.gw), way.priority, way.table) for way in inside.rtnl.routes(link.index, family)}
        theirs = set()
        for way in machine.ip(flag, "route", "show", "table", "all", "type", "unicast", netns="box"):
            text = way["dst"].replace("default", "0.0.0.0/0" if family == AF_INET else "::/0")
            table = {"main": 254, "local": 255}.get(way.get("table", "main")) or int(way["table"])
            theirs.add((text, way.get("gateway", "None"), way.get("metric", 0), table))
        assert ours == theirs
    port = place.host.rtnl.link("v0")
    assert port is not None
    assert (port.alias, port.hairpin, port.running) == ("cni net web eth0", True, True)
    assert [found.name for found in place.host.rtnl.ports(place.host.index("br0"))] == ["v0"]


def test_next_hops_of_one_destination_are_read_one_by_one(place: Place) -> None:
    Plan().do(*place.everything())
    hops = "nexthop via 10.1.0.7 dev eth0 nexthop via 10.1.0.8 dev eth0"
    place.machine.run("ip", "-n", "box", "route", "add", "10.8.0.0/16", *hops.split())
    found = place.inside.rtnl.routes(place.inside.index("eth0"), AF_INET)
    assert {str(way.gw) for way in found if str(way.dst) == "10.8.0.0/16"} == {"10.1.0.7", "10.1.0.8"}


def test_several_routes_to_one_destination_stand_side_by_side(place: Place) -> None:
    Plan().do(*place.everything())
    for gateway in ("10.1.0.7", "10.1.0.8"):
        AddRoute(place.inside, "eth0", Route(parse_cidr("10.8.0.0/16"), parse_address(gateway))).apply()
    assert len(place.machine.ip("route", "show", "10.8.0.0/16", netns="box")) == 2


# --- refusals -------------------------------------------------------------------------------------------------------


def test_a_refusal_names_the_command_and_keeps_the_kernels_words(place: Place) -> None:
    with pytest.raises(NetlinkError) as caught:
        Plan().do(place.bridge(), place.bridge())
    assert caught.value.errno == EEXIST
    assert str(caught.value) == f"ip -n host link add br0 address {BRIDGE_MAC} type bridge: File exists"


def test_of_a_batch_with_a_refusal_nothing_is_left(place: Place) -> None:
    Plan().do(place.bridge())
    bad = SetLink(place.host, "v0", mtu=1_000_000)
    with pytest.raises(NetlinkError, match=r"link set v0 mtu 1000000: .*greater than device maximum"):
        Together(place.host, (place.veth(), bad, SetPort(place.host, "v0", True))).apply()
    assert (place.machine.links("host"), place.machine.links("box")) == ({"lo", "br0"}, {"lo"})


def test_a_missing_link_is_named_with_its_namespace(place: Place) -> None:
    with pytest.raises(OSError, match="there is no link 'eth7' in /run/netns/box") as caught:
        AddAddress(place.inside, "eth7", parse_cidr("10.1.0.2/24")).apply()
    assert caught.value.errno == ENODEV


def test_deleting_a_link_that_is_gone_is_fine(place: Place) -> None:
    Plan().do(place.bridge(), DeleteLink(place.host, "br0"), DeleteLink(place.host, "br0"))
    assert place.machine.links("host") == {"lo"}


def test_what_is_done_already_is_fine_in_a_batch_too_and_not_ours_to_undo(place: Place) -> None:
    Plan().do(place.bridge(), place.veth("ours"))
    shared = AddSharedAddress(place.host, "br0", parse_cidr("10.1.0.1/24"), "ours")
    shared.apply()
    Together(place.host, (shared, SetLink(place.host, "br0", alias="it went on"))).apply()
    assert place.machine.ip("link", "show", "br0", netns="host")[0]["ifalias"] == "it went on"
    with pytest.raises(NetlinkError, match="link set ours mtu 1000000"):
        Together(place.host, (shared, SetLink(place.host, "ours", mtu=1_000_000))).apply()
    assert place.machine.addresses("br0", "host") == {"10.1.0.1/24"}
    Plan().do(DeleteLink(place.host, "ours"), DeleteLink(place.host, "br0"))


def test_a_ports_modes_come_back(place: Place) -> None:
    Plan().do(place.bridge(), place.veth("v0"))
    step = SetPort(place.host, "v0", isolated=True)
    for on, change in ((True, step.apply), (False, step.undo)):
        change()
        data = place.machine.ip("link", "show", "v0", netns="host")[0]["linkinfo"]["info_slave_data"]
        assert (data["isolated"], data["hairpin"]) == (on, False)
    Plan().do(DeleteLink(place.host, "v0"), DeleteLink(place.host, "br0"))


# --- undo -----------------------------------------------------------------------------------------------------------


def test_a_bridge_that_others_use_is_not_taken_away(place: Place) -> None:
    bridge = place.bridge()
    Plan().do(bridge, place.veth("theirs"))
    bridge.undo()
    assert "br0" in place.machine.links("host")
    DeleteLink(place.host, "theirs").apply()
    bridge.undo()
    assert place.machine.links("host") == {"lo"}


def test_an_address_that_others_use_is_not_taken_away(place: Place) -> None:
    Plan().do(place.bridge(), place.veth("ours"), place.veth("theirs", "eth1"))
    address = AddSharedAddress(place.host, "br0", parse_cidr("10.1.0.1/24"), "ours")
    Plan().do(address, address)
    address.undo()
    assert place.machine.addresses("br0", "host") == {"10.1.0.1/24"}
    DeleteLink(place.host, "theirs").apply()
    address.undo()
    assert place.machine.addresses("br0", "host") == set()


def test_undo_is_content_with_what_is_gone_already(place: Place) -> None:
    steps = place.everything()
    Plan().do(*steps)
    DeleteLink(place.host, "v0").apply()
    DeleteLink(place.host, "br0").apply()
    for step in reversed(steps):
        step.undo()


def test_a_deleted_address_comes_back(place: Place) -> None:
    Plan().do(place.bridge(), AddAddress(place.host, "br0", parse_cidr("10.1.0.1/24")))
    delete = DeleteAddress(place.host, "br0", parse_cidr("10.1.0.1/24"))
    delete.apply()
    assert place.machine.addresses("br0", "host") == set()
    delete.undo()
    assert place.machine.addresses("br0", "host") == {"10.1.0.1/24"}


# --- namespaces and sysctls -----------------------------------------------------------------------------------------


def here() -> tuple[int, int]:
    found = os.stat("/proc/thread-self/ns/net")
    return found.st_dev, found.st_ino


def test_a_visit_ends_where_it_began(place: Place) -> None:
    home = here()
    with place.inside.inside():
        away = here()
        with place.inside.inside():
            assert here() == away
        assert here() == away
        with place.host.inside():
            assert here() not in (home, away)
        assert here() == away
    assert here() == home != away


def test_a_visit_that_fails_comes_home_too(place: Place) -> None:
    home = here()
    with pytest.raises(RuntimeError), place.inside.inside():
        raise RuntimeError("inside")
    assert here() == home


def test_nothing_stays_open_after_close(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Namespace(place.inside.path) as namespace:
        assert namespace.rtnl.link("lo")
        with namespace.inside():
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_that_is_none_is_refused_in_words(machine: Machine) -> None:
    with open("/run/leftover", "w", encoding="utf-8"):
        pass
    for path, said in (
        ("/run/netns/none", "'/run/netns/none': there is no such network namespace"),
        ("/run/leftover", "'/run/leftover': is not a namespace"),
        ("/proc/self/ns/mnt", "'/proc/self/ns/mnt': is another kind of namespace"),
    ):
        with pytest.raises(CniError, match=said) as caught:
            sandbox(path)
        assert caught.value.code == INVALID_NETNS
        assert sandbox_left(path) is None
    assert sandbox_left("") is None
    os.unlink("/run/leftover")
    assert machine.links() == {"lo"}


def test_commands_name_the_namespace_as_ip_does() -> None:
    assert Namespace("").command("link") == "ip link"
    assert Namespace("/run/netns/web").command("link") == "ip -n web link"
    assert Namespace("/var/run/netns/web").shell("sysctl") == "ip netns exec web sysctl"
    assert Namespace("/proc/7/ns/net").command("link") == "nsenter --net=/proc/7/ns/net ip link"
    assert Namespace("/run/a b/ns").shell("id") == "nsenter --net='/run/a b/ns' id"


FORWARD = "net/ipv4/ip_forward"


def test_a_sysctl_is_written_inside_and_nowhere_else(place: Place) -> None:
    def shown(netns: str) -> str:
        return place.machine.run("ip", "netns", "exec", netns, "cat", f"/proc/sys/{FORWARD}").stdout.strip()

    before = shown("host")
    other = {"0": "1", "1": "0"}[before]
    SetSysctl(place.inside, FORWARD, other).apply()
    assert (shown("box"), shown("host")) == (other, before)
    assert read_sysctl(place.inside, FORWARD) == other


def test_a_sysctl_that_is_right_is_not_written(machine: Machine, place: Place) -> None:
    """/proc/sys may be read-only, as in a container that runs containers."""
    SetSysctl(place.host, FORWARD, "0").apply()
    machine.run("mount", "--bind", "/proc/sys", "/proc/sys")
    machine.run("mount", "-o", "remount,bind,ro", "/proc/sys")
    try:
        SetSysctl(place.host, FORWARD, "0").apply()
        with pytest.raises(OSError, match="ip netns exec host sysctl -w net/ipv4/ip_forward=1: Read-only file system"):
            SetSysctl(place.host, FORWARD, "1").apply()
    finally:
        machine.run("umount", "/proc/sys")


def test_a_key_that_the_kernel_lacks_is_an_error_unless_it_is_optional(place: Place) -> None:
    SetSysctl(place.host, "net/ipv4/conf/none/arp_notify", "1", optional=True).apply()
    with pytest.raises(OSError, match="No such file or directory"):
        SetSysctl(place.host, "net/ipv4/conf/none/arp_notify", "1").apply()


def test_an_interface_with_a_dot_in_its_name_has_its_own_sysctls(place: Place) -> None:
    Plan().do(
        place.bridge(), place.veth(peer="eth0.5"), SetSysctl(place.inside, "net/ipv4/conf/eth0.5/arp_notify", "1")
    )
    assert read_sysctl(place.inside, "net/ipv4/conf/eth0.5/arp_notify") == "1"
