"""rtnetlink's requests: links, addresses, routes and neighbours as messages (rtnetlink(7)).

The law of this file: functions that give a Message and touch nothing, each named for what `ip` calls it. Sending them
is for `rtnl`, deciding what to send for `links`. Tests decode every one of them with pyroute2's own classes.
"""

from __future__ import annotations

from _struct import Struct

from cni_plugins.sdk.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    attribute,
    nested,
    text,
    u8,
    u32,
)
from cni_plugins.spec.ip import BITS, Address, Cidr
from cni_plugins.spec.mac import mac_bytes
from cni_plugins.spec.record import record

# Taken from the Linux kernel headers: linux/rtnetlink.h, if_link.h, if_addr.h, if_bridge.h, veth.h, neighbour.h.
AF_INET, AF_INET6 = 2, 10
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_NOPREFIXROUTE = 0x02, 0x08, 0x40, 0x200
IFF_UP, IFF_LOOPBACK, IFF_PROMISC, IFF_ALLMULTI = 0x1, 0x8, 0x100, 0x200
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN = 1, 3, 4, 5, 10, 13
IFLA_OPERSTATE, IFLA_LINKINFO, IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_EXT_MASK = 16, 18, 20, 28, 29
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IF_OPER_UP = 6
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS = 1, 4, 5, 6, 7, 8
RTA_MULTIPATH, RTA_TABLE = 9, 15
RTAX_MTU, RTAX_ADVMSS = 2, 8
RTEXT_FILTER_SKIP_STATS = 1 << 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTN_UNICAST, RTN_LOCAL = 1, 2
RTPROT_BOOT = 3  # what `ip route add` writes
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RT_TABLE_MAIN = 254
RTNH_F_ONLINK = 4
VETH_INFO_PEER = 1

IFINFO = Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, which flags change
IFADDR = Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
RTMSG = Struct("=BBBBBBBBI")  # struct rtmsg: family, dst and src length, tos, table, protocol, scope, type, flags
NEXT_HOP = Struct("=HBBi")  # struct rtnexthop: length, flags, weight less one, index
_CREATE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
_WITHOUT_STATISTICS = u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)  # 300 bytes that nobody here reads


@record
class LinkRoute:
    """A route out of a link. `gw` is None for what is reached directly."""

    dst: Cidr
    gw: Address | None
    index: int
    priority: int = 0
    table: int = RT_TABLE_MAIN
    scope: int = RT_SCOPE_UNIVERSE
    mtu: int = 0
    advmss: int = 0
    source: Address | None = None
    protocol: int = RTPROT_BOOT  # who made it
    onlink: bool = False  # the gateway is taken for a neighbour, whatever the other routes say


# --- links ----------------------------------------------------------------------------------------------------------


def _link(
    target: int | str = 0, up: bool | None = None, promisc: bool | None = None, allmulti: bool | None = None
) -> bytes:
    """The fixed part: which link, by index or by name; flags that are None stay as they are."""
    wanted = {IFF_UP: up, IFF_PROMISC: promisc, IFF_ALLMULTI: allmulti}
    flags = sum(flag for flag, on in wanted.items() if on)
    change = sum(flag for flag, on in wanted.items() if on is not None)
    if isinstance(target, str):
        return IFINFO.pack(0, 0, 0, flags, change) + text(IFLA_IFNAME, target)
    return IFINFO.pack(0, 0, target, flags, change)


def _looks(mac: str = "", mtu: int = 0, master: int | None = None) -> bytes:
    """The attributes that any link may be given; empty ones are left to the kernel."""
    return b"".join(
        (
            attribute(IFLA_ADDRESS, mac_bytes(mac)) if mac else b"",
            u32(IFLA_MTU, mtu) if mtu else b"",
            u32(IFLA_MASTER, master) if master is not None else b"",
        )
    )


def link_add(
    name: str,
    kind: str,
    data: bytes = b"",
    *,
    mac: str = "",
    mtu: int = 0,
    master: int | None = None,
    up: bool = False,
    parent: int | None = None,
    netns: int | None = None,
    index: int = 0,
) -> Message:
    """`ip link add NAME type KIND …`; `data` holds the attributes of the kind. It is up at once where `up` says so.

    `parent` is the index of the link it stands on. With `netns`, a descriptor, it is born in that namespace. `index` is
    the number it is to have, 0 for one of the kernel's choice; an empty name leaves that to the kernel, too.
    """
    where = u32(IFLA_LINK, parent) if parent is not None else b""
    where += u32(IFLA_NET_NS_FD, netns) if netns is not None else b""
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind), nested(IFLA_INFO_DATA, data) if data else b"")
    head = _link(index, up or None) + (text(IFLA_IFNAME, name) if name else b"")
    return Message(RTM_NEWLINK, _CREATE, head + _looks(mac, mtu, master) + where + info)


def veth_add(
    name: str, peer: str, *, netns: int, mac: str = "", peer_mac: str = "", mtu: int = 0, master: int | None = None
) -> Message:
    """`ip link add NAME up type veth peer name PEER netns …`: both ends by one message, this one up and enslaved.

    The peer is born in the namespace of the descriptor `netns`: moving a link there later costs an RCU grace period.
    It must not ask for IFF_UP: its other end does not exist yet then, and the kernel answers ENOTCONN.
    """
    other = _link(peer) + _looks(peer_mac, mtu) + u32(IFLA_NET_NS_FD, netns)
    return link_add(name, "veth", nested(VETH_INFO_PEER, other), mac=mac, mtu=mtu, master=master, up=True)


def link_set(
    target: int | str,
    *,
    up: bool | None = None,
    promisc: bool | None = None,
    allmulti: bool | None = None,
    mac: str = "",
    mtu: int = 0,
    txqlen: int | None = None,
    master: int | None = None,
    alias: str = "",
) -> Message:
    """`ip link set …`, on a link by index or name: what is not given stays; `master=0` frees a port."""
    looks = _looks(mac, mtu, master) + (text(IFLA_IFALIAS, alias) if alias else b"")
    looks += b"" if txqlen is None else u32(IFLA_TXQLEN, txqlen)
    return Message(RTM_SETLINK, NLM_F_ACK, _link(target, up, promisc, allmulti) + looks)


def link_move(index: int, *, name: str, netns: int | None = None, alias: str | None = None) -> Message:
    """`ip link set … netns … name … alias …`: under the new name in one go; without `netns`, a descriptor, a new name.

    A link is down after a move, and must be down for a new name. An empty alias takes away what it had.
    """
    where = u32(IFLA_NET_NS_FD, netns) if netns is not None else b""
    known = attribute(IFLA_IFALIAS, alias.encode()) if alias is not None else b""
    return Message(RTM_SETLINK, NLM_F_ACK, _link(index) + text(IFLA_IFNAME, name) + where + known)


def port_set(target: int | str, *, hairpin: bool | None = None, isolated: bool | None = None) -> Message:
    """`ip link set … type bridge_slave hairpin on isolated on`, on a link that is a bridge's port."""
    data = b"" if hairpin is None else u8(IFLA_BRPORT_MODE, hairpin)
    data += b"" if isolated is None else u8(IFLA_BRPORT_ISOLATED, isolated)
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), nested(IFLA_INFO_SLAVE_DATA, data))
    return Message(RTM_NEWLINK, NLM_F_ACK, _link(target) + info)


def link_delete(target: int | str) -> Message:
    """`ip link del …`. Better by index: a name may have passed to another link since it was looked up."""
    return Message(RTM_DELLINK, NLM_F_ACK, _link(target))


def link_get(target: int | str) -> Message:
    """`ip link show …`"""
    return Message(RTM_GETLINK, NLM_F_ACK, _link(target) + _WITHOUT_STATISTICS)


# --- addresses, routes, neighbours ----------------------------------------------------------------------------------


def _address_message(kind: int, flags: int, index: int, cidr: Cidr, properties: int = 0) -> Message:
    packed = cidr.address.packed
    body = IFADDR.pack(cidr.address.af, cidr.length, properties & 0xFF, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return Message(kind, flags, body + (u32(IFA_FLAGS, properties) if properties > 0xFF else b""))


def address_add(index: int, cidr: Cidr, connected: bool = True, detect: bool = False) -> Message:
    """`ip addr add CIDR brd + dev …` (IPv4), `ip addr add CIDR dev … nodad` (IPv6).

    Duplicate address detection would hold the address back for a second, on a link whose other end is ours: it is left
    out unless `detect` asks for it. One that is not `connected` (`noprefixroute`) brings no route to its subnet.
    """
    properties = (IFA_F_NODAD if cidr.family == 6 and not detect else 0) | (0 if connected else IFA_F_NOPREFIXROUTE)
    message = _address_message(RTM_NEWADDR, _CREATE, index, cidr, properties)
    if cidr.family == 6 or cidr.length > 30:  # prefixes of 31 and 32 bits have no broadcast address (RFC 3021)
        return message
    return Message(message.kind, message.flags, message.body + attribute(IFA_BROADCAST, cidr.last.packed))


def address_delete(index: int, cidr: Cidr) -> Message:
    return _address_message(RTM_DELADDR, NLM_F_ACK, index, cidr)


def _route_message(kind: int, flags: int, route: LinkRoute) -> Message:
    table = route.table if route.table < 256 else 0  # the old field has 8 bits; the attribute counts
    metrics = b"".join(u32(key, value) for key, value in ((RTAX_MTU, route.mtu), (RTAX_ADVMSS, route.advmss)) if value)
    dst = route.dst.network
    hop = RTNH_F_ONLINK if route.onlink else 0
    body = RTMSG.pack(dst.address.af, dst.length, 0, 0, table, route.protocol, route.scope, RTN_UNICAST, hop)
    body += attribute(RTA_DST, dst.address.packed) if dst.length else b""
    body += attribute(RTA_GATEWAY, route.gw.packed) if route.gw else b""
    body += u32(RTA_OIF, route.index) + u32(RTA_TABLE, route.table)
    body += u32(RTA_PRIORITY, route.priority) if route.priority else b""
    body += attribute(RTA_PREFSRC, route.source.packed) if route.source else b""
    return Message(kind, flags, body + (nested(RTA_METRICS, metrics) if metrics else b""))


def route_add(route: LinkRoute, only: bool = False) -> Message:
    """`ip route prepend …`: without NLM_F_EXCL, as the reference plugins send it. Several next hops for one destination
    become as many routes, only the very same route is EEXIST. With `only` it is `ip route add …`: any other one is."""
    return _route_message(RTM_NEWROUTE, _CREATE if only else NLM_F_ACK | NLM_F_CREATE, route)


def route_replace(route: LinkRoute) -> Message:
    return _route_message(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, route)


def route_delete(route: LinkRoute) -> Message:
    return _route_message(RTM_DELROUTE, NLM_F_ACK, route)


def route_get(address: Address) -> Message:
    """`ip route get ADDRESS`"""
    body = RTMSG.pack(address.af, BITS[address.family], 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_DST, address.packed)
    return Message(RTM_GETROUTE, NLM_F_ACK, body)


# --- lists, filtered by the kernel ----------------------------------------------------------------------------------


def links_dump(master: int = 0) -> Message:
    """`ip link show`, `ip link show master …`"""
    body = _link() + (u32(IFLA_MASTER, master) if master else b"") + _WITHOUT_STATISTICS
    return Message(RTM_GETLINK, 0, body)


def addresses_dump(index: int, family: int = 0) -> Message:
    """`ip addr show dev …`; `family` 0 is for both."""
    return Message(RTM_GETADDR, 0, IFADDR.pack(family, 0, 0, 0, index))


def routes_dump(index: int, family: int) -> Message:
    """`ip route show table all type unicast dev …`"""
    return Message(RTM_GETROUTE, 0, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + u32(RTA_OIF, index))
