"""ctnetlink: flows that the kernel tracks, found and forgotten.

Where packets of a flow go is decided at its first one. A client that keeps sending UDP to a published port keeps its
flow alive, and with it the decision: to a container that is gone, or to nobody, made before the port was published.
TCP starts a flow anew with each connection.

The kernel applies the filter (CTA_FILTER, Linux 5.8): what is read does not grow with the flows of the host.
Source: linux/netfilter/nfnetlink_conntrack.h; the filter's flags are include/linux/netfilter/nf_conntrack_common.h's.
"""

from __future__ import annotations

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
from cni_plugins.sdk.nfnl import ENOENT, GENERIC
from cni_plugins.spec.ip import Address
from cni_plugins.spec.record import record

# Taken from the Linux kernel headers: linux/netfilter/nfnetlink_conntrack.h.
IPCTNL_MSG_CT_GET = 1 << 8 | 1
IPCTNL_MSG_CT_DELETE = 1 << 8 | 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SRC = {4: 1, 6: 3}
CTA_IP_DST = {4: 2, 6: 4}
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
F_IP_SRC, F_PROTO_NUM, F_PROTO_DST_PORT = 1 << 0, 1 << 3, 1 << 5

IPPROTO_UDP = 17
_MANY = 64  # messages whose answers surely fit the socket's buffer


@record
class Flow:
    """A UDP flow by where its first packet went; `key` is what the kernel knows it by."""

    dst: Address
    port: int
    key: bytes


def udp_flows(netlink: Netlink, family: int, port: int = 0, answered_by: Address | None = None) -> list[Flow]:
    """The UDP flows of a family (4 or 6) that were sent to `port` (0: any) and are answered by that address.

    `netlink` is an nfnetlink socket. Raises NetlinkError.
    """
    orig = [u8(CTA_PROTO_NUM, IPPROTO_UDP)] + ([u16(CTA_PROTO_DST_PORT, port, ">")] if port else [])
    filtered = [u32(CTA_FILTER_ORIG_FLAGS, F_PROTO_NUM | (F_PROTO_DST_PORT if port else 0))]
    body = nested(CTA_TUPLE_ORIG, nested(CTA_TUPLE_PROTO, *orig))
    if answered_by is not None:
        source = attribute(CTA_IP_SRC[family], answered_by.packed)
        body += nested(CTA_TUPLE_REPLY, nested(CTA_TUPLE_IP, source))
    filtered.append(u32(CTA_FILTER_REPLY_FLAGS, F_IP_SRC if answered_by is not None else 0))
    version = GENERIC.pack({4: 2, 6: 10}[family], 0, 0)
    replies = netlink.dump(Message(IPCTNL_MSG_CT_GET, 0, version + body + nested(CTA_FILTER, *filtered)))
    return [_flow(reply.body, family) for reply in replies]


def forget(netlink: Netlink, flows: list[Flow]) -> None:
    """Have the kernel forget `flows`: their next packets are decided anew. Raises NetlinkError."""
    for start in range(0, len(flows), _MANY):
        requests = [Message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, flow.key) for flow in flows[start:][:_MANY]]
        for answer in netlink.talk(requests):
            if isinstance(answer, NetlinkError) and answer.errno != ENOENT:  # it ended by itself
                raise answer


def _flow(body: bytes, family: int) -> Flow:
    found = attributes(body, GENERIC.size)
    orig = attributes(found[CTA_TUPLE_ORIG])
    dst = attributes(orig[CTA_TUPLE_IP])[CTA_IP_DST[family]]
    port = attributes(orig[CTA_TUPLE_PROTO])[CTA_PROTO_DST_PORT]
    kept = [nested(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG])]
    kept += [attribute(kind, found[kind]) for kind in (CTA_ZONE, CTA_ID) if kind in found]
    key = body[: GENERIC.size] + b"".join(kept)
    return Flow(Address(family, int.from_bytes(dst, "big")), int.from_bytes(port, "big"), key)
