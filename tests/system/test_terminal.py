"""A real terminal: what the workload sees of it, and that the caller's is left as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from support.command import PROGRAM, Command


class Terminal:
    """`minirt WORDS` on a terminal of its own, of the given size."""

    def __init__(self, *words: str, rows: int = 33, columns: int = 99) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            [PROGRAM, *words], stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=self._control
        )
        self.seen = b""

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
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{text!r} was not shown in {self.seen!r}"
            self.seen += os.read(self.master, 4096)
        self.seen = self.seen.partition(text.encode())[2]

    def end(self) -> int:
        code = self.process.wait(15)
        assert termios.tcgetattr(self.slave) == self.before, "the caller's terminal is not as it was"
        os.close(self.slave)
        os.close(self.master)
        return code


@pytest.mark.usefixtures("minirt")
def test_the_workload_has_a_terminal_of_the_callers_size() -> None:
    terminal = Terminal("run", "--rm", "-qit", "host", "sh")
    terminal.type("test -t 0 && test -t 1 && test -t 2 && echo ye''s $TERM; tty; stty size; ls -l /dev/console\n")
    terminal.expect("yes xterm")
    terminal.expect("/dev/")
    terminal.expect("33 99")
    terminal.expect("/dev/console")
    terminal.type("exit 5\n")
    assert terminal.end() == 5


@pytest.mark.usefixtures("minirt")
def test_a_new_size_reaches_the_workload() -> None:
    terminal = Terminal("run", "--rm", "-qit", "host", "bash", "--norc")
    terminal.type("trap 'stty size' WINCH; echo rea''dy\n")
    terminal.expect("ready")
    terminal.resize(20, 50)
    terminal.type("\n")
    terminal.expect("20 50")
    terminal.type("exit\n")
    assert terminal.end() == 0


@pytest.mark.usefixtures("minirt")
def test_control_c_goes_to_the_workload_and_not_to_minirt() -> None:
    terminal = Terminal("run", "--rm", "-qit", "host", "bash", "--norc")
    terminal.type("sleep 100\n")
    terminal.expect("sleep 100")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.type("echo sta''tus $?\n")
    terminal.expect("status 130")
    terminal.type("exit 0\n")
    assert terminal.end() == 0


def test_exec_has_a_terminal_too(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "host", "sleep", "600")
    terminal = Terminal("exec", "-it", "web", "sh")
    terminal.type("stty size; tty; exit 6\n")
    terminal.expect("33 99")
    terminal.expect("/dev/pts/")
    assert terminal.end() == 6
    minirt.ok("rm", "-f", "web")


def test_a_terminal_in_the_background_is_logged(minirt: Command) -> None:
    minirt.ok("run", "-dt", "--name", "job", "host", "sh", "-c", "test -t 1 && echo yes")
    minirt.ok("wait", "job")
    assert minirt.ok("logs", "job") == "yes"  # universal newlines make one of the terminal's two characters
    minirt.ok("rm", "job")


def test_the_terminal_is_as_it_was_after_a_kill_of_the_workload(minirt: Command) -> None:
    terminal = Terminal("run", "--rm", "-qit", "--name", "x", "host", "bash", "--norc")
    terminal.type("echo rea''dy\n")
    terminal.expect("ready")
    minirt.ok("kill", "x")
    assert terminal.end() == 128 + signal.SIGKILL


def test_a_terminal_without_one_to_pass_on_is_refused(minirt: Command) -> None:
    assert "not a terminal" in minirt.fails(125, "run", "--rm", "-it", "host", "true", stdin=subprocess.DEVNULL)
