"""What every plugin that makes an interface does with the addresses and routes that IPAM gave for it.

Lists of steps: nothing here touches the kernel before a step is applied.
"""

from __future__ import annotations

from cni_plugins.sdk.links import AddAddress, AddRoute, SetLink, Together
from cni_plugins.sdk.rtmsg import RT_TABLE_MAIN
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec.ip import Address, Cidr
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.spec.result import Ip
    from cni_plugins.spec.steps import Step

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def with_gateways(ips: Iterable[Ip]) -> tuple[Ip, ...]:
    """Each with its gateway: where IPAM named none, the first address of the subnet."""
    return tuple(ip if ip.gateway else replace(ip, gateway=ip.address.first.plus(1)) for ip in ips)


def with_default_routes(routes: Sequence[Route], ips: Sequence[Ip]) -> tuple[Route, ...]:
    """`routes` and a default route a family by way of its gateway, unless one with a gateway is there already.

    One without a gateway is given it: the kernel would refuse the same route twice.
    """
    found = list(routes)
    for family in families(ips):
        gateway = _gateway(family, ips)
        mine = [place for place, route in enumerate(found) if _is_default(route, family)]
        if any(found[place].gw for place in mine):
            continue
        for place in mine:
            found[place] = replace(found[place], gw=gateway)
        if not any(found[place].priority == 0 for place in mine):
            found.append(Route(Cidr(Address(family, 0), 0), gateway))
    return tuple(found)


def _is_default(route: Route, family: int) -> bool:
    return route.dst.length == 0 and route.dst.family == family and (route.table or RT_TABLE_MAIN) == RT_TABLE_MAIN


def families(ips: Iterable[Ip]) -> list[int]:
    """4, 6 or both, as far as `ips` has any."""
    return sorted({ip.address.family for ip in ips})


def subnets(ips: Iterable[Ip]) -> tuple[Cidr, ...]:
    """Those of the addresses, each once."""
    return tuple(dict.fromkeys(ip.address.network for ip in ips))


def _gateway(family: int, ips: Iterable[Ip]) -> Address | None:
    return next((ip.gateway for ip in ips if ip.gateway and ip.address.family == family), None)


def effective(routes: Iterable[Route], ips: Sequence[Ip]) -> Iterator[Route]:
    """The routes as they are programmed: one without a gateway goes by the first gateway of its family."""
    for route in routes:
        yield route if route.gw else replace(route, gw=_gateway(route.dst.family, ips))


def configure(namespace: Namespace, link: str, ips: Sequence[Ip], routes: Sequence[Route]) -> list[Step]:
    """Give `link` its addresses and routes, and raise it. All of that is one batch."""
    return [*prepare(namespace, link, ips), assign(namespace, link, ips, routes)]


def assign(
    namespace: Namespace,
    link: str,
    ips: Sequence[Ip],
    routes: Sequence[Route],
    address: type[AddAddress] = AddAddress,
) -> Step:
    """The batch of `configure`; `address` is the step that adds one."""
    addresses = [address(namespace, link, ip.address) for ip in ips]
    ways = [AddRoute(namespace, link, route) for route in effective(routes, ips)]
    return Together(namespace, (*addresses, SetLink(namespace, link, up=True), *ways))


def prepare(namespace: Namespace, link: str, ips: Iterable[Ip], detect: bool = False) -> list[Step]:
    """What the kernel must know of `link` before it is given addresses: to announce them, to allow IPv6, and whether
    to `detect` duplicates, without taking its own question for an answer."""
    here = (f"net/ipv4/conf/{link}/arp_notify", f"net/ipv6/conf/{link}/ndisc_notify")
    sysctls: list[Step] = [SetSysctl(namespace, key, "1", optional=True) for key in here]
    if 6 in families(ips):
        # accept_dad is about the link-local address too, which the kernel makes; ours are added with nodad.
        wanted = {
            f"{link}/accept_dad": "1" if detect else "0",
            **({f"{link}/enhanced_dad": "1"} if detect else {}),
            f"{link}/disable_ipv6": "0",
            "lo/disable_ipv6": "0",
            f"{link}/keep_addr_on_down": "1",
        }
        sysctls += [SetSysctl(namespace, f"net/ipv6/conf/{key}", value, optional=True) for key, value in wanted.items()]
    return sysctls


def announce(namespace: Namespace, link: str, mac: str) -> Step:
    """Tell the neighbours whose addresses these are, once frames pass.

    With arp_notify and ndisc_notify on (see `configure`), the kernel sends a gratuitous ARP and an unsolicited
    neighbour advertisement whenever the hardware address is set, also to what it is. Those that it sends when a link
    is raised are lost on a bridge, whose port is not forwarding yet. A neighbour that remembers an earlier owner of
    the address would else try that one for 10 seconds and more.
    """
    return SetLink(namespace, link, mac=mac)


def in_the_way(wanted: Sequence[Cidr], there: Sequence[Cidr]) -> list[tuple[Cidr, Cidr]]:
    """(address that is there, one that is wanted and missing) of all that cannot be side by side on a gateway's link:
    of IPv4 there is no other one, of IPv6 none that overlaps."""
    return [
        (old, new)
        for new in wanted
        for old in there
        if new not in there and old not in wanted and old.family == new.family
        if old.family == 4 or old.address in new or new.address in old
    ]


def forwarding(namespace: Namespace, ips: Iterable[Ip]) -> list[Step]:
    """Have the host pass packets on, for the families that `ips` has."""
    return [SetSysctl(namespace, FORWARDING[family], "1") for family in families(ips)]
