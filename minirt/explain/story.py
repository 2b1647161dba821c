"""The account of a command for those who look on in a browser (`minirt serve`): a story, in a file of its own.

    {"story": 1, "command": "minirt run", "time": 1795509251.2}
    {"at": 0.0012, "item": {"kind": "call", "who": "runtime", "to": "bridge", …}}      at: seconds since `time`

While somebody serves, the folder STORIES is there, and a lock on it is held (flock(2), shared: there may be several).
A command that finds both writes; a folder that nobody holds is what a killed one has left, and is let be.

A story ends when its last writer does: a command and the process that it leaves in the background share one open file,
and with it the lock on that file, which is free when both have gone, whatever way they went. What cannot be written is
lost to those who look on, and to nobody else: no container fails for it.
"""

from __future__ import annotations

import fcntl
import os
import time

from cni_plugins.spec.jsontext import dumps
from minirt import files
from minirt.state import STORIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.explain.account import Item

FORMAT = 1


class Story:
    """What one command tells. `fd` is to stay open in a process that goes into the background for it."""

    def __init__(self, fd: int, command: str) -> None:
        self.fd = fd
        self._began = time.time()
        self._head = {"story": FORMAT, "command": command, "time": self._began}

    def write(self, item: Item) -> None:
        """Whole lines, or nothing: of two processes that append to a file, none cuts into the other's."""
        lines = [{"at": round(time.time() - self._began, 6), "item": item.to_json()}]
        try:
            if not os.fstat(self.fd).st_size:  # nobody has told anything yet: who tells nothing leaves an empty file
                lines.insert(0, self._head)
            text = "".join(f"{dumps(line, indent=0)}\n" for line in lines)
            files.append(self.fd, text.encode(errors="replace"))
        except OSError:
            pass


def begin(command: str, folder: str = STORIES) -> Story | None:
    """A story for `command`, when somebody looks on."""
    if not somebody_serves(folder):
        return None
    path = os.path.join(folder, f"{time.time_ns():x}-{os.getpid()}")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError:
        return None
    return Story(fd, command)


def somebody_serves(folder: str = STORIES) -> bool:
    """Whether the folder is held: then its lock cannot be had alone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
