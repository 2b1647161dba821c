"""A plugin that runs: its pipes, its deadline, its end.

Nothing here blocks for ever. Our ends of the pipes never do; a plugin that takes too long or writes too much is killed
with its whole process group; and one that leaves a process behind with its standard output open (a daemon, a deletion
that finishes later) is not waited for: when the plugin itself has ended, what is in the pipes is taken, and that is
that. Its end is seen through a pidfd (pidfd_open(2)), so no signal handler is needed.
"""

from __future__ import annotations

import os
from select import POLLIN, POLLOUT, poll
from time import monotonic

from cni_plugins.sdk.main import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    Ear = tuple[int, Callable[[], object]]
else:
    import _signal

LIMIT = 16 << 20  # bytes of output, each stream: far beyond any answer, and far from hurting the runtime
_CHUNK = 1 << 16


class ExecutorError(Exception):
    """A plugin could not be run to its end; the text says which, and why."""


class StoppedError(ExecutorError):
    """The plugin was killed, having taken too long or written too much; `stderr` is what it logged until then."""

    def __init__(self, text: str, stderr: bytes) -> None:
        super().__init__(text)
        self.stderr = stderr


class Call:
    """A plugin that runs. Exactly one of `wait` and `kill` must follow.

    `own_group` says that it leads a process group, which is then killed whole.
    """

    def __init__(self, path: str, pid: int, pipes: Pipes, timeout: float | None, own_group: bool) -> None:
        self.path = path
        self.pid = pid
        self._end = os.killpg if own_group else os.kill
        self._pipes = pipes
        self._timeout = timeout
        self._deadline = None if timeout is None else monotonic() + timeout
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:  # out of descriptors: what we cannot watch must not run
            os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)
            pipes.close()
            raise
        pipes.started()

    def wait(self, ear: Ear | None = None) -> Outcome:
        """How it ended. Raises StoppedError when it had to be killed.

        `ear` is a descriptor and what to do whenever something can be read there, once more at the end.
        """
        try:
            self._listen(ear)
        except BaseException:
            self.kill()
            raise
        return self._reap()

    def kill(self) -> Outcome:
        """End it, and whatever it started in its group, at once."""
        try:
            self._end(self.pid, _signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended by itself and left nobody
        return self._reap()

    def _listen(self, ear: Ear | None) -> None:
        poller = poll()
        if ear is not None:
            poller.register(ear[0], POLLIN)
        poller.register(self._pidfd, POLLIN)
        for fd in self._pipes.collected:
            poller.register(fd, POLLIN)
        if self._pipes.feed >= 0:
            poller.register(self._pipes.feed, POLLOUT)
        while True:
            ready = [fd for fd, _ in poller.poll(self._left())]
            if self._left() == 0 and self._pidfd not in ready:
                text = f"plugin {self.path} gave no answer within {self._timeout:g} s and was killed"
                raise StoppedError(text, self._pipes.text(2))
            if ear is not None and (ear[0] in ready or self._pidfd in ready):
                ear[1]()
                ready = [fd for fd in ready if fd != ear[0]]
            if self._pidfd in ready:
                self._pipes.drain()
                self._refuse_flood()
                return
            for fd in ready:
                if self._pipes.serve(fd):
                    poller.unregister(fd)
            self._refuse_flood()

    def _left(self) -> float | None:
        """Milliseconds for poll."""
        return None if self._deadline is None else max(0.0, (self._deadline - monotonic()) * 1000)

    def _refuse_flood(self) -> None:
        if self._pipes.flooded():
            text = f"plugin {self.path} wrote more than {LIMIT >> 20} MiB and was killed"
            raise StoppedError(text, self._pipes.text(2)[-_CHUNK:])

    def _reap(self) -> Outcome:
        self._pipes.close()
        os.close(self._pidfd)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            # Only a caller that reaps other people's children, or ignores SIGCHLD, comes here (wait(2), "NOTES").
            raise ExecutorError(f"plugin {self.path}: its exit status was taken by somebody else") from None
        return Outcome(os.waitstatus_to_exitcode(status), self._pipes.text(1), self._pipes.text(2))


class Pipes:
    """The three pipes of a call. `theirs` are the plugin's 0, 1 and 2; the other ends are ours and never block."""

    def __init__(self, stdin: bytes) -> None:
        (read_in, self.feed), (read_out, write_out), (read_err, write_err) = _pipe(), _pipe(), _pipe()
        self.theirs = (read_in, write_out, write_err)
        self.collected: dict[int, list[bytes]] = {read_out: [], read_err: []}
        self._streams = {1: read_out, 2: read_err}
        self._sizes = {read_out: 0, read_err: 0}
        self._open = {*self.theirs, self.feed, read_out, read_err}
        for fd in (self.feed, read_out, read_err):
            os.set_blocking(fd, False)
        self._rest = memoryview(stdin)
        self._write()  # while the reading end is ours too, so this cannot fail for want of a reader

    def started(self) -> None:
        """The plugin has its ends: give up ours of them, so that we see the end of its output."""
        for fd in self.theirs:
            self._close(fd)

    def serve(self, fd: int) -> bool:
        """Do what `fd` is ready for; True when it is finished with."""
        if fd == self.feed:
            self._write()
            return self.feed < 0
        return not self._read(fd)

    def _write(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self.feed, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # it does not want to know more, which is its right
        self._close(self.feed)
        self.feed = -1

    def _read(self, fd: int) -> bool:
        """Take one chunk; False at the end of the stream, which closes it."""
        chunk = os.read(fd, _CHUNK)
        self.collected[fd].append(chunk)
        self._sizes[fd] += len(chunk)
        if not chunk:
            self._close(fd)
        return bool(chunk)

    def drain(self) -> None:
        """Take what has been written, and wait for no more."""
        for fd in self.collected:
            try:
                while fd in self._open and not self.flooded():
                    self._read(fd)
            except BlockingIOError:
                pass  # somebody else holds the other end; it is not the plugin

    def flooded(self) -> bool:
        return max(self._sizes.values()) > LIMIT

    def text(self, stream: int) -> bytes:
        return b"".join(self.collected[self._streams[stream]])

    def close(self) -> None:
        for fd in tuple(self._open):
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends stay clear of 0, 1 and 2, which a caller may have been started without."""
    ends = os.pipe()
    if min(ends) > 2:
        return ends
    try:
        return _pipe()
    finally:
        for fd in ends:
            os.close(fd)
