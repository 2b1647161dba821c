"""Traces: what is written down of plugins' calls, how it is read, and what is drawn of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import sequence
from support.drawings import SVG, Svg

from minirt.cni.call import Answered, Calling
from minirt.cni.inside import Stepping
from minirt.errors import ConfigError, Conflict, KernelRefused, NotFound
from minirt.trace import differences, lines, mermaid, reading, svg, tree
from minirt.trace.reading import Answer, Call, Step, Trace
from minirt.trace.recorder import Recorder

RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}
LONG = f"sysctl -w net/ipv4/{'conf/' * 18}eth0"
ID = "0123456789ab" * 5 + "cdef"
PID = os.getpid()


def calling(plugin: str, command: str = "ADD", by: str = "", **stdin: Any) -> Calling:
    env = {"CNI_COMMAND": command, "CNI_IFNAME": "eth0", "CNI_STEPS_FD": "9", "TOKEN": "hunter2", "HOME": "/root"}
    return Calling(
        command,
        "lab",
        plugin,
        f"/opt/{plugin}",
        env,
        {"cniVersion": "1.0.0", "type": "bridge", "ipam": IPAM, **stdin},
        by,
    )


def answered(call: Calling, document: object = RESULT, code: int | None = 0, **more: Any) -> Answered:
    text = json.dumps(document).encode() if document is not None else b""
    return Answered(call, code, text, more.get("stderr", b""), 0.00512, more.get("problem", ""))


def record(path: Path, command: str = "minirt run") -> None:
    """bridge with its delegate and three steps, then portmap, which fails; by two processes when asked for twice."""
    recorder = Recorder(str(path), command)
    outer, inner, other = calling("bridge"), calling("host-local", by="bridge"), calling("portmap", prevResult=RESULT)
    recorder.event(outer)
    recorder.event(Stepping(outer, "bridge", "ADD", "CNI_COMMAND=ADD\nhost-local < the configuration"))
    recorder.event(inner)
    recorder.event(Stepping(outer, "bridge", "ADD", f"ip link add x; # {ID}\nip link set x up"))
    recorder.event(answered(inner))
    recorder.event(Stepping(outer, "bridge", "ADD", "nft 'add table inet a\nadd chain inet a b'"))
    recorder.event(Stepping(outer, "bridge", "ADD", "ip link del <x>", undo=True))
    recorder.event(answered(outer))
    recorder.event(other)
    recorder.event(Stepping(other, "portmap", "ADD", LONG))
    recorder.event(answered(other, {"code": 7, "msg": "no such thing"}, 1, stderr=b"a \xff log\n", problem="no"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    record(tmp_path / "trace")
    return tmp_path / "trace"


@pytest.fixture
def trace(path: Path) -> Trace:
    return reading.read(str(path))


# --- the file ---


def test_what_is_recorded_is_read_again(trace: Trace) -> None:
    assert [run.command for run in trace.runs] == ["minirt run"]
    assert [(call.number, call.plugin, call.by) for call in trace.calls] == [
        (1, "bridge", ""),
        (2, "host-local", "bridge"),
        (3, "portmap", ""),
    ]
    bridge, local, portmap = trace.calls
    assert trace.roots == [bridge, portmap] and trace.root_of(local) is bridge
    assert [type(item) for item in bridge.inside] == [Step, Call, Step, Step, Step]
    assert bridge.inside[4] == Step("ip link del <x>", True)
    assert bridge.answer == Answer(0, json.dumps(RESULT), "", 0.00512, "")
    assert (bridge.said, portmap.said, portmap.ok) == ("10.1.0.2/24", "error 7: no such thing", False)
    assert portmap.answer is not None and portmap.answer.stderr == "a \\xff log\n"
    assert portmap.stdin["prevResult"] == RESULT


def test_of_the_environment_only_the_contracts_variables_have_values(path: Path, trace: Trace) -> None:
    assert "hunter2" not in path.read_text()
    assert trace.call(1).env == {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0"}, "and not the descriptor that we listen on"
    assert trace.call(1).inherited == ("HOME", "TOKEN")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_trace_is_added_to_and_calls_are_numbered_through(path: Path) -> None:
    before = path.read_text()
    record(path, "minirt rm")
    assert path.read_text().startswith(before)
    trace = reading.read(str(path))
    assert [run.command for run in trace.runs] == ["minirt run", "minirt rm"]
    assert [call.number for call in trace.calls] == [1, 2, 3, 4, 5, 6]
    assert trace.runs[1].roots[0].number == 4


def test_what_a_killed_runtime_recorded_is_there(path: Path) -> None:
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole[:4]) + whole[4][:20])
    trace = reading.read(str(path))
    assert [call.answer for call in trace.calls] == [None, None]
    assert trace.calls[0].said == "it was not run to its end"
    for draw in (tree.Tree(full=True).draw, lines.draw, mermaid.draw, svg.draw):
        assert draw(trace)
    sequence.parse(mermaid.draw(trace))


def test_a_run_without_calls_leaves_an_empty_trace(tmp_path: Path) -> None:
    Recorder(str(tmp_path / "trace"), "minirt run")
    trace = reading.read(str(tmp_path / "trace"))
    assert trace.calls == [] and tree.Tree().draw(trace) == f"no call is recorded in {tmp_path}/trace"
    ElementTree.fromstring(svg.draw(trace))
    sequence.parse(mermaid.draw(trace))


def test_two_processes_that_record_by_one_recorder_are_two_runs(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    for process in (os.fork(), 0):  # the child first
        if not process:
            call = calling("bridge", "DEL")
            recorder.event(call)
            recorder.event(answered(call))
            if os.getpid() != PID:
                os._exit(0)
        else:
            os.waitpid(process, 0)
    trace = reading.read(str(tmp_path / "trace"))
    assert [len(run.roots) for run in trace.runs] == [1, 1]
    assert [(call.number, call.ok) for call in trace.calls] == [(1, True), (2, True)]


@pytest.mark.parametrize(
    "text", ["hello\n", '{"other": 1}\n', "[1]\n", "1\n", '"trace"\n', '["trace"]\n', "\0" * 100_000 + "\n"]
)
def test_a_file_that_is_no_trace_is_neither_added_to_nor_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file"
    path.write_text(text + "more\n")
    with pytest.raises(Conflict, match="no trace"):
        Recorder(str(path), "minirt run")
    assert path.read_text() == text + "more\n"
    with pytest.raises(ConfigError, match="file:1: not a line of a trace"):
        reading.read(str(path))


def test_a_file_that_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"^no folder '{tmp_path}/none'$"):
        Recorder(str(tmp_path / "none" / "trace"), "minirt run")
    (tmp_path / "astray").symlink_to(tmp_path / "none" / "trace")
    with pytest.raises(KernelRefused, match="No such file"):
        Recorder(str(tmp_path / "astray"), "minirt run")


EVIL = "red \x1b[31m\x00\u2028 <end>"


def test_what_a_terminal_would_obey_and_xml_forbids_is_shown_and_not_done(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    call = calling("bridge", evil=EVIL, odd="\udcff")
    recorder.event(call)
    recorder.event(Stepping(call, "bridge", "ADD", f"echo {EVIL}"))
    recorder.event(answered(call, {"code": 7, "msg": EVIL}, 1, stderr=EVIL.encode(errors="replace")))
    trace = reading.read(str(tmp_path / "trace"))
    assert trace.calls[0].answer and EVIL[:8] in json.loads(trace.calls[0].answer.stdout)["msg"], "kept as it was"
    drawn = [tree.Tree(full).draw(trace) for full in (False, True)] + [mermaid.draw(trace), svg.draw(trace)]
    ElementTree.fromstring(drawn[-1])
    sequence.parse(drawn[-2])
    for text in drawn:
        assert "red \\x1b[31m\\x00" in text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", text)
    told = list(differences.lines(differences.between("ADD", answer({}, stderr=EVIL), answer({}, stderr="fine"))))
    assert told == ["stderr:", "  - red \\x1b[31m\\x00\\u2028 <end>", "  + fine"]


def test_a_long_command_of_a_delegate_fits_the_terminal(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    outer, inner = calling("bridge"), calling("host-local", by="bridge")
    for event in (outer, inner, Stepping(outer, "host-local", "ADD", "word " * 90), answered(inner), answered(outer)):
        recorder.event(event)
    for full in (False, True):
        lines = tree.Tree(full).draw(reading.read(str(tmp_path / "trace"))).splitlines()
        assert max(map(len, lines)) <= 100


def test_a_call_that_is_not_there_is_told_with_those_that_are(trace: Trace) -> None:
    with pytest.raises(NotFound, match="no call 4, it has 1 to 3"):
        trace.call(4)


# --- the drawings ---


def test_the_tree_shows_who_called_whom_and_what_they_changed(trace: Trace) -> None:
    shown = tree.Tree().draw(trace).splitlines()
    assert max(map(len, shown)) <= 100
    text = [re.sub(r" {3,}", "  ", line) for line in shown]
    assert text[1:] == [
        "├─ 1 bridge  ADD eth0 on lab: 10.1.0.2/24  5.1 ms",
        "│  ├─ 2 host-local  ADD eth0: 10.1.0.2/24  5.1 ms",
        "│  ├─ $ ip link add x; # 0123456789ab…",
        "│  ├─ $ ip link set x up",
        "│  ├─ $ nft 'add table inet a",
        "│  │  … 1 more line, which --full shows",
        "│  └─ undo: ip link del <x>",
        "└─ 3 portmap  ADD eth0 on lab: error 7: no such thing  5.1 ms",
        f"  └─ $ {LONG[:92]}",
        f"  {LONG[92:]}",
    ]


def test_each_command_of_a_step_has_its_branch(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    call = calling("bridge")
    for event in (call, Stepping(call, "bridge", "ADD", "ip link add x\nip link set x up"), answered(call)):
        recorder.event(event)
    shown = tree.Tree().draw(reading.read(str(tmp_path / "trace"))).splitlines()
    assert shown[2:] == ["   ├─ $ ip link add x", "   └─ $ ip link set x up"]


def test_the_full_tree_has_all_that_went_over_the_wire(trace: Trace) -> None:
    shown = tree.Tree(full=True).draw(trace)
    assert max(map(len, shown.splitlines())) <= 100
    for text in ("/opt/bridge", "CNI_IFNAME=eth0", "HOME TOKEN", '"prevResult": {', "a \\xff log", "add chain", ID):
        assert text in shown
    one = tree.Tree(full=True).draw(trace.only(2))
    assert "2 host-local" in one and "portmap" not in one


def test_colours_change_nothing_else(trace: Trace) -> None:
    coloured, plain = tree.Tree(colours=True).draw(trace), tree.Tree().draw(trace)
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_the_lines_of_json_are_a_call_each_and_whole(trace: Trace) -> None:
    bridge, local, portmap = map(json.loads, lines.draw(trace).splitlines())
    assert [(item["number"], item["by"]) for item in (bridge, local, portmap)] == [(1, 0), (2, 1), (3, 0)]
    assert bridge["result"] == RESULT and bridge["exit"] == 0 and bridge["seconds"] == 0.00512
    assert portmap["result"]["code"] == 7 and portmap["stderr"] == "a \\xff log\n" and len(portmap["steps"]) == 1
    assert [step["undo"] for step in bridge["steps"]] == [False, False, False, True]


def test_the_mermaid_text_is_a_sequence_diagram_by_its_grammar(trace: Trace) -> None:
    diagram = sequence.parse(mermaid.draw(trace))
    assert list(diagram.actors.values()) == ["minirt", "bridge", "host-local", "portmap"]
    assert [(item.sender, item.receiver, item.arrow) for item in diagram.messages] == [
        ("runtime", "p1", "->>"),
        ("p1", "p2", "->>"),
        ("p2", "p1", "-->>"),
        ("p1", "runtime", "-->>"),
        ("runtime", "p3", "->>"),
        ("p3", "runtime", "--x"),
    ]
    assert len(diagram.notes) == 2, "one run needs no heading"
    assert diagram.messages[3].text == "10.1.0.2/24 (5.1 ms)"
    assert diagram.messages[5].text == "error 7: no such thing (5.1 ms)"
    noted = [line for _, text in diagram.notes for line in text]
    assert noted[0] == "ip link add x; # 0123456789ab…" and noted[-2] == "undo: ip link del <x>"
    assert len(noted[-1]) == 90 and noted[-1].endswith("…")


def test_the_svg_is_whole_and_nothing_of_it_overlaps_or_leaves_the_page(path: Path) -> None:
    record(path, "minirt rm")
    drawn = Svg(svg.draw(reading.read(str(path))))
    assert drawn.faults() == []
    root, words = drawn.root, drawn.words
    assert "network lab" in words and words.count("bridge") == 1
    assert "1: minirt to bridge: ADD eth0, 10.1.0.2/24. 2: bridge to host-local: ADD eth0" in root.findtext(
        f"{SVG}desc", ""
    )
    assert [word for word in words if re.fullmatch(r"\d ADD eth0", word)] == [f"{n} ADD eth0" for n in range(1, 7)]
    assert sum(item.get("class", "").startswith("arrow bad") for item in root.iter(f"{SVG}path")) == 2
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style and "url(" not in style


def test_what_stands_on_an_arrow_of_the_svg_stands_between_its_ends(trace: Trace) -> None:
    drawn = Svg(svg.draw(trace))
    minirt, bridge, local, portmap = (float(life.removeprefix("M").split()[0]) for life in drawn.lifelines)
    given = [item for item in drawn.texts if item.name.startswith("stdin: ")]
    assert given[0].left > minirt and given[0].right < bridge and given[1].right < portmap
    (inner,) = (item for item in drawn.texts if item.name.startswith("the same environment"))
    assert bridge < inner.left and inner.right < local


# --- what differs ---


def answer(document: object, code: int | None = 0, stderr: str = "") -> Answer:
    return Answer(code, document if isinstance(document, str) else json.dumps(document), stderr, 0.001, "")


def interfaces(mac: str, name: str) -> dict[str, Any]:
    return {"interfaces": [{"name": name, "mac": mac}]}


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (answer({"a": 1}), answer({"a": 1}), []),
        (answer({"a": 1}), answer('{ "a":1}'), []),
        (answer({"a": {"b": [1, 2]}}), answer({"a": {"b": [1, 3]}}), ["result .a.b[1]: 2, now 3"]),
        (answer({"a": 1}), answer({"a": True}), ["result .a: 1, now true"]),
        (answer({"a": 1}), answer({"b": 1}), ["result .a: 1, now absent", "result .b: absent, now 1"]),
        (answer({"a": [1]}), answer({"a": []}), ["result .a[0]: 1, now absent"]),
        (
            answer(RESULT),
            answer({"code": 7, "msg": "no"}, 1),
            ["exit: 0, now 1", "answer: 10.1.0.2/24, now error 7: no"],
        ),
        (answer("a"), answer("b"), ["stdout:", "  - a", "  + b"]),
        (answer(RESULT), Answer(0, json.dumps(RESULT), "", 0, "odd"), ["answer: 10.1.0.2/24, now odd"]),
        (
            answer({"code": 7, "msg": "no"}, 1),
            Answer(None, "", "", 0, "cannot start"),
            [
                *["exit: 1, now it was not run to its end", "answer: error 7: no, now cannot start"],
                *["stdout:", '  - {"code": 7, "msg": "no"}'],
            ],
        ),
        (answer({}, stderr="x\ny\n"), answer({}, stderr="x\nz\n"), ["stderr:", "    x", "  - y", "  + z"]),
        (
            answer(interfaces("02:00:00:00:00:01", "veth12ab")),
            answer(interfaces("02:00:00:00:00:02", "vethff")),
            ["left aside, drawn anew each time: .interfaces[0].name, .interfaces[0].mac"],
        ),
        (
            answer(interfaces("02:00:00:00:00:01", "eth0")),
            answer(interfaces("02:00:00:00:00:01", "eth1")),
            ['result .interfaces[0].name: "eth0", now "eth1"'],
        ),
    ],
)
def test_two_answers_are_compared_key_by_key(before: Answer, now: Answer, told: list[str]) -> None:
    assert list(differences.lines(differences.between("ADD", before, now))) == told


def test_where_a_note_has_no_room_settings_make_it() -> None:
    texts = ["ip link add a", *(f"sysctl -w x{number}=1" for number in range(5)), "ip addr add b", "nft 'c\nd'"]
    steps = [Step(text, False) for text in texts]
    assert reading.in_a_note(steps, 4, "$ ") == (["$ ip link add a", "$ ip addr add b", "$ nft 'c …"], 5)
    assert reading.in_a_note(steps, 8) == ([*texts[:7], "nft 'c …"], 0)
    assert reading.in_a_note(steps[1:6], 2) == ([*texts[1:3]], 3)
