"""The account of a container's end, when somebody else asked for it than the one who carries it out.

    [minirt stop --explain]                        [the process that stayed with the container]
      makes a fifo beside its record, opens it
      signals the workload ────────────────────▶  sees its end; there is a fifo, and somebody reads:
      waits until it is done                        writes the account as it takes the container down, an item a line
      shows it ◀───────────────────────────────

A fifo that nobody reads any more is none.
"""

from __future__ import annotations

import fcntl
import os
import select

from cni_plugins.spec.jsontext import JsonError, dumps, loads
from minirt.explain.account import Account, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ROOM = 1 << 20  # bytes: an account is read when it is finished
_PATIENCE = 1.0  # seconds that its writer, who has taken the container down, gets to end


class Request:
    """The reading end; `show` when the container is down, and `close` whatever happens."""

    def __init__(self, path: str) -> None:
        self._path = path
        _forget(path)
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, _ROOM)

    def show(self, write: Callable[[Item], None]) -> bool:
        """Give `write` what has been told; whether it was anything."""
        told = b""
        while select.select([self._fd], [], [], _PATIENCE)[0] and (chunk := os.read(self._fd, _ROOM)):
            told += chunk
        for line in told.splitlines():
            try:
                write(Item(**loads(line)))
            except (JsonError, TypeError):
                continue  # cut off by the end of its writer
        return bool(told)

    def close(self) -> None:
        os.close(self._fd)
        _forget(self._path)


def answer(path: str) -> Account | None:
    """The account that somebody who reads the fifo at `path` asks for."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # there is none, or nobody reads it

    def write(item: Item) -> None:
        try:
            os.write(fd, f"{dumps(item.to_json(), indent=0)}\n".encode())
        except OSError:
            pass  # they have gone, or it is too much for them

    return Account(write, fds=(fd,))


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
