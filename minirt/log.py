"""A container's output as a file of lines, in the format that Kubernetes' container runtimes share (CRI):

    2026-11-23T12:00:00.123456789Z stdout F a whole line
    2026-11-23T12:00:00.123456789Z stderr P a part of a line, of which more follows

One writer (the supervisor), any number of readers; a line is appended by one write(2).
"""

from __future__ import annotations

import errno
import os
import time

from cni_plugins.spec.record import record
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_DIGITS = 10  # of a number of seconds: until the year 2286
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FOLLOW_EVERY = 0.1  # seconds between looks at a log that is followed


@record
class Line:
    """`time` as it is written in the log, `stream` is stdout or stderr, `text` with its newline if it had one."""

    time: str
    stream: str
    text: bytes


def timestamp(now: int) -> str:
    """RFC 3339 with nanoseconds, UTC; `now` in nanoseconds since the epoch. Such texts sort as their times do."""
    seconds, rest = divmod(now, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


class Writer:
    """Appends the output of one stream; what arrives in parts of a line is written in parts, at once."""

    def __init__(self, fd: int, stream: str) -> None:
        self._fd = fd
        self._stream = stream

    def write(self, data: bytes) -> None:
        head = f"{timestamp(time.time_ns())} {self._stream} ".encode()
        entries = [head + (b"F " + line if line.endswith(b"\n") else b"P " + line + b"\n") for line in _split(data)]
        try:
            os.write(self._fd, b"".join(entries))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # A disk that is full costs lines of the log, not the workload its life.


def _split(data: bytes) -> list[bytes]:
    """Lines that end in a newline only: a carriage return is part of the text (progress bars)."""
    *whole, last = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def _parse(raw: bytes) -> Line:
    when, stream, tag, text = raw.removesuffix(b"\n").split(b" ", 3)
    return Line(when.decode(), stream.decode(), text + (b"\n" if tag == b"F" else b""))


def read(path: str, follow: Callable[[], bool] | None = None, tail: int | None = None) -> Iterator[Line]:
    """The lines of the log at `path`, or the last `tail` of them; with `follow`, also what comes until it says False.

    A log that is not there is empty: nothing was ever written.
    """
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        yield from _entries(file) if tail is None else _last(_entries(file), tail)
        while follow is not None:
            going = follow()  # asked before reading, so that nothing of the end is missed
            yield from _entries(file)
            if not going:
                return
            time.sleep(FOLLOW_EVERY)


def _last(lines: Iterator[Line], count: int) -> Iterator[Line]:
    """The last `count` of the lines, never holding more than that."""
    from collections import deque

    return iter(deque(lines, maxlen=count))


def _entries(file: BinaryIO) -> Iterator[Line]:
    """The whole lines from here to the end; one that is being written is left for the next time."""
    while raw := file.readline():
        if not raw.endswith(b"\n"):
            file.seek(-len(raw), os.SEEK_CUR)
            return
        try:
            yield _parse(raw)
        except ValueError:
            continue  # a line that a full disk has torn


def since(text: str, now: float) -> str:
    """`--since`: RFC 3339 text (UTC), seconds since the epoch, or how long ago (`42m`); as a comparable timestamp."""
    number, unit = text[:-1], text[-1:]
    if unit in _UNITS and number.isdigit() and len(number) < _MOST_DIGITS:
        return timestamp(max(0, int((now - int(number) * _UNITS[unit]) * 1e9)))
    if text.isdigit() and len(text) <= _MOST_DIGITS:
        return timestamp(int(text) * 10**9)
    if len(text) >= 10 and text[4] == text[7] == "-":
        return text.removesuffix("Z")
    raise UsageError(f"invalid time {text!r}", "expected 2026-01-31T12:00:00Z, 1767225600 or 42m")
