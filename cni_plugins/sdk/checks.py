"""What CHECK looks at: whether what ADD made is still there and still as the previous result says (P13 to P15).

Every function raises CniError 100 that names the first fault. What a later plugin of the list may have changed, and
then has recorded in the result that CHECK is given, is compared with that and not with what was first made.
"""

from __future__ import annotations

from cni_plugins.sdk.layer3 import FORWARDING, effective, families
from cni_plugins.sdk.links import AddRoute, resolve
from cni_plugins.sdk.rtmsg import AF_INET, AF_INET6
from cni_plugins.sdk.sysctl import read_sysctl
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import Cidr, host_cidr
from cni_plugins.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.sdk.rtmsg import LinkRoute
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.sdk.vlans import Vlans
    from cni_plugins.spec.result import Ip, Result, Route


def fault(problem: str, details: str = "") -> CniError:
    return CniError(PLUGIN_SPECIFIC, problem, details)


def expected(request: Request) -> Result:
    """The previous result, with those of its addresses that are this attachment's. Raises CniError 7 without one."""
    result = request.prev_result
    if result is None:
        raise CniError(INVALID_CONFIG, "prevResult is missing", "CHECK compares with what ADD gave")
    ours = [
        index
        for index, item in enumerate(result.interfaces)
        if (item.name, item.sandbox) == (request.ifname, request.netns)
    ]
    return replace(result, ips=tuple(ip for ip in result.ips if ip.interface is None or ip.interface in ours))


def link(
    namespace: Namespace, target: int | str, kind: str, result: Result, up: bool = True, mtu: bool = False
) -> Link:
    """The link of that name or index: there, of its kind, `up`, and with the hardware address that `result` names; with
    its `mtu`, too, for ends that no later plugin changes."""
    where = f" in {namespace.path}" if namespace.path else ""
    found = namespace.rtnl.link(target)
    if found is None:
        raise fault(f"there is no link {target}{where}")
    if found.kind != kind:
        raise fault(f"{found.name}{where} is not a {kind}")
    if up and not found.up:
        raise fault(f"{found.name}{where} is down")
    for item in result.interfaces:
        if (item.name, item.sandbox) != (found.name, namespace.path):
            continue
        if item.mac and item.mac.lower() != found.mac:
            raise fault(f"{found.name}{where} has the hardware address {found.mac}, not {item.mac}")
        if mtu and item.mtu not in (0, found.mtu):
            raise fault(f"{found.name}{where} has the MTU {found.mtu}, not {item.mtu}")
    return found


def port(
    link: Link, bridge: Link, end: Link, hairpin: bool = False, isolated: bool = False, running: bool = True
) -> None:
    """That `link` is a port of `bridge`, in its modes, over which frames pass, and the other end of `end`."""
    if link.master != bridge.index or link.peer != end.index:
        raise fault(f"{end.name} is not connected to {bridge.name}")
    if running and not link.running:
        raise fault(f"{link.name}, a port of {bridge.name}, has no carrier")
    if hairpin and not link.hairpin:
        raise fault(f"{link.name}: hairpin mode is off")
    if isolated and not link.isolated:
        raise fault(f"{link.name} is not isolated from other ports")


def vlans(host: Namespace, bridge: Link, port: Link, wanted: Vlans) -> None:
    """That `port` is in the VLANs that it is to be in and in no other, and `bridge` heeds them."""
    from cni_plugins.sdk.vlans import filtering, lacking  # for those who ask for some

    if not filtering(bridge):
        raise fault(f"{bridge.name} does not filter VLANs")
    for problem in lacking(host.rtnl, port, wanted):
        raise fault(problem)


def addresses(namespace: Namespace, link: str, cidrs: Iterable[Cidr]) -> None:
    """That `link` has every one of `cidrs`, with that prefix length."""
    there = {found.cidr for found in namespace.rtnl.addresses(namespace.index(link))}
    for cidr in cidrs:
        if cidr not in there:
            where = f" in {namespace.path}" if namespace.path else ""
            raise fault(f"{link}{where} does not have the address {cidr}")


def neighbours(namespace: Namespace, link: str, cidrs: Iterable[Cidr]) -> None:
    """That `link` has them, and the routes to their subnets that come with them, in whatever table."""
    cidrs = tuple(cidrs)
    addresses(namespace, link, cidrs)
    ways = {
        found.dst for family in (AF_INET, AF_INET6) for found in namespace.rtnl.routes(namespace.index(link), family)
    }
    for cidr in cidrs:
        if cidr.network not in ways and cidr != host_cidr(cidr.address):
            where = f" in {namespace.path}" if namespace.path else ""
            raise fault(f"there is no route to {cidr.network}, the subnet of {cidr.address}, by {link}{where}")


def routes(namespace: Namespace, link: str, wanted: Iterable[Route], ips: Sequence[Ip]) -> None:
    """That every route leads out of `link`, as it says of itself. One that says no table may be in any: a later plugin
    may have moved it."""
    index = namespace.index(link)
    known = [found for family in (AF_INET, AF_INET6) for found in namespace.rtnl.routes(index, family)]
    for route in effective(wanted, ips):
        as_made = resolve(route, index)
        if not any(_is(route, as_made, found) for found in known):
            way = f" via {route.gw}" if route.gw else ""
            where = f" in {namespace.path}" if namespace.path else ""
            what = f"there is no route to {route.dst}{way} by {link}{where}"
            raise fault(what, f"it was made by: {AddRoute(namespace, link, route).describe()}")


def _is(route: Route, as_made: LinkRoute, found: LinkRoute) -> bool:
    """Whether what the kernel has is the route, in all that this one states."""
    stated = [key for key in ("table", "priority", "scope", "mtu", "advmss") if getattr(route, key)]
    same_way = (found.dst, found.gw) == (as_made.dst.network, as_made.gw)
    return same_way and all(getattr(found, key) == getattr(as_made, key) for key in stated)


def gateways(host: Namespace, bridge: str, ips: Iterable[Ip]) -> None:
    """That `bridge` has the gateways' addresses, and the host passes packets on."""
    ips = tuple(ips)
    addresses(host, bridge, [Cidr(ip.gateway, ip.address.length) for ip in ips if ip.gateway])
    forwarding(host, ips)


def forwarding(host: Namespace, ips: Iterable[Ip]) -> None:
    """That the host passes packets on, for the families that `ips` has."""
    for family in families(ips):
        if read_sysctl(host, FORWARDING[family]) == "0":
            raise fault(
                f"{FORWARDING[family]} is 0", f"`sysctl -w {FORWARDING[family]}=1` has the host pass packets on"
            )
