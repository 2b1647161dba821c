"""The ptp plugin: a veth pair between a container and the host, which is the router; there is no bridge.

    host          veth1a2b3c4d (10.1.0.1/32)      ── 10.1.0.2 dev veth1a2b3c4d
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
    container        eth0 (10.1.0.2/24)           ── 10.1.0.1 dev eth0, 10.1.0.0/24 via 10.1.0.1

Each container's own end on the host has the gateway's address, so many have the same one. The container takes nobody
for a neighbour but the host: what it sends to its subnet goes there, too, and the host knows a way to each address.

Different from the reference plugin of this name is that an ADD that fails leaves nothing, that DEL needs neither
namespace nor previous result, that an address to which the host has a way already is refused, and that CHECK looks at
the host's side.
"""

from __future__ import annotations

from cni_plugins.sdk import garbage, hostends, ipam, keys, layer3, masquerade
from cni_plugins.sdk.hostends import Ends
from cni_plugins.sdk.links import AddAddress, AddRoute, AddVeth, SetLink, Together, wait_running
from cni_plugins.sdk.main import Plugin, later, new_plan
from cni_plugins.sdk.netns import Namespace, sandbox
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.onlink import AddHostRoute, AddLoneAddress, AddRouteFrom
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, CniError
from cni_plugins.spec.ip import BITS, Cidr, host_cidr
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface, Result, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.ip import Address
    from cni_plugins.spec.result import Dns, Ip
    from cni_plugins.spec.steps import Step

KEYS = ("ipMasq", "ipMasqBackend", "mtu")

# --- the configuration ----------------------------------------------------------------------------------------------


@record
class Config:
    """What the keys ask for. `mtu` 0 is the kernel's; `dns` is None where IPAM's counts."""

    masquerade: bool = False
    mtu: int = 0
    dns: Dns | None = None


def configure(request: Request) -> Config:
    """Raises CniError 7 for a wrong value and 2 for one that is not served, both with the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    if not ipam.wanted(request):
        raise CniError(
            INVALID_CONFIG, "ipam.type: missing", "ptp has no layer 2 to offer: the host routes to addresses"
        )
    return Config(keys.masquerade(conf), conf.integer("mtu", high=65535), keys.own_dns(conf))


# --- what there is to do --------------------------------------------------------------------------------------------


def before(config: Config, ends: Ends) -> list[Step]:
    """The pair. What the host's end must know of IPv6 it is told before the other end gives it a carrier."""
    host, port = ends.host, ends.port
    pair = AddVeth(host, port, ends.port_mac, ends.inside, ends.ifname, ends.mac, mtu=config.mtu)
    return [
        Together(host, (pair, SetLink(host, port, alias=ends.alias))),
        SetSysctl(host, f"net/ipv6/conf/{port}/accept_ra", "0", optional=True),  # a container is nobody's router
        SetSysctl(host, f"net/ipv6/conf/{port}/accept_dad", "0", optional=True),  # it would be mute for a second
    ]


def after(ends: Ends, result: Result, mask: Step | None = None) -> list[Step]:
    """The addresses and routes of both ends, as `addressed` completed them; `mask` is the masquerade's step."""
    host, inside, ips = ends.host, ends.inside, result.ips
    steps = layer3.forwarding(host, ips) + layer3.prepare(inside, ends.ifname, ips)
    if 6 in layer3.families(ips):
        steps.append(SetSysctl(host, f"net/ipv6/conf/{ends.port}/disable_ipv6", "0", optional=True))
    steps.append(
        Together(
            inside,
            (
                *(AddLoneAddress(inside, ends.ifname, ip.address) for ip in ips),
                SetLink(inside, ends.ifname, up=True),
                *(AddRouteFrom(inside, ends.ifname, route, source) for route, source in _ways(ips)),
                *(AddRoute(inside, ends.ifname, route) for route in layer3.effective(result.routes, ips)),
            ),
        )
    )
    gateways = (AddAddress(host, ends.port, cidr) for cidr in _gateways(ips))
    steps.append(Together(host, (*gateways, *(AddHostRoute(host, ends.port, ip.address.address) for ip in ips))))
    return steps + ([mask] if mask is not None else [])


def _gateways(ips: Sequence[Ip]) -> tuple[Cidr, ...]:
    return tuple(dict.fromkeys(host_cidr(ip.gateway) for ip in ips if ip.gateway))


def _ways(ips: Sequence[Ip]) -> Iterator[tuple[Route, Address]]:
    """The container's ways to its gateways, then those by way of them to its subnets; each with the address it has."""
    direct: dict[Cidr, Address] = {}
    subnets: dict[Cidr, tuple[Address | None, Address]] = {}
    for ip in ips:
        if ip.gateway:
            direct.setdefault(host_cidr(ip.gateway), ip.address.address)
        if ip.address.length < BITS[ip.address.family]:
            subnets.setdefault(ip.address.network, (ip.gateway, ip.address.address))
    yield from ((Route(dst), source) for dst, source in direct.items())
    yield from ((Route(dst, gateway), source) for dst, (gateway, source) in subnets.items())


def addressed(given: Result) -> Result:
    """IPAM's result, each address with its gateway. Raises CniError when it is empty or has no room for one."""
    if not given.ips:
        raise CniError(INTERNAL, "the IPAM plugin gave no IP address")
    for ip in given.ips:
        if not ip.gateway and ip.address.length > BITS[ip.address.family] - 2:
            text = f"the IPAM plugin gave {ip.address} without a gateway"
            raise CniError(INTERNAL, text, "the host's end of the pair needs an address: ptp takes the gateway's")
    ips = layer3.with_gateways(given.ips)
    for ip in ips:
        if ip.gateway == ip.address.address:
            raise CniError(INTERNAL, f"the IPAM plugin gave {ip.gateway} both as address and as its gateway")
    return replace(given, ips=ips)


# --- the verbs ------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    config = configure(request)
    nftables = Nftables(request.env)
    try:
        with Namespace() as host, sandbox(request.netns) as inside, new_plan() as plan:
            hostends.refuse_twice(request, host, inside)
            ends = hostends.ends(request, host, inside)
            lease = ipam.Lease(request)
            plan.do(lease, *before(config, ends))
            result = addressed(lease.result(plan))
            plan.do(*after(ends, result, _mask(request, config, nftables, result)))
            return _result(request, config, ends, result)
    finally:
        nftables.close()


def _mask(request: Request, config: Config, nftables: Nftables, result: Result) -> Step | None:
    if not config.masquerade:
        return None
    return masquerade.AddMasquerade(nftables, *request.identity, layer3.subnets(result.ips))


def _result(request: Request, config: Config, ends: Ends, result: Result) -> Result:
    """What was made, as the kernel has it now: packets pass."""
    port, end = wait_running(ends.host, ends.port), wait_running(ends.inside, ends.ifname)
    if not (port and end and port.running and end.running):
        raise CniError(INTERNAL, f"{ends.port}, the host's end of {ends.ifname}, does not come up")
    return Result(
        (Interface(port.name, port.mac, port.mtu), Interface(ends.ifname, ends.mac, port.mtu, request.netns)),
        tuple(replace(ip, interface=1) for ip in result.ips),
        result.routes,
        config.dns if config.dns is not None else result.dns,
    )


def delete(request: Request) -> None:
    """All that can be done is tried; the first failure is raised at the end. The link goes last but for the socket's
    close: both wait for an RCU grace period, and like this for the same one."""
    nftables = Nftables(request.env)
    mask = masquerade.RemoveMasquerade(nftables, *request.identity)
    try:
        released = ipam.begin(request)
        garbage.all_of(later(mask), lambda: hostends.delete(request), released)
    finally:
        nftables.close()


def check(request: Request) -> None:
    from cni_plugins.sdk import checks  # for this verb alone

    config = configure(request)
    result = checks.expected(request)
    ips = layer3.with_gateways(result.ips)
    nftables = Nftables(request.env)
    try:
        with Namespace() as host, sandbox(request.netns) as inside:
            link = checks.link(inside, request.ifname, "veth", result)
            checks.addresses(inside, request.ifname, [ip.address for ip in ips])
            checks.routes(inside, request.ifname, [route for route, _source in _ways(ips)], ())
            checks.routes(inside, request.ifname, result.routes, ips)
            port = checks.link(host, link.peer, "veth", result, mtu=True)
            if port.peer != link.index or not port.running:
                raise checks.fault(f"{port.name} is not the other end of {link.name} in {inside.path}")
            checks.addresses(host, port.name, _gateways(ips))
            checks.routes(host, port.name, [Route(host_cidr(ip.address.address)) for ip in ips], ())
            checks.forwarding(host, ips)
            if config.masquerade:
                masquerade.check(nftables, *request.identity, layer3.subnets(result.ips))
    finally:
        nftables.close()
    ipam.delegate(request)


def gc(request: Request) -> None:
    """Addresses last: what still runs has lost its connection before another can be given its address."""
    valid = garbage.valid_attachments(request.conf)
    nftables = Nftables(request.env)
    try:
        garbage.all_of(
            *ipam.collected(
                request,
                lambda: masquerade.collect(nftables, request.network, valid),
                lambda: hostends.collect(request.network, valid),
            )
        )
    finally:
        nftables.close()


def status(request: Request) -> None:
    """Without what makes its rules and gives its addresses, ADD would fail."""
    if configure(request).masquerade:
        masquerade.ready(request.env)
    ipam.delegate(request)


PLUGIN = Plugin("ptp", add=add, delete=delete, check=check, gc=gc, status=status)
