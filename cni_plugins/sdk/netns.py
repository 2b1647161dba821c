"""Network namespaces: a path, and what one does inside (setns(2), network_namespaces(7)).

A netlink socket stays in the namespace it was made in, so entering is needed once to make it, and around the sysctl
files of /proc/sys/net, which show the namespace of the thread that opens them. /sys does not follow the thread, so it
is never used.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENODEV, ENOTTY
from fcntl import ioctl

from cni_plugins.sdk.rtnl import Rtnl
from cni_plugins.spec.errors import INVALID_NETNS, CniError
from cni_plugins.spec.names import quoted as quoted  # most of those who say something of a namespace quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Link

CLONE_NEWNET = 0x40000000
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h: which kind of namespace a descriptor is
OURS = "/proc/thread-self/ns/net"
_NAMED = ("/run/netns/", "/var/run/netns/")  # where `ip netns` keeps its names


class Namespace:
    """A network namespace by its path; "" is the one that the process runs in. Equal when the paths are.

    Nothing is opened before it is needed. Descriptors are closed by `close`, or as a context manager.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.depth = 0  # of the visits that are under way
        self._fd = -1
        self._rtnl: Rtnl | None = None
        self._indexes: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Namespace) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Namespace({self.path!r})"

    @property
    def fd(self) -> int:
        """A descriptor of it. Raises FileNotFoundError, or OSError EINVAL when the path is something else."""
        if self._fd < 0:
            self._fd = _open(self.path or OURS)
        return self._fd

    @property
    def rtnl(self) -> Rtnl:
        """An rtnetlink socket inside. Raises OSError."""
        if self._rtnl is None:
            with self.inside():
                self._rtnl = Rtnl()
        return self._rtnl

    def inside(self) -> _Visit:
        """`with namespace.inside():` the thread is in it. May be nested."""
        return _Visit(self)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._rtnl is not None:
            self._rtnl.close()
            self._rtnl = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def link(self, name: str) -> Link | None:
        """The link of that name, or None. Raises OSError."""
        found = self.rtnl.link(name)
        if found is not None:
            self._indexes[name] = found.index
        return found

    def index(self, name: str) -> int:
        """The number of the link of that name, as it was last seen. Raises OSError ENODEV that names it."""
        if name not in self._indexes and self.link(name) is None:
            raise OSError(ENODEV, f"there is no link {name!r}" + (f" in {self.path}" if self.path else ""))
        return self._indexes[name]

    def forget(self, name: str) -> None:
        """The link of that name goes away."""
        self._indexes.pop(name, None)

    # What a person would type.

    @property
    def name(self) -> str:
        """What `ip` takes behind the word netns: a name, or a path."""
        for folder in _NAMED:
            if self.path.startswith(folder) and "/" not in self.path[len(folder) :]:
                return quoted(self.path[len(folder) :])
        return quoted(self.path)

    def command(self, words: str) -> str:
        """`ip WORDS`, for this namespace."""
        if not self.path:
            return f"ip {words}"
        return f"nsenter --net={self.name} ip {words}" if "/" in self.name else f"ip -n {self.name} {words}"

    def shell(self, words: str) -> str:
        """Any command, run inside this namespace."""
        if not self.path:
            return words
        return f"nsenter --net={self.name} {words}" if "/" in self.name else f"ip netns exec {self.name} {words}"


class _Visit:
    """The thread is in the namespace between entering and leaving; the innermost of nested visits costs nothing."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._way_back = -1

    def __enter__(self) -> None:
        """Raises OSError."""
        namespace = self._namespace
        if namespace.path and not namespace.depth:
            target, self._way_back = namespace.fd, _open(OURS)
            try:
                setns(target)
            except OSError:
                os.close(self._way_back)
                raise
        namespace.depth += 1

    def __exit__(self, *_: object) -> None:
        self._namespace.depth -= 1
        if self._namespace.path and not self._namespace.depth:
            try:
                setns(self._way_back)
            finally:
                os.close(self._way_back)


def sandbox(path: str) -> Namespace:
    """The namespace that CNI_NETNS names, opened. Raises CniError 8."""
    namespace = Namespace(path)
    try:
        namespace.fd  # noqa: B018  # opening it is the check
    except FileNotFoundError:
        raise CniError(INVALID_NETNS, f"CNI_NETNS {path!r}: there is no such network namespace") from None
    except OSError as error:
        raise CniError(INVALID_NETNS, f"CNI_NETNS {path!r}: {error.strerror}") from None
    return namespace


def sandbox_left(path: str) -> Namespace | None:
    """The same for DEL, where a namespace that is gone is no error; nor is the file that an unmount leaves behind."""
    if not path:
        return None
    try:
        return sandbox(path)
    except CniError:
        return None


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET:
            return fd
        what = "is another kind of namespace"
    except OSError as error:
        what = "is not a namespace" if error.errno == ENOTTY else str(error.strerror)
    os.close(fd)
    raise OSError(EINVAL, what, path)


def setns(fd: int) -> None:
    """Enter the network namespace of `fd`, with this thread. Raises OSError."""
    if hasattr(os, "setns"):  # Python 3.12
        os.setns(fd, CLONE_NEWNET)
        return
    from cni_plugins.sdk.libc import (
        function,
        get_errno,
    )  # 1.5 ms, which a DEL that finds its link on the host need not pay

    if function("setns")(fd, CLONE_NEWNET) < 0:
        number = get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
