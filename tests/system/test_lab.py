"""`vagrant/lab`: two panes on a real terminal, one to type in, one that shows what it did to the network."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command, eventually
from support.house import TOP
from support.screen import Screen

LAB = str(TOP / "vagrant/lab")


@pytest.fixture
def home(tmp_path: Path, minirt: Command) -> Iterator[dict[str, str]]:
    """The environment of a login on a private machine: a tmux of the lab's own keeps its socket there."""
    assert minirt.machine.links() == {"lo"}
    yield {"TMUX_TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    try:
        eventually(lambda: _lab_tmux(tmp_path, "has-session").returncode, seconds=3)  # 1: there is no server
    finally:
        _lab_tmux(tmp_path, "kill-server")


def _lab_tmux(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["env", f"TMUX_TMPDIR={folder}", "tmux", "-L", "lab", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def _bind_keys(folder: Path) -> None:
    """Keys that come within a millisecond mean nothing to tmux, as if pasted. A test types as fast as that."""
    assert _lab_tmux(folder, "set-option", "-g", "assume-paste-time", "0").returncode == 0


def _places(folder: Path) -> list[list[int]]:
    """Left, top, width and height of each pane."""
    shape = "#{pane_left} #{pane_top} #{pane_width} #{pane_height}"
    listed = _lab_tmux(folder, "list-panes", "-F", shape).stdout
    return [[int(word) for word in line.split()] for line in listed.splitlines()]


def test_what_is_typed_on_the_left_is_seen_on_the_right(tmp_path: Path, home: dict[str, str], minirt: Command) -> None:
    with Screen(tmp_path, LAB, columns=200, rows=60, environment=home) as screen:
        screen.until("│# ip -brief address")
        left, right = _places(tmp_path)
        assert left[:2] == [0, 0] and right[0] > left[2] >= 99 and right[1] == 0, "side by side"
        assert "Ctrl-b d: leave" in screen.text().splitlines()[-1]

        screen.type("echo $(id -u) $PWD $(command -v minirt) .")
        screen.until(rf"^0 {TOP} {TOP}/\.venv/bin/minirt \. ")
        screen.type("minirt run -q -d --name web -p 8080:80 host sleep 600")
        netns = screen.until(r"│# ip -n (\w+) -brief address")[1]
        assert netns in minirt.inspect("web")["NetworkSettings"]["SandboxKey"]
        screen.until(r"│  eth0@if\d+ +UP +10\.143\.0\.2/20")
        screen.until(r"│  default via 10\.143\.0\.1 dev eth0")
        screen.until("master minirt0")
        screen.until(r"│  table inet cni_portmap: map any4 \{ tcp \. 8080 comment")
        assert "tcp . 8080" in minirt.machine.text(LAB, "look")

        screen.type("minirt rm --force web")
        screen.until(r"minirt0 +DOWN")
        assert "│# ip -n" not in screen.text()
        screen.type("exit")
        assert screen.ended() == 0


def test_a_step_that_is_taken_on_the_left_is_seen_on_the_right(tmp_path: Path, home: dict[str, str]) -> None:
    """The very command that the left pane suggests first."""
    with Screen(tmp_path, LAB, columns=200, rows=100, environment=home) as screen:
        screen.type(screen.until(r"^  (minirt run --step .*?) +│")[1])
        screen.until(r"\$ ip netns add \$ID")
        screen.until(r"\[q\] give up")
        assert "│# ip -n" not in screen.text(), "not yet"
        screen.type("")
        screen.until(r"│# ip -n \w+ -brief address")
        screen.type("c")
        screen.until(r"^eth0@if\d+ +UP +10\.143\.0\.2/20")
        screen.type("exit")
        assert screen.ended() == 0


def test_the_watching_pane_is_a_shell_when_one_is_wanted(tmp_path: Path, home: dict[str, str]) -> None:
    with Screen(tmp_path, LAB, columns=200, rows=40, environment=home) as screen:
        screen.until("│# ip -brief address")
        _bind_keys(tmp_path)
        screen.press("C-b", "o", "C-c")
        screen.until("│A root shell, until exit")
        screen.type("echo over he''re $(command -v minirt)")
        screen.until(rf"│over here {TOP}/\.venv/bin/minirt")
        screen.type("exit")
        screen.until("│# ip -brief address")
        screen.press("C-b", "o")
        screen.type("exit")
        assert screen.ended() == 0


def test_on_a_small_terminal_the_panes_are_one_above_the_other(tmp_path: Path, home: dict[str, str]) -> None:
    with Screen(tmp_path, LAB, columns=100, rows=30, environment=home) as screen:
        screen.until("^# ip -brief address")
        upper, lower = _places(tmp_path)
        assert (upper[0], upper[2]) == (lower[0], lower[2]) == (0, 100) and lower[1] > upper[3] > 10
        screen.resize(190, 30)
        screen.until("│# ip -brief address")
        screen.resize(100, 30)
        screen.until("^# ip -brief address")
        screen.type("exit")
        assert screen.ended() == 0


def test_what_a_step_adds_to_nftables_has_room_where_the_panes_are_one_above_the_other(
    tmp_path: Path, home: dict[str, str], minirt: Command
) -> None:
    """Of 25 lines most are taken by links, addresses and routes: sets that are empty, and rules, do not come first."""
    with Screen(tmp_path, LAB, columns=160, rows=50, environment=home) as screen:
        screen.until("^# ip -brief address")
        screen.type("minirt run -q -d --name web -p 8080:80 host sleep 600")
        screen.until(r"^  table inet cni_portmap: map any4 \{ tcp \. 8080 comment .* : 10\.143\.0\.2 \. 80 \}")
        screen.until(r"^  table inet cni_masquerade: set subnets4 \{ 10\.143\.0\.0/20")
        identity = minirt.inspect("web")["Id"]
        shown = minirt.machine.text(LAB, "look")
        listed = shown.partition("(elements)")[2].partition("# lsns")[0]
        assert identity[:12] in listed and identity not in listed and "host4" not in listed
        assert "masquerade\n" in shown.partition("(rules)")[2], "the rules are there, too"
        screen.type("minirt rm --force web")
        screen.until(r"minirt0 +DOWN")
        screen.type("exit")
        assert screen.ended() == 0


def test_who_leaves_comes_back_to_the_same_lab(tmp_path: Path, home: dict[str, str]) -> None:
    with Screen(tmp_path, "sh", environment=home) as screen:
        screen.type(LAB)
        screen.until("Ctrl-b d: leave")
        _bind_keys(tmp_path)
        screen.type("NAME=kept")
        screen.press("C-b", "d")
        screen.until(r"^\[detached")
        screen.type(f"clear; {LAB}")
        screen.until("Ctrl-b d: leave")
        screen.type("echo this is $NAME")
        screen.until("^this is kept")
        screen.type("exit")
        screen.until(r"^\[exited\]")


def test_a_terminal_that_this_machine_has_never_heard_of_serves(tmp_path: Path, home: dict[str, str]) -> None:
    with Screen(tmp_path, LAB, environment=home | {"TERM": "xterm-of-tomorrow", "LC_ALL": "tlh_QO.UTF-8"}) as screen:
        screen.until("^─{100}")
        screen.type("exit")
        assert screen.ended() == 0


def test_without_a_terminal_or_inside_a_tmux_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run([LAB], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "lab: error: the lab needs a terminal: vagrant ssh, then lab\n"
    with Screen(tmp_path, "sh", environment={"TMUX": "another"}) as screen:
        screen.type(LAB)
        screen.until("^lab: error: this is inside tmux already")


def test_a_word_that_it_does_not_know_is_refused() -> None:
    done = subprocess.run([LAB, "luk"], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, "lab: error: there is no 'luk' here: lab, or lab look\n")
