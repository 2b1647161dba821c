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

from cni_plugins.sdk import bridges, garbage, hostends, ipam, keys, layer3, masquerade
from cni_plugins.sdk.hostends import Ends
from cni_plugins.sdk.links import AddSharedAddress, AddVeth, DeleteAddress, SetLink, SetPort, Together, wait_running
from cni_plugins.sdk.main import Plugin, do, later, new_plan
from cni_plugins.sdk.netns import Namespace, sandbox
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec import names
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, NOT_AVAILABLE, CniError
from cni_plugins.spec.ip import Cidr
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface, Result
from cni_plugins.spec.steps import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.sdk.vlans import Vlans
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Dns, Ip
    from cni_plugins.spec.steps import Step

EEXIST, ENODEV = 17, 19

# --- the configuration ----------------------------------------------------------------------------------------------

KEYS = (
    *("bridge", "isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "ipMasqBackend", "mtu", "hairpinMode"),
    *("promiscMode", "vlan", "vlanTrunk", "preserveDefaultVlan", "macspoofchk", "enabledad", "portIsolation"),
    *("disableContainerInterface", "cleanupBridge"),
)


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
    vlans: Vlans | None = None
    guard: bool = False
    detect: bool = False
    disabled: bool = False
    isolated: bool = False
    cleanup: bool = False

    @property
    def gateway_link(self) -> str:
        """The link that has the gateway's addresses."""
        return bridges.gateway_name(self.bridge, self.access) if self.access else self.bridge

    @property
    def access(self) -> int:
        """The VLAN of frames without a tag, where one was asked for."""
        return self.vlans.access if self.vlans else 0


def configure(request: Request) -> Config:
    """Raises CniError 7 for a wrong value and 2 for a key that is not served, both with the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
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
        vlans=_vlans(conf),
        guard=conf.boolean("macspoofchk"),
        detect=conf.boolean("enabledad"),
        disabled=conf.boolean("disableContainerInterface"),
        isolated=conf.boolean("portIsolation"),
        cleanup=conf.boolean("cleanupBridge"),
    )
    _refuse_contradictions(config)
    return config


def _vlans(conf: View) -> Vlans | None:
    if not any(conf.has(key) for key in ("vlan", "vlanTrunk", "preserveDefaultVlan")):
        return None
    from cni_plugins.sdk import vlans  # for those who ask for some

    return vlans.read(conf) or None


def _refuse_contradictions(config: Config) -> None:
    if config.hairpin and config.promisc:
        raise CniError(INVALID_CONFIG, "hairpinMode and promiscMode cannot both be true", "each does the other's work")
    if config.disabled and config.layer3:
        text = "disableContainerInterface and ipam cannot be together"
        raise CniError(INVALID_CONFIG, text, "an interface that is down can use no address")
    if config.gateway and config.layer3 and len(config.gateway_link) > names.MAX_IFNAME:
        text = f"bridge: {config.gateway_link!r}, the gateway's name on this VLAN, is longer than a link's name may be"
        raise CniError(INVALID_CONFIG, text, f"a link's name has {names.MAX_IFNAME} bytes: shorten the bridge's")


# --- what there is to do --------------------------------------------------------------------------------------------


@record
class Found:
    """What the host has of the bridge: its link, or None, and its addresses."""

    bridge: Link | None = None
    addresses: tuple[Cidr, ...] = ()


def before(config: Config, ends: Ends, found: Found) -> list[Step]:
    """The bridge as it should be, and the pair. Raises CniError for a link of the bridge's name that is none."""
    modes = (True if config.hairpin else None, True if config.isolated else None)
    pair = [
        AddVeth(ends.host, ends.port, ends.port_mac, ends.inside, ends.ifname, ends.mac, config.bridge, config.mtu),
        SetLink(ends.host, ends.port, alias=ends.alias),
        *([SetPort(ends.host, ends.port, *modes)] if any(modes) else []),
    ]
    steps = [*_bridge(config, ends.host, found.bridge), Together(ends.host, tuple(pair)), _no_ra(ends.host, ends.port)]
    if config.vlans:
        from cni_plugins.sdk.vlans import SetVlans

        steps.append(SetVlans(ends.host, ends.port, config.vlans))
    return steps


def _bridge(config: Config, host: Namespace, bridge: Link | None) -> list[Step]:
    promisc = True if config.promisc and not (bridge and bridge.promisc) else None
    filtering: Sequence[Step] = ()
    if config.vlans and (bridge is None or bridge.kind == "bridge"):
        from cni_plugins.sdk import vlans

        filtering = vlans.prepare(host, config.bridge, bridge)
    if bridge is None:
        return [
            bridges.AddOwnBridge(host, config.bridge, bridges.derived_mac(config.bridge), config.mtu),
            *filtering,
            *bridges.alone(host, config.bridge),
            SetLink(host, config.bridge, up=True, promisc=promisc),
        ]
    if bridge.kind != "bridge":
        kind = f"of kind {bridge.kind}" if bridge.kind else "of no kind that can have ports"
        raise CniError(INTERNAL, f"{config.bridge} exists and is not a bridge, but {kind}")
    up = None if bridge.up else True
    return [*filtering] + ([SetLink(host, config.bridge, up, promisc)] if up or promisc else [])


def _no_ra(host: Namespace, link: str) -> SetSysctl:
    """A container must not become the host's router."""
    return SetSysctl(host, f"net/ipv6/conf/{link}/accept_ra", "0", optional=True)


def after(config: Config, ends: Ends, found: Found, result: Result, mask: Step | None = None) -> list[Step]:
    """The addresses and routes, as `addressed` completed them; `mask` is the masquerade's step."""
    if not config.layer3:
        return [] if config.disabled else [SetLink(ends.inside, ends.ifname, up=True)]
    steps: list[Step] = []
    if config.gateway:
        steps += _gateway(config, ends, found, result.ips) + layer3.forwarding(ends.host, result.ips)
    if config.detect and 6 in layer3.families(result.ips):
        from cni_plugins.sdk import dad  # for those who ask for it

        steps += dad.configure(ends.inside, ends.ifname, result.ips, result.routes, ends.host, ends.port)
    else:
        steps += layer3.configure(ends.inside, ends.ifname, result.ips, result.routes)
    return steps + ([mask] if mask is not None else [])


def _gateway(config: Config, ends: Ends, found: Found, ips: Sequence[Ip]) -> list[Step]:
    """The gateways' addresses on their link. Raises CniError where others are in the way, unless `forceAddress`."""
    link = config.gateway_link
    wanted = [Cidr(ip.gateway, ip.address.length) for ip in ips if ip.gateway]
    missing = [cidr for cidr in wanted if cidr not in found.addresses]
    steps: list[Step] = []
    if missing:
        in_the_way = layer3.in_the_way(wanted, found.addresses)
        if in_the_way and not config.force_address:
            old, new = in_the_way[0]
            text = f"{link} already has an IP address different from {new}: {old}"
            hint = "give this network another bridge, or set forceAddress to have the address replaced"
            raise CniError(INTERNAL, text, hint)
        steps += [DeleteAddress(ends.host, link, old) for old in dict.fromkeys(old for old, _new in in_the_way)]
        steps += [_shared_address(config, ends, cidr) for cidr in missing]
        if found.bridge is not None and link == config.bridge:
            # A bridge that others made takes its ports' hardware addresses as they come and go, until it is given one.
            steps.append(SetLink(ends.host, config.bridge, mac=found.bridge.mac))
    return steps


def _shared_address(config: Config, ends: Ends, cidr: Cidr) -> Step:
    if config.access:
        from cni_plugins.sdk import gateways

        return gateways.AddGatewayAddress(ends.host, config.gateway_link, cidr, ends.port, *ends.who)
    return AddSharedAddress(ends.host, config.bridge, cidr, ends.port)


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
        with Namespace() as host, sandbox(request.netns) as inside, new_plan() as plan:
            hostends.refuse_twice(request, host, inside)
            ends = hostends.ends(request, host, inside, config.mac)
            lease = ipam.Lease(request) if config.layer3 else None
            if lease is not None:
                plan.do(lease)
            if config.guard:
                from cni_plugins.sdk.spoofing import AddGuard

                plan.do(AddGuard(nftables, *request.identity, ends.port, ends.mac))
            found = _connect(plan, config, ends)
            result = addressed(config, lease.result(plan)) if lease is not None else Result()
            plan.do(*after(config, ends, found, result, _mask(request, config, nftables, result)))
            return _result(request, config, ends, result)
    finally:
        nftables.close()


def _connect(plan: Plan, config: Config, ends: Ends) -> Found:
    """Bridge and pair; what was found of the bridge. One of this plugin's calls at a time makes a bridge or takes it
    back. Another program that makes the same bridge at once, or takes it away in between, is no trouble either."""
    with bridges.lock(config.bridge):
        for last in (False, False, True):
            found = _found(config, ends.host)
            try:
                plan.do(*before(config, ends, found))
                break
            except OSError as error:
                if last or error.errno != (EEXIST if found.bridge is None else ENODEV):
                    raise
    if config.gateway and config.layer3 and config.access:
        from cni_plugins.sdk import gateways

        plan.do(gateways.UseGateway(ends.host, config.bridge, config.access, config.mtu, *ends.who))
        index = ends.host.index(config.gateway_link)
        return Found(found.bridge, tuple(address.cidr for address in ends.host.rtnl.addresses(index)))
    return found


def _found(config: Config, host: Namespace) -> Found:
    bridge = host.link(config.bridge)
    if bridge is None or not config.gateway:
        return Found(bridge)
    return Found(bridge, tuple(address.cidr for address in host.rtnl.addresses(bridge.index)))


def _mask(request: Request, config: Config, nftables: Nftables, result: Result) -> Step | None:
    if not (config.masquerade and result.ips):
        return None
    return masquerade.AddMasquerade(nftables, *request.identity, layer3.subnets(result.ips))


def _result(request: Request, config: Config, ends: Ends, result: Result) -> Result:
    """What was made, as the kernel has it now: frames pass, and the neighbours know."""
    port = ends.host.link(ends.port) if config.disabled else wait_running(ends.host, ends.port)
    bridge = ends.host.link(config.bridge)
    if port is None or bridge is None or port.master != bridge.index:
        raise CniError(INTERNAL, f"{ends.port} is no port of {config.bridge} any more: somebody took it away")
    if not (port.running or config.disabled):
        raise CniError(INTERNAL, f"{ends.port}, a port of {config.bridge}, does not come up")
    if config.layer3:
        do(layer3.announce(ends.inside, ends.ifname, ends.mac))
    gateway = ends.host.link(config.gateway_link) if config.gateway and config.access else None
    return Result(
        (
            Interface(bridge.name, bridge.mac, bridge.mtu),
            Interface(port.name, port.mac, port.mtu),
            Interface(ends.ifname, ends.mac, port.mtu, request.netns),
            *([Interface(gateway.name, gateway.mac, gateway.mtu)] if gateway is not None else []),
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
    try:
        released = ipam.begin(request)
        garbage.all_of(
            later(masquerade.RemoveMasquerade(nftables, *request.identity)),
            lambda: bridges.unguard(nftables, *request.identity),
            lambda: hostends.delete(request),
            lambda: bridges.leave_gateway(request.network, Owner(request.container_id, request.ifname)),
            lambda: bridges.clean_up(request.conf, Config.bridge),
            released,
        )
    finally:
        nftables.close()


def check(request: Request) -> None:
    from cni_plugins.sdk import checks, gateways, spoofing  # for this verb alone

    config = configure(request)
    result = checks.expected(request)
    nftables = Nftables(request.env)
    try:
        with Namespace() as host, sandbox(request.netns) as inside:
            bridge = checks.link(host, config.bridge, "bridge", result)
            if config.promisc and not bridge.promisc:
                raise checks.fault(f"{config.bridge} is not promiscuous")
            link = checks.link(inside, request.ifname, "veth", result, up=not config.disabled)
            port = checks.link(host, link.peer, "veth", result, mtu=True)
            checks.port(port, bridge, link, config.hairpin, config.isolated, running=not config.disabled)
            if config.vlans:
                checks.vlans(host, bridge, port, config.vlans)
            if config.guard:
                spoofing.check(nftables, port.name, link.mac)
            if config.layer3:
                checks.neighbours(inside, request.ifname, [ip.address for ip in result.ips])
                checks.routes(inside, request.ifname, result.routes, result.ips)
                if config.gateway:
                    if config.access:
                        gateways.check(host, bridge, config.access, result)
                    checks.gateways(host, config.gateway_link, result.ips)
                if config.masquerade:
                    masquerade.check(nftables, *request.identity, layer3.subnets(result.ips))
    finally:
        nftables.close()
    ipam.delegate(request)


def gc(request: Request) -> None:
    """Addresses last: what still runs has lost its connection before another can be given its address."""
    from cni_plugins.sdk import gateways, spoofing  # for this verb alone

    valid = garbage.valid_attachments(request.conf)
    nftables = Nftables(request.env)
    try:
        garbage.all_of(
            *ipam.collected(
                request,
                lambda: masquerade.collect(nftables, request.network, valid),
                lambda: spoofing.collect(nftables, request.network, valid),
                lambda: hostends.collect(request.network, valid),
                lambda: gateways.collect(request.network, valid),
                lambda: bridges.clean_up(request.conf, Config.bridge),
            )
        )
    finally:
        nftables.close()


def status(request: Request) -> None:
    """Could ADD be served? Raises CniError 50 with the reason where it could not."""
    config = configure(request)
    with Namespace() as host:
        bridge = host.link(config.bridge)
        if bridge is not None and bridge.kind != "bridge":
            raise CniError(NOT_AVAILABLE, f"{config.bridge} exists and is not a bridge", "give this network another")
        if config.vlans:
            from cni_plugins.sdk import vlans

            vlans.require(host, bridge)
    if config.masquerade or config.guard:
        masquerade.ready(request.env)
    ipam.delegate(request)


PLUGIN = Plugin("bridge", add=add, delete=delete, check=check, gc=gc, status=status)
