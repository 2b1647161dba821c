"""Netlink framing, shared by rtnetlink and nfnetlink: messages, attributes, answers (netlink(7), RFC 3549 section 2).

The law of this file: it knows how messages are framed and answered, not what any of them means. It is on the path of
every ADD, so it imports `_socket` and `_struct` themselves: their wrappers `socket` and `struct` cost 10 ms and more.
"""

from __future__ import annotations

from _socket import AF_NETLINK, SOCK_RAW, socket
from _struct import Struct
from errno import EINTR
from os import getpid, strerror
from sys import byteorder

from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

# Taken from the Linux kernel headers: linux/netlink.h, asm/errno.h.
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
NETLINK_NETFILTER = 12
NETLINK_ROUTE = 0
NLA_TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000
NLMSG_DONE = 3
NLMSG_ERROR = 2
NLMSG_NOOP = 1
NLMSGERR_ATTR_MSG = 1
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_ACK_TLVS = 0x200
SOL_NETLINK = 270

_HEADER = Struct("=IHHII")  # length, kind, flags, sequence, port: in the byte order of the machine
_ATTRIBUTE = Struct("=HH")  # length, kind
_ERROR = Struct("=i")
_ERROR_SIZE = _ERROR.size + _HEADER.size  # the number, then the header of the message it answers
_LARGEST = 1 << 16  # the kernel fills at most 32 KiB a datagram
_DUMP_ATTEMPTS = 10


class NetlinkError(OSError):
    """The kernel refused a message. `strerror` holds the errno's words and the kernel's own sentence where it gave one.

    `index` is the message's place in a batch. It stays NetlinkError whatever `errno` says: compare `errno`, do not
    catch FileExistsError and its like.
    """

    def __init__(self, number: int, extack: str = "", index: int = 0) -> None:
        super().__init__(number, f"{strerror(number)} ({extack})" if extack else strerror(number))
        self.extack = extack
        self.index = index

    def __str__(self) -> str:
        return str(self.strerror)

    def during(self, command: str) -> NetlinkError:
        """The same, with the command that was refused in front of its words."""
        self.strerror = f"{command}: {self.strerror}"
        return self


@record
class Message:
    """One message: a request (flags without NLM_F_REQUEST, which is added on the way) or a reply. `body` is what
    follows the header: the family's fixed part, then attributes."""

    kind: int
    flags: int
    body: bytes


def frame(message: Message, sequence: int) -> bytes:
    """A request as it goes over the wire. Port 0 lets the kernel fill in the socket's own."""
    size = _HEADER.size + len(message.body)
    header = _HEADER.pack(size, message.kind, message.flags | NLM_F_REQUEST, sequence, 0)
    return header + message.body + bytes(-size % 4)


# --- attributes: length, kind, payload, padded to 4 bytes -----------------------------------------------------------


def attribute(kind: int, payload: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string with the NUL that the kernel's policies ask for."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(1, "little"))


def u16(kind: int, value: int, order: str = "=") -> bytes:
    """`order` is "=" for the machine's byte order (rtnetlink) or ">" for the network's (most of nfnetlink)."""
    return attribute(kind, Struct(order + "H").pack(value))


def u32(kind: int, value: int, order: str = "=") -> bytes:
    return attribute(kind, Struct(order + "I").pack(value))


def u64(kind: int, value: int, order: str = "=") -> bytes:
    return attribute(kind, Struct(order + "Q").pack(value))


def each_attribute(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of every attribute from `offset` on; kinds without their flag bits."""
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size:
            return
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by kind; of a kind that stands twice, the last."""
    return dict(each_attribute(data, offset))


def integer(payload: bytes | None, default: int = 0) -> int:
    """An unsigned integer of any width in the machine's byte order; `default` where the attribute is missing."""
    return default if payload is None else int.from_bytes(payload, byteorder)


def string(payload: bytes | None) -> str:
    return "" if payload is None else payload.rstrip(b"\0").decode(errors="replace")


# --- the socket -----------------------------------------------------------------------------------------------------


class Netlink:
    """A netlink socket of `protocol`, in the network namespace that the process is in when it is made.

    It stays in that namespace for life. With `fd` it takes over an open socket instead, and closes it.
    Raises OSError.
    """

    def __init__(self, protocol: int, fd: int = -1) -> None:
        self.socket = socket(fileno=fd) if fd >= 0 else socket(AF_NETLINK, SOCK_RAW, protocol)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # no copy of the request in each refusal
        # An inherited socket may hold answers that another process left unread: do not begin where that one began.
        self._sequence = getpid() << 8 & 0x7FFFFFFF
        self._interrupted = False

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self.socket.fileno()

    def ask(self, *messages: Message) -> list[list[Message]]:
        """Send `messages` in one system call; the replies to each. Raises the first NetlinkError, after all were heard.

        The kernel works them off in order, and goes on after one that it refuses (nfnetlink's batches excepted).
        """
        answers = []
        for answer in self.talk(messages):
            if isinstance(answer, NetlinkError):
                raise answer
            answers.append(answer)
        return answers

    def talk(self, messages: Sequence[Message]) -> list[list[Message] | NetlinkError]:
        """As `ask`, with each refusal in its message's place.

        A message that asks for no acknowledgement (NLM_F_ACK or NLM_F_DUMP) has no replies; should it be refused, the
        kernel has dropped the whole batch (nfnetlink's begin), and the others' answers are not waited for.
        """
        answers: list[list[Message] | NetlinkError] = [[] for _ in messages]
        first = self._send(messages)
        waiting = {first + place for place, message in enumerate(messages) if message.flags & (NLM_F_ACK | NLM_F_DUMP)}
        while waiting:
            for sequence, reply in self._receive():
                place = sequence - first
                if not 0 <= place < len(messages):
                    continue  # a late answer to somebody else's question
                answer = answers[place]
                self._interrupted |= bool(reply.flags & NLM_F_DUMP_INTR)
                if reply.kind in (NLMSG_ERROR, NLMSG_DONE):
                    error = _refusal(reply, place)
                    if error is not None:
                        answers[place] = error
                        if sequence not in waiting:
                            return answers
                    waiting.discard(sequence)
                elif reply.kind != NLMSG_NOOP and isinstance(answer, list):
                    answer.append(reply)
        return answers

    def dump(self, message: Message) -> list[Message]:
        """Everything that `message` lists. Begins again when the list changed meanwhile. Raises NetlinkError."""
        for _ in range(_DUMP_ATTEMPTS):
            self._interrupted = False
            replies = self.ask(Message(message.kind, message.flags | NLM_F_DUMP, message.body))[0]
            if not self._interrupted:
                return replies
        raise NetlinkError(EINTR, f"the list changed during each of {_DUMP_ATTEMPTS} readings")

    def _send(self, messages: Sequence[Message]) -> int:
        """Number and send them; the first's sequence number."""
        first = self._sequence + 1
        self._sequence += len(messages)
        self.socket.send(b"".join(frame(message, first + place) for place, message in enumerate(messages)))
        return first

    def _receive(self) -> Iterator[tuple[int, Message]]:
        """(sequence, message) of each message in the next datagram."""
        data, sender = self.socket.recvfrom(_LARGEST)
        if sender[0] != 0:
            return  # port 0 is the kernel's; any process may send to ours
        offset = 0
        while offset + _HEADER.size <= len(data):
            size, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
            if size < _HEADER.size:
                return
            yield sequence, Message(kind, flags, data[offset + _HEADER.size : offset + size])
            offset += (size + 3) & ~3


def _refusal(reply: Message, place: int) -> NetlinkError | None:
    """What an NLMSG_ERROR or NLMSG_DONE says; None for plain success.

    A dump's end carries a number too, and its kernel sentence follows that at once instead of a request's header.
    """
    number = _ERROR.unpack_from(reply.body)[0] if len(reply.body) >= _ERROR.size else 0
    if number >= 0:
        return None
    start = _ERROR_SIZE if reply.kind == NLMSG_ERROR else _ERROR.size
    extack = attributes(reply.body, start) if reply.flags & NLM_F_ACK_TLVS else {}
    return NetlinkError(-number, string(extack.get(NLMSGERR_ATTR_MSG)), place)
