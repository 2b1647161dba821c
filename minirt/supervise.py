"""Watching over a running workload: its output to the log and to the caller, signals to it, its end to an exit code.

The same loop serves `run` in the foreground and the detached supervisor; it differs only in which ends it is given.
It imports little and keeps nothing, because one process of it stays for each container.
"""

from __future__ import annotations

import errno
import os
import select
import time

from minirt.log import Writer
from minirt.signals import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHUNK = 1 << 16
KEYBOARD_CHUNK = 256  # bytes; a terminal's input buffer holds 4096
KEYBOARD_PAUSE = 0.01  # seconds
DRAIN = 1.0  # seconds: output may trickle in after the end only as long as somebody else holds the pipe
# Not passed on: ours to use (CHLD), not catchable (KILL, STOP), our own interpreter's faults, the window's size, which
# is resized and not signalled, and URG, which podman and runc leave out too.
_KEPT = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP, signal.SIGURG, signal.SIGWINCH, signal.SIGPIPE}
_KEPT |= {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTTIN, signal.SIGTTOU}
FORWARDED = tuple(sorted(signal.valid_signals() - _KEPT))


class Pump:
    """Moves what one descriptor gives to its sinks: a log, another descriptor, both or neither."""

    def __init__(self, source: int, log: Writer | None = None, out: int = -1) -> None:
        self.source = source
        self._log = log
        self._out = out

    def move(self, patience: Patience) -> bool:
        """Move one chunk. False when there will be no more.

        A sink that nobody reads any more ends the pump too, as it would in a shell's pipe: once the source is closed,
        the workload is told by SIGPIPE.
        """
        try:
            data = os.read(self.source, CHUNK)
            if data and self._log is not None:
                self._log.write(data)
            if data and self._out >= 0:
                _write_all(self._out, data, patience)
        except OSError as error:
            # EIO: every slave of the terminal is closed. EPIPE: the sink's reader has left.
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            return False
        return bool(data)


class Keyboard(Pump):
    """From the caller's terminal to the container's. The end of the workload does not wait for it.

    Both directions run in one loop, so it must never block: it moves little, and only what the other side has room for.
    """

    def move(self, patience: Patience) -> bool:
        if not select.select((), (self._out,), (), KEYBOARD_PAUSE)[1]:
            return True  # the workload does not read: come again, after its output has had its turn
        data = os.read(self.source, KEYBOARD_CHUNK)
        if data:
            _write_all(self._out, data, patience)
        return bool(data)


class Patience:
    """How long to wait for a reader: for ever while the workload lives, and a moment after its end.

    `pidfd` is readable once it has ended (pidfd_open(2)).
    """

    def __init__(self, pidfd: int) -> None:
        self._pidfd = pidfd
        self._deadline = 0.0

    def ended(self) -> bool:
        """Whether the workload has ended; the moment begins when this is seen first."""
        if not self._deadline and select.select((self._pidfd,), (), (), 0)[0]:
            self._deadline = time.monotonic() + DRAIN
        return bool(self._deadline)

    def left(self) -> float | None:
        """Seconds, or None for ever."""
        return max(0.0, self._deadline - time.monotonic()) if self._deadline else None

    def wait_for_room(self, fd: int) -> None:
        """Wait until `fd` takes more. Raises BrokenPipeError when nobody has read in time."""
        while not select.select((), (fd,), (), 0)[1]:
            if self.ended() and not self.left():
                raise BrokenPipeError(errno.EPIPE, "nobody reads")
            select.select(() if self._deadline else (self._pidfd,), (fd,), (), self.left())


def _write_all(fd: int, data: bytes, patience: Patience) -> None:
    """Write all of it. A pipe or terminal that has room takes so much without blocking (pipe(7), PIPE_BUF)."""
    rest = memoryview(data)
    while rest:
        patience.wait_for_room(fd)
        try:
            rest = rest[os.write(fd, rest[: select.PIPE_BUF]) :]
        except BlockingIOError:
            continue  # somebody else was quicker to fill it


def until_end(pid: int, pidfd: int, pumps: Iterable[Pump]) -> int:
    """Run the pumps until the process `pid` (our child) has ended; its exit code, 128+n for signal n.

    What it wrote before its end is moved too. `pidfd` is a descriptor for it (pidfd_open(2)), readable at its end.
    """
    by_fd = {pump.source: pump for pump in pumps}
    poll = select.poll()
    for fd in (pidfd, *by_fd):
        poll.register(fd, select.POLLIN)
    patience = Patience(pidfd)
    ended = False
    while not ended or any(not isinstance(pump, Keyboard) for pump in by_fd.values()):
        left = patience.left()
        ready = poll.poll(None if left is None else left * 1000)
        if ended and not ready:
            break
        for fd, _ in ready:
            if fd == pidfd:
                poll.unregister(pidfd)
                ended = patience.ended()
            elif not by_fd[fd].move(patience):
                poll.unregister(fd)
                _close_unless_ours(by_fd.pop(fd).source)
    for fd in by_fd:
        _close_unless_ours(fd)
    return exit_code(os.waitpid(pid, 0)[1])


def _close_unless_ours(fd: int) -> None:
    """Close a pipe's or terminal's end; the caller's own standard streams stay open."""
    if fd > 2:
        os.close(fd)


def exit_code(status: int) -> int:
    """An exit code as a shell gives it, from a wait status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class Signals:
    """Which signals reach us while its block runs, and what they do; the former handlers come back at its end."""

    def __init__(self, handler: Callable[[int, object], None], numbers: Iterable[int] = FORWARDED) -> None:
        self._handler = handler
        self._numbers = tuple(numbers)

    def __enter__(self) -> Signals:
        self._before = {number: signal.signal(number, self._handler) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)


def forwarding(pidfd: int) -> Signals:
    """Every signal that may be passed on goes to the process behind `pidfd`."""

    def pass_on(number: int, _frame: object) -> None:
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass  # it has just ended: the loop is about to learn of it

    return Signals(pass_on)


class Interrupted(BaseException):
    """A signal arrived while a container was being set up: everything is undone, then the process ends by 128+n."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.exit_code = 128 + number


ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


def interrupting() -> Signals:
    """The signals that ask a process to end raise Interrupted."""

    def raise_it(number: int, _frame: object) -> None:
        raise Interrupted(number)

    return Signals(raise_it, ENDING)


def deaf() -> Signals:
    """The signals that ask a process to end are ignored: tearing down must not stop half-way."""
    return Signals(lambda _number, _frame: None, ENDING)
