"""The sbr plugin: what comes from an interface's address leaves by that interface (source based routing, chained).

    container      eth0 10.1.0.2/24 ── via 10.1.0.1            main: the routes of eth0 alone
                   net1 10.2.0.2/24 ── via 10.2.0.1            from 10.2.0.2 lookup 100: those of net1

A container with two interfaces has one table of routes, and one default route: who asks by the other interface is
answered by the first, with an address that the network there does not know. So each address of the interface is given
a table of its own, with the interface's routes and a default route by its gateway, and a rule that leads there.

The keys have the reference plugin's meaning. Different is that routes to link-local addresses stay where they are, that
CHECK looks, and that DEL finds the rules of an interface that has gone, and succeeds without a namespace.
"""

from __future__ import annotations

from fcntl import LOCK_EX, flock

from cni_plugins.sdk import chained, keys, placed
from cni_plugins.sdk.links import Together
from cni_plugins.sdk.main import Plugin, do, new_plan
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.sdk.rtmsg import AF_INET, AF_INET6, RT_TABLE_MAIN, LinkRoute
from cni_plugins.sdk.rules import OURS, AddRule, DeleteRule, PutRoute, Rule, TakeRoute, is_empty, rules
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import Address, Cidr, host_cidr, parse_address
from cni_plugins.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cni_plugins.sdk.links import LinkStep
    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Ip, Result
    from cni_plugins.spec.steps import Step

KEYS = ("table", "gateways", "addSourceHints")
_FIRST_TABLE = 100
_LINK_LOCAL = Cidr(Address(6, 0xFE80 << 112), 10)
_IPV6_PRIORITY = 1024  # what IPv6 makes of a route without one


@record
class Config:
    """`table` is None for one of our choice; `gateways` are by family, and count instead of the result's."""

    table: int | None = None
    gateways: tuple[Address, ...] = ()
    hints: bool = False

    def gateway(self, ip: Ip) -> Address | None:
        given = (address for address in self.gateways if address.family == ip.address.family)
        return next(given, ip.gateway)


def configure(conf: View) -> Config:
    """Raises CniError 7."""
    keys.refuse_near_misses(conf, KEYS)
    table = conf.integer("table", low=1) if conf.has("table") else None
    return Config(table, tuple(_gateways(conf)), conf.boolean("addSourceHints"))


def _gateways(conf: View) -> Iterator[Address]:
    families = set()
    for place, text in enumerate(conf.strings("gateways")):
        try:
            address = parse_address(text)
        except ValueError as error:
            raise CniError(INVALID_CONFIG, f"{conf.where(f'gateways[{place}]')}: {error}") from None
        if address.family in families:
            raise conf.wrong("gateways", "one of each family at most")
        families.add(address.family)
        yield address


# --- what there is to do ----------------------------------------------------------------------------------------------


@record
class Found:
    """What the container has: the interface with its routes in the main table, and the tables that are not free."""

    link: Link
    routes: tuple[LinkRoute, ...]
    taken: tuple[int, ...] = ()


def steps(config: Config, ips: Sequence[Ip], inside: Namespace, found: Found) -> list[Step]:
    """What ADD does, as one batch: a rule is there when its table is, and the main table is left last.

    A table that the configuration names is somebody else's to fill.
    """
    name = found.link.name
    if config.table is not None:
        return [Together(inside, tuple(AddRule(inside, _rule(ip, config.table)) for ip in ips))]
    batch: list[LinkStep] = []
    for ip, table in zip(ips, found.taken, strict=True):
        batch += [PutRoute(inside, name, route) for route in _table(config, ip, table, found)]
        batch.append(AddRule(inside, _rule(ip, table)))
    return [Together(inside, (*batch, *_leave_main(config, ips, inside, found)))]


def _rule(ip: Ip, table: int) -> Rule:
    return Rule(host_cidr(ip.address.address), table)


def _table(config: Config, ip: Ip, table: int, found: Found) -> list[LinkRoute]:
    """The interface's routes, those to the link itself first, and the default route of the address."""
    routes = [replace(route, table=table) for route in found.routes if route.dst.family == ip.address.family]
    gateway = config.gateway(ip)
    if gateway is not None:
        default = LinkRoute(Cidr(Address(gateway.family, 0), 0), gateway, found.link.index, table=table)
        if gateway in config.gateways:
            routes = [route for route in routes if route.dst.length]
        if not any(route.dst == default.dst and route.priority in (0, _IPV6_PRIORITY) for route in routes):
            routes.append(default)
    return sorted(routes, key=lambda route: route.gw is not None)


def _leave_main(config: Config, ips: Sequence[Ip], inside: Namespace, found: Found) -> Iterator[LinkStep]:
    """The main table without the interface's routes. With hints it keeps those to the link itself, for packets that
    have no address yet, and they are given one. Routes by a gateway go first, and come back last."""
    for route in sorted(found.routes, key=lambda route: route.gw is None):
        if route.dst.address in _LINK_LOCAL or not any(ip.address.family == route.dst.family for ip in ips):
            continue
        source = next((ip.address.address for ip in ips if ip.address.address in route.dst), None)
        if not config.hints or route.gw is not None or source is None:
            yield TakeRoute(inside, found.link.name, route)
        elif route.source is None:
            yield PutRoute(inside, found.link.name, replace(route, source=source), route)


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    result = chained.previous(request)
    config = configure(request.conf)
    ips = _ips(request, result)
    with sandbox(request.netns) as inside, new_plan() as plan:
        _lock(inside)
        found = _find(request, config, inside, ips)
        plan.do(_note(request, config, ips, inside, found), *steps(config, ips, inside, found))
    return result


def _note(request: Request, config: Config, ips: Sequence[Ip], inside: Namespace, found: Found) -> Step:
    """What DEL and GC go by, written down first."""
    tables = found.taken or (config.table,) * len(ips)
    told = [[str(ip.address.address), table] for ip, table in zip(ips, tables, strict=True)]
    records, owner = AttachmentRecords("sbr", request.network), Owner(request.container_id, request.ifname)
    return placed.note(records, owner, inside, link=found.link.index, rules=told, filled=config.table is None)


def _ips(request: Request, result: Result) -> tuple[Ip, ...]:
    ips = chained.addresses(request, result)
    if not ips:
        problem = f"prevResult has no address of {request.ifname}: there is nothing to route by"
        raise CniError(INVALID_CONFIG, problem, "put sbr behind a plugin with an IPAM")
    return ips


def _lock(inside: Namespace) -> None:
    """Nobody else looks for a free table meanwhile, the reference plugin included. It ends with the descriptor."""
    flock(inside.fd, LOCK_EX)


def _find(request: Request, config: Config, inside: Namespace, ips: Sequence[Ip]) -> Found:
    link = inside.link(request.ifname)
    if link is None:
        raise CniError(PLUGIN_SPECIFIC, f"there is no interface {request.ifname} in {request.netns}")
    known = rules(inside.rtnl)
    for ip in ips:
        for rule in known:
            if rule.source == host_cidr(ip.address.address) and not _idle(config, inside, rule):
                problem = f"{request.netns} already has a rule from {ip.address.address}, to table {rule.table}"
                raise CniError(PLUGIN_SPECIFIC, problem, "an attachment is added once; DEL takes its rules away")
    if config.table is not None:
        return Found(link, ())
    routes = [route for family in (AF_INET, AF_INET6) for route in inside.rtnl.routes(link.index, family)]
    tables = tuple(_free(inside, {rule.table for rule in known}, len(ips)))
    return Found(link, tuple(route for route in routes if route.table == RT_TABLE_MAIN), tables)


def _idle(config: Config, inside: Namespace, rule: Rule) -> bool:
    """Whether it is ours, of an interface that has gone since, and its table's routes with it. Such rules stop nobody,
    and DEL takes all that there are of an address."""
    return config.table is None and rule.protocol == OURS and is_empty(inside.rtnl, rule.table)


def _free(inside: Namespace, taken: Collection[int], count: int) -> Iterator[int]:
    """So many tables that no rule leads to, and that have no routes."""
    table = _FIRST_TABLE
    while count:
        if table not in taken and is_empty(inside.rtnl, table):
            yield table
            count -= 1
        table += 1


def delete(request: Request) -> None:
    """What was written down, wherever it is; then, in the namespace that the runtime names, the rules from the
    interface's addresses, and the tables that we filled, also where the reference plugin added them."""
    _take_down(request.network, Owner(request.container_id, request.ifname))
    inside = sandbox_left(request.netns)
    if inside is None:
        return
    with inside:
        _lock(inside)
        link = inside.link(request.ifname)
        doomed = _doomed(request, inside, link)
        tables = {rule.table for rule in doomed if rule.protocol == OURS and _table_key(request.conf) is None}
        _remove(inside, doomed, link, tables)


def _take_down(network: str, owner: Owner) -> None:
    """The rules of one attachment and the tables that it filled, by its record, and the record."""
    records = AttachmentRecords("sbr", network)
    noted = records.load(owner) or {}
    inside = placed.left(noted)
    if inside is not None:
        with inside:
            _lock(inside)
            told = [(text, table) for text, table in noted.get("rules", ())]
            doomed = [rule for rule in rules(inside.rtnl) if (str(rule.source.address), rule.table) in told]
            link = inside.link(owner.ifname)
            same = link if link is not None and link.index == noted.get("link") else None
            _remove(inside, doomed, same, {rule.table for rule in doomed if noted.get("filled")})
    records.delete(owner)


def _remove(inside: Namespace, doomed: Sequence[Rule], link: Link | None, tables: Collection[int]) -> None:
    """The rules, and the link's routes in those tables; those of a link that has gone went with it."""
    for rule in doomed:
        do(DeleteRule(inside, rule))
    if link is None or not tables:
        return
    for family in (AF_INET, AF_INET6):
        for route in inside.rtnl.routes(link.index, family):
            if route.table in tables and route.table != RT_TABLE_MAIN:
                do(TakeRoute(inside, link.name, route))


def _doomed(request: Request, inside: Namespace, link: Link | None) -> list[Rule]:
    """Those from the interface's addresses; of an interface that has gone, those of ours that lead nowhere any more."""
    addresses = [ip.address for ip in chained.addresses(request, request.prev_result)] if request.prev_result else []
    if link is not None:
        addresses += [found.cidr for found in inside.rtnl.addresses(link.index)]
    sources = {host_cidr(cidr.address) for cidr in addresses}
    only = _table_key(request.conf)
    found = []
    for rule in rules(inside.rtnl):
        if only is None or rule.table == only:
            stale = link is None and rule.protocol == OURS and is_empty(inside.rtnl, rule.table)
            found += [rule] if rule.source in sources or stale else []
    return found


def _table_key(conf: View) -> int | None:
    """`table`, whatever else may be wrong with the configuration."""
    try:
        return conf.integer("table", low=1) if conf.has("table") else None
    except CniError:
        return None


def check(request: Request) -> None:
    """That each address has its rule, and its table leads to the gateway."""
    result = chained.previous(request)
    config = configure(request.conf)
    with sandbox(request.netns) as inside:
        link = inside.link(request.ifname)
        if link is None:
            raise CniError(PLUGIN_SPECIFIC, f"there is no interface {request.ifname} in {request.netns}")
        known = rules(inside.rtnl)
        for ip in _ips(request, result):
            _check_address(config, ip, inside, link, known)


def _check_address(config: Config, ip: Ip, inside: Namespace, link: Link, known: Sequence[Rule]) -> None:
    address = ip.address.address
    tables = [rule.table for rule in known if rule.source == host_cidr(address)]
    wanted = [table for table in tables if config.table in (None, table)]
    if not wanted:
        lookup = "" if config.table is None else f" to table {config.table}"
        raise CniError(PLUGIN_SPECIFIC, f"there is no rule from {address}{lookup} in {inside.path}")
    if config.table is not None:
        return
    family, gateway = address.af, config.gateway(ip)
    routes = [route for route in inside.rtnl.routes(link.index, family) if route.table in wanted]
    if not any(gateway in (None, route.gw) and (gateway is None or not route.dst.length) for route in routes):
        way = f"no default route via {gateway}" if gateway else "no routes"
        raise CniError(PLUGIN_SPECIFIC, f"table {wanted[0]} of {address} has {way} by {link.name} in {inside.path}")


def status(request: Request) -> None:
    configure(request.conf)
    with Namespace() as host:
        try:
            rules(host.rtnl)
        except OSError as error:
            raise CniError(NOT_AVAILABLE, f"this kernel has no routing rules: {error.strerror}") from None


def gc(request: Request) -> None:
    """What was written down of those who are no more, where their namespaces live on."""
    from cni_plugins.sdk import garbage  # for this verb alone

    owners = AttachmentRecords("sbr", request.network).owners()
    valid = garbage.valid_attachments(request.conf)
    garbage.collect(owners, valid, lambda owner: _take_down(request.network, owner))


PLUGIN = Plugin("sbr", add=add, delete=delete, check=check, gc=gc, status=status)
