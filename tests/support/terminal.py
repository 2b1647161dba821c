"""A terminal to run minirt on: what is typed there, and what is shown."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

from support.command import PROGRAM


class Terminal:
    """`minirt WORDS` on a terminal of its own, of the given size; `env` is added to the environment."""

    def __init__(self, *words: str, rows: int = 33, columns: int = 99, **env: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [PROGRAM, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=self._control,
            env=os.environ | env,
        )
        self.seen = b""
        self.all = b""

    def _control(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 15) -> None:
        """Read until `text` has been shown since the last time."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert self.read(max(0, deadline - time.monotonic())), f"{text!r} was not shown in {self.seen!r}"
        self.seen = self.seen.partition(text.encode())[2]

    def read(self, seconds: float) -> bool:
        """Take what is shown; False when nothing is for so long."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        more = os.read(self.master, 4096)
        self.seen += more
        self.all += more
        return True

    def end(self) -> int:
        code = self.process.wait(15)
        assert termios.tcgetattr(self.slave) == self.before, "the caller's terminal is not as it was"
        os.close(self.slave)
        os.close(self.master)
        return code
