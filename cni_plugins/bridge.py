"""The bridge plugin: a container's interface is one end of a veth pair, the other end is a port of a bridge.

    host          cni0 (gateway's address) ──┬── veth1a2b3c4d
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄
    container                                    eth0 (address)

What there is to do follows from the configuration, from what the host has already (`Found`) and from the addresses
that IPAM gives: `before` and `after` make the lists of steps and touch nothing. IPAM runs beside the first list.

The keys have the reference plugin's meaning. Different is that an ADD that fails leaves nothing, that DEL needs neither
namespace nor previous result, and that hardware addresses are given to links and stay.
"""

from __future__ import annotations

from cni_plugins.sdk import garbage, ipam, keys, layer3, masquerade, naming
from cni_plugins.sdk.links import (
    AddBridge,
    AddSharedAddress,
    AddVeth,
    DeleteAddress,
    DeleteLink,
    SetLink,
    SetPort,
    Together,
    wait_running,
)
from cni_plugins.sdk.main import Plugin
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, CniError
from cni_plugins.spec.ip import Cidr
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface, Result
from cni_plugins.spec.steps import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.result import Dns, Ip
    from cni_plugins.spec.steps import Step

EEXIST, ENODEV = 17, 19

# --- the configuration ----------------------------------------------------------------------------------------------

# Keys of the reference plugin that are not served yet, with the values that ask for nothing.
_NOT_YET: dict[str, tuple[object, ...]] = {
    "vlan": (0,),
    "vlanTrunk": ([],),
    "preserveDefaultVlan": (False, True),  # without a VLAN it changes nothing
    "macspoofchk": (False,),
    "portIsolation": (False,),
    "enabledad": (False,),
    "disableContainerInterface": (False,),
}


@record
class Config:
    """What the keys ask for. `mac` is the container's hardware address, empty for one of our choice; `dns` is None
    where IPAM's counts."""

    bridge: str = "cni0"
    gateway: bool = False
    default_gateway: bool = False
    force_address: bool = False
    masquerade: bool = False
    mtu: int = 0
    hairpin: bool = False
    promisc: bool = False
    layer3: bool = False
    mac: str = ""
    dns: Dns | None = None


def configure(request: Request) -> Config:
    """Raises CniError 7 for a wrong value and 2 for a key that is not served, both with the key's path."""
    conf = request.conf
    keys.refuse_unserved(conf, _NOT_YET)
    default_gateway = conf.boolean("isDefaultGateway")
    config = Config(
        bridge=keys.link_name(conf, "bridge", Config.bridge),
        gateway=conf.boolean("isGateway") or default_gateway,
        default_gateway=default_gateway,
        force_address=conf.boolean("forceAddress"),
        masquerade=keys.masquerade(conf),
        mtu=conf.integer("mtu", high=65535),
        hairpin=conf.boolean("hairpinMode"),
        promisc=conf.boolean("promiscMode"),
        layer3=ipam.wanted(request),
        mac=keys.requested_mac(request),
        dns=keys.own_dns(conf),
    )
    if config.hairpin and config.promisc:
        raise CniError(INVALID_CONFIG, "hairpinMode and promiscMode cannot both be true", "each does the other's work")
    return config


# --- what there is to do --------------------------------------------------------------------------------------------


@record
class Ends:
    """The two ends of an attachment: `port` in the host's namespace, `ifname` in the container's."""

    host: Namespace
    port: str
    port_mac: str
    alias: str
    inside: Namespace
    ifname: str
    mac: str


@record
class Found:
    """What the host has of the bridge: its link, or None, and its addresses."""

    bridge: Link | None = None
    addresses: tuple[Cidr, ...] = ()


def before(config: Config, ends: Ends, found: Found) -> list[Step]:
    """The bridge as it should be, and the pair. Raises CniError for a link of the bridge's name that is none."""
    pair = [
        AddVeth(ends.host, ends.port, ends.port_mac, ends.inside, ends.ifname, ends.mac, config.bridge, config.mtu),
        SetLink(ends.host, ends.port, alias=ends.alias),
        *([SetPort(ends.host, ends.port, hairpin=True)] if config.hairpin else []),
    ]
    return [*_bridge(config, ends.host, found.bridge), Together(ends.host, tuple(pair)), _no_ra(ends.host, ends.port)]


def _bridge(config: Config, host: Namespace, bridge: Link | None) -> list[Step]:
    if bridge is None:
        mac = naming.derived_mac("bridge", config.bridge)
        made: list[Step] = [AddBridge(host, config.bridge, mac, config.mtu), _no_ra(host, config.bridge)]
        return made + ([SetLink(host, config.bridge, promisc=True)] if config.promisc else [])
    if bridge.kind != "bridge":
        kind = f"of kind {bridge.kind}" if bridge.kind else "of no kind that can have ports"
        raise CniError(INTERNAL, f"{config.bridge} exists and is not a bridge, but {kind}")
    up = None if bridge.up else True
    promisc = True if config.promisc and not bridge.promisc else None
    return [SetLink(host, config.bridge, up, promisc)] if up or promisc else []


def _no_ra(host: Namespace, link: str) -> SetSysctl:
    """A container must not become the host's router."""
    return SetSysctl(host, f"net/ipv6/conf/{link}/accept_ra", "0", optional=True)


def after(config: Config, ends: Ends, found: Found, result: Result, mask: Step | None = None) -> list[Step]:
    """The addresses and routes, as `addressed` completed them; `mask` is the masquerade's step."""
    if not config.layer3:
        return [SetLink(ends.inside, ends.ifname, up=True)]
    steps: list[Step] = []
    if config.gateway:
        steps += _gateway(config, ends, found, result.ips) + layer3.forwarding(ends.host, result.ips)
    steps += layer3.configure(ends.inside, ends.ifname, result.ips, result.routes)
    return steps + ([mask] if mask is not None else [])


def _gateway(config: Config, ends: Ends, found: Found, ips: Sequence[Ip]) -> list[Step]:
    """The gateways' addresses on the bridge. Raises CniError where others are in the way, unless `forceAddress`."""
    wanted = [Cidr(ip.gateway, ip.address.length) for ip in ips if ip.gateway]
    steps: list[Step] = []
    for cidr in wanted:
        if cidr in found.addresses:
            continue
        for old in found.addresses:
            if old in wanted or not _in_the_way(old, cidr):
                continue
            if not config.force_address:
                raise CniError(
                    INTERNAL,
                    f"{config.bridge} already has an IP address different from {cidr}: {old}",
                    "give this network another bridge, or set forceAddress to have the address replaced",
                )
            if (delete := DeleteAddress(ends.host, config.bridge, old)) not in steps:
                steps.append(delete)
        steps.append(AddSharedAddress(ends.host, config.bridge, cidr, ends.port))
    if steps and found.bridge is not None:
        # A bridge that others made takes its ports' hardware addresses as they come and go, until it is given one.
        steps.append(SetLink(ends.host, config.bridge, mac=found.bridge.mac))
    return steps


def _in_the_way(old: Cidr, new: Cidr) -> bool:
    """IPv4: any other one. IPv6: one that overlaps."""
    if old.family != new.family:
        return False
    return old.family == 4 or old.address in new or new.address in old


def addressed(config: Config, given: Result) -> Result:
    """IPAM's result with the gateways and routes that the configuration asks for. Raises CniError when it is empty."""
    if not given.ips:
        raise CniError(INTERNAL, "the IPAM plugin gave no IP address")
    ips = layer3.with_gateways(given.ips) if config.gateway else given.ips
    routes = layer3.with_default_routes(given.routes, ips) if config.default_gateway else given.routes
    return replace(given, ips=ips, routes=routes)


# --- the verbs ------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    config = configure(request)
    nftables = Nftables(request.env)
    try:
        with Namespace() as host, sandbox(request.netns) as inside, Plan() as plan:
            ends = _ends(request, config, host, inside)
            _refuse_twice(request, ends)
            lease = ipam.Lease(request) if config.layer3 else None
            if lease is not None:
                plan.do(lease)
            found = _connect(plan, config, ends)
            result = addressed(config, lease.result(plan)) if lease is not None else Result()
            plan.do(*after(config, ends, found, result, _mask(request, config, nftables, result)))
            return _result(request, config, ends, result)
    finally:
        nftables.close()


def _who(request: Request) -> tuple[str, str, str]:
    """The attachment's identity."""
    return request.network, request.container_id, request.ifname


def _ends(request: Request, config: Config, host: Namespace, inside: Namespace) -> Ends:
    who = _who(request)
    return Ends(
        host=host,
        port=naming.host_link(*who),
        port_mac=naming.derived_mac(*who, "port"),
        alias=naming.alias(*who),
        inside=inside,
        ifname=request.ifname,
        mac=config.mac or naming.derived_mac(*who),
    )


def _refuse_twice(request: Request, ends: Ends) -> None:
    """Before anything is done, and before IPAM is asked: whose failed ADD would take back what the first one got."""
    if ends.inside.link(ends.ifname) is not None:
        raise CniError(
            INTERNAL,
            f"{request.netns} already has an interface {ends.ifname}",
            "an attachment is added once; DEL takes it down",
        )
    port = ends.host.link(ends.port)
    if port is not None:
        whose = f"it is {port.alias!r}" if port.alias else "it is nobody's that we know"
        raise CniError(INTERNAL, f"the host already has a link {port.name}, which this attachment needs", whose)


def _connect(plan: Plan, config: Config, ends: Ends) -> Found:
    """Bridge and pair; what was found of the bridge. Two that make the same bridge at once both get it, and one that
    another's failure takes away in between is made again."""
    for last in (False, False, True):
        found = _found(config, ends.host)
        try:
            plan.do(*before(config, ends, found))
            break
        except OSError as error:
            if last or error.errno != (EEXIST if found.bridge is None else ENODEV):
                raise
    return found


def _found(config: Config, host: Namespace) -> Found:
    bridge = host.link(config.bridge)
    if bridge is None or not config.gateway:
        return Found(bridge)
    return Found(bridge, tuple(address.cidr for address in host.rtnl.addresses(bridge.index)))


def _mask(request: Request, config: Config, nftables: Nftables, result: Result) -> Step | None:
    if not (config.masquerade and result.ips):
        return None
    return masquerade.AddMasquerade(nftables, *_who(request), _subnets(result))


def _subnets(result: Result) -> tuple[Cidr, ...]:
    return tuple(dict.fromkeys(ip.address.network for ip in result.ips))


def _result(request: Request, config: Config, ends: Ends, result: Result) -> Result:
    """What was made, as the kernel has it now: frames pass, and the neighbours know."""
    port = wait_running(ends.host, ends.port)
    bridge = ends.host.link(config.bridge)
    if port is None or bridge is None or port.master != bridge.index:
        raise CniError(INTERNAL, f"{ends.port} is no port of {config.bridge} any more: somebody took it away")
    if not port.running:
        raise CniError(INTERNAL, f"{ends.port}, a port of {config.bridge}, does not come up")
    if config.layer3:
        layer3.announce(ends.inside, ends.ifname, ends.mac).apply()
    return Result(
        (
            Interface(bridge.name, bridge.mac, bridge.mtu),
            Interface(port.name, port.mac, port.mtu),
            Interface(ends.ifname, ends.mac, port.mtu, request.netns),
        ),
        tuple(replace(ip, interface=2) for ip in result.ips),
        result.routes,
        config.dns if config.dns is not None else result.dns,
    )


def delete(request: Request) -> None:
    """All that can be done is tried; the first failure is raised at the end.

    Deleting a link waits for an RCU grace period, and so does closing a socket that has deleted from nftables: the
    link goes last and the socket is closed after it, when there is nothing left to wait for.
    """
    nftables = Nftables(request.env)
    mask = masquerade.RemoveMasquerade(nftables, *_who(request))
    try:
        released = ipam.begin(request)
        garbage.all_of(mask.apply, lambda: _delete_link(request), released)
    finally:
        nftables.close()


def _delete_link(request: Request) -> None:
    """By its name on the host, which needs no namespace; one that another bridge plugin made, from inside."""
    with Namespace() as host:
        port = host.link(naming.host_link(*_who(request)))
        if port is not None and port.alias == naming.alias(*_who(request)):
            DeleteLink(host, port.name).apply()
            return
    inside = sandbox_left(request.netns)
    if inside is not None:
        with inside:
            link = inside.link(request.ifname)
            if link is not None and link.kind == "veth":
                DeleteLink(inside, link.name).apply()


def check(request: Request) -> None:
    from cni_plugins.sdk import checks  # for this verb alone

    config = configure(request)
    result = checks.expected(request)
    nftables = Nftables(request.env)
    try:
        with Namespace() as host, sandbox(request.netns) as inside:
            bridge = checks.link(host, config.bridge, "bridge", result)
            if config.promisc and not bridge.promisc:
                raise checks.fault(f"{config.bridge} is not promiscuous")
            link = checks.link(inside, request.ifname, "veth", result)
            checks.port(checks.link(host, link.peer, "veth", result), bridge, link, config.hairpin)
            if config.layer3:
                checks.addresses(inside, request.ifname, [ip.address for ip in result.ips])
                checks.routes(inside, request.ifname, result.routes, result.ips)
                if config.gateway:
                    checks.gateways(host, config.bridge, result.ips)
                if config.masquerade:
                    masquerade.check(nftables, *_who(request), _subnets(result))
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
                lambda: _delete_stale_links(
                    request.network, {naming.alias(request.network, o.container_id, o.ifname) for o in valid}
                ),
            )
        )
    finally:
        nftables.close()


def _delete_stale_links(network: str, valid: set[str]) -> None:
    """Those that carry the network's name and nobody's who is alive."""
    with Namespace() as host:
        for link in host.rtnl.all_links():
            if link.alias.startswith(naming.alias_prefix(network)) and link.alias not in valid:
                DeleteLink(host, link.name).apply()


def status(request: Request) -> None:
    configure(request)
    ipam.delegate(request)


PLUGIN = Plugin("bridge", add=add, delete=delete, check=check, gc=gc, status=status)
