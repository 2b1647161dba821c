"""A link of the host that is lent to a container, and given back as it was.

    host         eth1 (up, 192.0.2.7/24)                        eth1 (up, 192.0.2.7/24)
                   │ Lend: moved and renamed by one message       ▲ give_back: moved, raised, its addresses
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
    container      ▼ eth0 (alias eth1)  ·  ·  ·  ·  ·  ·  ·  ·  · eth0

Moving takes a link's addresses and puts it down, so what it was is written down first. Its name on the host stands in
its alias meanwhile, where the reference plugin looks for it, too.

When a namespace goes with a link in it, the kernel deletes links of its own making (veth, macvlan, …) and puts a device
back to the host, down, under the name that it had in the container, or under `dev` and its number where that is taken
(net/core/dev.c, `default_device_exit_net`). `give_back` finds it there.
"""

from __future__ import annotations

import os
import time

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.links import AddAddress, LinkStep, SetLink
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace, quoted, sandbox_left
from cni_plugins.sdk.records import ROOT, AttachmentRecords
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.sdk.netlink import Message
    from cni_plugins.sdk.records import Owner
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.ip import Cidr

PLUGIN = "host-device"
_PERMANENT = 0x80  # IFA_F_PERMANENT: given by hand; the others come again by themselves
_PATIENCE = 2.0  # seconds for the kernel to put a device back after its namespace has gone


@record
class Lent:
    """What a link was on the host. `kind` is empty for a device; `netns` is where it went."""

    device: str
    alias: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    kind: str = ""
    addresses: tuple[Cidr, ...] = ()
    netns: str = ""

    def to_json(self) -> dict[str, Any]:
        return self.__dict__ | {"addresses": [str(cidr) for cidr in self.addresses]}


def describe(host: Namespace, link: Link, netns: str) -> Lent:
    """What `link` of the host is before it is lent to the namespace at `netns`."""
    found = host.rtnl.addresses(link.index)
    mine = tuple(item.cidr for item in found if not item.scope and item.flags & _PERMANENT)
    return Lent(link.name, link.alias, link.mac, link.mtu, link.up, link.kind, mine, netns)


def remembered(records: AttachmentRecords, owner: Owner) -> Lent | None:
    """What was written down of the link that `owner` has; None where nothing was, or nothing that tells its name."""
    view = View(records.load(owner) or {})
    try:
        addresses = tuple(parse_cidr(text) for text in view.strings("addresses"))
        device, alias, mac = (view.string(key) for key in ("device", "alias", "mac"))
        mtu, up = view.integer("mtu"), view.boolean("up")
        return (
            Lent(device, alias, mac, mtu, up, view.string("kind"), addresses, view.string("netns")) if device else None
        )
    except (CniError, ValueError):
        return None


def holds(lent: Lent, ifname: str) -> bool:
    """Whether the namespace that `lent` went to has it still."""
    inside = sandbox_left(lent.netns)
    if inside is None:
        return False
    with inside:
        link = inside.link(ifname)
        return link is not None and link.alias == lent.device


def borrower(device: str) -> str:
    """Who has the link that was `device`, in words; empty where nobody is known to. For what to say of a failure."""
    folder = os.path.join(ROOT, PLUGIN)
    for network in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        records = AttachmentRecords(PLUGIN, network)
        for owner in records.owners():
            lent = remembered(records, owner)
            if lent is not None and device in (lent.device, lent.mac):
                return f"{owner} of network {network} has it"
    return ""


# --- there ----------------------------------------------------------------------------------------------------------


@record
class Move(LinkStep):
    """A link goes to another namespace, or stays in its own, under another name. `alias` None is left as it is."""

    namespace: Namespace
    name: str
    to: Namespace
    new_name: str
    alias: str | None = None

    def describe(self) -> str:
        where = f" netns {self.to.name if self.to.path else '$$'}" if self.to != self.namespace else ""
        alias = f" alias {quoted(self.alias)}" if self.alias is not None else ""
        return self.namespace.command(f"link set {quoted(self.name)}{where} name {quoted(self.new_name)}{alias}")

    def messages(self) -> list[Message]:
        netns = self.to.fd if self.to != self.namespace else None
        index = self.namespace.index(self.name)
        return [rtmsg.link_move(index, name=self.new_name, netns=netns, alias=self.alias)]

    def apply(self) -> None:
        super().apply()
        self.namespace.forget(self.name)


@record
class Lend(Step):
    """The link that is `lent` goes into the container as `ifname`, down, without its addresses."""

    host: Namespace
    inside: Namespace
    ifname: str
    lent: Lent

    def _move(self) -> Move:
        return Move(self.host, self.lent.device, self.inside, self.ifname, self.lent.device)

    def describe(self) -> str:
        return self._move().describe()

    def apply(self) -> None:
        self._move().apply()

    def undo(self) -> None:
        """Told step by step."""
        _from_inside(self.host, self.inside, self.ifname, self.lent)


# --- and back -------------------------------------------------------------------------------------------------------


def give_back(records: AttachmentRecords, owner: Owner, netns: str = "") -> None:
    """Have the link that `owner` has be on the host again as it was, wherever it is now; fine when it is nowhere.

    `netns` is the namespace that the runtime names. Raises CniError when the host has another link of its name: then
    the container keeps it as it is. Where a device has not come back from a namespace that is gone, the record stays,
    for the next GC.
    """
    lent = remembered(records, owner)
    with Namespace() as host:
        for path in dict.fromkeys((netns, lent.netns if lent else "")):
            inside = sandbox_left(path)
            if inside is None:
                continue
            with inside:
                if _from_inside(host, inside, owner.ifname, lent):
                    records.delete(owner)
                    return
        if lent is not None and not _from_host(host, lent) and not lent.kind and host.link(lent.device) is None:
            return
    records.delete(owner)


def _from_inside(host: Namespace, inside: Namespace, ifname: str, lent: Lent | None) -> bool:
    """Whether there was something to bring. Without a record the alias alone tells the name, and it comes back down."""
    link = inside.link(ifname)
    if link is None or (link.alias != lent.device if lent else not _a_name(link.alias)):
        return False
    name = link.alias
    if host.link(name) is not None:
        raise CniError(
            INTERNAL,
            f"{ifname} in {inside.path} cannot become {name} again: the host has another link of that name",
            f"rename that one (`ip link set {quoted(name)} name …`) and have DEL done again",
        )
    do(Move(inside, ifname, host, name))
    _restore(host, lent or Lent(name, mac=link.mac, mtu=link.mtu))
    return True


def _a_name(alias: str) -> bool:
    """Whether an alias is a link's name, and not in words."""
    return 0 < len(alias.encode()) < 16 and not any(char.isspace() or char in "/:" for char in alias)


def _from_host(host: Namespace, lent: Lent) -> bool:
    """Look for what the kernel has put back, or what was cut short on its way. Grows with the host: it is rare."""
    deadline = time.monotonic() + (0 if lent.kind else _PATIENCE)
    while True:
        for link in host.rtnl.all_links():
            if link.alias == lent.device and (link.mac, link.kind) == (lent.mac, lent.kind):
                if link.name != lent.device:
                    do(SetLink(host, link.name, up=False))
                    do(Move(host, link.name, host, lent.device))
                _restore(host, lent)
                return True
        if time.monotonic() >= deadline or host.link(lent.device) is not None:
            return False
        time.sleep(0.05)


def _restore(host: Namespace, lent: Lent) -> None:
    """Make it what it was. The alias is last: what still has its own name for alias is not finished."""
    link = host.link(lent.device)
    if link is None:
        return
    mac = lent.mac if len(lent.mac) == len(link.mac) == 17 and lent.mac != link.mac else ""
    mtu = lent.mtu if lent.mtu != link.mtu else 0
    if mac or mtu:
        do(SetLink(host, link.name, mac=mac, mtu=mtu))
    if lent.up:
        do(SetLink(host, link.name, up=True))
    there = {item.cidr for item in host.rtnl.addresses(link.index)}
    for cidr in lent.addresses:
        if cidr not in there:
            do(AddAddress(host, link.name, cidr))
    do(Move(host, link.name, host, link.name, lent.alias))
