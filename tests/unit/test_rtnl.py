"""Every rtnetlink request that we build, as pyroute2's own message classes read it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg as routemsg

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.netlink import Message, frame
from cni_plugins.sdk.rtmsg import LinkRoute
from cni_plugins.spec.ip import Address, parse_address, parse_cidr

REQUEST, ACK, CREATE, EXCL, REPLACE = 1, 4, 0x400, 0x200, 0x100
MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def plain(value: Any) -> Any:
    """A decoded message as dictionaries: fields and attributes side by side."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {key: plain(item) for key, item in value.items() if key not in ("attrs", "__align", "__pad", "state")}
    return fields | {item[0]: plain(item[1]) for item in value.get("attrs", [])}


def decoded(message: Message) -> dict[str, Any]:
    judge = {16: ifinfmsg, 20: ifaddrmsg, 24: routemsg, 28: ndmsg}[message.kind & ~3]
    read = judge(frame(message, 7))
    read.decode()
    assert read["header"]["length"] == len(frame(message, 7))
    return plain(read) | {"kind": message.kind, "flags_": read["header"]["flags"]}  # type: ignore[no-any-return]


def link(**fields: Any) -> dict[str, Any]:
    return {"family": 0, "ifi_type": 0, "index": 0, "flags": 0, "change": 0} | fields


def address(**fields: Any) -> dict[str, Any]:
    return {"family": 2, "prefixlen": 24, "flags": 0, "scope": 0, "index": 3} | fields


def route(**fields: Any) -> dict[str, Any]:
    fixed = {"family": 2, "dst_len": 8, "src_len": 0, "tos": 0, "table": 254, "proto": 3, "scope": 0, "type": 1}
    return fixed | {"flags": 0} | fields


TEN = LinkRoute(parse_cidr("10.0.0.0/8"), parse_address("10.1.0.1"), 3)
NO_STATISTICS = {"IFLA_EXT_MASK": 8}

CASES: list[tuple[str, Message, int, int, dict[str, Any]]] = [
    (
        "link_add",
        rtmsg.link_add("br0", "bridge", mac=MAC, mtu=1400, up=True),
        16,
        REQUEST | ACK | CREATE | EXCL,
        link(
            flags=1,
            change=1,
            IFLA_IFNAME="br0",
            IFLA_ADDRESS=MAC,
            IFLA_MTU=1400,
            IFLA_LINKINFO={"IFLA_INFO_KIND": "bridge"},
        ),
    ),
    (
        "link_add",
        rtmsg.link_add("tap0", "dummy", master=4),
        16,
        REQUEST | ACK | CREATE | EXCL,
        link(IFLA_IFNAME="tap0", IFLA_MASTER=4, IFLA_LINKINFO={"IFLA_INFO_KIND": "dummy"}),
    ),
    (
        "veth_add",
        rtmsg.veth_add("veth0", "eth0", netns=5, mac=MAC, peer_mac=PEER_MAC, mtu=1400, master=9),
        16,
        REQUEST | ACK | CREATE | EXCL,
        link(
            flags=1,
            change=1,
            IFLA_IFNAME="veth0",
            IFLA_ADDRESS=MAC,
            IFLA_MTU=1400,
            IFLA_MASTER=9,
            IFLA_LINKINFO={
                "IFLA_INFO_KIND": "veth",
                "IFLA_INFO_DATA": {
                    # The other end must not ask to be up: the kernel answers ENOTCONN.
                    "VETH_INFO_PEER": link(IFLA_IFNAME="eth0", IFLA_ADDRESS=PEER_MAC, IFLA_MTU=1400, IFLA_NET_NS_FD=5)
                },
            },
        ),
    ),
    (
        "link_set",
        rtmsg.link_set("br0", up=True, promisc=False, mac=MAC, mtu=1300, master=0, alias="cni net web eth0"),
        19,
        REQUEST | ACK,
        link(
            flags=1,
            change=0x101,
            IFLA_IFNAME="br0",
            IFLA_ADDRESS=MAC,
            IFLA_MTU=1300,
            IFLA_MASTER=0,
            IFLA_IFALIAS="cni net web eth0",
        ),
    ),
    ("link_set", rtmsg.link_set(3, up=False), 19, REQUEST | ACK, link(index=3, change=1)),
    (
        "link_set",
        rtmsg.link_set(3, allmulti=True, txqlen=0),
        19,
        REQUEST | ACK,
        link(index=3, flags=0x200, change=0x200, IFLA_TXQLEN=0),
    ),
    (
        "link_move",
        rtmsg.link_move(3, name="eth0", netns=5, alias="eth1"),
        19,
        REQUEST | ACK,
        link(index=3, IFLA_IFNAME="eth0", IFLA_NET_NS_FD=5, IFLA_IFALIAS="eth1"),
    ),
    ("link_move", rtmsg.link_move(3, name="eth1"), 19, REQUEST | ACK, link(index=3, IFLA_IFNAME="eth1")),
    (
        "port_set",
        rtmsg.port_set("veth0", hairpin=True, isolated=False),
        16,
        REQUEST | ACK,
        link(
            IFLA_IFNAME="veth0",
            IFLA_LINKINFO={
                "IFLA_INFO_SLAVE_KIND": "bridge",
                "IFLA_INFO_SLAVE_DATA": {"IFLA_BRPORT_MODE": 1, "IFLA_BRPORT_ISOLATED": 0},
            },
        ),
    ),
    ("link_delete", rtmsg.link_delete(3), 17, REQUEST | ACK, link(index=3)),
    ("link_delete", rtmsg.link_delete("veth0"), 17, REQUEST | ACK, link(IFLA_IFNAME="veth0")),
    ("link_get", rtmsg.link_get("eth0"), 18, REQUEST | ACK, link(IFLA_IFNAME="eth0") | NO_STATISTICS),
    ("links_dump", rtmsg.links_dump(), 18, REQUEST, link() | NO_STATISTICS),
    ("links_dump", rtmsg.links_dump(master=4), 18, REQUEST, link(IFLA_MASTER=4) | NO_STATISTICS),
    (
        "address_add",
        rtmsg.address_add(3, parse_cidr("10.1.0.2/24")),
        20,
        REQUEST | ACK | CREATE | EXCL,
        address(IFA_LOCAL="10.1.0.2", IFA_ADDRESS="10.1.0.2", IFA_BROADCAST="10.1.0.255"),
    ),
    (
        "address_add",
        rtmsg.address_add(3, parse_cidr("10.1.0.2/31")),
        20,
        REQUEST | ACK | CREATE | EXCL,
        address(prefixlen=31, IFA_LOCAL="10.1.0.2", IFA_ADDRESS="10.1.0.2"),
    ),
    (
        "address_add",
        rtmsg.address_add(3, parse_cidr("fd00::2/64")),
        20,
        REQUEST | ACK | CREATE | EXCL,
        address(family=10, prefixlen=64, flags=2, IFA_LOCAL="fd00::2", IFA_ADDRESS="fd00::2"),
    ),
    (
        "address_add",
        rtmsg.address_add(3, parse_cidr("fd00::2/64"), connected=False),
        20,
        REQUEST | ACK | CREATE | EXCL,
        address(
            family=10,
            prefixlen=64,
            flags=2,  # NOPREFIXROUTE has no room in the old field
            IFA_LOCAL="fd00::2",
            IFA_ADDRESS="fd00::2",
            IFA_FLAGS=0x202,
        ),
    ),
    (
        "address_delete",
        rtmsg.address_delete(3, parse_cidr("10.1.0.2/24")),
        21,
        REQUEST | ACK,
        address(IFA_LOCAL="10.1.0.2", IFA_ADDRESS="10.1.0.2"),
    ),
    (
        "addresses_dump",
        rtmsg.addresses_dump(3),
        22,
        REQUEST,
        address(family=0, prefixlen=0),
    ),
    (
        "route_add",
        rtmsg.route_add(TEN),
        24,
        REQUEST | ACK | CREATE,
        route(RTA_DST="10.0.0.0", RTA_GATEWAY="10.1.0.1", RTA_OIF=3, RTA_TABLE=254),
    ),
    (
        "route_add",
        rtmsg.route_add(LinkRoute(parse_cidr("10.1.0.1/32"), None, 3, source=parse_address("10.1.0.2")), only=True),
        24,
        REQUEST | ACK | CREATE | EXCL,
        route(dst_len=32, RTA_DST="10.1.0.1", RTA_OIF=3, RTA_TABLE=254, RTA_PREFSRC="10.1.0.2"),
    ),
    (
        "route_replace",
        rtmsg.route_replace(TEN),
        24,
        REQUEST | ACK | CREATE | REPLACE,
        route(RTA_DST="10.0.0.0", RTA_GATEWAY="10.1.0.1", RTA_OIF=3, RTA_TABLE=254),
    ),
    (
        "route_add",
        rtmsg.route_add(LinkRoute(parse_cidr("::/0"), parse_address("fd00::1"), 3, 100, 1000, 0, 1400, 1360)),
        24,
        REQUEST | ACK | CREATE,
        route(
            family=10,
            dst_len=0,
            table=0,  # 1000 has no room in the old field
            RTA_GATEWAY="fd00::1",
            RTA_OIF=3,
            RTA_TABLE=1000,
            RTA_PRIORITY=100,
            RTA_METRICS={"RTAX_MTU": 1400, "RTAX_ADVMSS": 1360},
        ),
    ),
    (
        "route_delete",
        rtmsg.route_delete(LinkRoute(parse_cidr("10.1.0.0/16"), None, 3, scope=253)),
        25,
        REQUEST | ACK,
        route(dst_len=16, scope=253, RTA_DST="10.1.0.0", RTA_OIF=3, RTA_TABLE=254),
    ),
    ("routes_dump", rtmsg.routes_dump(3, 2), 26, REQUEST, route(dst_len=0, table=0, proto=0, RTA_OIF=3)),
    (
        "route_get",
        rtmsg.route_get(parse_address("10.1.0.2")),
        26,
        REQUEST | ACK,
        route(dst_len=32, table=0, proto=0, type=0, RTA_DST="10.1.0.2"),
    ),
]


@pytest.mark.parametrize(("message", "kind", "flags", "wanted"), [case[1:] for case in CASES])
def test_pyroute2_reads_what_was_meant(message: Message, kind: int, flags: int, wanted: dict[str, Any]) -> None:
    read = decoded(message)
    assert (read.pop("kind"), read.pop("flags_")) == (kind, flags)
    read.pop("header")
    assert read == wanted


def test_no_request_is_without_a_case() -> None:
    builders = {
        name
        for name, function in inspect.getmembers(rtmsg, inspect.isfunction)
        if function.__module__ == rtmsg.__name__ and not name.startswith("_")
    }
    assert builders == {case[0] for case in CASES}


addresses = st.one_of(
    st.builds(Address, st.just(4), st.integers(0, 2**32 - 1)),
    st.builds(Address, st.just(6), st.integers(0, 2**128 - 1)),
)


@given(addresses)
def test_any_address_arrives_as_it_was(address: Address) -> None:
    read = decoded(rtmsg.route_get(address))
    assert parse_address(read["RTA_DST"]) == address
