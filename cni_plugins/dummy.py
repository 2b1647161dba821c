"""The dummy plugin: a container has a link that leads nowhere, for addresses that are only its own.

    container    eth0 (10.1.0.2/24)

What is sent by it is thrown away, and what is sent to its addresses from inside arrives. So a program can be given an
address to listen on, or a node an address for a service, without any network.

No own keys; addresses must come from IPAM. Different from the reference plugin of this name is that CHECK looks at the
routes, too, and what `sdk.single` says of the verbs.
"""

from __future__ import annotations

from cni_plugins.sdk import ipam, keys, kinds, single
from cni_plugins.sdk.single import Wish
from cni_plugins.spec.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request


KEYS: tuple[str, ...] = ()


def configure(request: Request) -> Wish:
    """Raises CniError 7."""
    keys.refuse_near_misses(request.conf, KEYS)
    if not ipam.wanted(request):
        raise CniError(INVALID_CONFIG, "dummy interface requires an IPAM configuration", "ipam.type: missing")
    mac = keys.requested_mac(request) or single.derived_mac(request)
    return Wish(kinds.DUMMY, layer3=True, mac=mac, dns=keys.own_dns(request.conf))


PLUGIN = single.plugin("dummy", configure)
