"""The macvlan plugin: a container has a hardware address of its own on the network that a link of the host is on.

    network ═══════════ eth0 (parent) ──┬──────────────┐
    host                                │              │
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄
    containers                         eth0           eth0

To the network they look like machines that stand beside the host; they reach each other (mode bridge), but not the host
itself, whose parent hands their frames out without looking. Without IPAM a container gets a link and no address.

The keys have the reference plugin's meaning. Different is that hardware addresses are derived, so that they are the
same when a container comes back and never another host's, that IPAM's `dns` counts where there is no own one, and what
`sdk.single` says of the verbs.
"""

from __future__ import annotations

from cni_plugins.sdk import ipam, keys, kinds, single
from cni_plugins.sdk.single import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request

KEYS = ("master", "mode", "mtu", "mac", "linkInContainer", "bcqueuelen")


def configure(request: Request) -> Wish:
    """Raises CniError 7 that names the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    mode = keys.one_of(conf, "mode", kinds.MACVLAN_MODES, "bridge")
    asked = keys.requested_mac(request) or keys.own_mac(conf)
    return Wish(
        kinds.macvlan(mode, conf.integer("bcqueuelen")),
        layer3=ipam.wanted(request),
        parent=keys.link_name(conf, "master"),
        in_container=conf.boolean("linkInContainer"),
        mtu=conf.integer("mtu", high=65535),
        # One in mode passthru has its parent's address, and gives it another only where that is asked for.
        mac=asked if mode == "passthru" else asked or single.derived_mac(request),
        dns=keys.own_dns(conf),
    )


PLUGIN = single.plugin("macvlan", configure)
