"""The tap plugin: a container has a link whose other end is a program, such as the monitor of a virtual machine.

    container    eth0 (address, or a port of `bridge`) ── /dev/net/tun ── a program that opens it

The link is there, with its addresses, before anybody has opened it; it has no carrier until then. `owner` and `group`
may open it besides root. Without IPAM it gets no address, as it should be when it is a bridge's port.

The keys have the reference plugin's meaning. Different is that no program is run to make it (but where SELinux is to
give it a context), that the hardware address is honoured whoever the owner is, that CHECK looks at all of it, and what
`sdk.single` says of the verbs.
"""

from __future__ import annotations

from cni_plugins.sdk import ipam, keys, single, taps
from cni_plugins.sdk.single import Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request

KEYS = ("multiQueue", "mtu", "mac", "owner", "group", "selinuxContext", "bridge")


def configure(request: Request) -> Wish:
    """Raises CniError 7 for a wrong value and 2 for one that is not served, both with the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    owner = conf.integer("owner") if conf.has("owner") else None
    group = conf.integer("group") if conf.has("group") else None
    label = conf.string("selinuxContext")
    taps.refuse_label(label, conf.where("selinuxContext"))
    return Wish(
        taps.tap(owner, group, conf.boolean("multiQueue"), keys.link_name(conf, "bridge"), label),
        layer3=ipam.wanted(request),
        mtu=conf.integer("mtu", high=65535),
        mac=keys.requested_mac(request) or keys.own_mac(conf) or single.derived_mac(request),
        dns=keys.own_dns(conf),
    )


PLUGIN = single.plugin("tap", configure, kind="tun")
