"""Masquerade: what containers send out of their subnet leaves with the host's address.

One rule a family, written once, and two elements a subnet: `subnets4` holds the subnet, `inside4` says that it is left
alone towards itself. So the first attachment of a subnet adds them, the last one takes them away, and all between only
leave a record of what they use (DEL needs neither result nor namespace). A subnet may serve several networks. Two
subnets that overlap without being the same are refused by the kernel: an address in both would have two meanings.

An ADD sends its elements whether they should be there or not, which costs the same and repairs a set that somebody
flushed; a table that is made anew gets everybody's subnets back.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import garbage
from cni_plugins.sdk.elements import Element, subnet
from cni_plugins.sdk.nfnl import Change, Nftables, Refused
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.sdk.shares import Shares
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import parse_network
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cni_plugins.spec.ip import Cidr

_FLUSHED = "somebody has flushed it; the next ADD of the network puts it back"

TABLE = Table(
    "cni_masquerade",
    (
        "set subnets4 { type ipv4_addr; flags interval; }",
        "set subnets6 { type ipv6_addr; flags interval; }",
        "set inside4 { type ipv4_addr . ipv4_addr; flags interval; }",
        "set inside6 { type ipv6_addr . ipv6_addr; flags interval; }",
    ),
    (
        Chain(
            "postrouting",
            "nat hook postrouting priority srcnat",
            (
                "ip saddr @subnets4 ip saddr . ip daddr != @inside4 ip daddr != 224.0.0.0/4 masquerade",
                "ip6 saddr @subnets6 ip6 saddr . ip6 daddr != @inside6 ip6 daddr != ff00::/8 masquerade",
            ),
        ),
    ),
)


@record
class AddMasquerade(Step):
    """Masquerade an attachment's subnets. `subnets` are networks (no host bits), of both families.

    `apply` raises CniError when one overlaps another network's, OSError when the kernel refuses.
    """

    nftables: Nftables
    network: str
    container_id: str
    ifname: str
    subnets: tuple[Cidr, ...]

    def describe(self) -> str:
        return "; ".join(map(str, _changes("add", self.subnets)))

    def apply(self) -> None:
        self.undo()  # what an ADD without its DEL may have left
        store, owner = _Store(self.network), Owner(self.container_id, self.ifname)
        with store.shares.locked():
            store.join(owner, self.subnets)
            try:
                TABLE.commit(self.nftables, *_changes("add", self.subnets), restore=lambda: self._others(store))
            except BaseException as error:
                store.leave(owner)
                store.records.delete(owner)
                if isinstance(error, Refused):
                    raise _overlap(store, self.subnets) or error from None
                raise

    def _others(self, store: _Store) -> list[Change]:
        return _changes("add", (cidr for cidr in store.everybodys() if cidr not in self.subnets))

    def undo(self) -> None:
        RemoveMasquerade(self.nftables, self.network, self.container_id, self.ifname).apply()


@record
class RemoveMasquerade(Step):
    """The attachment needs its subnets no more; what nobody else needs goes. Fine when there is nothing of it.

    The kernel has forgotten them when `apply` returns; that wait for which the socket's close is known is not begun.
    """

    nftables: Nftables
    network: str
    container_id: str
    ifname: str

    def describe(self) -> str:
        return f"nft delete element inet {TABLE.name} …  # what {self.container_id} {self.ifname} was the last to use"

    def apply(self) -> None:
        store, owner = _Store(self.network), Owner(self.container_id, self.ifname)
        if not store.knows(owner):
            return
        with store.shares.locked():
            elements = _elements(store.leave(owner))
            held = zip(elements, self.nftables.lookup(*elements), strict=True) if elements else ()
            # Only what is ours to the last bit: since a flush, another subnet may begin with the same address.
            ours = [element for element, stored in held if stored is not None and stored.fits(element)]
            self.nftables.commit(*(Change("delete", element) for element in ours))
            store.records.delete(owner)


def check(nftables: Nftables, network: str, container_id: str, ifname: str, subnets: Iterable[Cidr]) -> None:
    """Raises CniError when something that masquerades the attachment's `subnets` is not there."""
    store, owner = _Store(network), Owner(container_id, ifname)
    missing = sorted({str(cidr) for cidr in subnets} - {str(cidr) for cidr in store.subnets(owner)})
    if missing:
        raise CniError(PLUGIN_SPECIFIC, f"{owner} does not masquerade {', '.join(missing)}", "its record is missing")
    elements = _elements(subnets)
    for element, stored in zip(elements, nftables.lookup(*elements), strict=True):
        if stored is None or not stored.fits(element):
            raise CniError(PLUGIN_SPECIFIC, f"nftables: inet {TABLE.name} {element} is missing", _FLUSHED)
    if not TABLE.complete(nftables):
        raise CniError(PLUGIN_SPECIFIC, f"nftables: rules of table inet {TABLE.name} are missing", _FLUSHED)


def collect(nftables: Nftables, network: str, valid: Collection[Owner]) -> None:
    """GC: remove what attachments of `network` that are not `valid` have left. Raises the first failure, at the end."""

    def release(owner: Owner) -> None:
        RemoveMasquerade(nftables, network, owner.container_id, owner.ifname).apply()

    garbage.collect(_Store(network).records.owners(), valid, release)


class _Store:
    """What is written down: who uses a subnet, and which ones an attachment uses."""

    def __init__(self, network: str) -> None:
        self.network = network
        self.shares = Shares("masquerade", "subnets")
        self.records = AttachmentRecords("masquerade", network)

    def knows(self, owner: Owner) -> bool:
        return os.path.lexists(self.records.path(owner))

    def subnets(self, owner: Owner) -> list[Cidr]:
        """Those that `owner` uses; where its record does not tell, all that there are, for `leave` to look through."""
        if not self.knows(owner):
            return []
        try:
            return [parse_network(text) for text in View(self.records.load(owner) or {}).strings("subnets")]
        except (CniError, ValueError):
            return self.everybodys()

    def everybodys(self) -> list[Cidr]:
        return [parse_network(name.replace("-", "/")) for name in self.shares.things()]

    def join(self, owner: Owner, subnets: Iterable[Cidr]) -> None:
        """The record first: a crash leaves nothing that it does not account for."""
        self.records.save(owner, {"subnets": [str(cidr) for cidr in subnets]})
        for cidr in subnets:
            self.shares.join(_name(cidr), self.network, owner)

    def leave(self, owner: Owner) -> list[Cidr]:
        """The subnets that nobody uses now. The record stays until they are gone from the kernel, too."""
        return [cidr for cidr in self.subnets(owner) if self.shares.leave(_name(cidr), self.network, owner)]


def _name(cidr: Cidr) -> str:
    """A subnet as the name of a folder."""
    return str(cidr).replace("/", "-")


def _elements(subnets: Iterable[Cidr]) -> list[Element]:
    """What the table holds for `subnets`. No comment: a subnet is nobody's alone."""
    found = []
    for cidr in subnets:
        field = subnet(cidr)
        for name, key in (("subnets", (field,)), ("inside", (field, field))):
            found.append(Element(TABLE.name, f"{name}{cidr.family}", key, interval=True))
    return found


def _changes(verb: str, subnets: Iterable[Cidr]) -> list[Change]:
    return [Change(verb, element) for element in _elements(subnets)]


def _overlap(store: _Store, subnets: Iterable[Cidr]) -> CniError | None:
    """Which of `subnets` overlaps one that is masqueraded already, and whose that is."""
    for mine in subnets:
        for other in store.everybodys():
            if mine != other and (mine.first in other or other.first in mine):
                networks = ", ".join(sorted({network for network, _owner in store.shares.users(_name(other))}))
                return CniError(
                    INVALID_CONFIG,
                    f"cannot masquerade {mine} of network {store.network}: it overlaps {other} of network {networks}",
                    "give the networks separate subnets, or the same one",
                )
    return None
