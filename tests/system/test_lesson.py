"""`minirt lesson`: the learner types, or has typed, or does otherwise, and is told what is true."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest
from support.command import PROGRAM, Command
from support.terminal import Terminal

from minirt.lessons import page
from minirt.lessons.screen import PAUSE

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
    assert "/usr/lib/cni/bridge (package containernetworking-plugins) is missing" in " ".join(told.split())
    assert f"lab# {step.commands[0]}" not in told and "That was lesson 10." in told


@pytest.fixture
def learner(minirt: Command) -> Terminal:
    """One who has begun the first lesson, up to the first step."""
    assert minirt.machine
    learner = Terminal("lesson", "1", columns=90, NO_COLOR="1", TERM="xterm")
    learner.expect(PAUSE)
    learner.type("\n")
    learner.expect("    ip netns list\r\n\r\nlab# ")
    return learner


def _leave(learner: Terminal) -> None:
    learner.type("quit\n")
    learner.expect("The lab goes")
    assert learner.end() == 130


def _interrupt(learner: Terminal, shown: str) -> None:
    """Ctrl-C, once more when it is lost: readline misses a signal that comes between its echo and its waiting."""
    for seconds in (1, 2, 4, 8):
        learner.type("\x03")
        try:
            return learner.expect(shown, seconds)
        except AssertionError:
            continue
    raise AssertionError(f"ctrl-C did not lead to {shown!r}")


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
    learner.type("ip netns add red\n")
    learner.expect("✓ There is a namespace called red.")
    _leave(learner)


def test_what_is_seen_in_place_of_what_should_be_is_shown(learner: Terminal) -> None:
    learner.type("ip netns add rde\n")
    learner.expect("lab# ")
    learner.type("next\n")
    learner.expect("✗ There is a namespace called red.\r\n  ip netns list says:\r\n    rde\r\n")
    learner.type("ip netns del rde\n")
    learner.expect("lab# ")
    learner.type("next\n")
    learner.expect("says:\r\n    (nothing)\r\n")
    _leave(learner)


@pytest.mark.parametrize("lesson", page.lessons(), ids=lambda lesson: str(lesson.number))
def test_what_the_learner_makes_besides_does_not_keep_a_lesson_from_its_end(
    minirt: Command, lesson: page.Lesson
) -> None:
    besides = "ip netns add anything; ip link add else type bridge; nft add table ip mine; touch thing\n"
    told = minirt.ok("lesson", str(lesson.number), input=besides + ENTER)
    assert "✗" not in told and f"That was lesson {lesson.number}. " in told


def test_again_begins_the_step_in_a_lab_where_all_is_as_it_was_before_it(learner: Terminal, minirt: Command) -> None:
    learner.type("\n\n")
    learner.expect("✓ There is a namespace called red.")
    learner.type("ip netns add blue; ip -n red link set lo up; export CNI_PATH=/nowhere; rm -r /run/netns; cd /\n")
    learner.expect("lab# ")
    learner.type("again\n")
    learner.expect("It is there.")
    learner.expect("`ip -n red` is `ip`, asking inside of red.")
    learner.expect("    ip -n red addr\r\n    ip -n red route\r\n\r\nlab# ")
    learner.type("ip netns list; ip -n red -br link; echo $PWD $CNI_PATH.\n")
    learner.expect("\r\nred\r\nlo               DOWN")
    learner.expect("/run/lab .\r\n")
    found = re.findall(rb"nsenter --target \d+ --net --mount --pid", learner.all.replace(b"\r\n", b" "))
    assert len(set(found)) == 2
    assert minirt.machine.text(*found[1].decode().split(), "ip", "netns", "list").strip() == "red"
    _leave(learner)


def test_of_the_lab_that_again_has_left_nothing_runs_on(learner: Terminal, minirt: Command) -> None:
    learner.type("sleep 1234 &\n")
    learner.expect("lab# ")
    learner.type("again\n")
    learner.expect("It is there.")
    assert minirt.machine.run("pgrep", "-fx", "sleep 1234", check=False).stdout == ""
    _leave(learner)


def test_another_way_to_the_same_fact_is_a_way(learner: Terminal) -> None:
    learner.type("name=red; for one in $name\n")
    learner.expect("> ")
    learner.type("do ip netns add $one; done\n")
    learner.expect("What this step is for has been done.")
    learner.type("next\n")
    learner.expect("✓ There is a namespace called red.")
    _leave(learner)


def test_a_command_out_of_its_turn_is_not_typed_once_more(learner: Terminal) -> None:
    learner.type("ip netns list\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.expect("✓ There is a namespace called red.")
    assert learner.all.count(b"lab# ip netns list") == 1
    _leave(learner)


def test_what_bash_says_of_a_mistake_has_no_place_in_the_lab_s_own_text(learner: Terminal) -> None:
    learner.type("hint\n")
    learner.expect("hint\r\nhint: command not found\r\n")
    learner.type("cd /nowhere\n")
    learner.expect("\r\nlab: line 1: cd: /nowhere: No such file or directory\r\n")
    _leave(learner)


@pytest.mark.parametrize("word", ["quit", "exit", "\x04"])
def test_who_reads_can_leave(minirt: Command, word: str) -> None:
    assert minirt.machine
    learner = Terminal("lesson", "1", NO_COLOR="1")
    learner.expect(PAUSE)
    learner.type(word if word == "\x04" else f"{word}\n")
    learner.expect("The lab goes")
    assert learner.end() == 130


def test_who_reads_can_ask_and_try_and_drop_a_line(minirt: Command) -> None:
    assert minirt.machine
    learner = Terminal("lesson", "1", NO_COLOR="1")
    learner.expect(PAUSE)
    learner.type("?\n")
    learner.expect("Enter goes on with the text.")
    learner.expect(PAUSE)
    learner.type("echo $((6 * 7))\n")
    learner.expect("\r\n42\r\n")
    learner.expect(PAUSE)
    _interrupt(learner, f"^C\r\n{PAUSE}")
    learner.type("\n")
    learner.expect("Make one, and call it red.")
    _leave(learner)


def test_the_machine_s_files_can_be_read_and_not_changed(learner: Terminal) -> None:
    with tempfile.NamedTemporaryFile("w", dir="/var/tmp", delete=False) as file:  # not below /tmp
        file.write("precious\n")
    try:
        learner.type(f"rm -f {file.name}; echo mine >{file.name}; cat {file.name}\n")
        learner.expect(f"cannot remove '{file.name}': Read-only file system")
        learner.expect(f"{file.name}: Read-only file system")
        learner.expect("\r\nprecious\r\n")
        assert Path(file.name).read_text() == "precious\n"
    finally:
        Path(file.name).unlink(missing_ok=True)
    _leave(learner)


def test_control_c_ends_the_line_that_runs_and_not_the_lesson(learner: Terminal) -> None:
    learner.type("begun and dropped")
    learner.expect("dropped")
    _interrupt(learner, "^C\r\nlab# ")
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


def test_a_shell_with_job_control_in_the_lab_leaves_the_terminal_to_the_lesson(learner: Terminal) -> None:
    learner.type("bash --norc -i\n")
    learner.expect("# ")
    learner.type("exit\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.expect("lab# ")
    learner.type("cat\n")
    learner.expect("cat")
    time.sleep(0.3)
    learner.type("\x03")
    learner.expect("lab# ")
    _leave(learner)


def test_a_lesson_in_the_lab_of_a_lesson_leaves_that_as_it_was(learner: Terminal) -> None:
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.expect("lab# ")
    learner.type("minirt lesson 2\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("lab# ip netns add red")
    learner.expect("lab# ")
    learner.type("quit\n")
    learner.expect("The lab goes")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("✓ There is a namespace called red.")
    _leave(learner)


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


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "closed"])
def test_of_a_lesson_that_is_killed_nothing_stays(
    learner: Terminal, minirt: Command, end: str, foreground: bool
) -> None:
    learner.type("minirt run -d --network none host sleep 4321; echo it ru''ns\n")
    learner.expect("it runs")
    learner.type("sleep 4321\n" if foreground else "sleep 4321 &\n")
    learner.expect("sleep 4321")
    time.sleep(0.3)
    if end == "closed":
        os.close(learner.slave)
        os.close(learner.master)
        assert learner.process.wait(15) in (-signal.SIGHUP, 130)
    else:
        learner.process.send_signal(signal.Signals[end])
        assert learner.process.wait(15) == -signal.Signals[end]
        os.close(learner.slave)
        os.close(learner.master)
    deadline = time.monotonic() + 5  # what stays longer is found when the test is over
    while minirt.machine.run("pgrep", "-fx", "sleep 4321", check=False).stdout and time.monotonic() < deadline:
        time.sleep(0.1)


def test_the_words_are_told_whenever_they_are_asked_for(learner: Terminal) -> None:
    learner.type("?\n")
    learner.expect("Enter types the next")
    learner.expect("lab# ")
    _leave(learner)


def test_in_colours_a_command_that_is_typed_for_the_learner_stands_at_their_prompt(minirt: Command) -> None:
    assert minirt.machine
    learner = Terminal("lesson", "1", NO_COLOR="", TERM="xterm")
    learner.expect("\x1b[1;36m1. An empty namespace, and a wire\x1b[0m")
    learner.type("\n")
    learner.expect("lab# ")
    learner.type("\n")
    learner.expect("\x1b[1A\r\x1b[Klab# \x1b[1mip netns add red\x1b[0m")
    _leave(learner)


def test_two_lessons_at_once_are_in_nobodys_way(minirt: Command) -> None:
    """Also where the machine lacks the folders that a lab hides: none of them is made, so none is to be removed."""
    minirt.machine.run("mount", "-t", "tmpfs", "none", "/opt")
    first, second = (Terminal("lesson", "1") for _ in range(2))
    for learner in (first, second):
        learner.expect(PAUSE)
    _leave(first)
    second.type("touch /opt/cni/mine && ls /opt/cni\n")
    second.expect("\r\nmine")
    assert minirt.machine.text("ls", "/opt") == ""
    _leave(second)
    minirt.machine.run("umount", "/opt")


@pytest.mark.parametrize("line", [b"echo \xff\xfe\n", b"echo a\0b\n", b"true " + b"x" * 300_000 + b"\n"])
def test_a_line_that_is_no_text_does_not_end_the_lesson(minirt: Command, line: bytes) -> None:
    text = (line + ENTER.encode()).decode(errors="surrogateescape")
    told = minirt.machine.run(PROGRAM, "lesson", "1", input=text, errors="surrogateescape")
    assert "That was lesson 1." in told.stdout
