"""A real terminal: what the workload sees of it, and that the caller's is left as it was."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest
from support.command import Command
from support.terminal import Terminal


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
