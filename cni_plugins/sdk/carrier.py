"""Have the kernel take note of a link's carrier now.

It tells IPv6 and a bridge of a new carrier from a queue that it works off once a second, unless the link's number and
that of the link it is tied to differ (net/core/link_watch.c, `linkwatch_urgent_event`): they are the same when a veth's
two ends, each in its own namespace, happened to get the same number. Whoever asks for the carrier as ethtool(8) does
has what is queued for the link worked off first.
"""

from __future__ import annotations

from _socket import AF_INET, SOCK_DGRAM, socket
from _struct import pack
from array import array
from fcntl import ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.netns import Namespace

SIOCETHTOOL, ETHTOOL_GLINK = 0x8946, 0x0A  # linux/sockios.h, linux/ethtool.h


def notice(namespace: Namespace, link: str) -> None:
    """Harmless where there is no such link, or one that has no carrier to speak of."""
    with namespace.inside():
        asker = socket(AF_INET, SOCK_DGRAM)
    try:
        value = array("I", (ETHTOOL_GLINK, 0))  # struct ethtool_value
        ioctl(asker.fileno(), SIOCETHTOOL, pack("16sP16x", link.encode(), value.buffer_info()[0]))
    except OSError:
        pass  # it will come to know in its own time
    finally:
        asker.close()
