"""The rtnetlink socket, and what it reads: links, addresses and routes (rtnetlink(7)).

The law of this file: nothing lists more than it is asked for. Single objects are got by name or index, and a dump
carries a filter that the kernel applies (NETLINK_GET_STRICT_CHK, Linux 4.20), so that no answer on the way of an ADD
or DEL grows with the number of containers. What it sends is built by `rtmsg`. Tests compare every reading with `ip -j`.
"""

from __future__ import annotations

from errno import ENODEV

from cni_plugins.sdk.netlink import (
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    SOL_NETLINK,
    Message,
    Netlink,
    NetlinkError,
    attributes,
    integer,
    string,
)
from cni_plugins.sdk.rtmsg import (
    AF_INET,
    IF_OPER_UP,
    IFA_ADDRESS,
    IFA_FLAGS,
    IFA_LOCAL,
    IFADDR,
    IFF_ALLMULTI,
    IFF_PROMISC,
    IFF_UP,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_BRPORT_ISOLATED,
    IFLA_BRPORT_MODE,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_LINK,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_OPERSTATE,
    IFLA_TXQLEN,
    NEXT_HOP,
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTAX_ADVMSS,
    RTAX_MTU,
    RTMSG,
    RTN_LOCAL,
    RTNH_F_ONLINK,
    LinkRoute,
    addresses_dump,
    link_get,
    links_dump,
    route_get,
    routes_dump,
)
from cni_plugins.spec.ip import Address, Cidr
from cni_plugins.spec.mac import mac_text
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_WAY = (ENODEV, 13, 22, 101, 113)  # and EACCES, EINVAL, ENETUNREACH, EHOSTUNREACH: prohibit, blackhole, none

# --- what is read ---------------------------------------------------------------------------------------------------


@record
class Link:
    """A link as the kernel describes it. `peer` is the index that it is tied to: the other end's for a veth."""

    index: int
    name: str
    kind: str = ""
    flags: int = 0
    mac: str = ""
    mtu: int = 0
    master: int = 0
    peer: int = 0
    operstate: int = 0
    alias: str = ""
    port: bytes = b""  # IFLA_BRPORT_* attributes, when it is a bridge's port
    txqlen: int = 0
    data: bytes = b""  # the attributes of its kind, as IFLA_INFO_DATA has them

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def running(self) -> bool:
        """Whether frames pass: its carrier is there, and its bridge has taken note (RFC 2863 "up")."""
        return self.operstate == IF_OPER_UP

    @property
    def promisc(self) -> bool:
        return bool(self.flags & IFF_PROMISC)

    @property
    def allmulti(self) -> bool:
        return bool(self.flags & IFF_ALLMULTI)

    @property
    def hairpin(self) -> bool:
        return bool(integer(attributes(self.port).get(IFLA_BRPORT_MODE)))

    @property
    def isolated(self) -> bool:
        return bool(integer(attributes(self.port).get(IFLA_BRPORT_ISOLATED)))


@record
class LinkAddress:
    """An address on a link, with the prefix length it is known by."""

    index: int
    cidr: Cidr
    flags: int = 0
    scope: int = 0


@record
class Way:
    """The kernel's answer to `ip route get`: the link it leads to, and whether the address is this host's own."""

    index: int
    local: bool


def read_link(message: Message) -> Link:
    _family, _type, index, flags, _change = IFINFO.unpack_from(message.body)
    found = attributes(message.body, IFINFO.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    return Link(
        index,
        string(found.get(IFLA_IFNAME)),
        string(info.get(IFLA_INFO_KIND)),
        flags,
        mac_text(found.get(IFLA_ADDRESS, b"")),
        integer(found.get(IFLA_MTU)),
        integer(found.get(IFLA_MASTER)),
        integer(found.get(IFLA_LINK)),
        integer(found.get(IFLA_OPERSTATE)),
        string(found.get(IFLA_IFALIAS)),
        info.get(IFLA_INFO_SLAVE_DATA, b""),
        integer(found.get(IFLA_TXQLEN)),
        info.get(IFLA_INFO_DATA, b""),
    )


def read_address(message: Message) -> LinkAddress:
    """IFA_LOCAL is the address itself, where IFA_ADDRESS would be the other end's of a point-to-point link."""
    _family, length, flags, scope, index = IFADDR.unpack_from(message.body)
    found = attributes(message.body, IFADDR.size)
    address = _address(found.get(IFA_LOCAL) or found[IFA_ADDRESS])
    return LinkAddress(index, Cidr(address, length), integer(found.get(IFA_FLAGS), flags), scope)


def read_routes(message: Message) -> Iterator[LinkRoute]:
    """The route that a message tells of; of one with several next hops, a route for each."""
    family, length, _src, _tos, table, protocol, scope, _type, hop = RTMSG.unpack_from(message.body)
    found = attributes(message.body, RTMSG.size)
    metrics = attributes(found.get(RTA_METRICS, b""))
    source = found.get(RTA_PREFSRC)
    for gateway, index in _next_hops(found):
        yield LinkRoute(
            Cidr(_address(found.get(RTA_DST) or bytes(4 if family == AF_INET else 16)), length),
            _address(gateway) if gateway else None,
            index,
            integer(found.get(RTA_PRIORITY)),
            integer(found.get(RTA_TABLE), table),
            scope,
            integer(metrics.get(RTAX_MTU)),
            integer(metrics.get(RTAX_ADVMSS)),
            _address(source) if source else None,
            protocol,
            bool(hop & RTNH_F_ONLINK),
        )


def _next_hops(found: dict[int, bytes]) -> Iterator[tuple[bytes | None, int]]:
    """(gateway, index of the link) of each."""
    if RTA_MULTIPATH not in found:
        yield found.get(RTA_GATEWAY), integer(found.get(RTA_OIF))
        return
    data = found[RTA_MULTIPATH]
    while data:
        size, _flags, _weight, index = NEXT_HOP.unpack_from(data)
        yield attributes(data[:size], NEXT_HOP.size).get(RTA_GATEWAY), index
        data = data[max(size + 3 & ~3, NEXT_HOP.size) :]


def _address(packed: bytes) -> Address:
    return Address(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))


# --- the socket -----------------------------------------------------------------------------------------------------


class Rtnl(Netlink):
    """An rtnetlink socket of the namespace that it is made in."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)

    def link(self, target: int | str) -> Link | None:
        """The link of that index or name, or None. Raises NetlinkError."""
        return self.find(target)[0]

    def find(self, *targets: int | str) -> list[Link | None]:
        """The links of those indexes or names, by one system call; None where there is none. Raises NetlinkError."""
        found: list[Link | None] = []
        for answer in self.talk([link_get(target) for target in targets]):
            if isinstance(answer, NetlinkError):
                if answer.errno != ENODEV:
                    raise answer
                found.append(None)
            else:
                found.append(read_link(answer[0]))
        return found

    def ports(self, master: int) -> list[Link]:
        """The links that are enslaved to the link of index `master`."""
        return [read_link(message) for message in self.dump(links_dump(master))]

    def all_links(self) -> list[Link]:
        """Every link: its cost grows with the host. For garbage collection, never for an ADD."""
        return [read_link(message) for message in self.dump(links_dump())]

    def addresses(self, index: int, family: int = 0) -> list[LinkAddress]:
        """The addresses of one link; `family` is AF_INET, AF_INET6 or 0 for both."""
        return [read_address(message) for message in self.dump(addresses_dump(index, family))]

    def routes(self, index: int, family: int) -> list[LinkRoute]:
        """The unicast routes out of one link, of every table."""
        found = self.dump(routes_dump(index, family))
        return [route for message in found for route in read_routes(message) if route.index == index]

    def way_to(self, address: Address) -> Way | None:
        """How this namespace would send to `address`; None when it would not. Raises NetlinkError."""
        try:
            ((reply,),) = self.ask(route_get(address))
        except NetlinkError as error:
            if error.errno in _NO_WAY:
                return None
            raise
        kind = RTMSG.unpack_from(reply.body)[7]
        return Way(integer(attributes(reply.body, RTMSG.size).get(RTA_OIF)), kind == RTN_LOCAL)
