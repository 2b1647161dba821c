"""The vlan plugin: a container is on one VLAN (IEEE 802.1Q) of the network that a link of the host is on.

    trunk ═══════════════ eth0 (parent) ── tagged 100 ──┐
    host                                                │
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄
    container                                          eth0

What the container sends leaves the parent with the VLAN's tag, and what comes with it is the container's. A parent has
a VLAN once, so it serves one container; more of them are what a bridge, or macvlan on a link of that VLAN, are for.
The container's link has its parent's hardware address.
"""

from __future__ import annotations

from cni_plugins.sdk import ipam, keys, kinds, single
from cni_plugins.sdk.single import Wish
from cni_plugins.spec.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request

KEYS = ("master", "vlanId", "mtu", "linkInContainer")


def configure(request: Request) -> Wish:
    """Raises CniError 7 that names the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    if not keys.link_name(conf, "master"):
        raise CniError(INVALID_CONFIG, "master: missing", "the link that has the VLAN, such as eth0")
    if not ipam.wanted(request):
        raise CniError(INVALID_CONFIG, "ipam.type: missing", "the vlan plugin needs an IPAM plugin")
    return Wish(
        kinds.vlan(conf.integer("vlanId", high=4094)),
        layer3=True,
        parent=keys.link_name(conf, "master"),
        in_container=conf.boolean("linkInContainer"),
        mtu=conf.integer("mtu", high=65535),
        dns=keys.own_dns(conf),
    )


PLUGIN = single.plugin("vlan", configure)
