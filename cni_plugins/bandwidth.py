"""The bandwidth plugin: how fast a container may receive and send (chained, behind a plugin that makes a veth pair).

    host                             container
                  ┌── tbf: ingress ──▶
    cni0 ── veth1a2b3c4d ┄┄┄┄┄┄┄┄┄┄┄┄ eth0
                  ◀── egress ┐
                       bwp… tbf

A link can hold back what it sends, not what it receives. What the host sends to the container waits at the host's end
of the pair. What the container sends is led through a link of its own first (ifb), where it waits likewise.

The keys have the reference plugin's meaning. Different is that the ifb's name goes by the interface, too: a container
may have two on one network; and that DEL takes everything off a link that lives on, and GC removes what was left.
"""

from __future__ import annotations

import sys

from cni_plugins.sdk import chained, keys, kinds, naming, traffic
from cni_plugins.sdk.links import DeleteLink, SetLink, Together
from cni_plugins.sdk.main import Plugin, do, new_plan, warn
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.traffic import Bucket, Divert, Limit
from cni_plugins.spec import versions
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step

KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
_UNSERVED: dict[str, tuple[object, ...]] = {
    "shapedSubnets": ([],),
    "unshapedSubnets": ([],),
}  # a few releases of the reference plugin had them

_PREFIX = "bwp"
_IFB = kinds.Kind("ifb")
_LONGEST_BURST = 2**32 - 1  # bytes

# --- the configuration ------------------------------------------------------------------------------------------------


@record
class Config:
    """None for a direction that is not limited."""

    ingress: Bucket | None = None
    egress: Bucket | None = None

    def __bool__(self) -> bool:
        return bool(self.ingress or self.egress)


def configure(conf: View) -> Config:
    """Raises CniError 2 or 7. What a runtime asks for counts where the configuration has none of the keys."""
    keys.refuse_near_misses(conf, KEYS)
    asked = conf.view("runtimeConfig").view("bandwidth")
    view = conf if any(conf.has(key) for key in KEYS) or not asked.document else asked
    keys.refuse_unserved(view, _UNSERVED)
    return Config(_bucket(view, "ingress"), _bucket(view, "egress"))


def _bucket(view: View, way: str) -> Bucket | None:
    """Bits in, bytes out."""
    rate, burst = (view.integer(f"{way}{key}", high=2**64 - 1) for key in ("Rate", "Burst"))
    if not rate and not burst:
        return None
    if not rate or not burst:
        given, missing = (f"{way}Rate", f"{way}Burst") if rate else (f"{way}Burst", f"{way}Rate")
        raise CniError(INVALID_CONFIG, f"{view.where(given)} is set, so {missing} must be, too")
    if burst // 8 >= _LONGEST_BURST:
        raise view.wrong(f"{way}Burst", "less than 4 GiB, in bits")
    if rate < 8 or burst < 8:
        raise view.wrong(f"{way}Rate" if rate < 8 else f"{way}Burst", "a byte at least: 8 bits")
    return Bucket(rate // 8, burst // 8)


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    result = chained.previous(request)
    config = configure(request.conf)
    if not config:
        return result
    with Namespace() as host, new_plan() as plan:
        with sandbox(request.netns) as inside:
            end = _end(request, result, host, inside)
        plan.do(*steps(request, config, host, end))
        return _with_ifb(result, host, _name(request)) if config.egress else result


def _end(request: Request, result: Result, host: Namespace, inside: Namespace) -> Link:
    """The host's end of the container's interface, of which `result` tells. Raises CniError."""
    if not result.interfaces:
        raise CniError(INVALID_CONFIG, "prevResult has no interfaces: there is nothing to limit")
    end = _peer(request, host, inside)
    if end is None:
        problem = f"{request.ifname} in {request.netns} has no other end on the host: it is not one of a veth pair"
        raise CniError(PLUGIN_SPECIFIC, problem, "bandwidth goes behind plugins like bridge and ptp")
    if not any(item.name == end.name and not item.sandbox for item in result.interfaces):
        raise CniError(PLUGIN_SPECIFIC, f"{end.name}, the host's end of {request.ifname}, is not in prevResult")
    return end


def _peer(request: Request, host: Namespace, inside: Namespace) -> Link | None:
    link = inside.link(request.ifname)
    if link is None or link.kind != "veth" or not link.peer:
        return None
    end = host.rtnl.link(link.peer)
    # The number is the one that it has in its own namespace, which may be a third one.
    return end if end is not None and end.kind == "veth" and end.peer == link.index else None


def steps(request: Request, config: Config, host: Namespace, end: Link) -> list[Step]:
    """What ADD does. The ifb first: it is there already when this attachment was added before."""
    found: list[Step] = []
    for way, bucket in (("egress", config.egress), ("ingress", config.ingress)):
        if bucket is not None and bucket.burst < end.mtu:
            warn(f"bandwidth: {way}Burst is {bucket.burst} bytes: packets that are larger do not pass")
    if config.egress is not None:
        name, mac = _name(request), naming.derived_mac(*request.identity, "ifb")
        born = kinds.AddLink(host, host, name, _IFB, mac=mac, mtu=end.mtu)
        found.append(Together(host, (born, SetLink(host, name, up=True, alias=naming.alias(*request.identity)))))
        found += [Limit(host, name, config.egress), Divert(host, end.name, name)]
    if config.ingress is not None:
        found.append(Limit(host, end.name, config.ingress))
    return found


def _name(request: Request) -> str:
    return _PREFIX + naming.digest(*request.identity, size=6).hex()


def _with_ifb(result: Result, host: Namespace, name: str) -> Result:
    ifb = host.rtnl.link(name)
    if ifb is None:
        raise CniError(PLUGIN_SPECIFIC, f"{name} is gone: somebody took it away")
    return replace(result, interfaces=(*result.interfaces, Interface(ifb.name, ifb.mac, ifb.mtu)))


def delete(request: Request) -> None:
    """First the link that may live on is relieved, so that nothing is sent to a link that is gone."""
    with Namespace() as host:
        ifb, end = _ifb_left(request, host), _end_left(request, host)
        if end is not None:
            do(traffic.Release(host, end, ifb.index if ifb is not None else 0))
        if ifb is not None:
            do(DeleteLink(host, ifb.name))


def _ifb_left(request: Request, host: Namespace) -> Link | None:
    """Ours, or the one that the reference plugin made, which has no alias: half-way, one side takes over."""
    ifb = host.link(_name(request))
    if ifb is not None and ifb.alias == naming.alias(*request.identity):
        return ifb
    ifb = host.link(_reference_name(request))
    return ifb if ifb is not None and ifb.kind == "ifb" and not ifb.alias else None


def _end_left(request: Request, host: Namespace) -> Link | None:
    """The host's end of the pair: by the name that our plugins give it, which needs no namespace, else from inside."""
    end = host.rtnl.link(naming.host_link(*request.identity))
    if end is not None and end.alias == naming.alias(*request.identity):
        return end
    inside = sandbox_left(request.netns)
    if inside is None:
        return None
    with inside:
        return _peer(request, host, inside)


def _reference_name(request: Request) -> str:
    # Of hashlib, which loads openssl, the part that is needed.
    if sys.version_info >= (3, 12):
        from _sha2 import sha512
    else:
        from _sha512 import sha512  # type: ignore[import-not-found]
    digits: str = sha512(f"{request.network}{request.container_id}".encode()).hexdigest()
    return f"{_PREFIX}{digits}"[:15]


def check(request: Request) -> None:
    result = chained.previous(request)
    config = configure(request.conf)
    if not config:
        return
    with Namespace() as host, sandbox(request.netns) as inside:
        end = _end(request, result, host, inside)
        if config.ingress is not None:
            _check_limit(host, end, config.ingress)
        if config.egress is not None:
            names = (_name(request), _reference_name(request))
            ifb = next((link for link in map(host.rtnl.link, names) if link is not None), None)
            if ifb is None or not ifb.up:
                state = "is not there" if ifb is None else "is down"
                raise CniError(PLUGIN_SPECIFIC, f"{names[0]}, through which {request.ifname} sends, {state}")
            _check_limit(host, ifb, config.egress)
            if ifb.index not in traffic.diverted(host.rtnl, end.index):
                raise CniError(PLUGIN_SPECIFIC, f"what {end.name} receives is not redirected to {ifb.name}")


def _check_limit(host: Namespace, link: Link, bucket: Bucket) -> None:
    found = traffic.limited(host.rtnl, link.index)
    if found is None:
        raise CniError(PLUGIN_SPECIFIC, f"{link.name} sends as fast as it can: it has no tbf at its root")
    if not bucket.alike(*found):
        told = f"{found[0]} bytes a second, {found[1]} bytes of queue, {found[2]} ticks of burst"
        wanted = f"{bucket.rate}, {bucket.limit} and {bucket.ticks}"
        raise CniError(PLUGIN_SPECIFIC, f"{link.name} is limited to {told}, not {wanted}")


def gc(request: Request) -> None:
    """The ifbs whose alias says this network, and nobody who is alive."""
    from cni_plugins.sdk import garbage

    valid = garbage.valid_attachments(request.conf)
    alive = {naming.alias(request.network, owner.container_id, owner.ifname) for owner in valid}
    with Namespace() as host:
        for link in host.rtnl.all_links():
            ours = link.kind == "ifb" and link.alias.startswith(naming.alias_prefix(request.network))
            if ours and link.alias not in alive:
                do(DeleteLink(host, link.name))


def status(request: Request) -> None:
    configure(request.conf)
    with Namespace() as host:
        _IFB.require(host, NOT_AVAILABLE)


PLUGIN = Plugin(
    "bandwidth",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    versions=versions.ALL[versions.ALL.index("0.3.0") :],
)
