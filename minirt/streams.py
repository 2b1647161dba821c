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
    """`stdin`, `stdout`, `stderr` are for the child; `log` is the path of the container's log.

    `attached` says that the caller stays: its own streams take part.
    """

    def __init__(self, spec: ContainerSpec, log: str, attached: bool) -> None:
        self._terminal = spec.tty
        self._attached = attached
        self._interactive = spec.interactive
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._sources: dict[str, int] = {}
        self._kept = -1
        self.stdin = self._stdin()
        self.stdout = self._null if spec.tty else self._pipe("stdout")
        self.stderr = self._null if spec.tty else self._pipe("stderr")

    def _stdin(self) -> int:
        if not self._interactive or self._terminal:
            return self._null
        if self._attached:
            return 0
        # Nobody writes, but whoever reads waits, as `-i` promises: the other end stays open with us.
        reader, self._kept = os.pipe()
        return reader

    def _pipe(self, name: str) -> int:
        self._sources[name], writer = os.pipe()
        return writer

    def given(self) -> None:
        """The child has its ends: close ours, so that its end is seen as the end."""
        for fd in {self.stdin, self.stdout, self.stderr, self._null} - {0}:
            os.close(fd)

    def pumps(self, master: int) -> list[Pump]:
        """What moves the output, and the keyboard's input; `master` is the terminal's, -1 without one."""
        if not self._terminal:
            outs = {"stdout": 1, "stderr": 2} if self._attached else {}
            return [
                Pump(source, Writer(self._log, name), outs.get(name, -1)) for name, source in self._sources.items()
            ]
        pumps = [Pump(master, Writer(self._log, "stdout"), 1 if self._attached else -1)]
        if self._attached and self._interactive:
            pumps.append(Keyboard(0, out=os.dup(master)))
        return pumps


    def terminal(self, master: int) -> RawTerminal:
        """The caller's terminal raw, and its size passed on, while the block runs; nothing without one."""
        return tty.RawTerminal(0 if self._terminal and self._attached and os.isatty(0) else -1, master)


def check(spec: ContainerSpec) -> None:
    """Refuse `-it` where there is no terminal to pass on, as docker does. Raises UsageError."""
    if spec.tty and spec.interactive and not os.isatty(0):
        raise UsageError("standard input is not a terminal", "leave out --tty, or run minirt from a terminal")
