"""The portmap plugin: ports of the host that lead to the container (chained, behind a plugin that gives addresses).

The runtime hands over what to publish as capability `portMappings`; without any, this plugin does nothing at all. The
result of the plugins before is passed on as it came. How packets find their way is told in `sdk.ports`.

The keys have the reference plugin's meaning. Different is that a host port belongs to one container: who comes second
is refused and told who holds it.
"""

from __future__ import annotations

from cni_plugins.sdk import nft, publish
from cni_plugins.sdk.garbage import valid_attachments
from cni_plugins.sdk.keys import refuse_near_misses, refuse_slips
from cni_plugins.sdk.main import Plugin, do, new_plan, warn
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.ports import (
    ALL,
    ELSEWHERE,
    LOOPBACK,
    NEEDED,
    TABLE,
    Mapping,
    Publication,
    Target,
    read_mapping,
)
from cni_plugins.sdk.publish import ForgetFlows, Publish, Unpublish
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.sysctl import SetSysctl, read_sysctl
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.terms import Terms
    from cni_plugins.spec.config import View
    from cni_plugins.spec.ip import Address, Cidr
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step

KEYS = ("backend", "snat", "masqAll", "markMasqBit", "externalSetMarkChain", "conditionsV4", "conditionsV6")


@record
class Config:
    """`snat` as in Publication; `conditions` and `mark_chain` are empty, `mark_bit` is -1 where none is given."""

    mappings: tuple[Mapping, ...]
    snat: str
    masq_all: bool
    conditions: dict[int, str]
    mark_bit: int
    mark_chain: str


def configure(conf: View) -> Config:
    """The plugin's own keys, checked. Raises CniError 2 or 7."""
    refuse_near_misses(conf, KEYS)
    _refuse_iptables(conf)
    mark_bit, mark_chain = conf.integer("markMasqBit", -1, low=0, high=31), conf.string("externalSetMarkChain")
    if mark_chain and mark_bit >= 0:
        raise conf.wrong("markMasqBit", "nothing, since externalSetMarkChain tells the mark")
    snat = _snat(conf)
    mappings: dict[tuple[str, int, Address | None], Mapping] = {}
    for view in conf.view("runtimeConfig").views("portMappings"):
        refuse_slips(view, ("hostPort", "containerPort", "protocol", "hostIP"))
        mapping = read_mapping(view)
        key = (mapping.protocol, mapping.host_port, mapping.host_ip)
        if mappings.setdefault(key, mapping) != mapping:
            raise view.wrong("hostPort", f"each once, but {mapping} stands twice")
        _refuse_dead_loopback(view, mapping, snat)
    return Config(tuple(mappings.values()), snat, conf.boolean("masqAll"), _conditions(conf), mark_bit, mark_chain)


def _refuse_iptables(conf: View) -> None:
    backend = conf.string("backend")
    if backend == "iptables":
        hint = 'ports are elements of nftables maps here; leave the key out, or say "nftables"'
        raise CniError(UNSUPPORTED_FIELD, f'{conf.where("backend")}: "iptables" is not supported', hint)
    if backend not in ("", "nftables"):
        raise conf.wrong("backend", '"nftables"')


def _snat(conf: View) -> str:
    if not conf.boolean("snat", True):
        return ""
    if conf.string("externalSetMarkChain"):
        return ELSEWHERE
    return ALL if conf.boolean("masqAll") else NEEDED


def _conditions(conf: View) -> dict[int, str]:
    keys = {4: "conditionsV4", 6: "conditionsV6"}
    if not any(conf.has(key) for key in keys.values()):
        return {}
    from cni_plugins.sdk.conditions import condition  # for those who have some alone

    return {family: condition(conf, key, family) for family, key in keys.items()}


def _refuse_dead_loopback(view: View, mapping: Mapping, snat: str) -> None:
    """A mapping that no packet could ever take."""
    if mapping.host_ip is None or mapping.host_ip not in LOOPBACK[mapping.host_ip.family]:
        return
    if mapping.host_ip.family == 6:
        raise view.wrong("hostIP", "another address: IPv6 packets from ::1 cannot leave the host (use 127.0.0.1)")
    if not snat:
        raise view.wrong("hostIP", "another address: without snat, packets from 127.0.0.1 cannot leave the host")


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    result = _previous(request)
    config = configure(request.conf)
    if not config.mappings:
        return result
    with Namespace() as host, Nftables(request.env) as nftables, new_plan() as plan:
        publication = _publication(request, config, result, host)
        plan.do(*steps(publication, nftables, host))
    return result


def steps(publication: Publication, nftables: Nftables, host: Namespace) -> list[Step]:
    """What an ADD does."""
    found: list[Step] = [SetSysctl(host, key, "1") for key in _route_localnet(publication)]
    found.append(Publish(nftables, publication))
    if any(mapping.protocol == "udp" for mapping in publication.mappings):
        found.append(ForgetFlows(nftables, host, publication))
    return found


def delete(request: Request) -> None:
    """By the record alone: the configuration may have changed, the result and the namespace may be gone."""
    with Nftables(request.env) as nftables:
        do(Unpublish(nftables, request.network, Owner(request.container_id, request.ifname)))


def check(request: Request) -> None:
    result = _previous(request)
    config = configure(request.conf)
    if not config.mappings:
        return
    with Namespace() as host, Nftables(request.env) as nftables:
        publication = _publication(request, config, result, host)
        publish.check(nftables, publication)
        for key in _route_localnet(publication):
            if read_sysctl(host, key) != "1":
                raise CniError(PLUGIN_SPECIFIC, f"sysctl {key} is not 1: localhost does not reach published ports")


def gc(request: Request) -> None:
    from cni_plugins.sdk import unrecorded  # for GC alone

    with Nftables(request.env) as nftables:
        unrecorded.collect(nftables, request.network, valid_attachments(request.conf))


def status(request: Request) -> None:
    """Without the program that makes the rules, or a kernel that takes them, ADD would fail."""
    configure(request.conf)
    with Nftables(request.env) as nftables:
        nft.ready(nftables, TABLE)


# --- from the result to what is published -----------------------------------------------------------------------------


def _previous(request: Request) -> Result:
    if request.prev_result is None:
        hint = (
            "portmap publishes ports of a container that another plugin has connected: put it behind that in the list"
        )
        raise CniError(INVALID_CONFIG, "prevResult is missing", hint)
    return request.prev_result


def _publication(request: Request, config: Config, result: Result, host: Namespace) -> Publication:
    targets = tuple(Target(cidr, _link_towards(host, cidr.address)) for cidr in _addresses(result, request.ifname))
    terms = tuple(_terms(config, targets)) if config.mark_chain or config.mark_bit >= 0 or config.conditions else ()
    found = Publication(
        request.network, request.container_id, request.ifname, config.mappings, targets, config.snat, terms
    )
    for mapping in config.mappings:
        if not any(mapping.serves(target) for target in targets):
            warn(f"portmap: {mapping} leads nowhere: the container has no address of that family")
    return found


def _terms(config: Config, targets: tuple[Target, ...]) -> Iterator[Terms]:
    """What the keys ask for, of each family that the container has."""
    from cni_plugins.sdk import marks, terms

    for target in targets:
        keep, flip = marks.change(config.mark_bit, config.mark_chain, target.family) if config.snat else marks.NONE
        loopback = ("127.0.0.0/8",) if target.family == 4 else ()
        sources = (str(target.cidr.network), *loopback) if not config.masq_all else ()
        found = terms.Terms(target.family, config.conditions.get(target.family, ""), keep, flip, sources)
        if found.rules:
            yield found


def _addresses(result: Result, ifname: str) -> Iterator[Cidr]:
    """The container's first address of each family: on the interface of this attachment, or on none that is named."""
    families = set()
    for ip in result.ips:
        interface = None if ip.interface is None else result.interfaces[ip.interface]
        inside = interface is None or (interface.name == ifname and interface.sandbox)
        if inside and ip.address.family not in families:
            families.add(ip.address.family)
            yield ip.address


def _link_towards(host: Namespace, address: Address) -> str:
    """The host's link that leads to a container's address; empty when there is none that could."""
    way = host.rtnl.way_to(address)
    link = host.rtnl.link(way.index) if way and not way.local else None
    return link.name if link else ""


def _route_localnet(publication: Publication) -> list[str]:
    """The sysctls that let packets of 127.0.0.0/8 leave towards the container."""
    if not publication.snat:
        return []
    links = {
        target.link: None for _mapping, target in publication.pairs() if target.address.family == 4 and target.link
    }
    return [f"net/ipv4/conf/{link}/route_localnet" for link in links]


PLUGIN = Plugin(
    "portmap",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    about="CNI portmap plugin: publishes ports of the host with nftables",
)
