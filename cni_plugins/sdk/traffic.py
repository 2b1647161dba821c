"""Traffic control: links that send no faster than they are told, and traffic that is led through another link (tc(8)).

    Limit      a token bucket at the root of a link: what the link sends (tc-tbf(8))
    Divert     what a link receives is sent by another one first, where it can be limited (tc-mirred(8))

The kernel keeps a bucket's size as the time that it lasts, in ticks of 64 ns. 32 bits of them are 274 s; what lasts
longer than that is told in bytes. Source: linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h; the queue's length is the
reference plugin's, so that its CHECK and ours find each other's work in order.
"""

from __future__ import annotations

from _struct import Struct

from cni_plugins.sdk.links import LinkStep
from cni_plugins.sdk.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    NetlinkError,
    attribute,
    attributes,
    nested,
    string,
    text,
    u32,
    u64,
)
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Link, Rtnl

# Taken from the Linux kernel headers: linux/rtnetlink.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h, if_ether.h.
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
TCA_U32_CLASSID, TCA_U32_SEL, TCA_U32_ACT = 1, 5, 7
TC_U32_TERMINAL = 1
TCA_ACT_KIND, TCA_ACT_OPTIONS = 1, 2
TCA_MIRRED_PARMS = 2
TCA_EGRESS_REDIR, TC_ACT_STOLEN = 1, 4
ETH_P_ALL = 3
TC_LINKLAYER_ETHERNET = 1
NLM_F_ECHO = 8
EINVAL, ENOENT, ENODEV, EOPNOTSUPP = 22, 2, 19, 95

_TCMSG = Struct("=Bxxxi III")  # struct tcmsg: family, index, handle, parent, info
_TBF = Struct("=BBHhHI 12x III")  # struct tc_tbf_qopt: rate (tc_ratespec), peak rate, limit, buffer, mtu
_SELECTOR = Struct("=BBBx HHhhI IIii")  # struct tc_u32_sel with one key: whatever it is, it matches
_MIRRED = Struct("=II iii iI")  # struct tc_mirred: index, capab, action, two counts, what to do, link

_ROOT = 1 << 16  # handle 1:
_INGRESS = 0xFFFF << 16  # handle ffff:
_PRIORITY = 1

_TICKS_A_MICROSECOND = 15.625  # /proc/net/psched, the same on every kernel since 2.6.31: ticks of 64 ns
_LATENCY = 0.025  # seconds that a packet may wait
_U32 = 2**32


@record
class Bucket:
    """Bytes a second, and the bytes that may go at once when there was nothing to send for a while."""

    rate: int
    burst: int

    @property
    def ticks(self) -> int:
        """How long a burst lasts at that rate. In whole microseconds first, as the reference plugin has it."""
        return int(self.burst * 1_000_000 // self.rate * _TICKS_A_MICROSECOND)

    @property
    def limit(self) -> int:
        """The bytes that may wait."""
        return min(int(self.rate * _LATENCY) + self.burst, _U32 - 1)

    def alike(self, rate: int, limit: int, ticks: int) -> bool:
        """Whether this is what the kernel has. Of a time that is longer than 32 bits hold, it tells nothing useful."""
        return (rate, limit) == (self.rate, self.limit) and (ticks == self.ticks or self.ticks >= _U32)


# --- requests ---------------------------------------------------------------------------------------------------------


def bucket_add(index: int, bucket: Bucket) -> Message:
    """`tc qdisc add dev … root handle 1: tbf …`"""
    rate = min(bucket.rate, _U32 - 1)
    options = attribute(
        TCA_TBF_PARMS, _TBF.pack(0, TC_LINKLAYER_ETHERNET, 0, 0, 0, rate, bucket.limit, bucket.ticks % _U32, 0)
    )
    options += u64(TCA_TBF_RATE64, bucket.rate) if bucket.rate >= _U32 else b""
    options += u32(TCA_TBF_BURST, bucket.burst) if bucket.ticks >= _U32 else b""
    body = _TCMSG.pack(0, index, _ROOT, TC_H_ROOT, 0) + text(TCA_KIND, "tbf") + nested(TCA_OPTIONS, options)
    return Message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def bucket_delete(index: int) -> Message:
    """`tc qdisc del dev … root handle 1:`"""
    return Message(RTM_DELQDISC, NLM_F_ACK, _TCMSG.pack(0, index, _ROOT, TC_H_ROOT, 0))


def ingress_add(index: int) -> Message:
    """`tc qdisc add dev … ingress`"""
    body = _TCMSG.pack(0, index, _INGRESS, TC_H_INGRESS, 0) + text(TCA_KIND, "ingress")
    return Message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def ingress_delete(index: int) -> Message:
    """`tc qdisc del dev … ingress`, which takes the filters with it."""
    return Message(RTM_DELQDISC, NLM_F_ACK, _TCMSG.pack(0, index, _INGRESS, TC_H_INGRESS, 0))


def redirect_add(index: int, to: int) -> Message:
    """`tc filter add dev … parent ffff: … action mirred egress redirect dev …`: all that comes in is sent by `to`."""
    action = _MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, to)
    act = text(TCA_ACT_KIND, "mirred") + nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, action))
    selector = _SELECTOR.pack(TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    options = u32(TCA_U32_CLASSID, 1 << 16 | 1) + nested(TCA_U32_ACT, nested(1, act)) + attribute(TCA_U32_SEL, selector)
    info = _PRIORITY << 16 | int.from_bytes(ETH_P_ALL.to_bytes(2, "big"), "little")
    body = _TCMSG.pack(0, index, 0, _INGRESS, info) + text(TCA_KIND, "u32") + nested(TCA_OPTIONS, options)
    return Message(RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body)


def root_get(index: int) -> Message:
    """`tc qdisc show dev … root`. Before Linux 6.8 the answer comes to those alone who ask for an echo."""
    return Message(RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, _TCMSG.pack(0, index, 0, TC_H_ROOT, 0))


def filters_dump(index: int) -> Message:
    """`tc filter show dev … parent ffff:`"""
    return Message(RTM_GETTFILTER, 0, _TCMSG.pack(0, index, 0, _INGRESS, 0))


# --- what is read -----------------------------------------------------------------------------------------------------


def limited(rtnl: Rtnl, index: int) -> tuple[int, int, int] | None:
    """Rate, limit and ticks of the bucket at the link's root; None where there is none. Raises NetlinkError."""
    try:
        (replies,) = rtnl.ask(root_get(index))
    except NetlinkError as error:
        if error.errno in (EINVAL, ENOENT):  # the queues that a link has by itself are not told of
            return None
        raise
    found = attributes(replies[0].body, _TCMSG.size) if replies else {}
    if string(found.get(TCA_KIND)) != "tbf":
        return None
    options = attributes(found[TCA_OPTIONS])
    *_spec, rate, limit, ticks, _mtu = _TBF.unpack_from(options[TCA_TBF_PARMS])
    if TCA_TBF_RATE64 in options:
        rate = int.from_bytes(options[TCA_TBF_RATE64], "little")
    return rate, limit, ticks


def diverted(rtnl: Rtnl, index: int) -> list[int]:
    """The links to which what the link receives is redirected."""
    found = []
    for reply in _filters(rtnl, index):
        options = attributes(attributes(reply.body, _TCMSG.size).get(TCA_OPTIONS, b""))
        for act in attributes(options.get(TCA_U32_ACT, b"")).values():
            told = attributes(act)
            if string(told.get(TCA_ACT_KIND)) == "mirred":
                fields = _MIRRED.unpack_from(attributes(told[TCA_ACT_OPTIONS])[TCA_MIRRED_PARMS])
                found += [fields[-1]] if fields[-2] == TCA_EGRESS_REDIR else []
    return found


def _filters(rtnl: Rtnl, index: int) -> list[Message]:
    """What is asked of all that the link receives."""
    try:
        return rtnl.dump(filters_dump(index))
    except NetlinkError as error:
        if error.errno in (EINVAL, ENOENT):
            return []
        raise


# --- steps ------------------------------------------------------------------------------------------------------------


@record
class Limit(LinkStep):
    """The link sends no faster. One that has a queue of somebody else's is an error."""

    namespace: Namespace
    link: str
    bucket: Bucket

    def describe(self) -> str:
        bucket = self.bucket
        words = f"qdisc add dev {quoted(self.link)} root handle 1: tbf"
        return tc(self.namespace, f"{words} rate {bucket.rate}bps burst {bucket.burst}b limit {bucket.limit}b")

    def messages(self) -> list[Message]:
        return [bucket_add(self.namespace.index(self.link), self.bucket)]

    def opposite(self) -> Step | None:
        return DeleteQueue(self.namespace, self.link, "root")


@record
class Divert(LinkStep):
    """What `link` receives is sent by `to`, and comes back from there."""

    namespace: Namespace
    link: str
    to: str

    def describe(self) -> str:
        link = quoted(self.link)
        way = f"u32 match u32 0 0 flowid 1:1 action mirred egress redirect dev {quoted(self.to)}"
        ingress = tc(self.namespace, f"qdisc add dev {link} ingress")
        added = tc(self.namespace, f"filter add dev {link} parent ffff: protocol all pref {_PRIORITY} {way}")
        return f"{ingress}\n{added}"

    def messages(self) -> list[Message]:
        index = self.namespace.index(self.link)
        return [ingress_add(index), redirect_add(index, self.namespace.index(self.to))]

    def apply(self) -> None:
        """One after the other: where the first is refused, the queue is somebody else's, and gets no filter of ours."""
        first, second = self.messages()
        for message in (first, second):
            try:
                self.namespace.rtnl.ask(message)
            except OSError as error:
                if message is second:
                    self.undo()
                if isinstance(error, NetlinkError):
                    error = error.during(self.describe().splitlines()[message is second])
                raise error from None

    def opposite(self) -> Step | None:
        return DeleteQueue(self.namespace, self.link, "ingress")


_DELETIONS = {"root": bucket_delete, "ingress": ingress_delete}


@record
class DeleteQueue(LinkStep):
    """What a link has at a place, `root` or `ingress`."""

    namespace: Namespace
    link: str
    place: str

    def describe(self) -> str:
        return tc(self.namespace, f"qdisc del dev {quoted(self.link)} {self.place}")

    def messages(self) -> list[Message]:
        return [_DELETIONS[self.place](self.namespace.index(self.link))]


@record
class Release(Step):
    """Take off a link the bucket, and the way to the link of index `to`; nothing of anybody else's.

    Fine where it has neither. A queue without any filter is ours, too, where there is a link `to`: whoever made it was
    killed before it was done. So is a way to a link that is gone, which the kernel shows as 0. Raises NetlinkError.
    """

    namespace: Namespace
    link: Link
    to: int

    def _found(self) -> tuple[bool, bool]:
        """Whether there is a bucket, and such a way."""
        rtnl, index = self.namespace.rtnl, self.link.index
        ways = diverted(rtnl, index)
        way = self.to in ways or 0 in ways or bool(self.to and not _filters(rtnl, index))
        return limited(rtnl, index) is not None, way

    def describe(self) -> str:
        places = [place for place, there in zip(_DELETIONS, self._found(), strict=True) if there]
        return "\n".join(DeleteQueue(self.namespace, self.link.name, place).describe() for place in places)

    def apply(self) -> None:
        removals = zip(_DELETIONS.values(), self._found(), strict=True)
        messages = [removal(self.link.index) for removal, there in removals if there]
        for answer in self.namespace.rtnl.talk(messages) if messages else ():
            if isinstance(answer, NetlinkError) and answer.errno not in (EINVAL, ENOENT, ENODEV):
                raise answer


def tc(namespace: Namespace, words: str) -> str:
    """`tc WORDS`, as a person types it for that namespace."""
    return namespace.shell(f"tc {words}")
