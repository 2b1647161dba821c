"""nfnetlink: elements of nftables sets and maps added, deleted and looked up, in messages of our own.

What an attachment changes is a handful of elements: one message each, a transaction of 0.2 ms however many there are,
where the nft program costs a process and a listing of the whole ruleset. Additions never wait. A deletion is done when
it is acknowledged, but the socket's close waits for an RCU grace period (15 ms and more), as the deletion of a link
does: so the socket stays open until `close`, and whoever deletes a link does that before, for one wait instead of two.
A runtime that runs several plugins may lend them one socket, named by CNI_NFNL_FD, and have one wait for all.

Source: linux/netfilter/nfnetlink.h and nf_tables.h; a transaction is what stands between a batch's begin and end.
"""

from __future__ import annotations

import os
from _socket import SO_DOMAIN, SO_PROTOCOL, SOL_SOCKET, socket
from _struct import Struct
from errno import ENOENT
from fcntl import ioctl

from cni_plugins.sdk.elements import Element, Stored, packed_key, place, question, read, whole
from cni_plugins.sdk.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Netlink,
    NetlinkError,
    attributes,
    string,
    text,
)
from cni_plugins.spec.names import LENT_SOCKET
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Taken from the Linux kernel headers: linux/netfilter/nfnetlink.h and nf_tables.h, linux/sockios.h, asm/errno.h.
AF_NETLINK = 16
MSG_DONTWAIT = 0x40
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
SIOCGSKNS = 0x894C
NFPROTO_INET, NFPROTO_BRIDGE = 1, 7
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 0x10, 0x11
NFT_MSG_GETRULE = NFNL_SUBSYS_NFTABLES << 8 | 7
NFT_MSG_NEWSETELEM = NFNL_SUBSYS_NFTABLES << 8 | 12
NFT_MSG_GETSETELEM = NFNL_SUBSYS_NFTABLES << 8 | 13
NFT_MSG_DELSETELEM = NFNL_SUBSYS_NFTABLES << 8 | 14
NFTA_RULE_TABLE, NFTA_RULE_CHAIN = 1, 2

GENERIC = Struct(">BBH")  # struct nfgenmsg: family, version, resource
_FAMILY = {"inet": GENERIC.pack(NFPROTO_INET, 0, 0), "bridge": GENERIC.pack(NFPROTO_BRIDGE, 0, 0)}
_INET = _FAMILY["inet"]
_MARKER = GENERIC.pack(0, 0, NFNL_SUBSYS_NFTABLES)
_BEGIN, _END = Message(NFNL_MSG_BATCH_BEGIN, 0, _MARKER), Message(NFNL_MSG_BATCH_END, 0, _MARKER)
_MANY = 64  # messages whose answers surely fit the socket's buffer
_THOUSAND = 1000
_TOGETHER = 128  # elements in a message, whose list is of 64 KiB at most
_ROOM = 1024  # bytes of buffer that the kernel counts for one answer, at most

_VERBS = {
    "add": (NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_ACK),
    "create": (NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK),
    "delete": (NFT_MSG_DELSETELEM, NLM_F_ACK),
}


@record
class Change:
    """What is done with an element: "add" (there already is fine), "create" (there already is not) or "delete"."""

    verb: str
    element: Element

    def __str__(self) -> str:
        verb, element = self.verb, self.element
        return f"nft '{verb} element {element.family} {element.table} {element}'"


class Refused(OSError):
    """A transaction was refused, and nothing of it done. `refusals` are the changes that were, each with its error;
    `errno` and the words are the first's."""

    def __init__(self, refusals: tuple[tuple[Change, NetlinkError], ...]) -> None:
        change, error = refusals[0]
        super().__init__(error.errno, f"{change}: {error.strerror}")
        self.refusals = refusals

    def __str__(self) -> str:
        return str(self.strerror)

    @property
    def ruleset_missing(self) -> bool:
        """Whether the table or the set is not there."""
        return any(error.errno == ENOENT and change.verb != "delete" for change, error in self.refusals)


class Nftables:
    """The nftables of the namespace that the process is in, by a socket opened at first use.

    `env` is the plugin's environment, where a runtime may have named a socket that it lends; one that is not what it
    should be is left alone. All objects of this class are equal: there is one kernel behind them.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._lent = (env or {}).get(LENT_SOCKET, "")
        self._socket: Netlink | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nftables)

    def __hash__(self) -> int:
        return hash(Nftables)

    def __repr__(self) -> str:
        return "Nftables()"

    def __enter__(self) -> Nftables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def netlink(self) -> Netlink:
        """The socket. Raises OSError where the kernel has no nfnetlink."""
        if self._socket is None:
            try:
                self._socket = Netlink(NETLINK_NETFILTER, _lent(self._lent))
            except OSError as error:
                raise OSError(error.errno, f"nftables: cannot open a netfilter socket: {error.strerror}") from error
        return self._socket

    def close(self) -> None:
        """Close the socket, if one was opened: after a deletion this waits, unless it was lent to us."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def commit(self, *changes: Change) -> None:
        """Make all `changes`, or none, at once. To delete what is not there is fine. Raises Refused, OSError."""
        todo = list(changes)
        if len(todo) > _MANY:
            refusals = self._transact(_grouped(todo))
            if not refusals:
                return
            # Only one by one does the kernel say which of them it refuses; that there is no such set, it has said.
            if all(error.errno == ENOENT and change.verb != "delete" for change, error in refusals):
                raise Refused(tuple(refusals))
        while todo:
            refusals = self._transact([[change] for change in todo])
            gone = {id(change) for change, error in refusals if change.verb == "delete" and error.errno == ENOENT}
            if not refusals:
                return
            if len(gone) < len(refusals):
                raise Refused(tuple(item for item in refusals if id(item[0]) not in gone))
            todo = [change for change in todo if id(change) not in gone]

    def _transact(self, groups: list[list[Change]]) -> list[tuple[Change, NetlinkError]]:
        """Send one transaction, a message for each group; of those that were refused, the first change. Raises
        NetlinkError when it is the transaction itself."""
        messages = [
            Message(*_VERBS[group[0].verb], _FAMILY[group[0].element.family] + whole(*(item.element for item in group)))
            for group in groups
        ]
        if len(messages) > _MANY:
            self._make_room(messages)
        begun, *answers, _ended = self.netlink.talk([_BEGIN, *messages, _END])
        if isinstance(begun, NetlinkError):
            raise begun.during("nftables transaction")
        return [
            (group[0], answer)
            for group, answer in zip(groups, answers, strict=True)
            if isinstance(answer, NetlinkError)
        ]

    def _make_room(self, messages: list[Message]) -> None:
        """A transaction is one datagram, and its answers are all written before the first is read."""
        size = sum(len(message.body) + 32 for message in messages)
        self.netlink.socket.setsockopt(SOL_SOCKET, SO_SNDBUFFORCE, size + _ROOM)
        self.netlink.socket.setsockopt(SOL_SOCKET, SO_RCVBUFFORCE, len(messages) * _ROOM)

    def lookup(self, *elements: Element) -> list[Stored | None]:
        """What the kernel holds under each one's key; None where it holds nothing. Raises NetlinkError.

        Each is asked for by itself, which costs the same however many others there are. Who asks for a thousand has
        most of what there is: their sets are read whole.
        """
        if len(elements) > _THOUSAND:
            sets = {(item.table, item.set) for item in elements if not item.interval}
            held = {(*where, stored.key): stored for where in sets for stored in self.elements(*where)}
            return [
                next(self._look([item])) if item.interval else held.get((item.table, item.set, packed_key(item)))
                for item in elements
            ]
        return [found for start in range(0, len(elements), _MANY) for found in self._look(elements[start:][:_MANY])]

    def _look(self, elements: Iterable[Element]) -> Iterator[Stored | None]:
        questions = [Message(NFT_MSG_GETSETELEM, NLM_F_ACK, _FAMILY[item.family] + question(item)) for item in elements]
        for answer in self.netlink.talk(questions):
            if not isinstance(answer, NetlinkError):
                yield next(read(answer[0].body, len(_INET)))
            elif answer.errno == ENOENT:
                yield None
            else:
                raise answer.during("nft get element")

    def elements(self, table: str, name: str) -> list[Stored]:
        """All that a set or map holds (its cost grows with the host); nothing when there is no such set. Raises
        NetlinkError."""
        try:
            listed = self.netlink.dump(Message(NFT_MSG_GETSETELEM, 0, _INET + place(table, name)))
        except NetlinkError as error:
            if error.errno == ENOENT:
                return []
            raise
        return [stored for message in listed for stored in read(message.body, len(_INET))]

    def rules(self, table: str, family: str = "inet") -> list[str]:
        """The chain of every rule of a table, in order; nothing when there is no such table. Raises NetlinkError."""
        listed = self.netlink.dump(Message(NFT_MSG_GETRULE, 0, _FAMILY[family] + text(NFTA_RULE_TABLE, table)))
        return [string(attributes(message.body, len(_INET)).get(NFTA_RULE_CHAIN)) for message in listed]


def _grouped(changes: list[Change]) -> list[list[Change]]:
    """`changes` in their order, neighbours that do the same with the same set together."""
    groups: list[list[Change]] = []
    before: tuple[str, str, str] | None = None
    for change in changes:
        place = (change.verb, change.element.table, change.element.set)
        if place != before or len(groups[-1]) == _TOGETHER:
            groups.append([])
        groups[-1].append(change)
        before = place
    return groups


def _lent(words: str) -> int:
    """The descriptor of a socket that was lent to us and is fit for use; else -1.

    Answers that a former owner left unread are thrown away. One owner at a time: the lender sees to that.
    """
    if not (words.isascii() and words.isdigit()):
        return -1
    fd = int(words)
    try:
        sock = socket(fileno=os.dup(fd))
    except OSError:
        return -1
    if _is_ours(sock):
        _drain(sock)
        return sock.detach()
    sock.close()
    return -1


def _is_ours(sock: socket) -> bool:
    """Whether it is an nfnetlink socket of the namespace that we are in (SIOCGSKNS gives a socket's namespace)."""
    try:
        if sock.getsockopt(SOL_SOCKET, SO_DOMAIN) != AF_NETLINK:
            return False
        if sock.getsockopt(SOL_SOCKET, SO_PROTOCOL) != NETLINK_NETFILTER:
            return False
        namespace = ioctl(sock.fileno(), SIOCGSKNS)
    except OSError:
        return False
    try:
        theirs, ours = os.fstat(namespace), os.stat("/proc/thread-self/ns/net")
    finally:
        os.close(namespace)
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _drain(sock: socket) -> None:
    try:
        while sock.recv(1 << 16, MSG_DONTWAIT):
            pass
    except BlockingIOError:
        pass  # nothing is left
