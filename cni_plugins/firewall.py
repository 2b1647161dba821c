"""The firewall plugin: the host's firewall lets the container's traffic through, and a bridge's ingress is restricted.

    LAN ──▶ host's firewall ──▶ cni0 ──▶ container           let through: what it sends, answers, published ports
                                 ✗ ▲
                cni1 (guarded) ──┘ │ ingressPolicy same-bridge: not from another guarded bridge
                                   ✗ ingressPolicy isolated:    nor from its neighbours on this one

It is chained behind a plugin that gives addresses, and passes that one's result on as it came. Which firewall is
spoken to follows from what the host runs (`sdk.firewalls`), or from the key `backend`. What was done for an attachment
is written down (`sdk.walls`), and DEL, CHECK and GC go by that, whatever the host has come to run since.

The keys have the reference plugin's meaning, and its rules in iptables are these. Different is that there is a backend
nftables, that DEL needs neither result nor configuration and never takes a later owner's rules, that the rules of a
bridge go with its last attachment, and that published ports are reached also where FORWARD drops and across bridges.
"""

from __future__ import annotations

from cni_plugins.sdk import chained, walls
from cni_plugins.sdk.garbage import valid_attachments
from cni_plugins.sdk.keys import refuse_near_misses
from cni_plugins.sdk.main import Plugin, do, new_plan
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.walls import BACKENDS, FIREWALLD, IPTABLES, ISOLATED, NFTABLES, OPEN, POLICIES, Forget, Wall
from cni_plugins.spec import versions
from cni_plugins.spec.errors import INVALID_CONFIG, LIMITED_CONNECTIVITY, NOT_AVAILABLE, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.config import View
    from cni_plugins.spec.ip import Address
    from cni_plugins.spec.result import Result

KEYS = ("backend", "iptablesAdminChainName", "firewalldZone", "ingressPolicy")

_LONGEST_CHAIN = 28  # XT_EXTENSION_MAXNAMELEN less its NUL (linux/netfilter/x_tables.h)


@record
class Config:
    """`backend` is empty where the host decides."""

    backend: str
    policy: str
    admin: str
    zone: str


def configure(conf: View) -> Config:
    """Raises CniError 7 for a value that is wrong, with the key's path."""
    refuse_near_misses(conf, KEYS)
    return Config(
        backend=_one_of(conf, "backend", "", BACKENDS),
        policy=_one_of(conf, "ingressPolicy", OPEN, POLICIES),
        admin=_word(conf, "iptablesAdminChainName", "CNI-ADMIN", _LONGEST_CHAIN),
        zone=_word(conf, "firewalldZone", "trusted", 255),
    )


def _one_of(conf: View, key: str, default: str, values: tuple[str, ...]) -> str:
    value = conf.string(key) or default
    if value and value not in values:
        raise conf.wrong(key, " or ".join(values))
    return value


def _word(conf: View, key: str, default: str, longest: int) -> str:
    """A name that is handed to a program, which must not take it for anything else."""
    value = conf.string(key) or default
    if not value.isprintable() or " " in value or value[0] in "-!" or len(value) > longest:
        raise conf.wrong(key, f"a name of at most {longest} characters, without spaces")
    return value


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    result = chained.previous(request)
    config = configure(request.conf)
    with Nftables(request.env) as nftables, new_plan() as plan:
        wall = _wall(request, result, config, config.backend or _chosen(nftables))
        plan.do(*walls.steps(wall, nftables))
    return result


def delete(request: Request) -> None:
    """By the record alone; where there is none, what the reference plugin may have put up for these addresses."""
    owner = Owner(request.container_id, request.ifname)
    with Nftables(request.env) as nftables:
        if walls.load(request.network, owner) is None:
            _take_over(request, nftables)
        do(Forget(nftables, request.network, owner))


def check(request: Request) -> None:
    result = chained.previous(request)
    config = configure(request.conf)
    found = walls.load(request.network, Owner(request.container_id, request.ifname))
    with Nftables(request.env) as nftables:
        backend = config.backend or (found.backend if found else NFTABLES)
        walls.check(_wall(request, result, config, backend), nftables)


def gc(request: Request) -> None:
    with Nftables(request.env) as nftables:
        walls.collect(request.network, nftables, valid_attachments(request.conf))


def status(request: Request) -> None:
    """Code 50 where the backend cannot be served, 51 where containers will be cut off in spite of it."""
    config = configure(request.conf)
    with Nftables(request.env) as nftables:
        backend = config.backend or _chosen(nftables)
        _refuse_missing(backend)
        if backend == NFTABLES:
            _refuse_closed(nftables)


# --- from the result to what is put up --------------------------------------------------------------------------------


def _wall(request: Request, result: Result, config: Config, backend: str) -> Wall:
    bridge, port = _links(result) if config.policy != OPEN else ("", "")
    return Wall(
        request.network,
        Owner(request.container_id, request.ifname),
        backend,
        _addresses(result),
        config.policy,
        bridge,
        port if config.policy == ISOLATED else "",
        config.admin if backend == IPTABLES else "",
        config.zone if backend == FIREWALLD else "",
    )


def _addresses(result: Result) -> tuple[Address, ...]:
    """The container's: those of no interface that the result tells of, or of one that is not the host's."""
    inside = (ip for ip in result.ips if ip.interface is None or result.interfaces[ip.interface].sandbox)
    return tuple(dict.fromkeys(ip.address.address for ip in inside))


def _links(result: Result) -> tuple[str, str]:
    """The link that ingress is restricted of, and the attachment's port of it, or "" where it is no bridge.

    The first link of the result that is the host's: what the bridge plugin puts there is the bridge, what ptp puts
    there is its own end of the container's pair.
    """
    links = [item.name for item in result.interfaces if not item.sandbox]
    if not links:
        hint = "ingressPolicy is about a link of the host, such as a bridge: put firewall behind bridge or ptp"
        raise CniError(INVALID_CONFIG, "prevResult names no interface of the host", hint)
    with Namespace() as host:
        first = host.rtnl.link(links[0])
        found = [host.rtnl.link(name) for name in links[1:]] if first is not None else []
    ports = (link.name for link in found if link is not None and first is not None and link.master == first.index)
    return links[0], next(ports, "")


def _chosen(nftables: Nftables) -> str:
    from cni_plugins.sdk import firewalls  # nothing of it where the configuration says what to use

    return firewalls.choose(nftables)


def _take_over(request: Request, nftables: Nftables) -> None:
    """An ADD of the reference plugin, of which the configuration and the result tell."""
    result = request.prev_result
    if result is None or not result.ips:
        return
    backend, zone = (request.conf.get(key) for key in ("backend", "firewalldZone"))
    if backend not in (IPTABLES, FIREWALLD):
        backend = _chosen(nftables)
    if backend == IPTABLES:
        from cni_plugins.sdk import xtables

        xtables.take_over(_addresses(result))
    elif backend == FIREWALLD:
        from cni_plugins.sdk import firewalld

        if firewalld.running():
            firewalld.take_over(_addresses(result), zone if isinstance(zone, str) and zone else "trusted")


# --- whether it can be served -----------------------------------------------------------------------------------------


def _refuse_missing(backend: str) -> None:
    if backend == IPTABLES:
        from cni_plugins.sdk import xtables

        xtables.status()
    elif backend == FIREWALLD:
        from cni_plugins.sdk import firewalld

        firewalld.status()
    else:
        from cni_plugins.sdk import nft

        nft.find_nft()


def _refuse_closed(nftables: Nftables) -> None:
    from cni_plugins.sdk import firewalls

    try:
        closed = [str(chain) for chain in firewalls.closed_chains(nftables)]
    except OSError as error:
        raise CniError(NOT_AVAILABLE, f"nftables cannot be asked: {error}", "does this kernel have it?") from None
    if closed:
        raise CniError(
            LIMITED_CONNECTIVITY,
            f"chain {', '.join(closed)} drops what containers send, and no rule outside of it can help",
            "accept there what comes from and goes to their subnets: ct state established,related; ct status dnat; "
            "ip saddr of the subnet",
        )


PLUGIN = Plugin(
    "firewall",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    about="CNI firewall plugin: lets containers' traffic through the host's firewall, and guards bridges",
    versions=tuple(version for version in versions.ALL if versions.at_least(version, "0.4.0")),
)
