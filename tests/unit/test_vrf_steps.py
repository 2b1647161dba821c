"""What the vrf plugin would do, as commands; without a kernel."""

from __future__ import annotations

from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni_plugins.sdk import rtmsg, vrfs
from cni_plugins.sdk.netlink import frame
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtmsg import IFA_F_NOPREFIXROUTE, LinkRoute
from cni_plugins.sdk.rtnl import LinkAddress
from cni_plugins.sdk.vrfs import Free, Kept
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.vrf import Config, steps

BOX = Namespace("/run/netns/box")
GATEWAY = parse_address("10.1.0.1")
KEPT = Kept(
    (LinkAddress(3, parse_cidr("fd00:1::2/64")), LinkAddress(3, parse_cidr("fd00:2::2/64"), IFA_F_NOPREFIXROUTE)),
    (
        LinkRoute(parse_cidr("0.0.0.0/0"), GATEWAY, 3),
        LinkRoute(parse_cidr("10.9.0.0/16"), GATEWAY, 3, table=100, onlink=True),
    ),
)


def commands(found: bool, kept: Kept) -> list[str]:
    made = steps(Config("red", 7), BOX, "eth0", 7, found, kept)
    return [line for step in made for line in step.describe().splitlines()]


def test_a_vrf_that_is_missing_is_made() -> None:
    assert commands(False, Kept()) == [
        "ip -n box link add red type vrf table 7",
        "ip -n box link set red up",
        "ip -n box link set eth0 master red",
    ]
    assert commands(True, Kept()) == ["ip -n box link set eth0 master red"]


def test_addresses_and_routes_come_along() -> None:
    assert commands(True, KEPT)[1:] == [
        "ip -n box addr replace fd00:1::2/64 dev eth0 nodad",
        "ip -n box addr replace fd00:2::2/64 dev eth0 nodad noprefixroute",
        "ip -n box route replace default via 10.1.0.1 dev eth0 proto 3 table 7",
        "ip -n box route replace 10.9.0.0/16 via 10.1.0.1 dev eth0 onlink proto 3 table 100",
    ]


def test_a_vrf_is_a_link_with_a_table() -> None:
    kind = vrfs.kind(2000)
    read = ifinfmsg(frame(rtmsg.link_add("red", kind.name, kind.data), 7))
    read.decode()
    info = read.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "vrf"
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_VRF_TABLE") == 2000


def test_what_is_in_nothing_has_no_master() -> None:
    (message,) = Free(BOX, "eth0").messages()
    read = ifinfmsg(frame(message, 7))
    read.decode()
    assert (read.get_attr("IFLA_IFNAME"), read.get_attr("IFLA_MASTER")) == ("eth0", 0)
    assert Free(BOX, "eth0").describe() == "ip -n box link set eth0 nomaster"
