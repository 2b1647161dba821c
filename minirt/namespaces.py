"""Namespaces that outlive a system call: the container's network namespace, pinned to a name, and those of a process.

A namespace lives as long as a process is in it, a descriptor refers to it, or its file is bind-mounted somewhere. CNI
wants one before any process of the container is there, so minirt makes it, binds it at /run/netns/NAME as ip-netns(8)
does, and steps out again: `ip netns` lists it and works on it. Others see the pin because /run/netns is a shared mount.
"""

from __future__ import annotations

import _socket
import fcntl
import os
from _struct import pack
from errno import EINVAL, ENOENT

from cni_plugins.spec.record import record
from minirt import sys
from minirt.errors import Conflict, KernelRefused, NotFound
from minirt.kernel import KernelStep, namespace_hint

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from cni_plugins.spec.steps import Step
else:
    import _signal

NETNS_DIR = "/run/netns"

_OURS = "/proc/thread-self/ns/net"
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_NS_GET_NSTYPE = 0xB703


def path_of(name: str) -> str:
    return f"{NETNS_DIR}/{name}"


def network_steps(name: str) -> tuple[Step, ...]:
    """A new network namespace with nothing but a loopback that is up."""
    return PinNetns(name), RaiseLoopback(name)


@record
class PinNetns(KernelStep):
    """A new network namespace, kept by a bind mount at /run/netns/NAME."""

    name: str

    def describe(self) -> str:
        return f"ip netns add {self.name}"

    def change(self) -> None:
        path = path_of(self.name)
        share_directory(NETNS_DIR)
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        except FileExistsError:
            raise Conflict(f"there is a network namespace {self.name!r}", f"ip netns delete {self.name}") from None
        try:
            self._bind_a_new_one(path)
        except BaseException:
            remove_network(self.name)
            raise

    @staticmethod
    def _bind_a_new_one(path: str) -> None:
        with Undisturbed():
            home = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sys.unshare(sys.CLONE_NEWNET)
                try:
                    sys.mount(_OURS, path, "none", sys.MS_BIND)
                finally:
                    sys.setns(home, sys.CLONE_NEWNET)
            finally:
                os.close(home)

    def opposite(self) -> Step | None:
        return UnpinNetns(self.name)

    def hint(self, error: OSError) -> str:
        return namespace_hint(error, "net")


@record
class UnpinNetns(KernelStep):
    """The name goes; the namespace does with the last process that is in it."""

    name: str

    def describe(self) -> str:
        return f"ip netns delete {self.name}"

    def change(self) -> None:
        remove_network(self.name)


@record
class RaiseLoopback(KernelStep):
    """`lo` of a pinned namespace up, which gives it 127.0.0.1 and ::1. It goes with the namespace."""

    name: str

    def describe(self) -> str:
        return f"ip -n {self.name} link set lo up"

    def change(self) -> None:
        with Inside(path_of(self.name)):
            any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
            try:
                # struct ifreq; a new lo has no flag but IFF_LOOPBACK, which cannot be changed.
                fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, pack("16sh22x", b"lo", _IFF_UP))
            finally:
                any_socket.close()


class Undisturbed:
    """In the block no handler of a signal runs: one that raises between two namespaces would leave us in the wrong one.

    Signals that arrive meanwhile are handled when it ends.
    """

    def __enter__(self) -> None:
        self._before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        except BaseException:  # by a handler that was due already
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._before)


class Inside:
    """The block runs in the network namespace at `path`, this process being single-threaded and undisturbed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._undisturbed = Undisturbed()

    def __enter__(self) -> None:
        self._undisturbed.__enter__()
        try:
            target = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._home = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
                sys.setns(target, sys.CLONE_NEWNET)
            finally:
                os.close(target)
        except BaseException:
            self._undisturbed.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            sys.setns(self._home, sys.CLONE_NEWNET)
            os.close(self._home)
        finally:
            self._undisturbed.__exit__()


def share_directory(path: str) -> None:
    """Make the directory `path` a mount point whose mounts reach every other mount namespace, as ip-netns(8) does."""
    os.makedirs(path, mode=0o755, exist_ok=True)
    if _shared(path):
        return
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Two processes at once would stack two mounts, and hide each other's pins; ip(8) takes the same lock.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _shared(path):
            sys.mount(path, path, "none", sys.MS_BIND | sys.MS_REC)
            sys.mount("", path, "none", sys.MS_SHARED | sys.MS_REC)
    finally:
        os.close(lock)


def _shared(path: str) -> bool:
    """Make the mount at `path` shared; False when `path` is no mount point."""
    try:
        sys.mount("", path, "none", sys.MS_SHARED | sys.MS_REC)
    except OSError as error:
        if error.errno == EINVAL:
            return False
        raise
    return True


def remove_network(name: str) -> None:
    """Unpin the namespace and remove its file, whatever of the two is there. Raises OSError."""
    path = path_of(name)
    try:
        sys.umount2(path, sys.MNT_DETACH)
    except OSError as error:
        if error.errno not in (ENOENT, EINVAL):  # EINVAL: an ordinary file that a crash left behind
            raise
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def open_network(path: str) -> int:
    """A descriptor of the network namespace at `path`. Raises NotFound, also when it is an ordinary file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"no network namespace at {path!r}", "`ip netns` and `lsns -t net` list them") from None
    except OSError as error:
        raise KernelRefused(f"open {path}", error) from error
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != sys.CLONE_NEWNET:
        os.close(fd)
        raise NotFound(f"{path!r} is not a network namespace", "`ip netns` and `lsns -t net` list them")
    return fd
