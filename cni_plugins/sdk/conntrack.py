"""ctnetlink: flows that the kernel tracks, found and forgotten.

Where packets of a flow go is decided at its first one. A client that keeps sending UDP to a published port keeps its
flow alive, and with it the decision: to a container that is gone, or to nobody, made before the port was published.
TCP starts a flow anew with each connection.

The kernel filters by port (CTA_FILTER, Linux 5.8): what is read does not grow with the flows of the host. It could
filter by address as well, but for IPv6 it has the comparison the wrong way round (seen on Linux 6.18).
Source: linux/netfilter/nfnetlink_conntrack.h; the filter's flags are include/linux/netfilter/nf_conntrack_common.h's.
"""

from __future__ import annotations

from errno import ENOENT

from cni_plugins.sdk.netlink import (
    NLM_F_ACK,
    Message,
    Netlink,
    NetlinkError,
    attribute,
    attributes,
    nested,
    u8,
    u16,
    u32,
)
from cni_plugins.sdk.nfnl import GENERIC
from cni_plugins.spec.ip import Address
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

# Taken from the Linux kernel headers: linux/netfilter/nfnetlink_conntrack.h.
IPCTNL_MSG_CT_GET = 1 << 8 | 1
IPCTNL_MSG_CT_DELETE = 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SRC = {4: 1, 6: 3}
CTA_IP_DST = {4: 2, 6: 4}
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
F_PROTO_NUM, F_PROTO_DST_PORT = 1 << 3, 1 << 5

IPPROTO_UDP = 17
_MANY = 64  # messages whose answers surely fit the socket's buffer


@record
class Flow:
    """A UDP flow: where its first packet was sent, and who answers. `key` is what the kernel knows it by."""

    dst: Address
    port: int
    answered_by: Address
    key: bytes


def udp_flows(netlink: Netlink, family: int, ports: Collection[int]) -> list[Flow]:
    """The UDP flows of a family (4 or 6) that were sent to one of `ports`. Raises NetlinkError.

    `netlink` is an nfnetlink socket. The kernel can filter by one port; for several, all UDP flows are read, once.
    """
    only = next(iter(ports)) if len(ports) == 1 else 0
    proto = u8(CTA_PROTO_NUM, IPPROTO_UDP) + (u16(CTA_PROTO_DST_PORT, only, ">") if only else b"")
    flags = F_PROTO_NUM | (F_PROTO_DST_PORT if only else 0)
    body = GENERIC.pack({4: 2, 6: 10}[family], 0, 0)
    body += nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_PROTO, proto))
    body += nested(CTA_FILTER, u32(CTA_FILTER_ORIG_FLAGS, flags), u32(CTA_FILTER_REPLY_FLAGS, 0))
    flows = (_flow(reply.body, family) for reply in netlink.dump(Message(IPCTNL_MSG_CT_GET, 0, body)))
    return [flow for flow in flows if flow.port in ports]


def forget(netlink: Netlink, flows: list[Flow]) -> None:
    """Have the kernel forget `flows`: their next packets are decided anew. Raises NetlinkError."""
    for start in range(0, len(flows), _MANY):
        requests = [Message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, flow.key) for flow in flows[start:][:_MANY]]
        for answer in netlink.talk(requests):
            if isinstance(answer, NetlinkError) and answer.errno != ENOENT:  # it ended by itself
                raise answer


def _flow(body: bytes, family: int) -> Flow:
    found = attributes(body, GENERIC.size)
    orig, reply = attributes(found[CTA_TUPLE_ORIG]), attributes(found[CTA_TUPLE_REPLY])
    dst = attributes(orig[CTA_TUPLE_IP])[CTA_IP_DST[family]]
    port = attributes(orig[CTA_TUPLE_PROTO])[CTA_PROTO_DST_PORT]
    answerer = attributes(reply[CTA_TUPLE_IP])[CTA_IP_SRC[family]]
    kept = [nested(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG])]
    kept += [attribute(kind, found[kind]) for kind in (CTA_ZONE, CTA_ID) if kind in found]
    key = body[: GENERIC.size] + b"".join(kept)
    return Flow(_address(dst), int.from_bytes(port, "big"), _address(answerer), key)


def _address(packed: bytes) -> Address:
    return Address(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big"))
