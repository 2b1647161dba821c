"""The terminal of a container: made inside it, of the size that is asked, and its process's own."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import box, leftovers

from minirt import cgroup, init, join, tty
from minirt.child import Child
from minirt.process import Process

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*leftovers.FOLDERS)]


def show(child: Child) -> str:
    """All that the terminal shows until its last user has gone."""
    text = b""
    try:
        while chunk := os.read(child.terminal, 4096):
            text += chunk
    except OSError:  # EIO: no slave is open any more
        pass
    os.close(child.terminal)
    os.close(child.pidfd)
    os.waitpid(child.pid, 0)
    return text.decode().replace("\r\n", "\n")


@contextmanager
def started(*args: str, **options: Any) -> Iterator[Child]:
    with box.prepared():
        child = init.launch(box.spec(*args, terminal=True, **options))
        child.wait_ready()
        child.go()
        yield child


def expect(child: Child, text: str, seconds: float = 5.0) -> str:
    seen, deadline = "", time.monotonic() + seconds
    while text not in seen:
        assert select.select([child.terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(child.terminal, 4096).decode()
    return seen


def test_its_streams_are_one_terminal_of_the_containers_own() -> None:
    with started("sh", "-c", "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; tty; ls /dev/pts") as child:
        assert show(child).split() == ["/dev/pts/0"] * 4 + ["0", "ptmx"]


def test_it_is_the_controlling_terminal() -> None:
    with started("sh", "-c", "echo via-tty > /dev/tty; ps -o tty=,sid=,tpgid= -p 1; echo $TERM") as child:
        assert show(child).split() == ["via-tty", "pts/0", "1", "1", "xterm"]


def test_the_console_is_that_very_terminal() -> None:
    """CVE-2025-52565: by name, something else could have been bound there."""
    with started("sh", "-c", "echo via-console > /dev/console; stat -Lc %t:%T /dev/console /dev/pts/0") as child:
        first, console, slave = show(child).split()
        assert first == "via-console"
        assert console == slave == "88:0"


def test_without_a_terminal_there_is_no_console() -> None:
    assert box.sh("ls /dev/console 2>/dev/null || ls /dev/pts") == ["ptmx"]


def test_its_size_is_the_one_asked_for_and_a_change_reaches_it() -> None:
    script = "stty size; trap 'stty size; exit' WINCH; echo waiting; while :; do sleep 0.05; done"
    with started("sh", "-c", script, size=(33, 99)) as child:
        assert expect(child, "waiting").split()[:2] == ["33", "99"]
        tty.set_size(child.terminal, (44, 111))
        assert show(child).split() == ["44", "111"]


def test_keys_are_the_foreground_processs_signals() -> None:
    with started("sh", "-c", "trap 'echo interrupted; exit' INT; echo waiting; while :; do sleep 0.05; done") as child:
        expect(child, "waiting")
        os.write(child.terminal, b"\x03")
        assert "interrupted" in show(child)


def test_another_user_owns_it() -> None:
    script = "stat -c %u:%a /dev/pts/0; echo ok > /dev/tty; echo again > /dev/stdout"
    with started("sh", "-c", script, user="1000") as child:
        assert show(child).split() == ["1000:620", "ok", "again"]


def test_a_joining_process_gets_one_of_its_own_in_the_container() -> None:
    with started("sh", "-c", "echo waiting; read line; echo $line") as child:
        expect(child, "waiting")
        process = Process(("sh", "-c", "tty; stty size; echo ok > /dev/tty"), terminal=True, size=(22, 66))
        other = join.execute(child.pidfd, process, cgroup.of(box.NAME))
        assert show(other).split() == ["/dev/pts/1", "22", "66", "ok"]
        os.write(child.terminal, b"bye\n")
        assert show(child).split() == ["bye", "bye"]  # the echo, and the shell's
