"""`--trace`, `minirt cni trace` and `minirt cni replay`, given what is no trace, by somebody who means no good, or on a
disk that is full."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.cnilab import RESULT, laboratory, leases, scripted_plugins
from support.command import NETWORKS, Command
from support.scripted import Scripted, says

TRACE = Path("/run/trace")
GO = "/usr/lib/cni"
FLOOD = """#!/usr/bin/python3 -IS
import os, socket, sys
told = b'{"plugin": "flood", "verb": "ADD", "step": "%s", "undo": false}' % (b"x" * 1000)
if os.environ["CNI_COMMAND"] == "ADD":
    channel = socket.socket(fileno=int(os.environ["CNI_STEPS_FD"]))
    for _ in range(20000):
        channel.send(told)
    print('{"cniVersion": "1.0.0"}')
"""

pytestmark = pytest.mark.leaves(f"file {TRACE}*")


@pytest.fixture
def lab(minirt: Command) -> str:
    return laboratory(minirt)


def shown(minirt: Command) -> list[dict[str, Any]]:
    return [json.loads(line) for line in minirt.ok("cni", "trace", str(TRACE), "--format", "json").splitlines()]


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in TRACE.read_text().splitlines()]


def write(documents: list[dict[str, Any]]) -> None:
    TRACE.write_text("".join(f"{json.dumps(line)}\n" for line in documents))


@pytest.fixture
def recorded(minirt: Command, lab: str) -> None:
    """ADD (calls 1 and 2), DEL (3 and 4)."""
    minirt.ok("cni", "add", "lab", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "lab", lab, "--trace", str(TRACE))


# --- recording ---


def test_a_pipe_is_no_trace_and_nothing_is_waited_for(minirt: Command) -> None:
    os.mkfifo(TRACE)
    for path in (str(TRACE), "/dev/full"):
        assert "not a regular file" in minirt.fails(125, "run", "--rm", "--trace", path, "host", "true", timeout=20)
    assert minirt.ok("ps", "-aq") == "" and minirt.machine.run("ip", "netns", "list").stdout == ""
    for path in (str(TRACE), "/dev/zero"):
        assert "not a regular file" in minirt.fails(1, "cni", "trace", path, timeout=20)
    assert "not a regular file" in minirt.fails(2, "cni", "replay", str(TRACE), timeout=20)


def test_a_trace_that_filled_a_disk_can_be_read_and_added_to(minirt: Command, lab: str) -> None:
    disk = Path("/run/disk")
    disk.mkdir()
    minirt.machine.run("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk))
    trace, filler = disk / "trace", disk / "filler"
    minirt.ok("cni", "add", "lab", lab, "--trace", str(trace))
    filler.write_bytes(b"x" * 4096)
    for _ in range(4):
        done = minirt("cni", "check", "lab", lab, "--trace", str(trace))
        assert done.returncode == 0, "nobody fails for it"
    assert done.stderr == f"minirt: the trace {trace} is not whole: no space left on device\n"
    filler.unlink()
    minirt.ok("cni", "del", "lab", lab, "--trace", str(trace))
    done = minirt("cni", "trace", str(trace))
    minirt.machine.run("umount", str(disk))
    disk.rmdir()
    assert (done.returncode, done.stderr) == (0, "") and "DEL eth0 on lab: done" in done.stdout


def test_what_plugins_never_stop_telling_fills_no_disk(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", "")
    plugins = scripted_plugins(minirt)
    (plugins.folder / "flood").write_text(FLOOD)
    (plugins.folder / "flood").chmod(0o755)
    minirt.network("flood", {"type": "flood"})
    minirt.ok("cni", "add", "flood", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "flood", lab)
    assert TRACE.stat().st_size < 2 << 20
    (call,) = shown(minirt)
    assert len(call["steps"]) + call["left_out"] == 20000 and call["exit"] == 0
    assert f"# and {call['left_out']} more steps" in minirt.ok("cni", "trace", str(TRACE))


@pytest.mark.parametrize("folders", ["", GO])
def test_what_only_begins_like_the_contracts_variables_is_nobodys_business(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch, folders: str
) -> None:
    """Neither a trace nor an account tells its value, nor that of what a delegate was given."""
    monkeypatch.setenv("CNI_SECRET", "hunter2")
    monkeypatch.setenv("CNI_PATH", folders)
    told = minirt("cni", "add", "lab", lab, "--trace", str(TRACE), "--explain=json")
    minirt.ok("cni", "del", "lab", lab)
    assert told.returncode == 0 and "CNI_IFNAME" in told.stderr
    assert "hunter2" not in told.stderr + TRACE.read_text()
    calls = shown(minirt)
    assert len(calls) == 2 and all("CNI_SECRET" in call["inherited"] for call in calls)


# --- showing ---


@pytest.mark.usefixtures("recorded")
def test_a_line_that_cannot_be_read_is_told_and_the_others_are_shown(minirt: Command) -> None:
    edited = lines()
    for line in edited:
        if line.get("plugin") == "host-local" and line["command"] == "ADD":
            line["time"] = 5
    write(edited)
    done = minirt("cni", "trace", str(TRACE))
    assert done.returncode == 0 and "1 bridge  ADD" in done.stdout and "host-local  DEL" in done.stdout
    assert f"minirt: {TRACE}:" in done.stderr and "'time' is 5, expected a string" in done.stderr
    write([edited[0] | {"trace": 99}])
    assert f"{TRACE}:1: " in minirt.fails(1, "cni", "trace", str(TRACE))


@pytest.mark.usefixtures("recorded")
def test_call_0_is_none(minirt: Command) -> None:
    for code, verb in ((1, "trace"), (2, "replay")):
        for number in ("0", "x", "-1", "9" * 30):
            assert "invalid number of a call" in minirt.fails(code, "cni", verb, str(TRACE), f"--step={number}")
        assert "--step is given, and empty" in minirt.fails(code, "cni", verb, str(TRACE), "--step", "")


# --- replay ---


def replay(minirt: Command, code: int, *words: str) -> str:
    """Standard error; the machine is as it was before."""
    before = minirt.machine.nft(), minirt.machine.links(), minirt.machine.files(), minirt.machine.links("box")
    done = minirt("cni", "replay", str(TRACE), *words, cwd="/run/here")
    assert done.returncode == code and "Traceback" not in done.stderr, f"exit {done.returncode}\n{done}"
    after = minirt.machine.nft(), minirt.machine.links(), minirt.machine.files(), minirt.machine.links("box")
    assert before == after, "nothing of the host changes"
    return done.stderr


@pytest.fixture
def here(minirt: Command) -> Path:
    """A folder to stand in."""
    folder = Path("/run/here")
    folder.mkdir()
    minirt.machine.leaves(f"directory {folder}")
    return folder


@pytest.mark.usefixtures("recorded", "here")
def test_a_name_in_an_edited_trace_leads_nowhere(minirt: Command) -> None:
    edited = lines()
    for name in ("../../../../run/here/evil", "/run/here/evil", "a\0b", 5, ""):
        for line in edited:
            if "stdin" in line:
                line["stdin"]["name"] = name
        write(edited)
        replay(minirt, 1)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("place", ["store", "./store", "/run/here/store", "/run/trace.d/../here/store", "lab", [5], 5])
def test_wherever_things_were_kept_a_replay_keeps_them_elsewhere(minirt: Command, here: Path, place: Any) -> None:
    edited = lines()
    for line in edited:
        if "stdin" in line:
            line["stdin"]["ipam"]["dataDir"] = place
            line["env"]["CNI_PATH"] += f":{here}"
    write(edited)
    replay(minirt, 0 if isinstance(place, str) else 1)
    assert list(here.iterdir()) == []


@pytest.mark.usefixtures("recorded", "here")
def test_a_plugin_in_an_edited_trace_is_no_path(minirt: Command) -> None:
    edited = lines()
    for line in edited:
        if line.get("plugin"):
            line["plugin"] = f"../../../run/here/{line['plugin']}"
    write(edited)
    refused = replay(minirt, 2, "--step", "1", "--plugin", "/bin/true")
    assert f"{TRACE}: call 1: invalid plugin type" in refused


@pytest.mark.usefixtures("recorded", "here")
@pytest.mark.parametrize(
    ("netns", "code"),
    [
        ("box", 0),
        ("lab", 0),
        ("/run/netns/../netns/box", 0),
        ("/run/netns/..", 0),
        ("/proc/1/ns/net", 0),
        (f"/run/netns/{'x' * 300}", 2),
    ],
)
def test_a_namespace_of_any_path_has_a_stand_in(minirt: Command, netns: str, code: int) -> None:
    TRACE.write_text(TRACE.read_text().replace("/run/netns/box", netns))
    replay(minirt, code)


@pytest.mark.usefixtures("recorded", "here")
@pytest.mark.parametrize("name", ["%d", "a/b", "x" * 16, "a b", "\0", 5])
def test_a_parent_of_any_name_has_a_stand_in_or_none(minirt: Command, name: object) -> None:
    edited = lines()
    for line in edited:
        if "stdin" in line:
            line["stdin"]["master"] = name
    write(edited)
    replay(minirt, 0)


@pytest.mark.usefixtures("recorded", "here")
def test_a_replay_needs_no_store_and_makes_none(minirt: Command) -> None:
    """On a host where no plugin has kept anything so far."""
    minirt.machine.run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    try:
        replay(minirt, 0)
        assert os.listdir("/var/lib") == []
    finally:
        minirt.machine.run("umount", "/var/lib")


def test_what_a_trace_says_a_terminal_does_not_do(minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNI_PATH", "")
    plugins: Scripted = scripted_plugins(minirt)
    plugins.write("odd", ADD=[says(RESULT)])
    minirt.network("odd", {"type": "odd"})
    minirt.ok("cni", "add", "odd", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "odd", lab)
    evil = "\x1b]0;owned\x07"
    edited = lines()
    edited[1] |= {"command": f"ADD{evil}", "network": evil, "plugin": f"odd{evil}"}
    edited[1]["env"]["CNI_IFNAME"] = evil
    write(edited)
    for words in (("trace", str(TRACE)), ("trace", str(TRACE), "--step", "1"), ("replay", str(TRACE))):
        done = minirt("cni", *words)
        assert "\x1b" not in done.stdout + done.stderr and "owned" in done.stdout, done
    assert leases("odd") == [] and NETWORKS.exists()
