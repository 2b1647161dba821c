"""A child that prepares itself, reports, waits for a word, and becomes the workload; and the handle its parent has.

    [parent]                                  [child]
    Child.start()
      clone3 ---------------------------->  prepare(channel): everything that can fail without the network
                                            either
      wait_ready() <----- ready, terminal --  `Channel.ready`, a descriptor of the terminal's master with it
                                            or
      wait_ready() <------------ failure --   exit
      go() ------------------------- go ->  execve
                                            either
      go() <--------- end of the channel --   it is closed on exec: the workload runs
                                            or
      go() <-------------------- failure --   exit

The channel is a pair of sequenced-packet sockets, one message a packet. A failure crosses it by kind and is raised
again in the parent, as itself. When the parent dies, the channel ends for a child that waits; one that has got its
word is killed by the kernel.
"""

from __future__ import annotations

import _socket
import gc
import os
from _struct import pack, unpack

from minirt import caps, errors, sys
from minirt.errors import KernelRefused, MinirtError, SetupFailed
from minirt.kernel import namespace_hint
from minirt.process import reset

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable
    from types import TracebackType
else:
    import _signal

_READY, _FAILED, _GO = b"r", b"f", b"g"
_LARGEST = 1 << 16
_LONGEST = 4000  # characters of each of an error's fields: all of them fit, whatever they become in UTF-8


class Channel:
    """The child's end."""

    def __init__(self, end: _socket.socket) -> None:
        self._end = end
        self.fileno = end.fileno

    def ready(self, descriptor: int = -1) -> None:
        """Tell the parent, handing it a descriptor if there is one, and wait for its word."""
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, pack("i", descriptor))] if descriptor >= 0 else []
        self._end.sendmsg([_READY], rights)
        if self._end.recv(1) != _GO:
            os._exit(MinirtError.exit_code)  # the parent is gone

    def failed(self, error: BaseException) -> None:
        try:
            self._end.send(_FAILED + _packed(error))
        except OSError:
            pass  # the parent is gone, and nobody else can be told


class Child:
    """The parent's handle. `pidfd` becomes readable at the child's end; whoever waits for `pid` reaps it.

    `terminal` is the master of the child's terminal once it is ready, -1 without one. Both descriptors are the caller's
    to close, unless a method raised or `kill` was called: the child is gone then, and they are -1.
    """

    def __init__(self, pid: int, pidfd: int, end: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.terminal = -1
        self._end = end

    @classmethod
    def start(cls, prepare: Callable[[Channel], None], kept: Iterable[int], flags: int = 0, cgroup: int = -1) -> Child:
        """Fork a child that runs `prepare`, which must not return but by an exception.

        Of the descriptors it has those of `kept` and the first three. Raises KernelRefused.
        """
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
        # A signal in the child before it has reset them would run a handler that was meant for the parent.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            pid, pidfd = sys.clone3(flags, cgroup)
            if not pid:
                _run(Channel(theirs), prepare, kept)
        except OSError as error:
            kind = "pid" if flags & sys.CLONE_NEWPID else ""
            raise KernelRefused(f"unshare{kind and ' --pid'} --fork", error, namespace_hint(error, kind)) from error
        finally:
            theirs.close()
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        return cls(pid, pidfd, ours)

    def fileno(self) -> int:
        """What can be read from when the child is ready, or has failed."""
        return self._end.fileno()

    def wait_ready(self) -> None:
        """Wait until nothing but the word is missing. Raises what went wrong there."""
        message, rights, _, _ = self._end.recvmsg(_LARGEST, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in rights:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                (self.terminal,) = unpack("i", data)
        if message[:1] != _READY:
            self._raise(message)

    def go(self) -> None:
        """Let the child execute its command. Raises CommandNotFound, CommandNotExecutable."""
        try:
            self._end.send(_GO)
            message = self._end.recv(_LARGEST)
        except (BrokenPipeError, ConnectionResetError):
            message = _FAILED
        if message:
            self._raise(message)
        self._end.close()

    def kill(self) -> None:
        """End the child, with all that runs in its pid namespace when it is the first there, and reap it.

        The kernel holds process 1 until the others are reaped, those that are our own children too (`join.execute`).
        """
        if self.pidfd < 0:
            return
        try:
            _signal.pidfd_send_signal(self.pidfd, _signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._forget()

    def _raise(self, message: bytes) -> None:
        self._forget()
        raise _unpacked(message[1:]) if message[1:] else SetupFailed("the process was killed before it could run")

    def _forget(self) -> None:
        self._end.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass  # reaped before
        for fd in (self.pidfd, self.terminal):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.terminal = -1


def _run(channel: Channel, prepare: Callable[[Channel], None], kept: Iterable[int]) -> None:
    """The whole life of the child. Ends by exec or _exit: the frames above belong to the parent."""
    try:
        # An object of the parent that is collected here would close a descriptor whose number is used again by then.
        gc.disable()
        reset()
        caps.conceal()
        _close_others({channel.fileno(), *kept})
        os.setsid()
        prepare(channel)
    except BaseException as error:
        channel.failed(error)
    finally:
        os._exit(MinirtError.exit_code)


def _close_others(kept: set[int]) -> None:
    """Close every descriptor but the standard ones and these: a lock or pipe of the parent must not live on here."""
    first = 3
    for fd in sorted(kept - {0, 1, 2}):
        sys.close_range(first, fd - 1)
        first = fd + 1
    sys.close_range(first, -1)


def _packed(error: BaseException) -> bytes:
    """An error as text: its class, errno, and what its constructor takes."""
    if isinstance(error, KernelRefused):
        fields = (type(error).__name__, str(error.errno), error.step, error.hint)
    elif isinstance(error, MinirtError):
        fields = (type(error).__name__, "0", error.message, error.hint)
    elif isinstance(error, OSError):
        fields = (KernelRefused.__name__, str(error.errno or 0), _place(error.__traceback__), "")
    else:
        fields = (SetupFailed.__name__, "0", f"{type(error).__name__}: {error}", _place(error.__traceback__))
    return "\0".join(_cut(field.replace("\0", "")) for field in fields).encode(errors="surrogateescape")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _place(trace: TracebackType | None) -> str:
    """Where the error was raised; the traceback module cannot be had any more."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _unpacked(text: bytes) -> MinirtError:
    kind, number, message, hint = text.decode(errors="surrogateescape").split("\0")
    if kind == KernelRefused.__name__:
        return KernelRefused(message, OSError(int(number), os.strerror(int(number))), hint)
    known: type[MinirtError] = getattr(errors, kind)
    return known(message, hint)
