"""What plugins have in common that give a container one link, born in its namespace: macvlan, ipvlan, vlan, dummy, tap.

    parent ──┐                     found by name, or by the default route; not every kind has one
    ┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
             eth0 (address)        made under its final name, given IPAM's addresses and routes, and raised

A plugin of this kind is a function from its keys to a `Wish`; the verbs are the same for all, see `plugin`.

- ADD refuses what cannot be before it asks IPAM, which then works while the link is made. What fails is taken back.
- What an attachment has is written down first: the namespace and the parent. The link's alias says whose it is. So DEL
  and GC find the link without CNI_NETNS, touch no other, and look at neither parent nor the plugin's own keys.
- CHECK compares with what was asked for, and with the result where a later plugin has changed that.
- STATUS says what ADD would miss: the parent, a kernel that has such links, whatever IPAM misses.
"""

from __future__ import annotations

from errno import ENETDOWN

from cni_plugins.sdk import garbage, ipam, kinds, layer3, naming, parents
from cni_plugins.sdk.kinds import AddLink, Spot
from cni_plugins.sdk.links import DeleteLink, SetLink
from cni_plugins.sdk.main import Plugin, do, new_plan
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.spec.errors import INTERNAL, LIMITED_CONNECTIVITY, NOT_AVAILABLE, CniError
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface, Result
from cni_plugins.spec.steps import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.sdk.kinds import Kind
    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.result import Dns

ALIAS = "cni "  # what the aliases of everybody's links begin with


@record
class Wish:
    """What a plugin's keys ask for. `parent` is the link to stand on: None for none, empty for the default route's;
    `in_container` has it looked up there. `layer3` says that there are to be addresses: IPAM's, or those that the
    plugin before has `given`. `mac` and `mtu` may be left to the kernel; `dns` is None where IPAM's counts."""

    kind: Kind
    layer3: bool = False
    parent: str | None = None
    in_container: bool = False
    mtu: int = 0
    mac: str = ""
    dns: Dns | None = None
    given: Result | None = None


def plugin(name: str, configure: Callable[[Request], Wish], kind: str = "", about: str = "") -> Plugin:
    """The plugin `name`, whose links are of `kind` (its own name, unless said). `configure` reads the keys, for every
    verb but DEL and GC: what ADD refused, or made before the keys were changed, must still be deletable."""
    kind = kind or name
    return Plugin(
        name,
        add=lambda request: add(request, name, configure(request)),
        delete=lambda request: delete(request, name, kind),
        check=lambda request: check(request, name, configure(request)),
        gc=lambda request: collect(request, name, kind),
        status=lambda request: status(request, configure(request)),
        about=about,
    )


def derived_mac(request: Request) -> str:
    """The hardware address that an attachment has wherever it is made again; empty where there is no attachment."""
    return naming.derived_mac(*request.identity) if request.container_id else ""


# --- ADD ------------------------------------------------------------------------------------------------------------


def add(request: Request, name: str, wish: Wish) -> Result:
    owner = Owner(request.container_id, request.ifname)
    records = AttachmentRecords(name, request.network)
    with Namespace() as host, sandbox(request.netns) as inside, new_plan() as plan:
        _refuse_twice(request, inside, records, owner)
        where = inside if wish.in_container or wish.parent is None else host
        parent = parents.find(where, wish.parent, wish.mtu).name if wish.parent is not None else ""
        plan.do(Remember(records, owner, {"netns": request.netns, "parent": parent}))
        lease = ipam.Lease(request) if wish.layer3 and wish.given is None else None
        if lease is not None:
            plan.do(lease)
        _bear(plan, request, wish, Spot(where, inside, request.ifname, parent))
        result = lease.result(plan) if lease is not None else wish.given or Result()
        _raise(plan, Spot(where, inside, request.ifname, parent), wish, result)
        return _result(request, inside, wish, result)


def _refuse_twice(request: Request, inside: Namespace, records: AttachmentRecords, owner: Owner) -> None:
    """Before anything is done, and before IPAM is asked: whose failed ADD would take back what the first one got."""
    hint = "an attachment is added once; DEL takes it down"
    if inside.link(request.ifname) is not None:
        raise CniError(INTERNAL, f"{request.netns} already has an interface {request.ifname}", hint)
    elsewhere = _noted(records, owner, "netns")
    if elsewhere and _holds(elsewhere, request.network, owner):
        raise CniError(INTERNAL, f"{owner} of network {request.network} is in {elsewhere} already", hint)


def _holds(path: str, network: str, owner: Owner) -> bool:
    """Whether the namespace at `path` has the link of that attachment."""
    namespace = sandbox_left(path)
    if namespace is None:
        return False
    with namespace:
        link = namespace.link(owner.ifname)
        return link is not None and link.alias == naming.alias(network, owner.container_id, owner.ifname)


@record
class Remember(Step):
    """Write down what the attachment has, for DEL and GC: see `records`."""

    records: AttachmentRecords
    owner: Owner
    document: dict[str, str]

    def describe(self) -> str:
        return ""  # of the kernel's state nothing

    def apply(self) -> None:
        self.records.save(self.owner, self.document)

    def undo(self) -> None:
        self.records.delete(self.owner)


def _noted(records: AttachmentRecords, owner: Owner, key: str) -> str:
    return str((records.load(owner) or {}).get(key, ""))


def _bear(plan: Plan, request: Request, wish: Wish, spot: Spot) -> None:
    """The link, with its owner's name on it, down. Raises CniError that explains what the kernel refuses."""
    steps = wish.kind.birth(spot, wish.mac, wish.mtu)
    try:
        plan.do(*steps)
    except NetlinkError as error:
        refused = steps[0]
        if isinstance(refused, AddLink) and spot.inside.link(spot.ifname) is None:
            raise kinds.refusal(error, refused, INTERNAL) from None
        raise
    plan.do(SetLink(spot.inside, spot.ifname, alias=naming.alias(*request.identity)))


def _raise(plan: Plan, spot: Spot, wish: Wish, result: Result) -> None:
    """Addresses, up, routes."""
    inside, ifname = spot.inside, spot.ifname
    if not wish.layer3:
        plan.do(SetLink(inside, ifname, up=True))
        return
    if not result.ips:
        raise CniError(INTERNAL, "the IPAM plugin gave no IP address")
    try:
        plan.do(*layer3.configure(inside, ifname, result.ips, result.routes))
    except NetlinkError as error:
        parent = spot.where.rtnl.link(spot.parent) if spot.parent else None
        if error.errno != ENETDOWN or parent is None or parent.up:
            raise
        raise CniError(INTERNAL, str(error), parents.down(parent)) from None


def _result(request: Request, inside: Namespace, wish: Wish, result: Result) -> Result:
    """What was made, as the kernel has it."""
    link = inside.rtnl.link(request.ifname)
    if link is None:
        raise CniError(INTERNAL, f"{request.ifname} is not in {request.netns} any more: somebody took it away")
    return Result(
        (Interface(link.name, link.mac, link.mtu, request.netns),),
        tuple(replace(ip, interface=0) for ip in result.ips),
        result.routes,
        wish.dns if wish.dns is not None else result.dns,
    )


# --- DEL and GC -----------------------------------------------------------------------------------------------------


def delete(request: Request, name: str, kind: str) -> None:
    """All that can be done is tried; the first failure is raised at the end."""
    owner = Owner(request.container_id, request.ifname)
    released = ipam.begin(request)
    garbage.all_of(lambda: _take_down(name, kind, request.network, owner, request.netns), released)


def collect(request: Request, name: str, kind: str) -> None:
    """Links first: what still runs has lost its connection before another can be given its address."""
    valid = garbage.valid_attachments(request.conf)
    owners = AttachmentRecords(name, request.network).owners()
    garbage.all_of(
        *ipam.collected(
            request,
            lambda: garbage.collect(owners, valid, lambda owner: _take_down(name, kind, request.network, owner)),
        )
    )


def _take_down(name: str, kind: str, network: str, owner: Owner, netns: str = "") -> None:
    """The attachment's link, wherever it is, and then what was written down of it."""
    records = AttachmentRecords(name, network)
    alias = naming.alias(network, owner.container_id, owner.ifname)
    for path in dict.fromkeys((netns, _noted(records, owner, "netns"))):
        _delete_link(path, owner.ifname, kind, alias, ours_alone=path != netns)
    records.delete(owner)


def _delete_link(path: str, ifname: str, kind: str, alias: str, ours_alone: bool) -> None:
    """In the namespace that the runtime names, also one that another plugin of this type made, which has no alias."""
    inside = sandbox_left(path)
    if inside is None:
        return
    with inside:
        link = inside.link(ifname)
        if link is None or link.kind != kind:
            return
        if link.alias == alias or not (ours_alone or link.alias.startswith(ALIAS)):
            do(DeleteLink(inside, ifname))


# --- CHECK and STATUS -----------------------------------------------------------------------------------------------


def check(request: Request, name: str, wish: Wish) -> None:
    from cni_plugins.sdk import checks  # for this verb alone

    result = checks.expected(request)
    with Namespace() as host, sandbox(request.netns) as inside:
        link = checks.link(inside, request.ifname, wish.kind.name, result)
        place = f"{request.ifname} in {request.netns}"
        if problem := wish.kind.problem(inside, link):
            raise checks.fault(f"{place} {problem}")
        mtu = next((item.mtu for item in result.interfaces if item.name == link.name and item.sandbox), 0) or wish.mtu
        if mtu and link.mtu != mtu:
            raise checks.fault(f"{place} has the MTU {link.mtu}, not {mtu}")
        if wish.parent is not None:
            # Where the keys leave it open, which one it was is written down: the default route may have moved.
            owner = Owner(request.container_id, request.ifname)
            parent = wish.parent or _noted(AttachmentRecords(name, request.network), owner, "parent")
            below = (inside if wish.in_container else host).link(parent) if parent else None
            if parent and (below is None or below.index != link.peer):
                raise checks.fault(f"{place} does not stand on {parent}")
        checks.neighbours(inside, request.ifname, [ip.address for ip in result.ips])
        checks.routes(inside, request.ifname, result.routes, result.ips)
    ipam.delegate(request)


def status(request: Request, wish: Wish) -> None:
    """Could ADD be served? A parent in the container cannot be asked for: there is no container."""
    with Namespace() as host:
        if wish.parent is not None and not wish.in_container:
            parent = parents.find(host, wish.parent, wish.mtu, NOT_AVAILABLE)
            if not parent.up:
                raise CniError(LIMITED_CONNECTIVITY, f"nothing passes by {parent.name}", parents.down(parent))
        wish.kind.require(host, NOT_AVAILABLE)
    ipam.delegate(request)
