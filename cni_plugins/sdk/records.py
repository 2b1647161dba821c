"""Small files that are whole or not there, and the record a plugin keeps of what an attachment owns.

DEL and GC must find an attachment's keys when result, cache and namespace are gone, so a plugin writes them down on
ADD: /run/cni/<plugin>/<network>/<container>:<ifname>. A ':' is legal in none of the three, so names are unambiguous.
/run is emptied by a reboot, as the kernel's own state is. A folder goes away with its last record.

A file is written without a name, synced and linked to its own, or renamed over an earlier one: a reader meets the old
text or the new one, also after a crash (the reference plugins' truncated files are what made this law).
"""

from __future__ import annotations

import os
from errno import EISDIR, EOPNOTSUPP
from fcntl import LOCK_EX, LOCK_UN, flock

from cni_plugins.sdk import fdio
from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.names import EARLY_ATTACHMENTS, VALID_ATTACHMENTS
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.spec.config import View

ROOT = "/run/cni"


def write_file(path: str, text: bytes, mode: int = 0o600) -> None:
    """Put `text` at `path` atomically and durably. Its folder must be there. Raises OSError."""
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}")
    fd, nameless = _draft(folder, temporary, mode)
    try:
        try:
            os.fchmod(fd, mode)  # whatever the umask says
            fdio.write(fd, text)
            os.fsync(fd)
            if nameless and _link(fd, path):
                return
            if nameless:  # it takes the place of another
                _link(fd, temporary)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise


def _draft(folder: str, temporary: str, mode: int) -> tuple[int, bool]:
    """A new file to be filled, and whether it has no name yet: whoever is killed while filling that leaves nothing."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_TMPFILE, mode), True
    except OSError as error:
        if error.errno not in (EISDIR, EOPNOTSUPP):  # what a kernel or file system says that has no such files
            raise
    return os.open(temporary, flags | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode), False


def _link(fd: int, path: str) -> bool:
    """Give a nameless file its name (open(2), "O_TMPFILE"); False when that is taken."""
    try:
        # Only with a folder's descriptor, which an absolute path makes meaningless, is the link to the file followed.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd)
    except FileExistsError:
        return False
    return True


def read_file(path: str) -> bytes | None:
    """The bytes at `path`, or None when there is no such file. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return fdio.read(fd)
    except OSError as error:
        error.filename = path  # the kernel does not say whose descriptor it was
        raise
    finally:
        os.close(fd)


@record
class Owner:
    """Who holds something: an attachment's identity within its network."""

    container_id: str
    ifname: str

    def __str__(self) -> str:
        return f"container {self.container_id} {self.ifname}".rstrip()


def valid_owners(conf: View) -> set[Owner] | None:
    """The attachments that a GC request says are alive; None when it does not say. Raises CniError 7.

    An empty list is an answer: all are stale.
    """
    for key in (VALID_ATTACHMENTS, EARLY_ATTACHMENTS):
        if conf.has(key):
            return {Owner(item.string("containerID"), item.string("ifname")) for item in conf.views(key)}
    return None


class LockedFolder:
    """A folder held under an exclusive lock for the length of a `with`; made when entered, removed if left empty.

    The lock is on the folder itself (flock(2) takes any open file), so it leaves no file behind. Entering again
    while inside is harmless.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._depth = 0

    def __enter__(self) -> LockedFolder:
        if not self._depth:
            self._fd = self._lock()
        self._depth += 1
        return self

    def _lock(self) -> int:
        while True:
            self._make()
            try:
                fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its last user has just removed it
            try:
                flock(fd, LOCK_EX)
                if os.fstat(fd).st_nlink:
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # removed while we waited: what we hold is a ghost

    def _make(self) -> None:
        """Not by one makedirs, which fails when the folder goes away while it looks."""
        try:
            os.mkdir(self.path, 0o755)
        except FileExistsError:
            pass
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            self._make()

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        if not self._depth:
            try:
                os.rmdir(self.path)
            except OSError:
                pass  # it holds records still
            flock(self._fd, LOCK_UN)  # said aloud: a child just forked may have a copy of the descriptor
            os.close(self._fd)


class AttachmentRecords:
    """The records of one plugin on one network: a JSON object an attachment."""

    def __init__(self, plugin: str, network: str, root: str = ROOT) -> None:
        self.folder = os.path.join(root, plugin, network)
        self._lock = LockedFolder(self.folder)

    def locked(self) -> LockedFolder:
        """Nobody else changes the records of this plugin and network inside `with records.locked():`."""
        return self._lock

    def path(self, owner: Owner) -> str:
        return os.path.join(self.folder, f"{owner.container_id}:{owner.ifname}")

    def save(self, owner: Owner, document: dict[str, Any]) -> None:
        """Keep `document`, in place of an earlier one. Raises OSError."""
        with self._lock:
            write_file(self.path(owner), dumps(document).encode())

    def load(self, owner: Owner) -> dict[str, Any] | None:
        """What was kept, or None; also None when the file does not hold an object (it tells us nothing)."""
        text = read_file(self.path(owner))
        try:
            document = loads(text) if text else None
        except JsonError:
            return None
        return document if isinstance(document, dict) else None

    def delete(self, owner: Owner) -> None:
        """Forget it; fine when there is none. Raises OSError."""
        if not os.path.lexists(self.path(owner)):
            return
        with self._lock:
            try:
                os.unlink(self.path(owner))
            except FileNotFoundError:
                pass  # another DEL of the same attachment was quicker

    def owners(self) -> Iterator[Owner]:
        """Every attachment that has a record, in no order. Reads names only."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in names:
            container_id, colon, ifname = name.partition(":")
            if colon and not name.startswith("."):
                yield Owner(container_id, ifname)
