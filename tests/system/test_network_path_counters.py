"""`minirt network path --counters` beside rules that count: whose they are, and what becomes of them meanwhile."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Command
from support.machine import Machine
from support.world import WORLD, add_world

from minirt.errors import MinirtError
from minirt.picture import counters, ruleset
from minirt.picture.kernel import OURS
from minirt.picture.matching import Packet
from minirt.picture.path import Hop, Walk

SLEEP = ("host", "sleep", "600")
WALL = "table inet wall {{ chain way {{ type filter hook {hook} priority 0; {rule}; }}; }}"
NFT = """#!/bin/sh
[ "$1" != -i ] || { printf 'first line\\nno luck\\033[31m\\n' >&2; exit 1; }
exec /usr/sbin/nft "$@"
"""


@pytest.fixture(autouse=True)
def world(machine: Machine) -> None:
    """Another host behind this one's uplink."""
    add_world(machine)
    machine.leaves("link *", "address *", "route *", "nft *", "directory *")


def counted(minirt: Command, meanwhile: Callable[[], object]) -> list[str]:
    """What the rules on web's way to the world have counted while something happened, as it is told."""
    counting = minirt.start("network", "path", "web", WORLD, "--counters", stdout=subprocess.PIPE)
    assert counting.stdout
    while "0/0" not in counting.stdout.readline():
        assert counting.poll() is None
    meanwhile()
    counting.send_signal(signal.SIGINT)
    told = counting.communicate(timeout=20)[0]
    assert counting.returncode == 0, told
    return sorted(line.strip() for line in told.partition("rules that count:\n")[2].splitlines())


def test_rules_of_a_container_and_of_the_host_are_not_taken_for_each_other(minirt: Command) -> None:
    """They have the same names and handles, and have counted other packets before."""
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    inside = ("ip", "netns", "exec", minirt.inspect("web")["Id"])
    rule = f"ip daddr {WORLD} counter accept"
    machine.run(*inside, "nft", WALL.format(hook="output", rule=rule))
    machine.run(*inside, "ping", "-c3", "-i0.1", "-q", WORLD)
    machine.run("nft", WALL.format(hook="forward", rule=rule))
    told = counted(minirt, lambda: machine.run(*inside, "ping", "-c2", "-i0.1", "-q", WORLD))
    assert told == ["+2  inet wall way", "+2  inet wall way of web"]
    machine.run(*inside, "nft", "flush", "ruleset")
    told = counted(minirt, lambda: machine.run("nft", "flush table inet wall"))
    assert told == ["gone, or made anew: inet wall way"]
    minirt.ok("rm", "-f", "web")


def test_a_rule_that_was_made_anew_tells_no_number(minirt: Command) -> None:
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    inside = ("ip", "netns", "exec", minirt.inspect("web")["Id"])
    rule = f"ip daddr {WORLD} counter accept"
    machine.run("nft", WALL.format(hook="forward", rule=rule))
    machine.run(*inside, "ping", "-c3", "-i0.1", "-q", WORLD)

    def again() -> None:
        machine.run("nft", "delete", "table", "inet", "wall")
        machine.run("nft", WALL.format(hook="forward", rule=rule))

    assert counted(minirt, again) == ["gone, or made anew: inet wall way"]
    minirt.ok("rm", "-f", "web")


def test_what_nft_says_is_told_in_its_last_words(minirt: Command, tmp_path: Path) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    (tmp_path / "nft").write_text(NFT)
    (tmp_path / "nft").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"}
    told = minirt.fails(1, "network", "path", "web", WORLD, "--counters", env=env)
    assert "nft says no luck\\x1b[31m\n" in told
    minirt.ok("rm", "-f", "web")


def test_nft_that_does_not_answer_is_no_table_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_words: str) -> str:
        raise subprocess.TimeoutExpired("nft", 30)

    monkeypatch.setattr(ruleset, "listed", late)
    walk = Walk(Packet("192.0.2.1", WORLD, "icmp"), [Hop("host lab", OURS, Packet("192.0.2.1", WORLD, "icmp"))])
    with pytest.raises(MinirtError, match="timed out"):
        counters.Counters(walk).read()
