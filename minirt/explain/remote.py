"""The account of a container's end, when somebody else asked for it than the one who carries it out.

    [minirt stop --explain]                        [the process that stayed with the container]
      listens at a socket beside its record
      signals the workload ────────────────────▶  sees its end; there is a socket: connects
      told, or step ───────────────────────────▶  takes the container down
      shows them, at once ◀──────────────────────  the items of each thing that is done
      with step: leave, from who is at the terminal ▶  does it
      knows that it is done ◀────────────────────  when it has: done
      waits until it has ended

A message is one packet (SOCK_SEQPACKET): {"items": [the items, as `Item.to_json` has them]}. One that waits for leave
says {"ask": ["/run/netns/…", 0]} too: the network namespace, and the process, where a person can look. Those who do not
read hold nobody up, but for a moment at the end: what has no room is left out, and the next message says how much that
was, {"lost": 3}. An asker who has gone is none, and a teller who goes without {"done": true} was killed.
"""

from __future__ import annotations

import os
import select
import socket

from cni_plugins.spec.jsontext import dumps, loads
from minirt.explain.account import Account, Item
from minirt.supervise import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_LONGEST = 1 << 18
_LOOK_AGAIN = 0.05  # seconds
_PATIENCE = 5.0  # seconds that an asker has to say how they want to be told
_ROOM = 1.0  # and to read so much that the end can be told
_TOLD, _STEP, _LEAVE = b"told", b"step", b"\n"


class Request:
    """The asker's end: `hear` while the container is taken down, and `close` whatever happens. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        _forget(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with _Short(path) as short:
            self._socket.bind(short)
        self._socket.listen(1)

    def hear(self, account: Account, under_way: Callable[[], bool]) -> bool:
        """Give `account` all that is told, as long as it is `under_way`; whether anybody told anything."""
        while not select.select([self._socket], [], [], _LOOK_AGAIN)[0]:
            if not under_way():
                return False
        teller, _ = self._socket.accept()
        heard = done = False
        with teller:
            try:
                teller.send(_STEP if account.stops else _TOLD)
                while message := teller.recv(_LONGEST):
                    heard, done = True, _pass_on(message, account, teller)
            except ConnectionError:
                pass  # it has gone, with something of ours unread
        if not heard:
            account.fact("the process that takes it down did not wait so long to be asked: it is not told")
        elif not done:
            account.fact("the process that takes it down has ended before it was done")
        return True

    def close(self) -> None:
        self._socket.close()
        _forget(self._path)


def _pass_on(message: bytes, account: Account, teller: socket.socket) -> bool:
    """Whether it says that all is done."""
    told: dict[str, Any] = loads(message)
    if lost := told.get("lost"):
        account.fact(f"{lost} things that were done here are not told: they came too fast")
    items = [Item(**item) for item in told["items"]]
    if "ask" not in told:
        account.show(items)
        return "done" in told
    try:
        account.ask(items, *told["ask"])
    except (KeyboardInterrupt, Interrupted):
        account.fact("it has ended already: it is taken down all the same")
    teller.send(_LEAVE)
    return False


def answer(path: str) -> Telling | None:
    """To the one who asks at the socket at `path`; None when nobody is there."""
    asker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _Short(path) as short:
            asker.connect(short)
        asker.settimeout(_PATIENCE)
        wish = asker.recv(len(_TOLD))
    except OSError:
        wish = b""
    if wish not in (_TOLD, _STEP):
        asker.close()
        return None
    return Telling(asker.detach(), wish == _STEP)


class Telling:
    """The teller's end: what `account` is given is passed on to the asker, until `done`."""

    def __init__(self, fd: int, steps: bool) -> None:
        self._fd = fd
        self._lost = 0
        os.set_blocking(fd, steps)
        self.account = Account(self._write, self._ask if steps else None, (fd,))

    def done(self) -> None:
        """All has been done, and told. For a moment room is waited for: who does not hear this thinks us killed."""
        os.set_blocking(self._fd, False)
        if not self._tell([], done=True) and select.select([], [self._fd], [], _ROOM)[1]:
            self._tell([], done=True)
        os.close(self._fd)

    def _write(self, item: Item) -> None:
        self._tell([item])

    def _tell(self, items: list[Item], **more: Any) -> bool:
        if self._lost:
            more["lost"] = self._lost
        message = {"items": [item.to_json() for item in items], **more}
        try:
            os.write(self._fd, dumps(message, indent=0).encode(errors="replace"))
        except OSError:
            self._lost += len(items)  # they have gone, or it is too much for them
            return False
        self._lost = 0
        return True

    def _ask(self, items: list[Item], netns: str, pid: int) -> None:
        if not self._tell(items, ask=[netns, pid]):
            return
        try:
            os.read(self._fd, len(_LEAVE))
        except ConnectionError:
            pass  # nobody there to give it: what was asked for has to be done


class _Short:
    """A name for the place `path` that fits into a socket's address, which has 108 bytes (unix(7))."""

    def __init__(self, path: str) -> None:
        self._folder, self._name = os.path.split(path)

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
