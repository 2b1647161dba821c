"""Who waits for whom: one operation at a time for a container, and none on a network while it is being collected.

SPEC.md 1.1.0, "Section 3", "Lifecycle & Ordering". All locks are bytes of one file, a byte a name, so that nothing is
left behind when a name is gone: open file description locks (fcntl(2), "Open file description locks"), which the
kernel drops when their holder dies. Two names may share a byte (32 bits of checksum); they wait for each other then.

Order: the container's lock first, then the network's. GC holds its network for itself and only *tries* the containers,
which keeps it out of every circle of waiting. A lock is never held while waiting for a person.
"""

from __future__ import annotations

import fcntl
import os
from _struct import pack
from binascii import crc32

PATH = "/run/minirt/cni.lock"
_NETWORKS = 1 << 32  # the networks' bytes begin behind the containers'


class Locks:
    """The locks of this host. Each method gives a context manager that holds one."""

    def __init__(self, path: str = PATH) -> None:
        self.path = path

    def container(self, container_id: str, wait: bool = True) -> Held:
        """The container's lock, held by one."""
        return Held(self.path, crc32(container_id.encode()), fcntl.F_WRLCK, wait)

    def network(self, name: str, alone: bool = False, wait: bool = True) -> Held:
        """The network's lock: shared by ADD, DEL and CHECK, held by GC `alone`."""
        return Held(self.path, _NETWORKS + crc32(name.encode()), fcntl.F_WRLCK if alone else fcntl.F_RDLCK, wait)


class Held:
    """One byte of the file, locked while the block runs. Without `wait` BlockingIOError says that somebody has it."""

    def __init__(self, path: str, start: int, kind: int, wait: bool) -> None:
        self._path = path
        self._start = start
        self._kind = kind
        self._wait = wait

    def __enter__(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._set(self._kind, fcntl.F_OFD_SETLKW if self._wait else fcntl.F_OFD_SETLK)
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        # Said aloud: a forked plugin has a copy of the descriptor, and closing ours alone would leave its lock.
        self._set(fcntl.F_UNLCK, fcntl.F_OFD_SETLK)
        os.close(self._fd)

    def _set(self, kind: int, how: int) -> None:
        """`struct flock`: type, whence, start, length, pid (which must be 0 for this kind of lock)."""
        fcntl.fcntl(self._fd, how, pack("hhqqi4x", kind, os.SEEK_SET, self._start, 1, 0))
