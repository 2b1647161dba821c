"""The ipvlan plugin: a container has addresses of its own on the network that a link of the host is on, behind that
link's hardware address.

    network ═══════════ eth0 (parent) ──┬──────────────┐
    host                                │              │
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄
    containers                         eth0           eth0

For networks that take one hardware address a port, where macvlan gets nothing through. In mode l2 the containers answer
for their addresses themselves, in l3 and l3s the host routes between them (l3s: by way of its own firewall) and nobody
outside learns of them by ARP. The mode is the parent's: the last container that is added sets it for all.

Chained, behind a plugin that makes the parent, `master` is that plugin's only interface; and when there is no IPAM, the
addresses are those that it gave.
"""

from __future__ import annotations

from cni_plugins.sdk import ipam, keys, kinds, single
from cni_plugins.sdk.single import Wish
from cni_plugins.spec.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.result import Result

KEYS = ("master", "mode", "mtu", "linkInContainer")


def configure(request: Request) -> Wish:
    """Raises CniError 7 that names the key's path."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    before = request.prev_result if request.command == "ADD" else None
    given = before if before and before.ips and not ipam.wanted(request) else None
    if request.command == "ADD" and not ipam.wanted(request) and given is None:
        raise CniError(INVALID_CONFIG, "ipam.type: missing", "and no plugin before this one gave an address")
    return Wish(
        kinds.ipvlan(keys.one_of(conf, "mode", kinds.IPVLAN_MODES, "l2")),
        layer3=True,
        parent=_parent(request, before),
        in_container=conf.boolean("linkInContainer"),
        mtu=conf.integer("mtu", high=65535),
        dns=keys.own_dns(conf),
        given=given,
    )


def _parent(request: Request, before: Result | None) -> str | None:
    """The link to stand on, see `Wish`."""
    name = keys.link_name(request.conf, "master")
    if name or before is None:
        # STATUS is asked without a previous result: what is chained for its addresses does not know its parent then.
        return None if request.command == "STATUS" and not name and not ipam.wanted(request) else name
    named = [item.name for item in before.interfaces if item.name]
    if len(before.interfaces) != 1 or not named:
        raise CniError(
            INVALID_CONFIG,
            f"master is not given, and the plugin before has {len(before.interfaces)} interfaces, not one to stand on",
            "name the link to stand on",
        )
    return named[0]


PLUGIN = single.plugin("ipvlan", configure)
