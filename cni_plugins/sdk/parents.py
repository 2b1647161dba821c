"""The link that another one stands on (`master` of macvlan, ipvlan and vlan): by its name, or the default route's.

Nothing here is asked by DEL, which must not care whether the parent is still there.
"""

from __future__ import annotations

from cni_plugins.sdk.netlink import Message, u32
from cni_plugins.sdk.rtmsg import (
    AF_INET,
    AF_INET6,
    RT_TABLE_MAIN,
    RTA_TABLE,
    RTM_GETROUTE,
    RTMSG,
    RTN_UNICAST,
)
from cni_plugins.sdk.rtnl import read_routes
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.sdk.rtnl import Link, Rtnl


def find(namespace: Namespace, name: str, mtu: int = 0, code: int = INTERNAL) -> Link:
    """The link `name`, or that of the default route where `name` is empty; `mtu` is what stands on it is to have.

    Raises CniError: `code` when there is no such link, 7 when it takes no packets of that size.
    """
    place = f"in {namespace.path}" if namespace.path else "on this host"
    link = namespace.link(name) if name else _of_default_route(namespace, code, place)
    if link is None:
        raise CniError(code, f"master: there is no link {name} {place}", f"`{namespace.command('link')}` lists them")
    if mtu > link.mtu:
        raise CniError(
            INVALID_CONFIG, f"mtu: expected an integer from 0 to {link.mtu}, got {mtu}", f"{link.name} takes no more"
        )
    return link


def down(parent: Link) -> str:
    """What to do about a parent that is not up."""
    return f"{parent.name} is down: `ip link set {parent.name} up`"


def _of_default_route(namespace: Namespace, code: int, place: str) -> Link:
    index = default_route(namespace.rtnl)
    link = namespace.rtnl.link(index) if index else None
    if link is None:
        raise CniError(
            code,
            f"master is not given, and there is no default route {place} that would lead to one",
            "name the link to stand on",
        )
    return link


def default_route(rtnl: Rtnl) -> int:
    """The index of the link that the default route of table main leads to, IPv4's first; 0 without one.

    The kernel has no question for it, so the table is read; whoever cares names the link.
    """
    for family in (AF_INET, AF_INET6):
        body = RTMSG.pack(family, 0, 0, 0, RT_TABLE_MAIN, 0, 0, RTN_UNICAST, 0) + u32(RTA_TABLE, RT_TABLE_MAIN)
        routes = [route for answer in rtnl.dump(Message(RTM_GETROUTE, 0, body)) for route in read_routes(answer)]
        ways = sorted((route.priority, route.index) for route in routes if not route.dst.length and route.index)
        if ways:
            return ways[0][1]
    return 0
