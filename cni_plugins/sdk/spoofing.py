"""Which hardware address a bridge's port may send from: a container cannot speak in another's name.

    table bridge cni_spoofing
      guarded   veth1a2b3c4d                       ports whose frames are looked at
      allowed   veth1a2b3c4d . 02:00:00:00:00:02   what they may send from

One rule, written once, and two elements a port, added before the port exists. A small record says what they are, so
DEL and GC need neither result nor namespace, and the cost of both is the same however many ports there are.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import elements, garbage, naming
from cni_plugins.sdk.elements import Element
from cni_plugins.sdk.main import do
from cni_plugins.sdk.nfnl import Change
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.records import ROOT, AttachmentRecords, Owner
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.mac import mac_bytes
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_plugins.sdk.nfnl import Nftables

TABLE = Table(
    "cni_spoofing",
    (
        "set guarded { type ifname; }",
        "set allowed { type ifname . ether_addr; }",
    ),
    (
        Chain(
            "prerouting",
            "filter hook prerouting priority dstnat",
            ("iifname @guarded iifname . ether saddr != @allowed drop",),
        ),
    ),
    family="bridge",
)


def guard(port: str, mac: str, comment: str) -> tuple[Element, Element]:
    """What stands for a port and the one address that it may send from."""
    packed = mac_bytes(mac)
    address = elements.Field(mac, packed, packed)
    link = elements.link(port)
    return (
        Element(TABLE.name, "guarded", (link,), comment=comment, family=TABLE.family),
        Element(TABLE.name, "allowed", (link, address), comment=comment, family=TABLE.family),
    )


@record
class AddGuard(Step):
    """Have only frames from `mac` pass through `port`. Raises CniError where the table cannot be made."""

    nftables: Nftables
    network: str
    container_id: str
    ifname: str
    port: str
    mac: str

    def describe(self) -> str:
        table = [] if self.nftables.rules(TABLE.name, TABLE.family) else [f"nft '{TABLE}'"]
        return "\n".join([*table, *map(str, self._changes())])

    def _changes(self) -> list[Change]:
        comment = naming.comment(self.network, self.container_id, self.ifname)
        return [Change("add", element) for element in guard(self.port, self.mac, comment)]

    def apply(self) -> None:
        self.undo()  # what an ADD without its DEL may have left
        records = AttachmentRecords("spoofing", self.network)
        records.save(Owner(self.container_id, self.ifname), {"port": self.port, "mac": self.mac})
        try:
            TABLE.commit(self.nftables, *self._changes(), restore=_everybodys)
        except BaseException:
            self.undo()
            raise

    def opposite(self) -> Step | None:
        return RemoveGuard(self.nftables, self.network, self.container_id, self.ifname)


@record
class RemoveGuard(Step):
    """Forget an attachment's port. Fine when there is nothing of it."""

    nftables: Nftables
    network: str
    container_id: str
    ifname: str

    def describe(self) -> str:
        return "\n".join(str(Change("delete", element)) for element in self._elements())

    def _elements(self) -> tuple[Element, ...]:
        known = _recorded(AttachmentRecords("spoofing", self.network), Owner(self.container_id, self.ifname))
        return guard(*known, "") if known else ()

    def apply(self) -> None:
        records, owner = AttachmentRecords("spoofing", self.network), Owner(self.container_id, self.ifname)
        if not os.path.lexists(records.path(owner)):
            return
        self.nftables.commit(*(Change("delete", element) for element in self._elements()))
        records.delete(owner)


def _everybodys() -> list[Change]:
    """What belongs into a table that is made anew: somebody's flush took everybody's elements with it."""
    found = []
    for network in os.listdir(os.path.join(ROOT, "spoofing")):
        records = AttachmentRecords("spoofing", network)
        for owner in records.owners():
            known = _recorded(records, owner)
            comment = naming.comment(network, owner.container_id, owner.ifname)
            found += [Change("add", element) for element in (guard(*known, comment) if known else ())]
    return found


def _recorded(records: AttachmentRecords, owner: Owner) -> tuple[str, str] | None:
    """Port and address; None where no record tells."""
    document = View(records.load(owner) or {})
    try:
        port, mac = document.string("port"), document.string("mac")
        mac_bytes(mac)
    except (CniError, ValueError):
        return None
    return (port, mac) if port else None


def check(nftables: Nftables, port: str, mac: str) -> None:
    """Raises CniError when `port` may send from other addresses than `mac`, or not from it."""
    hint = "somebody has flushed it, or changed the container's hardware address; DEL and ADD put it right"
    TABLE.require(nftables, *guard(port, mac, ""), hint=hint)


def collect(nftables: Nftables, network: str, valid: Collection[Owner]) -> None:
    """GC: remove what attachments of `network` that are not `valid` have left. Raises the first failure, at the end."""

    def release(owner: Owner) -> None:
        do(RemoveGuard(nftables, network, owner.container_id, owner.ifname))

    garbage.collect(AttachmentRecords("spoofing", network).owners(), valid, release)
