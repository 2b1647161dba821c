"""Traces that are full, edited, cut off, of another format, or none at all; and plugins that never stop telling."""

from __future__ import annotations

import json
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import sequence

from minirt.cni.call import Answered, Calling
from minirt.cni.inside import Stepping
from minirt.errors import ConfigError, Conflict
from minirt.trace import lines, mermaid, reading, svg, tree
from minirt.trace.reading import Trace
from minirt.trace.recorder import Recorder

ENV = {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/box"}
HEAD = {"trace": 1, "run": "r", "time": "2026-11-24T04:19:11.1Z", "command": "minirt run"}
CALL = {
    "call": 1,
    "run": "r",
    "by": 0,
    "time": "2026-11-24T04:19:11.2Z",
    "command": "ADD",
    "network": "lab",
    "plugin": "bridge",
    "path": "/opt/bridge",
    "env": ENV,
    "inherited": ["HOME"],
    "stdin": {"cniVersion": "1.0.0"},
}
STEP = {"step": "ip link add x", "run": "r", "call": 1, "undo": False}
ANSWER = {"answer": 1, "run": "r", "exit": 0, "stdout": "{}", "stderr": "", "seconds": 0.005, "problem": ""}


def text(*documents: object) -> bytes:
    return "".join(f"{json.dumps(document)}\n" for document in documents).encode()


def drawn(trace: Trace) -> list[str]:
    """In every format; each has a grammar that judges it."""
    shown = [tree.Tree(full).draw(trace) for full in (False, True)]
    shown += [lines.draw(trace), mermaid.draw(trace), svg.draw(trace)]
    assert all(isinstance(json.loads(line), dict) for line in shown[2].splitlines())
    sequence.parse(shown[3])
    ElementTree.fromstring(shown[4])
    return shown


def calling(plugin: str, by: str = "", **more: Any) -> Calling:
    return Calling("ADD", "lab", plugin, f"/opt/{plugin}", ENV | more.pop("env", {}), {"type": plugin, **more}, by)


def call(recorder: Recorder, *inside: Any) -> None:
    """A call of a bridge, with events that are given the call."""
    outer = calling("bridge")
    recorder.event(outer)
    for event in inside:
        recorder.event(event(outer))
    recorder.event(Answered(outer, 0, b"{}", b"", 0.005, ""))


def step(words: str, plugin: str = "bridge") -> Callable[[Calling], Stepping]:
    return lambda outer: Stepping(outer, plugin, "ADD", words)


# --- what can be written to ---


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "/dev/zero", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, path: str) -> None:
    """A pipe without a reader would be waited for when it is opened, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Conflict, match="not a regular file"):
        Recorder(str(tmp_path / path), "minirt run")


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    (tmp_path / "trace").unlink()
    os.mkfifo(tmp_path / "trace")
    call(recorder, step("one"))
    said = f"minirt: the trace {tmp_path}/trace is not whole: it is not a regular file any more\n"
    assert capfd.readouterr().err == said, "once"


@pytest.mark.parametrize("hold", [False, True])
def test_a_file_that_others_could_read_is_its_owners_alone_from_then_on(tmp_path: Path, hold: bool) -> None:
    path = tmp_path / "trace"
    path.touch(mode=0o644)
    path.chmod(0o644)
    call(Recorder(str(path), "minirt run", hold))
    assert path.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    other.write_text("hello\n")
    other.chmod(0o644)
    with pytest.raises(Conflict):
        Recorder(str(other), "minirt run", hold)
    assert other.stat().st_mode & 0o777 == 0o644, "it is none of ours"


def test_a_trace_of_another_format_is_neither_added_to_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(text(HEAD | {"trace": 99}, {"unheard": 1}))
    with pytest.raises(Conflict, match=r"format '99', and this minirt writes 1"):
        Recorder(str(path), "minirt run")
    with pytest.raises(ConfigError, match=r"trace:1: .*format '99', and this minirt reads 1"):
        reading.read(str(path))
    with pytest.raises(ConfigError, match=r":2: .*format '99'"):
        reading.parse(text(HEAD, HEAD | {"trace": 99, "run": "s"}))


def in_little_room(path: Path, more: int, work: Callable[[], None]) -> None:
    """Do it in a process for which the disk is full when the file has `more` bytes than now (RLIMIT_FSIZE)."""
    size = path.stat().st_size
    process = os.fork()
    if not process:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + more, resource.RLIM_INFINITY))
            os.close(2)
            work()
        finally:
            os._exit(0)
    os.waitpid(process, 0)


@pytest.mark.parametrize("more", [1, 30, 200, 500, 700])
def test_on_a_full_disk_a_line_is_whole_or_not_there(tmp_path: Path, more: int) -> None:
    path = tmp_path / "trace"
    recorder = Recorder(str(path), "minirt run")
    call(recorder)
    before = path.read_bytes()
    in_little_room(path, more, lambda: call(Recorder(str(path), "minirt rm"), step("one")))
    after = path.read_bytes()
    assert after.startswith(before) and after.endswith(b"\n")
    call(recorder, step("two"))
    trace = reading.read(str(path))
    assert trace.broken == () and [len(each.roots) for each in trace.runs if each.command == "minirt run"] == [2]
    assert trace.calls[-1].ok


def test_a_run_begins_when_there_is_room_for_it(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.touch()

    def work() -> None:
        recorder = Recorder(str(path), "minirt run")
        call(recorder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        call(recorder, step("one"))

    in_little_room(path, 10, work)
    trace = reading.read(str(path))
    assert trace.broken == () and len(trace.calls) == 1 and trace.calls[0].ok


def test_what_follows_half_a_line_is_read(tmp_path: Path) -> None:
    """Somebody was killed while they wrote, and others add to the file."""
    path = tmp_path / "trace"
    call(Recorder(str(path), "minirt run"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[1][:50])
    call(Recorder(str(path), "minirt rm"))
    trace = reading.read(str(path))
    assert [run.command for run in trace.runs] == ["minirt run", "minirt rm"] and all(each.ok for each in trace.calls)
    assert len(trace.broken) == 1 and trace.broken[0].startswith(f"{path}:4: ")


# --- what is read ---


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_what_never_ends_is_not_read(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a regular file"):
        reading.read(str(tmp_path / path))


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_bytes(text(HEAD))
    os.truncate(path, 1 << 40)
    with pytest.raises(ConfigError, match="longer than 64 MiB"):
        reading.read(str(path))


def test_one_line_that_is_no_trace_is_told() -> None:
    with pytest.raises(ConfigError, match=":1: not a line of a trace"):
        reading.parse(b"hello")
    assert reading.parse(b"").calls == reading.parse(text(HEAD)).calls == []


DEEP: Any = [{**CALL, "call": number, "by": number - 1} for number in range(1, 3001)]
WRONG = [
    *[(CALL, key, 5) for key in ("time", "command", "network", "plugin", "path", "env", "inherited", "stdin", "run")],
    *[(CALL, key, value) for key, value in (("stdin", [1]), ("inherited", [1, 2]), ("env", {"A": 1}), ("by", "x"))],
    *[(CALL, "env", env) for env in ({"A": "a\0b"}, {"A=B": "c"}, {"": "c"})],
    *[(CALL, key, "a\0b") for key in ("plugin", "path", "command")],
    *[(CALL, "call", number) for number in (0, -1, True, 1.5, "1", None, 1 << 40)],
    *[(STEP, "step", None), (STEP, "undo", 1), (STEP, "call", 2)],
    *[(ANSWER, "exit", "x"), (ANSWER, "exit", 1.0), (ANSWER, "exit", True), (ANSWER, "exit", 1 << 70)],
    *[(ANSWER, "seconds", value) for value in ("x", 1e308, -1, None, True)],
    *[(ANSWER, "stdout", 5), (ANSWER, "stderr", None), (ANSWER, "problem", 5), (ANSWER, "left_out", "x")],
    *[(HEAD, "time", 5), (HEAD, "command", None), (HEAD, "run", 7)],
]


@pytest.mark.parametrize(("line", "key", "value"), WRONG)
def test_a_value_of_another_type_is_told_with_its_line_and_the_others_are_shown(
    line: dict[str, Any], key: str, value: Any
) -> None:
    whole = [HEAD, CALL, STEP, ANSWER]
    other = [each | {"run": "s"} for each in whole]
    trace = reading.parse(text(*other, *(each | {key: value} if each is line else each for each in whole)), "file")
    assert trace.calls[0].ok and trace.broken
    assert trace.broken[0].startswith(f"file:{5 + whole.index(line)}: ")
    drawn(trace)


@pytest.mark.parametrize("key", [*CALL, "answer", "stdout"])
def test_a_key_that_is_not_there_is_told(key: str) -> None:
    documents = [{name: value for name, value in line.items() if name != key} for line in (CALL, ANSWER)]
    trace = reading.parse(text(HEAD, *documents), "file")
    assert len(trace.broken) in (1, 2) and trace.broken[0].startswith("file:")
    drawn(trace)


def test_calls_in_calls_end_somewhere() -> None:
    trace = reading.parse(text(HEAD, *DEEP), "file")
    assert len(trace.calls) == 17 and trace.broken[0] == "file:19: calls stand in each other more than 16 deep"
    drawn(trace)


@pytest.mark.parametrize("by", [1, 2, 7])
def test_a_call_is_made_by_one_that_is_there_before(by: int) -> None:
    trace = reading.parse(text(HEAD, CALL | {"by": by}, CALL | {"call": 2}), "file")
    assert trace.broken == (f"file:2: its call {by} is not there",) and len(trace.calls) == 1


def test_what_is_there_twice_counts_once() -> None:
    trace = reading.parse(text(HEAD, HEAD, CALL, CALL | {"plugin": "other"}, ANSWER, ANSWER | {"exit": 1}), "file")
    assert [problem.partition(" ")[0] for problem in trace.broken] == ["file:2:", "file:4:", "file:6:"]
    assert [(each.plugin, each.ok) for each in trace.calls] == [("bridge", True)]


# --- what a plugin tells ---


def test_of_a_plugin_that_never_stops_telling_the_rest_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    recorder = Recorder(str(path), "minirt run")
    call(recorder, *[step(f"step {number}") for number in range(5000)])
    call(recorder, step("one"))
    first, second = reading.read(str(path)).calls
    assert len(first.inside) == 1000 and first.left_out == 4000 and second.left_out == 0 and first.ok
    shown = drawn(reading.read(str(path)))
    assert "# and 4000 more steps and calls, which are not recorded" in shown[0]
    assert json.loads(shown[2].splitlines()[0])["left_out"] == 4000


def test_of_long_steps_and_delegates_no_more_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    recorder = Recorder(str(path), "minirt run")
    delegate = calling("host-local", by="bridge", env={"CNI_ARGS": "x" * 200_000})
    answer = Answered(delegate, 0, b"x" * 200_000, b"", 0.001, "")
    call(recorder, *[step("x" * 200_000)] * 100, *[lambda _outer: delegate, lambda _outer: answer] * 100)
    outer = calling("bridge")
    recorder.event(outer)
    recorder.event(Answered(outer, 1, b"x" * (16 << 20), b"y" * (16 << 20), 0.001, ""))
    assert path.stat().st_size < 4 << 20
    trace = reading.read(str(path))
    assert trace.broken == () and trace.roots[0].left_out > 100
    assert trace.roots[1].answer and trace.roots[1].answer.stderr.endswith("15728640 more characters are not recorded")
    drawn(trace)


EVIL = "\x1b]0;owned\x07\x9b31m\u202e"


def test_names_that_a_terminal_would_obey_are_shown_and_not_done_in_every_format(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "trace"), f"minirt {EVIL}")
    evil = Calling(f"ADD{EVIL}", f"lab{EVIL}", f"plugin{EVIL}", f"/opt/{EVIL}", {"CNI_IFNAME": EVIL}, {EVIL: EVIL})
    add = calling(f"other{EVIL}", env={"CNI_IFNAME": f"eth{EVIL}"})
    for each in (evil, add):
        recorder.event(each)
        recorder.event(Stepping(each, each.plugin, "ADD", EVIL))
        recorder.event(Answered(each, 0, EVIL.encode(), EVIL.encode(), 0.001, EVIL))
    trace = reading.read(str(tmp_path / "trace"))
    for each_text in drawn(trace):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", each_text)
    assert json.loads(lines.draw(trace).splitlines()[0])["plugin"] == f"plugin{EVIL}", "JSON says what it was"


def test_of_the_variables_only_the_contracts_are_told(tmp_path: Path) -> None:
    env = {"CNI_SECRET": "hunter2", "CNI_ARGS": "A=1", "CNI_PATH": "/opt", "CNI_NFNL_FD": "7", "CNI_STEPS_FD": "9"}
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    recorder.event(calling("bridge", env=env))
    (found,) = reading.read(str(tmp_path / "trace")).calls
    assert found.env == ENV | {"CNI_ARGS": "A=1", "CNI_PATH": "/opt"} and found.inherited == ("CNI_SECRET",)
