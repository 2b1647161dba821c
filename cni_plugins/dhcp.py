"""dhcp: addresses from the DHCP server of the network that the container joins.

    container   eth0 ── DISCOVER, REQUEST ──▶ server     by the daemon, in the container's namespace
    host              plugin ── socket ──▶ daemon        one for all containers: `dhcp daemon`, `minirt dhcp daemon`

A lease must be renewed as long as the container lives, and a plugin ends at once; so a daemon has the leases, and the
plugin asks it (`sdk/dhcp/wire`). What is asked of the server, and what its answer means, is here: classless routes
(121) count before static ones and routers (33, 3; RFC 3442), name servers and search domains are the result's DNS, an
MTU below the interface's goes to the routes.

Keys are the reference plugin's. Different is that the DNS is in the result, that a lease outlives the daemon, that DEL
needs no daemon (it sends the server the release itself), that ADD without one says how to start it, and that CHECK asks
and never acquires.
"""

from __future__ import annotations

from cni_plugins.sdk import garbage, keys
from cni_plugins.sdk.dhcp import leases, options, wire
from cni_plugins.sdk.dhcp.options import (
    CLASSLESS_ROUTE,
    DOMAIN_NAME,
    DOMAIN_SEARCH,
    MTU,
    NAME_SERVER,
    ROUTER,
    STATIC_ROUTE,
    SUBNET_MASK,
)
from cni_plugins.sdk.main import Plugin, Request
from cni_plugins.sdk.records import Owner
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import Address, Cidr, parse_address, parse_cidr
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Dns, Ip, Result, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cni_plugins.spec.config import View

KEYS = ("type", "daemonSocketPath", "provide", "request", "priority", "suppress")
UNUSABLE = PLUGIN_SPECIFIC + 1  # the server's answer
CHANGED = PLUGIN_SPECIFIC + 4  # since ADD

# RFC 3442 has the classless routes asked for before the others.
ASKED = (CLASSLESS_ROUTE, SUBNET_MASK, ROUTER, NAME_SERVER, DOMAIN_NAME, MTU, STATIC_ROUTE, DOMAIN_SEARCH)
_TIMES = (options.LEASE_TIME, options.RENEWAL_TIME, options.REBINDING_TIME)
_OURS = (options.PAD, options.OVERLOAD, options.MESSAGE_TYPE, options.SERVER_ID, options.REQUEST_LIST, options.END)
_START = "start it with `minirt dhcp daemon` or `dhcp daemon`, or have systemd do so (docs/plugins/dhcp.md)"
_PATIENCE = 10.0  # seconds for an answer that needs nobody but the daemon


@record
class Config:
    """What the keys ask for. `request` are the options wanted of the server, `provide` those that it is told."""

    socket: str
    request: tuple[int, ...]
    provide: Mapping[int, bytes]
    address: Address | None = None  # the one that is asked for
    priority: int = 0
    gateway: bool = True


def configure(request: Request) -> Config:
    """Raises CniError 7 with the key's path."""
    ipam = request.conf.view("ipam")
    keys.refuse_near_misses(ipam, KEYS)
    suppress = ipam.strings("suppress")
    if any(word != "gateway" for word in suppress):
        raise ipam.wrong("suppress", 'a list that holds "gateway" or nothing')
    return Config(
        socket=ipam.string("daemonSocketPath") or wire.SOCKET,
        request=_requested(ipam),
        provide=_provided(ipam, request.args),
        address=_wanted(request),
        priority=ipam.integer("priority"),
        gateway=not suppress,
    )


def _requested(ipam: View) -> tuple[int, ...]:
    """The defaults, unless `skipDefault` is said somewhere, and what the list names."""
    named, skip = [], False
    for item in ipam.views("request"):
        keys.refuse_slips(item, ("option", "skipDefault"))
        skip = skip or item.boolean("skipDefault")
        if item.has("option") or not item.has("skipDefault"):
            named.append(_number(item))
    wanted = [] if skip else [*ASKED, *_TIMES]
    return tuple(dict.fromkeys([*wanted, *named]))


def _provided(ipam: View, args: Mapping[str, str]) -> dict[int, bytes]:
    """Values as they stand, those of `fromArg` out of CNI_ARGS, where they are named there."""
    found: dict[int, bytes] = {}
    for item in ipam.views("provide"):
        keys.refuse_slips(item, ("option", "value", "fromArg"))
        code = _number(item)
        if code in _OURS:
            raise item.wrong("option", "an option that is not the protocol's own")
        value = args.get(item.string("fromArg")) or item.string("value")
        if len(packed := value.encode()) > options.LONGEST:
            where = item.where("value" if packed == item.string("value").encode() else "fromArg")
            raise CniError(INVALID_CONFIG, f"{where}: {len(packed)} bytes, an option holds {options.LONGEST} at most")
        if packed:
            found[code] = packed
    return found


def _wanted(request: Request) -> Address | None:
    """The address asked for, a prefix length passed over; the strongest of the three places counts (CONVENTIONS.md)."""
    for view in (request.conf.view("runtimeConfig"), request.conf.view("args").view("cni")):
        if texts := view.strings("ips"):
            return _address(texts, view.where("ips"))
    text = request.args.get("IP")
    return _address([text], "IP in CNI_ARGS") if text else None


def _address(texts: list[str], where: str) -> Address:
    if len(texts) > 1:
        raise CniError(INVALID_CONFIG, f"{where}: {len(texts)} addresses", "a lease is of one")
    try:
        address = parse_cidr(texts[0]).address if "/" in texts[0] else parse_address(texts[0])
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{where}: {error}") from None
    if address.family != 4:
        raise CniError(INVALID_CONFIG, f"{where}: {address} is none of IPv4, which is all that dhcp is for")
    return address


def _number(item: View) -> int:
    code = options.number(item.string("option"))
    if code is None:
        raise item.wrong("option", f"one of {', '.join(options.NUMBERS)}, or a number from 0 to 255 as a string")
    return code


# --- the server's answer as a result ----------------------------------------------------------------------------------


def result(config: Config, address: Address, found: Mapping[int, bytes], mtu: int) -> Result:
    """Raises CniError where the server left out what makes an address usable. `mtu` is the interface's, 0: unknown."""
    length = options.prefix_length(found.get(SUBNET_MASK))
    if length is None:
        given = found.get(SUBNET_MASK, b"").hex() or "none"
        text = f"the DHCP server gave {address} without a usable subnet mask: {given}"
        raise CniError(UNUSABLE, text, "ask for it: ipam.request needs subnet-mask where it has skipDefault")
    routes = tuple(_finished(route, config, found, mtu) for route in _routes(found))
    gateway = _gateway(found, routes)
    if not config.gateway:
        gateway, routes = None, tuple(route for route in routes if route.dst.length)
    return Result(ips=(Ip(Cidr(address, length), gateway),), routes=routes, dns=_dns(found))


def _routes(found: Mapping[int, bytes]) -> list[Route]:
    classless = list(options.classless_routes(found.get(CLASSLESS_ROUTE)))
    if classless:
        return classless
    routers = options.addresses(found.get(ROUTER))
    default = [Route(Cidr(Address(4, 0), 0), routers[0])] if routers else []
    return [*options.static_routes(found.get(STATIC_ROUTE)), *default]


def _gateway(found: Mapping[int, bytes], routes: tuple[Route, ...]) -> Address | None:
    by_default = [route.gw for route in routes if not route.dst.length]
    return by_default[0] if by_default else next(iter(options.addresses(found.get(ROUTER))), None)


def _finished(route: Route, config: Config, found: Mapping[int, bytes], mtu: int) -> Route:
    smaller = options.integer(found.get(MTU)) or 0
    return replace(route, priority=config.priority, mtu=smaller if 68 <= smaller < mtu else 0)


def _dns(found: Mapping[int, bytes]) -> Dns:
    servers = options.addresses(found.get(NAME_SERVER))
    return Dns(
        nameservers=tuple(map(str, servers)),
        domain=options.text(found.get(DOMAIN_NAME)),
        search=tuple(options.domains(found.get(DOMAIN_SEARCH))),
    )


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    """No deadline of ours: the daemon has one, and who waits for us has another."""
    config = configure(request)
    wishes = {
        "netns": request.netns,
        "address": str(config.address or ""),
        "request": list(config.request),
        "provide": leases.hexed(config.provide),
    }
    answer = _asked(config.socket, _question("ADD", request) | wishes, None)
    try:
        return _result(config, answer)
    except CniError:
        _let_go(request, Owner(request.container_id, request.ifname))
        raise


def _result(config: Config, answer: View) -> Result:
    given = parse_address(answer.string("address"))
    return result(config, given, leases.unhexed(answer.view("options")), answer.integer("mtu"))


def delete(request: Request) -> None:
    _let_go(request, Owner(request.container_id, request.ifname))


def _let_go(request: Request, owner: Owner) -> None:
    """Have the lease given back: by the daemon, or where none answers that knows of it, here and now."""
    records = leases.records(request.network)
    try:
        known = wire.ask(_socket(request), _question("DEL", request, owner), _PATIENCE).boolean("known")
    except (wire.NoDaemonError, CniError):
        known = False
    if not known:
        document = records.load(owner)
        way = leases.way_back(document, owner.ifname) if document else None
        if way is not None:
            leases.give_back(*way)
    records.delete(owner)


def check(request: Request) -> None:
    """The daemon has the lease, it goes on, and it is the address that ADD gave."""
    config = configure(request)
    answer = _asked(config.socket, _question("CHECK", request), _PATIENCE)
    before = request.prev_result
    if before is not None and not any(str(ip.address.address) == answer.string("address") for ip in before.ips):
        raise CniError(CHANGED, f"the lease is of {answer.string('address')}, which is not in prevResult")


def gc(request: Request) -> None:
    valid = garbage.valid_attachments(request.conf)
    owners = leases.records(request.network).owners()
    garbage.collect(owners, valid, lambda owner: _let_go(request, owner))


def status(request: Request) -> None:
    config = configure(request)
    _asked(config.socket, {"verb": "STATUS"}, _PATIENCE)


def _asked(socket: str, question: dict[str, Any], seconds: float | None) -> View:
    """The daemon's answer. Raises CniError 50 without one."""
    try:
        return wire.ask(socket, question, seconds)
    except wire.NoDaemonError as error:
        raise CniError(NOT_AVAILABLE, str(error), _START) from None


def _question(verb: str, request: Request, owner: Owner | None = None) -> dict[str, Any]:
    owner = owner or Owner(request.container_id, request.ifname)
    return {"verb": verb, "network": request.network, "container": owner.container_id, "ifname": owner.ifname}


def _socket(request: Request) -> str:
    """The same for DEL, which does not judge the configuration."""
    path = request.conf.view("ipam").get("daemonSocketPath")
    return path if isinstance(path, str) and path else wire.SOCKET


def _program(words: list[str]) -> int:
    from cni_plugins.sdk.dhcp import settings  # the daemon's, and nobody else's

    return settings.start(words)


PLUGIN = Plugin(
    "dhcp",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    about="CNI dhcp plugin: addresses from the network's own DHCP server; `dhcp daemon` is what it asks",
    program=_program,
)
