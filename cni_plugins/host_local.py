"""host-local: addresses out of ranges that belong to this host, kept in files.

Each range set of the configuration gives an attachment one address, in turn: the next after the one given last, so an
address that was freed rests until the others have been used. Addresses may be asked for, in three places of which the
strongest alone counts (CONVENTIONS.md): `runtimeConfig.ips`, then `args.cni.ips`, then `IP` in CNI_ARGS.

Configuration, store and order are those of the reference plugin of this name, and both can share a store. What is
different: a failed ADD gives back what it took itself and nothing older; DEL does not judge the ranges, so that what
was reserved under a configuration since broken can be released; what an earlier boot has left is released when it is
met; CHECK compares with the previous result; GC and STATUS do something.
"""

from __future__ import annotations

from cni_plugins.sdk import keys, resolvconf
from cni_plugins.sdk.garbage import all_of, valid_attachments
from cni_plugins.sdk.main import Plugin, Request, do, later, new_plan
from cni_plugins.sdk.ranges import RangeSet, parse_set, refuse_overlaps
from cni_plugins.sdk.records import Owner, read_file
from cni_plugins.sdk.reservation_steps import Discard, GiveBack, Reserve, Taken
from cni_plugins.sdk.reservations import DATA_DIR, Store
from cni_plugins.spec import versions
from cni_plugins.spec.errors import INVALID_CONFIG, IO_FAILURE, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import Cidr, parse_address, parse_cidr
from cni_plugins.spec.record import record
from cni_plugins.spec.result import Dns, Ip, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.spec.config import View
    from cni_plugins.spec.ip import Address
    from cni_plugins.spec.result import Route
    from cni_plugins.spec.steps import Plan

RANGE = ("subnet", "rangeStart", "rangeEnd", "gateway")
KEYS = ("type", "ranges", "routes", "resolvConf", "dataDir", *RANGE)

TAKEN = PLUGIN_SPECIFIC  # the address asked for is somebody's
EXHAUSTED = PLUGIN_SPECIFIC + 1
DUPLICATE = PLUGIN_SPECIFIC + 2  # the attachment has an address already
NOT_RESERVED = PLUGIN_SPECIFIC + 3  # CHECK misses one


@record
class Config:
    """What one call is to do. `requested` are the addresses asked for, at most one a set."""

    sets: tuple[RangeSet, ...]
    requested: tuple[Address, ...]
    routes: tuple[Route, ...]
    dns: Dns
    store: Store


def add(request: Request) -> Result:
    config = _config(request)
    owner = Owner(request.container_id, request.ifname)
    with config.store as store:
        for address in store.addresses(owner):
            if any(address in pool for pool in config.sets):
                text = f"{address} has been allocated to {owner} already, duplicate allocation is not allowed"
                raise CniError(DUPLICATE, text)
        with new_plan() as plan:
            ips = [_take(plan, store, pool, number, owner, config.requested) for number, pool in enumerate(config.sets)]
    return Result(ips=tuple(ips), routes=config.routes, dns=config.dns)


def delete(request: Request) -> None:
    store = _store(request)
    if store.exists():
        with store:
            held = store.held(Owner(request.container_id, request.ifname))
            do(*(GiveBack(store, address, owner) for address, owner in held))


def check(request: Request) -> None:
    config = _config(request)
    owner = Owner(request.container_id, request.ifname)
    if not config.store.exists():
        raise CniError(NOT_RESERVED, f"{owner} has no address: {config.store.folder} does not exist")
    with config.store as store:
        if not store.addresses(owner):
            raise CniError(NOT_RESERVED, f"{owner} has no address in {store.folder}")
        mine = (owner, Owner(owner.container_id, ""))
        for ip in request.prev_result.ips if request.prev_result else ():
            address = ip.address.address
            # By the file itself: what is known of a folder's names does not tell who has written to one of them.
            if store.holder(address) not in mine and any(address in pool for pool in config.sets):
                raise CniError(NOT_RESERVED, f"{address} is not reserved for {owner}: it is {_taken(store, address)}")


def status(request: Request) -> None:
    """Not ready when some set has no address left."""
    config = _config(request)
    if obstacle := config.store.obstacle():
        raise CniError(NOT_AVAILABLE, f"reservations cannot be made in {config.store.folder}: {obstacle}")
    if not config.store.exists():
        return
    try:
        taken = list(config.store.taken())
        if any(_full(pool, taken) for pool in config.sets):
            with config.store as store:  # a closer look: torn files hold nothing
                taken = [address for address, _ in store.reservations()]
    except OSError as error:
        raise CniError(NOT_AVAILABLE, f"the reservations cannot be read: {error}") from error
    for pool in config.sets:
        if _full(pool, taken):
            raise CniError(NOT_AVAILABLE, f"no IP addresses available in range set: {pool}")


def gc(request: Request) -> None:
    valid = valid_attachments(request.conf)
    store = _store(request)
    if store.exists():
        with store:
            kept, others = store.sifted(valid)
            all_of(*(later(Discard(path)) for path in others))
            store.learn(kept)


def _take(plan: Plan, store: Store, pool: RangeSet, number: int, owner: Owner, requested: tuple[Address, ...]) -> Ip:
    """An address of the set of that number: the one that is asked for, or the next that is free."""
    asked = next((address for address in requested if address in pool), None)
    for address in (asked,) if asked else pool.candidates(store.last(number), store.free):
        home = pool.range_of(address)
        if address == home.gateway:
            raise _refused(number, INVALID_CONFIG, f"requested IP address {address} is the gateway of {home.subnet}")
        if not store.vacant(address):
            continue
        try:
            plan.do(Reserve(store, address, owner, number))
        except Taken:  # by somebody who does not heed the lock
            continue
        return Ip(Cidr(address, home.subnet.length), home.gateway)
    if asked:
        why = f"it is {_taken(store, asked)}"
        raise _refused(number, TAKEN, f"requested IP address {asked} is not available in range set {pool}: {why}")
    raise _refused(number, EXHAUSTED, f"no IP addresses available in range set: {pool}")


def _refused(number: int, code: int, text: str) -> CniError:
    return CniError(code, f"failed to allocate for range {number}: {text}")


def _taken(store: Store, address: Address) -> str:
    if holder := store.holder(address):
        return f"taken by {holder}"
    return "free" if store.vacant(address) else f"the name of a folder, {store.path_of(address)}"


def _full(pool: RangeSet, taken: list[Address]) -> bool:
    return sum(address in pool for address in taken) >= pool.size


def _config(request: Request) -> Config:
    """Raises CniError 7, or 5 when `resolvConf` cannot be read."""
    ipam = _ipam(request)
    keys.refuse_near_misses(ipam, KEYS)
    sets = tuple(_sets(request.conf, ipam))
    if not sets:
        raise CniError(INVALID_CONFIG, "ipam.ranges: no IP ranges specified")
    families = [pool.family for pool in sets]
    if not versions.at_least(request.version, "0.3.0") and len(set(families)) < len(families):
        text = f"CNI version {request.version} does not support more than 1 address per family"
        raise CniError(INVALID_CONFIG, text)
    refuse_overlaps(sets)
    requested = tuple(dict.fromkeys(_requested(request)))
    _refuse_unfit(requested, sets)
    routes = keys.routes(ipam)
    return Config(sets, requested, routes, _dns(ipam), _store(request))


def _ipam(request: Request) -> View:
    if not request.conf.has("ipam"):
        raise CniError(INVALID_CONFIG, "ipam: missing")
    return request.conf.view("ipam")


def _store(request: Request) -> Store:
    return Store(request.network, request.conf.view("ipam").string("dataDir") or DATA_DIR)


def _sets(conf: View, ipam: View) -> Iterator[RangeSet]:
    """Those of the runtime come first, then the one of the old style, then the list: their numbers name files."""
    yield from _set_list(conf.view("runtimeConfig"), "ipRanges")
    if ipam.has("subnet"):
        yield parse_set([ipam], "ipam")
    yield from _set_list(ipam, "ranges")


def _set_list(view: View, key: str) -> Iterator[RangeSet]:
    value = view.get(key)
    if value is not None and not isinstance(value, list):
        raise view.wrong(key, "a list of range sets")
    for number, item in enumerate(value or ()):
        here = f"{key}[{number}]"
        pool = list(type(view)({here: item}, view.path).views(here))
        for one in pool:
            keys.refuse_near_misses(one, RANGE)
        yield parse_set(pool, view.where(here))


def _requested(request: Request) -> Iterator[Address]:
    """The addresses asked for, a prefix length passed over."""
    for view in (request.conf.view("runtimeConfig"), request.conf.view("args").view("cni")):
        if texts := view.strings("ips"):
            yield from (_asked(text, view.where("ips")) for text in texts)
            return
    if text := request.args.get("IP"):
        yield _asked(text, "IP in CNI_ARGS")


def _asked(text: str, where: str) -> Address:
    try:
        return parse_cidr(text).address if "/" in text else parse_address(text)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{where}: {error}") from None


def _refuse_unfit(requested: tuple[Address, ...], sets: tuple[RangeSet, ...]) -> None:
    """Every address asked for must be in a set, and no set gives two."""
    served: dict[RangeSet, Address] = {}
    for address in requested:
        pool = next((pool for pool in sets if address in pool), None)
        if pool is None:
            ranges = " nor in ".join(map(str, sets))
            raise CniError(INVALID_CONFIG, f"requested IP address {address} is not in range set {ranges}")
        if pool in served:
            text = f"requested IP addresses {served[pool]} and {address} are both of range set {pool}, which gives one"
            raise CniError(INVALID_CONFIG, text)
        served[pool] = address


def _dns(ipam: View) -> Dns:
    path = ipam.string("resolvConf")
    if not path:
        return Dns()
    try:
        text = read_file(path)
    except OSError as error:
        raise CniError(IO_FAILURE, f"ipam.resolvConf: cannot read {path}: {error.strerror}") from error
    if text is None:
        raise CniError(IO_FAILURE, f"ipam.resolvConf: {path} does not exist")
    return resolvconf.parse(text.decode(errors="replace"))


PLUGIN = Plugin(
    "host-local",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    about="CNI host-local plugin: addresses out of this host's own ranges, kept in files",
)
