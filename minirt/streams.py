"""Standard streams of a workload: the ends that it is given, and the pumps that move what it writes and reads.

Whatever it writes goes to the container's log; in the foreground also to the caller, stream by stream. With a terminal
there is one stream, both ways, and the caller's own terminal is made raw meanwhile.
"""

from __future__ import annotations

import os

from minirt import tty
from minirt.errors import UsageError
from minirt.log import Writer
from minirt.supervise import Keyboard, Pump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.spec import ContainerSpec


class Streams:
    """`stdin`, `stdout`, `stderr` are for the child; `log` is the path of the container's log, empty for none.

    `attached` says that the caller stays: its own streams take part.
    """

    def __init__(self, spec: ContainerSpec, log: str, attached: bool) -> None:
        self._terminal = spec.tty
        self._attached = attached
        self._interactive = spec.interactive
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(log, flags, 0o600) if log else -1
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._sources: list[tuple[str, int, int]] = []  # a stream's name, our end of it, where it goes
        self.size = tty.size_of(0) if spec.tty and attached else (0, 0)
        self._kept = -1
        self.stdin = self._stdin()
        self.stdout = self._null if spec.tty else self._pipe("stdout", 1)
        self.stderr = self._null if spec.tty else self._pipe("stderr", 2)

    def _stdin(self) -> int:
        if not self._interactive or self._terminal:
            return self._null
        if self._attached:
            return 0
        # Nobody writes, but whoever reads waits, as `-i` promises: the other end stays open with us.
        reader, self._kept = os.pipe()
        return reader

    def _pipe(self, name: str, out: int) -> int:
        reader, writer = os.pipe()
        self._sources.append((name, reader, out))
        return writer

    def given(self) -> None:
        """The child has its ends: close ours, so that its end is seen as the end."""
        for fd in {self.stdin, self.stdout, self.stderr, self._null} - {0}:
            os.close(fd)

    def pumps(self, master: int) -> list[Pump]:
        """What moves the output, and the keyboard's input; `master` is the terminal's, -1 without one."""
        if not self._terminal:
            return [self._pump(source, name, out) for name, source, out in self._sources]
        pumps = [self._pump(master, "stdout", 1)]
        if self._attached and self._interactive:
            pumps.append(Keyboard(0, out=os.dup(master)))
        return pumps

    def _pump(self, source: int, name: str, out: int) -> Pump:
        log = Writer(self._log, name) if self._log >= 0 else None
        return Pump(source, log, out if self._attached else -1)

    def hand_over(self, pidfd: int, master: int) -> list[str]:
        """Let the program that we are about to execute have all that it needs of this; the words that tell it."""
        sources = {"stdout": master} if self._terminal else {name: source for name, source, _ in self._sources}
        for fd in (pidfd, self._log, *sources.values(), *((self._kept,) if self._kept >= 0 else ())):
            os.set_inheritable(fd, True)
        return [str(pidfd), str(self._log), *(f"{name}:{source}" for name, source in sources.items())]

    def terminal(self, master: int) -> tty.Raw | NoTerminal:
        """The caller's terminal made transparent while the block runs, where it takes part."""
        return tty.Raw(0, master) if any(self.size) else NoTerminal()


class NoTerminal:
    """The null object: nothing of the caller's takes part."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def check(spec: ContainerSpec) -> None:
    """Refuse `-it` where there is no terminal to pass on, as docker does. Raises UsageError."""
    if spec.tty and spec.interactive and not os.isatty(0):
        raise UsageError("standard input is not a terminal", "leave out --tty, or run minirt from a terminal")
