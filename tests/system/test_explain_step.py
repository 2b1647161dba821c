"""`--step`: a stop before each step, in every verb that takes it, and what can be answered there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from support import leftovers
from support.command import CONTAINERS, Command, bridge, eventually
from support.terminal import Terminal

PROMPT = "[q] give up: "

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "link *", "address *", "nft *", "directory *", "file *")


class Steps:
    """A stepped command at a terminal; lines as they are, without colours."""

    def __init__(self, *words: str) -> None:
        self.terminal = Terminal(*words, NO_COLOR="1", SHELL="/bin/sh")
        self.shown = 0

    def answer(self, *answers: str) -> None:
        """Each at a stop of its own."""
        for each in answers:
            self.terminal.expect(PROMPT)
            self.terminal.type(each)

    def until(self, text: str) -> None:
        """Enter at every stop, up to the one at which `text` is shown."""
        while True:
            self.terminal.expect(PROMPT)
            since, self.shown = self.text[self.shown :], len(self.text)
            if text in since:
                return
            self.terminal.type("\n")

    @property
    def text(self) -> str:
        return self.terminal.all.decode().replace("\r\n", "\n")

    def end(self) -> tuple[int, str]:
        """Exit code, and all that was shown."""
        while self.terminal.process.poll() is None or self.terminal.read(0.1):
            self.terminal.read(0.1)
        return self.terminal.end(), self.text


@pytest.mark.usefixtures("minirt")
def test_it_says_where_to_look_and_offers_a_shell() -> None:
    steps = Steps("run", "--rm", "-q", "--step", "host", "echo", "started")
    steps.answer("\n", "\n", "s\n")
    steps.terminal.expect("comes back here")
    steps.terminal.type("exec ip -br link > /run/seen\n")
    steps.answer("c\n")
    code, shown = steps.end()
    assert code == 0 and "\nstarted\n" in shown
    assert "watch in another terminal: ip netns; lsns -t net" in shown
    assert shown.count("[Enter] do it") == 4
    assert Path("/run/seen").read_text(encoding="utf-8").startswith("lo ")


@pytest.mark.usefixtures("minirt")
def test_what_is_to_be_seen_is_seen_when_the_step_is_done_and_not_before() -> None:
    """Every look is typed at its stop, and again at the next one: the step has changed what it shows."""
    steps = Steps("run", "--rm", "-q", "--step", "-p", "8080:80", "host", "true")
    unchanged, before = [], ("", "", "")
    while True:
        try:
            steps.terminal.expect(PROMPT)
        except (AssertionError, OSError):
            break
        since, steps.shown = steps.text[steps.shown :], len(steps.text)
        if before[1] and before[2] == seen(before[1]):
            unchanged.append(before[:2])
        *_, look = re.findall(r"watch in another terminal: ((?:.*\\\n)*.*)\n", since) or [""]
        command = " ".join(re.findall(r"\$ (.*)\n", since)[-1:])
        before = command, look, seen(look)
        steps.terminal.type("\n")
    assert steps.terminal.end() == 0
    # Values that are so already; a process that does not show what it was told before it has mounted a /proc.
    same = ("sysctl -w", "link set eth0 address", "mount --make-rslave", "ip link set minirt0 up")
    assert [item for item in unchanged if not any(word in item[0] for word in same)] == []


def seen(look: str) -> str:
    done = subprocess.run(["sh", "-c", look], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_it_can_be_given_up_and_leaves_nothing(minirt: Command) -> None:
    """In the middle of a plugin, which itself takes back what it has made until then, without being asked again."""
    steps = Steps("run", "--rm", "-q", "--step", "host", "echo", "started")
    steps.until("$ ip addr add 10.143.0.1")
    steps.terminal.type("q\n")
    code, shown = steps.end()
    assert code == 130 and "started" not in shown
    assert "given up\n" in shown and "it failed: what was done until then is taken back" in shown
    assert "given up" in shown[shown.rindex(PROMPT) :]
    assert minirt.machine.links() == {"lo"}
    assert minirt.ok("ps", "-aq") == ""


@pytest.mark.usefixtures("minirt")
def test_no_stop_is_under_a_lock_that_all_wait_for() -> None:
    """host-local tells what it notes, and asks nobody: for its lock all calls of the network wait."""
    steps = Steps("run", "--rm", "-q", "--step", "host", "true")
    steps.until("$ printf")
    told = steps.text[steps.text.index("$ printf") :]
    assert told.index("/last_reserved_ip.1\n") < told.index(PROMPT)
    steps.terminal.type("c\n")
    code, shown = steps.end()
    assert code == 0 and "$ rm /var/lib/cni/networks/minirt/10.143.0.2\n" in shown


@pytest.mark.parametrize("keys", ["\x03", "\x04"])
def test_an_interrupt_and_the_end_of_input_give_up_too(minirt: Command, keys: str) -> None:
    steps = Steps("run", "--rm", "-q", "--step", "host", "true")
    steps.until("$ ip link add minirt0")
    steps.terminal.type(keys)
    code, shown = steps.end()
    assert code == 130 and "given up" in shown[shown.rindex(PROMPT) :]
    assert minirt.machine.links() == {"lo"}


def test_a_key_that_means_nothing_does_nothing(minirt: Command) -> None:
    steps = Steps("run", "--rm", "-q", "--step", "host", "true")
    steps.answer("bogus\n")
    steps.terminal.expect(PROMPT)
    assert minirt.machine.text("ip", "netns", "list") == ""
    steps.terminal.type("c\n")
    assert steps.end()[0] == 0


def test_the_steps_of_one_can_be_passed_over(minirt: Command) -> None:
    steps = Steps("run", "--rm", "-q", "--step", "host", "true")
    steps.until("$ ip link add minirt0")
    steps.terminal.type("n\n")
    steps.until("$ echo 0 > /sys/fs/cgroup")
    assert "minirt0" in minirt.machine.links()
    steps.terminal.type("n\n")
    steps.until("$ ip link del veth")
    steps.terminal.type("c\n")
    assert steps.end()[0] == 0


def test_every_verb_that_takes_it_stops(minirt: Command) -> None:
    minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "100")
    inside = Steps("exec", "--step", "web", "hostname")
    inside.answer("\n", "\n", "\n")
    code, shown = inside.end()
    assert code == 0 and "$ nsenter --target" in shown and "$ setpriv" in shown

    stop = Steps("stop", "-t", "0", "--step", "web")
    stop.until("$ ip link del veth")
    assert any(name.startswith("veth") for name in minirt.machine.links())
    stop.terminal.type("\n")
    stop.until("$ ip netns delete")
    assert not any(name.startswith("veth") for name in minirt.machine.links())
    stop.terminal.type("c\n")
    assert stop.end()[0] == 0

    start = Steps("start", "--attach", "--step", "web")
    start.until("$ ip link add minirt0" if "minirt0" not in minirt.machine.links() else "$ ip link add veth")
    start.terminal.type("c\n")
    start.terminal.expect("process 1 becomes sleep 100")
    minirt.ok("kill", "web")
    assert start.end()[0] == 137

    minirt.ok("start", "web")
    remove = Steps("rm", "-f", "--step", "web")
    remove.until("$ ip link del veth")
    remove.terminal.type("q\n")  # its process has ended, so it is taken down all the same
    code, shown = remove.end()
    assert "taken down all the same" in shown and code == 0
    assert minirt.ok("ps", "-aq") == "" and minirt.machine.text("ip", "netns", "list") == ""


def test_the_verbs_of_cni_stop_too(minirt: Command, tmp_path: Path) -> None:
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"))
    box = minirt.machine.netns("box")
    add = Steps("cni", "add", "--step", "lab", box)
    add.until("$ ip link add cni-lab")
    assert "cni-lab" not in minirt.machine.links()
    add.terminal.type("c\n")
    assert add.end()[0] == 0 and "cni-lab" in minirt.machine.links()
    remove = Steps("cni", "--step", "del", "lab", box)
    remove.until("$ ip link del veth")
    remove.terminal.type("c\n")
    assert remove.end()[0] == 0
    conf = tmp_path / "conf.json"
    conf.write_text('{"cniVersion": "1.0.0", "name": "hand", "type": "bridge", "bridge": "hand0"}')
    exec_ = Steps("cni", "exec", "--step", "bridge", "add", "web", box, "--conf", str(conf))
    exec_.until("$ ip link add hand0")
    assert "hand0" not in minirt.machine.links()
    exec_.terminal.type("q\n")
    assert exec_.end()[0] != 0 and "hand0" not in minirt.machine.links()


def test_it_needs_a_terminal_and_a_foreground(minirt: Command) -> None:
    assert "another process" in minirt.fails(125, "run", "-d", "--step", "host", "true")
    assert "terminal" in minirt.fails(125, "run", "--step", "host", "true", start_new_session=True)
    minirt.ok("run", "--name", "web", "-q", "host", "true")
    assert "--attach" in minirt.fails(125, "start", "--step", "web")
    minirt.ok("rm", "web")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_asking_also_while_a_container_is_taken_down(minirt: Command, number: int) -> None:
    steps = Steps("run", "--rm", "-q", "--step", "host", "true")
    steps.until("$ ip link del veth")
    os.kill(steps.terminal.process.pid, number)
    code, shown = steps.end()
    assert code == 0 and "taken down all the same" in shown
    assert minirt.ok("ps", "-aq") == "" and minirt.machine.text("ip", "netns", "list") == ""


def test_what_a_killed_asker_has_left_keeps_nobody_from_being_told(minirt: Command) -> None:
    """Its socket, at which nobody listens any more, whichever the folder lists first."""
    identity = minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "100")
    place = CONTAINERS / identity

    def left(name: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone:
            gone.bind(f"{place}/explain.{name}")

    left("before")
    asker = minirt.start("stop", "-t", "1", "--explain", "web", stderr=subprocess.PIPE)
    eventually(lambda: len([*place.glob("explain.*")]) == 2)
    left("after")
    assert "$ ip link del veth" in asker.communicate(timeout=20)[1] and asker.returncode == 0
    minirt.ok("rm", "web")


def test_a_supervisor_that_is_killed_at_a_stop_is_told_and_its_work_is_done(minirt: Command) -> None:
    identity = minirt.ok("run", "-d", "-q", "--name", "web", "host", "sleep", "100")
    stop = Steps("stop", "-t", "0", "--step", "web")
    stop.until("$ ip link del veth")
    (supervisor,) = minirt.machine.text("pgrep", "-o", "-f", f"supervise {identity}").split()
    os.kill(int(supervisor), signal.SIGKILL)
    stop.terminal.type("\n")
    stop.terminal.expect("has ended before it was done")
    stop.answer("c\n")  # who asked for the end takes it down now
    code, shown = stop.end()
    assert code == 0, shown
    assert minirt.machine.text("ip", "netns", "list") == ""
    assert "Exited" in minirt.ok("ps", "-a")
    minirt.ok("rm", "web")
