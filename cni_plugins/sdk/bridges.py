"""Bridges, which attachments share: made by the first of them, and left behind unless the network says otherwise.

Whoever makes a bridge, takes it back or gives it a port holds its lock, so that nobody's port is on a bridge that
another's failure takes away. What VLANs have of their own is in `gateways`.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import naming
from cni_plugins.sdk.links import AddBridge, DeleteLink
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import ROOT, AttachmentRecords, LockedFolder, Owner
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.spec.config import View
    from cni_plugins.spec.steps import Step

GATEWAYS = ("bridge", "gateways")  # plugin and kind of the shares that VLANs' gateways are


def lock(bridge: str) -> LockedFolder:
    """Inside `with lock(bridge):` nobody else makes the bridge, gives it a port for the first time, or deletes it."""
    return LockedFolder(os.path.join(ROOT, "bridge", f".lock-{bridge}"))


def derived_mac(bridge: str) -> str:
    """The hardware address of a bridge that a plugin made: so it is known for one."""
    return naming.derived_mac("bridge", bridge)


def alone(host: Namespace, link: str) -> list[Step]:
    """A link of the host's that containers reach must not be told by them where to route; and its own link-local
    address is not held back for two seconds, in which the neighbours that ask for it would hear nothing."""
    return [SetSysctl(host, f"net/ipv6/conf/{link}/{key}", "0", optional=True) for key in ("accept_ra", "accept_dad")]


@record
class AddOwnBridge(AddBridge):
    """A bridge that is taken back under its lock: nobody gets a port on it meanwhile."""

    def undo(self) -> None:
        with lock(self.name):
            super().undo()


def remove_unused(host: Namespace, bridge: str) -> None:
    """Delete a bridge that a plugin made and that has no port left. Raises OSError."""
    with lock(bridge):
        link = host.link(bridge)
        ours = link is not None and link.kind == "bridge" and link.mac == derived_mac(bridge)
        if link is not None and ours and not host.rtnl.ports(link.index):
            do(DeleteLink(host, bridge))


def clean_up(conf: View, default: str) -> None:
    """DEL and GC of a network that wants no unused bridge (`cleanupBridge`)."""
    if conf.get("cleanupBridge") is True:
        with Namespace() as host:
            remove_unused(host, conf.string("bridge") or default)


def gateway_name(bridge: str, vlan: int) -> str:
    """The link that has the gateway's address of a VLAN, as the reference plugin names it."""
    return f"{bridge}.{vlan}"


def leave_gateway(network: str, owner: Owner) -> None:
    """`gateways.leave`, which is not even loaded where no attachment has a VLAN's gateway."""
    if os.path.lexists(os.path.join(ROOT, GATEWAYS[0], f".{GATEWAYS[1]}")):
        from cni_plugins.sdk import gateways

        with Namespace() as host:
            gateways.leave(host, network, owner)


def unguard(nftables: Nftables, network: str, container_id: str, ifname: str) -> None:
    """`spoofing.RemoveGuard`, which is not even loaded where the attachment has none."""
    if os.path.lexists(AttachmentRecords("spoofing", network).path(Owner(container_id, ifname))):
        from cni_plugins.sdk.spoofing import RemoveGuard

        do(RemoveGuard(nftables, network, container_id, ifname))
