"""Small files that are whole or not there: written to a temporary name, synced, renamed (rename(2) is atomic); and
files that several processes add lines to."""

from __future__ import annotations

import fcntl
import os

from cni_plugins.spec.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`, durably: a reader sees the old file or the new one, also after a power cut."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.new")  # one for all: what a killed writer left is written over
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = path  # write(2) and fsync(2) know no name, and nobody asked for the temporary one
        raise


def write_json(path: str, document: Any) -> None:
    """As UTF-8; bytes that people gave us and that are none come back as they were (surrogateescape)."""
    write(path, dumps(document, indent=1).encode(errors="surrogateescape") + b"\n")


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def read_json(path: str) -> Any:
    """Raises JsonError, FileNotFoundError."""
    return loads(read(path).decode(errors="surrogateescape"))


def missing_ok(action: Any, *args: Any) -> bool:
    """Do `action(*args)`; a missing file is no error. Says whether it was there."""
    try:
        action(*args)
    except FileNotFoundError:
        return False
    return True


def append(fd: int, lines: bytes) -> None:
    """Add whole lines to a file, or nothing: what a full disk has cut off is taken back, and half a line that a killed
    writer left is ended first. `fd` is open for reading and appending. Raises OSError.

    One at a time, by a record lock (fcntl(2)): it is a process's own, also when two share one open file.
    """
    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        size = os.fstat(fd).st_size
        rest = b"\n" + lines if size and os.pread(fd, 1, size - 1) != b"\n" else lines
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except BaseException:
            os.ftruncate(fd, size)
            raise
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


class Lock:
    """An exclusive flock(2) on a file, which the kernel releases when its holder dies."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1

    def make(self) -> None:
        """Make the file: nobody else does, or a lock could be taken on what is just being removed."""
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def take(self, wait: bool = True) -> bool:
        """Take the lock; without `wait`, False when somebody holds it. Raises FileNotFoundError."""
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            self.hand_over()
            return False
        return True

    def leave(self, word: str) -> None:
        """Write into the file, for those who wait: they can read it even when it has been removed."""
        with open(self.path, "r+") as file:
            file.write(f"{word}\n")

    def held(self) -> bool:
        """Whether somebody holds it."""
        try:
            with open(self.path) as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def wait_for_holder(self) -> str:
        """Return once nobody holds it (a shared lock, so that any number may wait), with what the holder left there.
        Raises FileNotFoundError."""
        with open(self.path) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)
            return file.readline().strip()

    def release(self) -> None:
        """Unlock for everybody who has a copy of the descriptor: a forked plugin has one, and may outlive us."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        self.hand_over()

    def hand_over(self) -> None:
        """Close our copy alone: the lock stays with the forked child that has the other one."""
        os.close(self.fd)
        self.fd = -1

    def __enter__(self) -> Lock:
        if self.fd < 0:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
