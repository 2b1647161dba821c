"""Terminals: the container's own, made inside it, and the caller's, made transparent for it (pty(7), termios(3)).

The container's slave is opened from its master (TIOCGPTPEER), never by the name /dev/pts/N, which the container may
have put something else under; /dev/console becomes that very file (CVE-2025-52565). Only runs with -t import this.
"""

from __future__ import annotations

import fcntl
import os
import termios
from _struct import pack, unpack

from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step
from minirt import sys
from minirt.errors import SetupFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal

_PTMX = "/dev/pts/ptmx"
_PTMX_DEVICE = os.makedev(5, 2)
_TIOCGPTPEER, _TIOCSPTLCK = 0x5441, 0x40045431
_OPEN = os.O_RDWR | os.O_NOCTTY


def open_pair(size: tuple[int, int]) -> tuple[int, int]:
    """Master and slave of a new terminal of the container that we are in. Raises SetupFailed, OSError."""
    master = sys.openat2(sys.AT_FDCWD, _PTMX, _OPEN, sys.RESOLVE_NO_SYMLINKS | sys.RESOLVE_NO_MAGICLINKS)
    found = os.fstat(master)
    if sys.filesystem(master) != sys.DEVPTS_SUPER_MAGIC or found.st_rdev != _PTMX_DEVICE:
        raise SetupFailed(f"{_PTMX} in the container is not its multiplexer of terminals")
    fcntl.ioctl(master, _TIOCSPTLCK, pack("i", 0))
    slave: int = fcntl.ioctl(master, _TIOCGPTPEER, _OPEN | os.O_CLOEXEC)
    if any(size):
        set_size(slave, size)
    return master, slave


@record
class Terminal(Step):
    """This process, which leads a session without one, with a controlling terminal."""

    slave: int

    def describe(self) -> str:
        return "script --quiet /dev/null"

    def apply(self) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)


@record
class Console(Step):
    """The terminal at /dev/console, in the /dev that this container has just been given."""

    slave: int

    def describe(self) -> str:
        return "touch /dev/console && mount -o bind $(tty) /dev/console"

    def apply(self) -> None:
        directory = sys.openat2(sys.AT_FDCWD, "/dev", os.O_PATH | os.O_DIRECTORY, sys.RESOLVE_NO_SYMLINKS)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open("console", flags, 0o600, dir_fd=directory))
        place = sys.openat2(directory, "console", os.O_PATH, sys.RESOLVE_NO_SYMLINKS | sys.RESOLVE_BENEATH)
        tree = sys.open_tree(self.slave, "")
        sys.move_mount(tree, place)
        for fd in (directory, place, tree):
            os.close(fd)


def size_of(fd: int) -> tuple[int, int]:
    """Rows and columns of the terminal `fd`; (0, 0) when it is none."""
    try:
        rows, columns, _, _ = unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return 0, 0
    return rows, columns


def set_size(fd: int, size: tuple[int, int]) -> None:
    """Tell the terminal its rows and columns; what runs in its foreground gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, pack("HHHH", *size, 0, 0))


class Raw:
    """Within its block the caller's terminal passes every key on as it is, and a change of its size to `master`.

    A terminal that is somebody else's by now, or gone, is left alone at the end.
    """

    def __init__(self, terminal: int, master: int) -> None:
        self._terminal = terminal
        self._master = master

    def __enter__(self) -> Raw:
        self._before = termios.tcgetattr(self._terminal)
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, _transparent(self._before))
        self._handler = _signal.signal(_signal.SIGWINCH, self._resize)
        self._resize()
        return self

    def __exit__(self, *_: object) -> None:
        _signal.signal(_signal.SIGWINCH, self._handler)
        try:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
        except termios.error:
            pass  # it has hung up

    def _resize(self, *_: object) -> None:
        size = size_of(self._terminal)
        if any(size):
            set_size(self._master, size)


def _transparent(before: list[Any]) -> list[Any]:
    """What cfmakeraw(3) makes of a terminal's attributes."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, chars = before
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    chars = list(chars)
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    return [iflag, oflag & ~termios.OPOST, cflag, lflag, ispeed, ospeed, chars]
