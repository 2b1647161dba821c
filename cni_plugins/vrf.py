"""The vrf plugin: the container's interface is put into a VRF, a table of routes of its own (chained).

    container      red ──┬── eth0  10.1.0.2/24     table 1: 10.1.0.0/24, default via 10.1.0.1
                         └── net1  10.2.0.2/24
                   blue ──── net2  10.1.0.2/24     table 2: the same addresses again, and nobody minds

The VRF is made in the container's namespace with its first interface, and goes with its last. Addresses and routes of
the interface stay, in the VRF's table.

The keys have the reference plugin's meaning. Different is that an ADD that fails leaves nothing, that CHECK looks at
the table and the routes, and that DEL bears an interface that has gone.
"""

from __future__ import annotations

from cni_plugins.sdk import chained, keys, placed, vrfs
from cni_plugins.sdk.kinds import AddLink, known, missing
from cni_plugins.sdk.links import DeleteLink, SetLink
from cni_plugins.sdk.main import Plugin, do, new_plan
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace, sandbox, sandbox_left
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.sdk.vrfs import Enslave, Free, Kept
from cni_plugins.spec import versions
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step

KEYS = ("vrfname", "table")

EOPNOTSUPP = 95


@record
class Config:
    """`table` is 0 for one that is free, or the one that the VRF has."""

    vrf: str
    table: int = 0


def configure(conf: View) -> Config:
    """Raises CniError 7."""
    keys.refuse_near_misses(conf, KEYS)
    name = keys.link_name(conf, "vrfname")
    if not name:
        raise CniError(INVALID_CONFIG, "vrfname is missing", "the name of the VRF that the interface is put into")
    return Config(name, conf.integer("table"))


def steps(config: Config, inside: Namespace, ifname: str, table: int, found: bool, kept: Kept) -> list[Step]:
    """What ADD does; `found` says that the VRF is there."""
    made = [AddLink(inside, inside, config.vrf, vrfs.kind(table)), SetLink(inside, config.vrf, up=True)]
    return [*([] if found else made), Enslave(inside, ifname, config.vrf, table, kept)]


def add(request: Request) -> Result:
    result = chained.previous(request)
    config = configure(request.conf)
    with sandbox(request.netns) as inside, new_plan() as plan:
        link = _interface(request, inside)
        if link.master:
            master = inside.rtnl.link(link.master)
            name = master.name if master else f"number {link.master}"
            raise CniError(PLUGIN_SPECIFIC, f"{link.name} in {request.netns} already has a master: {name}")
        vrf = _vrf(config, inside)
        table = vrfs.table_of(vrf) if vrf else config.table or vrfs.free_table(inside.rtnl)
        kept = vrfs.keep(inside.rtnl, link.index)
        records, owner = AttachmentRecords("vrf", request.network), Owner(request.container_id, request.ifname)
        plan.do(placed.note(records, owner, inside, link=link.index, vrf=config.vrf))
        try:
            plan.do(*steps(config, inside, link.name, table, vrf is not None, kept))
        except NetlinkError as error:
            if error.errno == EOPNOTSUPP and not known(inside.rtnl, "vrf"):
                raise missing("vrf", PLUGIN_SPECIFIC) from None
            raise
    return result


def _interface(request: Request, inside: Namespace) -> Link:
    link = inside.link(request.ifname)
    if link is None:
        raise CniError(PLUGIN_SPECIFIC, f"there is no interface {request.ifname} in {request.netns}")
    return link


def _vrf(config: Config, inside: Namespace) -> Link | None:
    """The VRF of that name, or None. Raises CniError for another kind of link, or another table."""
    vrf = inside.link(config.vrf)
    if vrf is None:
        return None
    if vrf.kind != "vrf":
        raise CniError(PLUGIN_SPECIFIC, f"{config.vrf} in {inside.path} exists and is not a VRF")
    if config.table not in (0, vrfs.table_of(vrf)):
        problem = f"VRF {config.vrf} in {inside.path} exists with the table {vrfs.table_of(vrf)}, not {config.table}"
        raise CniError(PLUGIN_SPECIFIC, problem, "leave the table out, or choose another vrfname")
    return vrf


def delete(request: Request) -> None:
    """What was written down, wherever it is; then what the configuration names, where the runtime says."""
    _take_down(request.network, Owner(request.container_id, request.ifname))
    name = request.conf.get("vrfname")
    inside = sandbox_left(request.netns)
    if inside is not None and isinstance(name, str):
        with inside:
            _leave(inside, name, inside.link(request.ifname))


def _take_down(network: str, owner: Owner) -> None:
    """One attachment's, by its record, and the record."""
    records = AttachmentRecords("vrf", network)
    noted = records.load(owner) or {}
    inside = placed.left(noted)
    if inside is not None:
        with inside:
            link = inside.link(owner.ifname)
            same = link is not None and link.index == noted.get("link")
            _leave(inside, str(noted.get("vrf", "")), link if same else None)
    records.delete(owner)


def _leave(inside: Namespace, name: str, link: Link | None) -> None:
    """Take the link out of the VRF of that name, and delete that where nobody is in it any more."""
    vrf = inside.link(name) if name else None
    if vrf is None or vrf.kind != "vrf":
        return
    if link is not None and link.master == vrf.index:
        do(Free(inside, link.name))
    if not inside.rtnl.ports(vrf.index):
        do(DeleteLink(inside, vrf.name))


def check(request: Request) -> None:
    """That the interface is in the VRF, with its addresses and, in the VRF's table, its routes."""
    from cni_plugins.sdk import checks
    from cni_plugins.spec.record import replace

    chained.previous(request)
    config = configure(request.conf)
    result = checks.expected(request)
    with sandbox(request.netns) as inside:
        vrf = _vrf(config, inside)
        if vrf is None or not vrf.up:
            raise checks.fault(f"VRF {config.vrf} in {request.netns} {'is down' if vrf else 'is not there'}")
        link = _interface(request, inside)
        if link.master != vrf.index:
            raise checks.fault(f"{link.name} in {request.netns} is not in VRF {config.vrf}")
        checks.addresses(inside, link.name, [ip.address for ip in result.ips])
        routes = [replace(route, table=route.table or vrfs.table_of(vrf)) for route in result.routes]
        checks.routes(inside, link.name, routes, result.ips)


def status(request: Request) -> None:
    configure(request.conf)
    with Namespace() as host:
        vrfs.kind(1).require(host, NOT_AVAILABLE)


def gc(request: Request) -> None:
    """What was written down of those who are no more, where their namespaces live on."""
    from cni_plugins.sdk import garbage  # for this verb alone

    owners = AttachmentRecords("vrf", request.network).owners()
    valid = garbage.valid_attachments(request.conf)
    garbage.collect(owners, valid, lambda owner: _take_down(request.network, owner))


PLUGIN = Plugin(
    "vrf",
    add=add,
    delete=delete,
    check=check,
    gc=gc,
    status=status,
    versions=versions.ALL[versions.ALL.index("0.3.1") :],
)
