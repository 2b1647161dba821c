"""`minirt lesson`: the learner types, or has typed, or does otherwise, and is told what is true."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from support.command import PROGRAM, Command
from support.terminal import Terminal

from minirt.lessons import page

ENTER, NOBODY = "\n" * 100, "65534"


@pytest.mark.parametrize("lesson", page.lessons(), ids=lambda lesson: str(lesson.number))
def test_who_only_presses_enter_comes_to_the_end_and_the_machine_is_as_it_was(
    minirt: Command, lesson: page.Lesson
) -> None:
    told = minirt.ok("lesson", str(lesson.number), input=ENTER)
    facts = [fact.words for step in lesson.steps for fact in step.facts]
    assert re.findall(r"^✓ (.*)$", told, re.MULTILINE) == facts
    assert "✗" not in told
    assert told.rpartition("\n")[2].startswith(f"That was lesson {lesson.number}. ")
    assert minirt.machine.links() == {"lo"} and minirt.machine.nft() == []


def test_without_a_number_they_are_listed(minirt: Command) -> None:
    listed = [line.split(None, 1) for line in minirt.ok("lesson").splitlines()]
    assert listed == [[str(lesson.number), lesson.title] for lesson in page.lessons()]


def test_a_lesson_that_is_not_there_and_a_learner_who_is_not_root_are_told(minirt: Command) -> None:
    assert "there is no lesson '11'" in minirt.fails(1, "lesson", "11")
    words = ["setpriv", "--reuid", NOBODY, "--clear-groups", PROGRAM, "lesson", "1"]
    done = minirt.machine.run(*words, check=False)
    assert done.returncode == 1 and "needs root" in done.stderr


def test_a_program_that_is_missing_is_told_with_its_package(minirt: Command, tmp_path: Path) -> None:
    for name in ("unshare", "bash", "ip", "bridge", "ping"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    told = minirt.fails(1, "lesson", "8", env={"PATH": str(tmp_path)})
    assert "lesson 8 needs nft, curl" in told and "apt install nftables curl" in told


def test_what_the_learner_has_set_for_plugins_stays_outside_of_the_lab(minirt: Command) -> None:
    strange = {"CNI_PATH": "/nowhere", "CNI_IFNAME": "strange", "NETCONFPATH": "/nowhere"}
    told = minirt.ok("lesson", "5", input=ENTER, env=os.environ | strange)
    assert "✗" not in told and "That was lesson 5." in told


def test_a_step_that_needs_what_is_not_there_is_only_read(minirt: Command) -> None:
    minirt.machine.run("mount", "-t", "tmpfs", "none", "/usr/lib/cni")
    told = minirt.ok("lesson", "10", input=ENTER)
    minirt.machine.run("umount", "/usr/lib/cni")
    (step,) = [step for step in page.find("10").steps if step.need]
    assert "/usr/lib/cni/bridge is missing, of the package containernetworking-plugins" in " ".join(told.split())
    assert f"lab# {step.commands[0]}" not in told and "That was lesson 10." in told


@pytest.fixture
def learner(minirt: Command) -> Terminal:
    """One who has begun the first lesson, up to the first step."""
    assert minirt.machine
    learner = Terminal("lesson", "1", columns=90, NO_COLOR="1", TERM="xterm")
    learner.expect("…")
    learner.type("\n")
    learner.expect("    ip netns list\r\n\r\nlab# ")
    return learner


def _leave(learner: Terminal) -> None:
    learner.type("quit\n")
    learner.expect("The lab goes")
    assert learner.end() == 130


def test_what_the_learner_types_is_run_and_judged(learner: Terminal) -> None:
    learner.type("ip netns add red\n")
    learner.expect("lab# ")
    learner.type("ip  netns list\n")
    learner.expect("✓ There is a namespace called red.")
    learner.expect("This is all that a new namespace has.")
    _leave(learner)


def test_what_is_not_true_is_told_and_can_be_mended(learner: Terminal) -> None:
    learner.type("next\n")
    learner.expect("✗ There is a namespace called red.")
    learner.type("\n")
    learner.expect("ip netns add red")
    learner.expect("lab# ")
    learner.type("ip netns del red\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("✗ There is a namespace called red.")
    learner.type("again\n")
    learner.expect("    ip netns add red\r\n")
    learner.type("\n\n")
    learner.expect("✓ There is a namespace called red.")
    _leave(learner)


def test_another_way_to_the_same_fact_is_a_way(learner: Terminal) -> None:
    learner.type("name=red; for one in $name\n")
    learner.expect("> ")
    learner.type("do ip netns add $one; done\n")
    learner.expect("That does it as well.")
    learner.type("next\n")
    learner.expect("✓ There is a namespace called red.")
    _leave(learner)


def test_control_c_ends_the_line_that_runs_and_not_the_lesson(learner: Terminal) -> None:
    learner.type("begun and dropped")
    learner.expect("dropped")
    time.sleep(0.2)  # readline misses a signal that comes between its echo and its waiting
    learner.type("\x03")
    learner.expect("^C\r\nlab# ")
    learner.type("while true; do sleep 0.1; echo tur''ning; done; echo nev''er\n")
    learner.expect("turning")
    learner.type("\x03")
    learner.expect("lab# ")
    learner.type("echo here\n")
    learner.expect("\nhere")
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    _leave(learner)
    assert b"never" not in learner.all


def test_the_shell_that_is_left_ends_the_lesson_with_a_sentence(learner: Terminal) -> None:
    learner.type("exit 3\n")
    learner.expect("minirt: error: the lab is gone")
    assert learner.end() == 1


def test_the_second_terminal_comes_into_the_lab(learner: Terminal, minirt: Command) -> None:
    shown = re.sub(r"\s+", " ", learner.all.decode())
    found = re.search(r"nsenter --target \d+ --net --mount --pid", shown)
    assert found
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.expect("lab# ")
    assert minirt.machine.text(*found[0].split(), "ip", "netns", "list").strip() == "red"
    _leave(learner)


def test_text_fits_the_terminal_and_no_color_means_none(learner: Terminal) -> None:
    _leave(learner)
    assert b"\x1b[3" not in learner.all and b"\x1b[1" not in learner.all
    assert max(len(line) for line in learner.all.decode().splitlines()) <= 90


def test_of_a_lesson_that_is_killed_nothing_stays(learner: Terminal) -> None:
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.type("sleep 1000 &\n")
    learner.expect("lab# ")
    learner.process.kill()  # what stays is found when the test is over
    assert learner.process.wait(15) == -signal.SIGKILL
    os.close(learner.slave)
    os.close(learner.master)


def test_the_words_are_told_whenever_they_are_asked_for(learner: Terminal) -> None:
    learner.type("?\n")
    learner.expect("Enter types the next")
    learner.expect("lab# ")
    _leave(learner)


def test_in_colours_a_command_that_is_typed_for_the_learner_stands_at_his_prompt(minirt: Command) -> None:
    assert minirt.machine
    learner = Terminal("lesson", "1", NO_COLOR="", TERM="xterm")
    learner.expect("\x1b[1;36m1. An empty namespace, and a wire\x1b[0m")
    learner.type("\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("\x1b[1A\r\x1b[Klab# \x1b[1mip netns add red\x1b[0m")
    _leave(learner)
