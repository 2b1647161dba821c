"""Masquerade: what containers send out of their subnet leaves with the host's address.

One rule a family, written once, and two elements a subnet: `subnets4` holds the subnet, `inside4` says that it is left
alone towards itself. So the first attachment of a subnet adds them, the last one takes them away, and all between only
leave a record of what they use: DEL needs neither result nor namespace.

An ADD sends its elements whether they should be there or not, which costs the same and repairs a set that somebody
flushed; a table that is made anew gets everybody's subnets back.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import garbage, nft
from cni_plugins.sdk.main import do
from cni_plugins.sdk.nfnl import Nftables, Refused
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.sdk.subnets import Subnets
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import parse_network
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cni_plugins.sdk.nfnl import Change
    from cni_plugins.spec.ip import Cidr

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

_SUBNETS = Subnets("masquerade", TABLE.name, subnets=1, inside=2)


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
        table = [] if self.nftables.rules(TABLE.name) else [f"nft '{TABLE}'"]
        return "\n".join([*table, *map(str, _SUBNETS.additions(self.subnets))])

    def apply(self) -> None:
        self.undo()  # what an ADD without its DEL may have left
        records, owner = AttachmentRecords("masquerade", self.network), Owner(self.container_id, self.ifname)
        with _SUBNETS.locked():
            # The record first: a crash leaves nothing that it does not account for.
            records.save(owner, {"subnets": [str(cidr) for cidr in self.subnets]})
            try:
                _SUBNETS.join(self.subnets, self.network, owner)
                self._commit()
            except BaseException:
                _SUBNETS.leave(self.subnets, self.network, owner)
                records.delete(owner)
                raise

    def _commit(self) -> None:
        try:
            TABLE.commit(self.nftables, *_SUBNETS.additions(self.subnets), restore=self._others)
        except Refused as refused:
            raise _SUBNETS.overlap(self.subnets, self.network) or refused from None

    def _others(self) -> list[Change]:
        return _SUBNETS.additions(cidr for cidr in _SUBNETS.used() if cidr not in self.subnets)

    def opposite(self) -> Step | None:
        return RemoveMasquerade(self.nftables, self.network, self.container_id, self.ifname)


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
        records, owner = AttachmentRecords("masquerade", self.network), Owner(self.container_id, self.ifname)
        if not os.path.lexists(records.path(owner)):
            return ""
        unused = _SUBNETS.only(_used_by(records, owner), self.network, owner)
        return "\n".join(map(str, _SUBNETS.removals(self.nftables, unused)))

    def apply(self) -> None:
        records, owner = AttachmentRecords("masquerade", self.network), Owner(self.container_id, self.ifname)
        if not os.path.lexists(records.path(owner)):
            return
        with _SUBNETS.locked():
            unused = _SUBNETS.leave(_used_by(records, owner), self.network, owner)
            self.nftables.commit(*_SUBNETS.removals(self.nftables, unused))
            records.delete(owner)


def ready(env: Mapping[str, str]) -> None:
    """For STATUS: could rules like these be made? Raises CniError 50."""
    with Nftables(env) as nftables:
        nft.ready(nftables, TABLE)


def check(nftables: Nftables, network: str, container_id: str, ifname: str, subnets: Iterable[Cidr]) -> None:
    """Raises CniError when something that masquerades the attachment's `subnets` is not there."""
    records, owner = AttachmentRecords("masquerade", network), Owner(container_id, ifname)
    recorded = _used_by(records, owner) if os.path.lexists(records.path(owner)) else []
    missing = [str(cidr) for cidr in subnets if cidr not in recorded]
    if missing:
        raise CniError(PLUGIN_SPECIFIC, f"{owner} does not masquerade {', '.join(missing)}", "its record is missing")
    TABLE.require(nftables, *_SUBNETS.elements(subnets))


def collect(nftables: Nftables, network: str, valid: Collection[Owner]) -> None:
    """GC: remove what attachments of `network` that are not `valid` have left. Raises the first failure, at the end."""

    def release(owner: Owner) -> None:
        do(RemoveMasquerade(nftables, network, owner.container_id, owner.ifname))

    garbage.collect(AttachmentRecords("masquerade", network).owners(), valid, release)


def _used_by(records: AttachmentRecords, owner: Owner) -> list[Cidr]:
    """What an attachment's record says; where it does not tell, all subnets, for `leave` to look through."""
    document = records.load(owner)
    try:
        return (
            _SUBNETS.used() if document is None else [parse_network(text) for text in View(document).strings("subnets")]
        )
    except (CniError, ValueError):
        return _SUBNETS.used()
