"""`--trace`, `minirt cni trace` and `minirt cni replay`, with bundled, Go and scripted plugins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support import sequence
from support.cnilab import RESULT, cached, laboratory, leases, scripted_plugins
from support.command import NETWORKS, Command, bridge, eventually
from support.scripted import Scripted, fails, says

TRACE = Path("/run/trace")
GO = "/usr/lib/cni"

pytestmark = pytest.mark.leaves(f"file {TRACE}*")


@pytest.fixture
def lab(minirt: Command) -> str:
    return laboratory(minirt)


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


def shown(minirt: Command, *words: str) -> list[dict[str, Any]]:
    """The calls, as `--format json` has them."""
    return [json.loads(line) for line in minirt.ok("cni", "trace", str(TRACE), "--format", "json", *words).splitlines()]


def told(calls: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(call["by"], call["plugin"], call["command"]) for call in calls]


# --- recording ---


def test_a_run_is_recorded_from_its_first_add_to_its_last_del(minirt: Command) -> None:
    minirt.ok("run", "-q", "--rm", "-p", "8080:80", "--trace", str(TRACE), "host", "true")
    calls = shown(minirt)
    assert told(calls) == [
        *[(0, "bridge", "ADD"), (1, "host-local", "ADD"), (0, "portmap", "ADD")],
        *[(0, "portmap", "DEL"), (0, "bridge", "DEL"), (5, "host-local", "DEL")],
    ]
    first = calls[0]
    assert first["stdin"]["ipam"]["type"] == "host-local" and first["env"]["CNI_COMMAND"] == "ADD"
    assert first["result"]["ips"] == calls[2]["stdin"]["prevResult"]["ips"]
    assert any("type veth" in step["text"] for step in first["steps"])
    assert {call["exit"] for call in calls} == {0} and min(call["seconds"] for call in calls) > 0
    assert calls[1]["seconds"] < first["seconds"]


def test_a_detached_container_is_recorded_by_whoever_takes_it_down(minirt: Command) -> None:
    minirt.ok("run", "-q", "-d", "--name", "a", "--trace", str(TRACE), "host", "sleep", "600")
    assert told(shown(minirt)) == [(0, "bridge", "ADD"), (1, "host-local", "ADD"), (0, "portmap", "ADD")]
    minirt.ok("stop", "-t", "0", "a")
    assert told(shown(minirt))[3:] == [(0, "portmap", "DEL"), (0, "bridge", "DEL"), (5, "host-local", "DEL")]
    minirt.ok("start", "a")
    assert len(shown(minirt)) == 6, "nobody has asked for it"
    minirt.ok("stop", "-t", "0", "--trace", str(TRACE), "a")
    assert len(shown(minirt)) == 9
    minirt.ok("start", "--trace", str(TRACE), "a")
    assert len(shown(minirt)) == 12
    minirt.ok("rm", "--force", "--trace", str(TRACE), "a")
    assert told(shown(minirt))[12:] == [(0, "portmap", "DEL"), (0, "bridge", "DEL"), (14, "host-local", "DEL")]


def test_what_others_ask_to_record_of_a_container_in_the_foreground_is_recorded(minirt: Command) -> None:
    process = minirt.start("run", "-q", "--name", "a", "host", "sleep", "600")
    eventually(lambda: minirt("ps", "-q").stdout)
    minirt.ok("stop", "-t", "0", "--trace", str(TRACE), "a")
    process.wait()
    assert told(shown(minirt)) == [(0, "portmap", "DEL"), (0, "bridge", "DEL"), (2, "host-local", "DEL")]
    minirt.ok("rm", "a")


def test_secrets_that_plugins_inherit_stay_out_of_the_file(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    minirt.ok("cni", "add", "lab", lab, "--trace", str(TRACE), "--args", "IgnoreUnknown=1")
    minirt.ok("cni", "del", "lab", lab)
    assert "hunter2" not in TRACE.read_text() and TRACE.stat().st_mode & 0o777 == 0o600
    (call, *_) = shown(minirt)
    assert call["env"]["CNI_ARGS"] == "IgnoreUnknown=1" and "API_TOKEN" in call["inherited"]


def test_every_verb_that_calls_plugins_records(minirt: Command, lab: str) -> None:
    for words in (("status", "lab"), ("add", "lab", lab), ("check", "lab", lab), ("del", "lab", lab), ("gc", "lab")):
        file = NETWORKS / "lab.conflist"
        file.write_text(file.read_text().replace('"1.0.0"', '"1.1.0"'))
        minirt.ok("cni", *words, "--trace", str(TRACE))
    minirt.ok("cni", "exec", "bridge", "version", "--trace", str(TRACE))
    roots = [command for by, plugin, command in told(shown(minirt)) if not by and plugin == "bridge"]
    assert roots == ["STATUS", "ADD", "CHECK", "DEL", "GC", "VERSION"]


@pytest.mark.parametrize("folders", [GO, "mixed"])
def test_the_go_plugins_are_recorded_from_outside_and_so_are_the_delegates_that_they_call(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch, folders: str
) -> None:
    """Their own host-local, and ours when it is found first."""
    if folders == "mixed":
        only = Path("/run/ours")
        minirt.ok("plugin", "install", str(only))
        minirt.machine.leaves(f"file {only}/*", f"directory {only}")
        for path in only.iterdir():
            if path.name != "host-local":
                path.unlink()
        folders = f"{only}:{GO}"
    monkeypatch.setenv("CNI_PATH", folders)
    minirt.ok("cni", "add", "lab", lab, "--trace", str(TRACE))
    minirt.ok("cni", "check", "lab", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "lab", lab, "--trace", str(TRACE))
    calls = shown(minirt)
    assert told(calls) == [
        *[(0, "bridge", "ADD"), (1, "host-local", "ADD"), (0, "bridge", "CHECK"), (3, "host-local", "CHECK")],
        *[(0, "bridge", "DEL"), (5, "host-local", "DEL")],
    ]
    assert {call["path"] for call in calls} == {f"{GO}/bridge", f"{folders.split(':')[0]}/host-local"}
    assert {call["env"]["CNI_PATH"] for call in calls} == {folders}, "the stand-in is nobody's business"
    assert calls[0]["result"]["ips"][0] == calls[1]["result"]["ips"][0] | {"interface": 2}
    assert calls[1]["result"]["ips"][0]["address"] == "10.50.0.2/24"
    assert calls[0]["steps"] == [] and {call["exit"] for call in calls} == {0}


@pytest.mark.usefixtures("lab")
def test_a_delegate_of_a_foreign_plugin_fails_as_it_would_without_a_witness(
    minirt: Command, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", f"{scripted.folder}:{GO}")
    scripted.write("host-local", ADD=[fails(11, "full", stderr=b"sorry\n")])
    go_bridge = {"type": "bridge", "bridge": "cni-lab", "ipam": {"type": "host-local"}}
    minirt.network("go", go_bridge)
    without = minirt.fails(1, "cni", "add", "go", "/run/netns/box")
    scripted.log.unlink()
    assert minirt.fails(1, "cni", "add", "go", "/run/netns/box", "--trace", str(TRACE)) == without
    assert "full" in without
    inner = shown(minirt)[1]
    assert (inner["plugin"], inner["exit"], inner["stderr"], inner["result"]["code"]) == (
        "host-local",
        1,
        "sorry\n",
        11,
    )
    asked = scripted.calls()[0]
    assert asked.config == shown(minirt)[0]["stdin"], "standard input passes through"
    monkeypatch.setenv("CNI_PATH", GO)
    minirt.network("go", go_bridge | {"ipam": {"type": "none"}})
    without = minirt.fails(1, "cni", "add", "go", "/run/netns/box")
    assert minirt.fails(1, "cni", "add", "go", "/run/netns/box", "--trace", str(TRACE)) == without


@pytest.mark.usefixtures("lab")
def test_a_failure_is_recorded_with_what_was_taken_back(minirt: Command, scripted: Scripted) -> None:
    scripted.write("first", ADD=[says(RESULT)])
    scripted.write("second", ADD=[fails(11, "not now", stderr=b"busy\n"), fails(7, "never")])
    minirt.network("odd", {"type": "first"}, {"type": "second"})
    minirt.fails(1, "cni", "add", "odd", "/run/netns/box", "--trace", str(TRACE))
    calls = shown(minirt)
    assert [(call["plugin"], call["command"], call["exit"]) for call in calls] == [
        *[("first", "ADD", 0), ("second", "ADD", 1), ("second", "DEL", 0), ("second", "ADD", 1)],
        *[("second", "DEL", 0), ("first", "DEL", 0)],
    ]
    assert calls[1]["stderr"] == "busy\n" and calls[1]["result"]["code"] == 11
    diagram = sequence.parse(minirt.ok("cni", "trace", str(TRACE), "--format", "mermaid"))
    assert [item.arrow for item in diagram.messages if item.receiver == "runtime"].count("--x") == 2
    assert "error 7: never" in minirt.ok("cni", "trace", str(TRACE))


def test_a_trace_is_recorded_beside_an_account(minirt: Command, lab: str) -> None:
    done = minirt("cni", "add", "lab", lab, "--trace", str(TRACE), "--explain")
    minirt.ok("cni", "del", "lab", lab)
    steps = [line for step in shown(minirt)[0]["steps"] for line in step["text"].split("\n")]
    assert any(line.startswith("ip link add") for line in steps)
    explained = done.stderr.replace(" \\\n", "")
    assert done.returncode == 0 and all(f"$ {line}" in done.stderr for line in steps if len(line) < 60), explained


def test_a_trace_that_cannot_be_written_is_told_before_anything_is_made(minirt: Command, lab: str) -> None:
    assert "is there, and no trace" in minirt.fails(1, "cni", "add", "lab", lab, "--trace", "/etc/passwd")
    assert "Is a directory" in minirt.fails(125, "run", "--trace", "/run", "host", "true")
    assert "no folder '/nosuch'" in minirt.fails(125, "run", "--trace", "/nosuch/x", "host", "true")
    assert minirt.machine.links("box") == {"lo"} and leases() == [] and minirt.ok("ps", "-aq") == ""


# --- showing ---


@pytest.fixture
def recorded(minirt: Command, lab: str) -> list[dict[str, Any]]:
    """ADD (calls 1 and 2), DEL (3 and 4)."""
    minirt.ok("cni", "add", "lab", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "lab", lab, "--trace", str(TRACE))
    return shown(minirt)


@pytest.mark.usefixtures("recorded")
def test_a_trace_is_shown_in_every_format(minirt: Command) -> None:
    short, full = minirt.ok("cni", "trace", str(TRACE)), minirt.ok("cni", "trace", str(TRACE), "--full")
    assert "2 host-local  ADD eth0: 10.50.0.2/24" in short and "CNI_NETNS=" not in short
    assert "CNI_NETNS=/run/netns/box" in full
    one = minirt.ok("cni", "trace", str(TRACE), "--step", "2")
    assert "2 host-local" in one and "1 bridge" not in one and '"address": "10.50.0.2/24"' in one
    assert len(sequence.parse(minirt.ok("cni", "trace", str(TRACE), "--format", "mermaid")).messages) == 8
    assert minirt.ok("cni", "trace", str(TRACE), "--format", "svg").startswith("<svg ")
    assert minirt("cni", "trace", "-", input=TRACE.read_text()).stdout.removesuffix("\n") == short
    assert "invalid format 'png'" in minirt.fails(1, "cni", "trace", str(TRACE), "--format", "png")
    assert "no call 5" in minirt.fails(1, "cni", "trace", str(TRACE), "--step", "5")
    assert "no file '/none'" in minirt.fails(1, "cni", "trace", "/none")


# --- replay ---


def replay(minirt: Command, code: int, *words: str) -> str:
    """What `cni replay` prints; the machine is as it was before."""
    before = minirt.machine.nft(), minirt.machine.links(), minirt.machine.files(), minirt.machine.links("box")
    done = minirt("cni", "replay", str(TRACE), *words)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    after = minirt.machine.nft(), minirt.machine.links(), minirt.machine.files(), minirt.machine.links("box")
    assert before == after, "nothing of the host changes"
    return done.stdout


@pytest.mark.parametrize("folders", ["", GO])
def test_a_plugin_that_has_not_changed_answers_the_same(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch, folders: str
) -> None:
    """Also the second container's address, and hardware addresses that are drawn anew and handed on."""
    monkeypatch.setenv("CNI_PATH", folders)
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"), {"type": "tuning", "sysctl": {}})
    other = minirt.machine.netns("other")
    minirt.ok("cni", "add", "lab", other)
    for verb in ("add", "check", "del"):
        minirt.ok("cni", verb, "lab", lab, "--trace", str(TRACE))
    assert shown(minirt)[0]["result"]["ips"][0]["address"] == "10.50.0.3/24"
    lines = [line for line in replay(minirt, 0).splitlines() if not line.startswith(" ")]
    assert len(lines) == 6 and all(": same (" in line for line in lines), lines
    assert replay(minirt, 0, "--step", "1").startswith("1 bridge")
    minirt.ok("cni", "del", "lab", other)


def test_what_a_changed_plugin_answers_otherwise_is_shown(
    minirt: Command, lab: str, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    minirt.network("odd", {"type": "keep"}, {"type": "last"})
    scripted.write("keep", ADD=[says(RESULT)])
    scripted.write("last", ADD=[says(RESULT | {"dns": {"nameservers": ["10.1.0.1"]}}, stderr=b"old\n")])
    minirt.ok("cni", "add", "odd", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "odd", lab, "--trace", str(TRACE))
    assert ": same (" in replay(minirt, 0, "--step", "2")
    changed = Path("/run/trace.d")
    changed.mkdir()
    minirt.machine.leaves(f"file {changed}/*", f"directory {changed}*")
    other = Scripted(changed)
    program = other.write("last", ADD=[says(RESULT | {"extra": 1}, stderr=b"new\n")], DEL=[fails(99, "no")])
    shown = replay(minirt, 1, "--step", "2", "--plugin", str(program))
    assert "2 last  ADD eth0: differs" in shown
    assert "result .dns: " in shown and "result .extra: absent, now 1" in shown
    assert "- old" in shown and "+ new" in shown
    shown = replay(minirt, 1, "--plugin", str(program))
    assert "1 keep  ADD eth0: same" in shown and "exit: 0, now 1" in shown and "error 99: no" in shown
    assert "exit: 0" not in replay(minirt, 1, "--step", "1", "--plugin", str(program)), "whatever the program is called"
    monkeypatch.setenv("CNI_PATH", GO)
    refused = minirt.fails(2, "cni", "replay", str(TRACE), "--plugin", f"{GO}/bridge")
    assert "the trace has no call of 'bridge'" in refused and "it has calls of keep, last;" in refused
    program.chmod(0o644)
    assert "chmod +x" in minirt.fails(2, "cni", "replay", str(TRACE), "--plugin", str(program))
    assert "no program" in minirt.fails(2, "cni", "replay", str(TRACE), "--plugin", "/none")


@pytest.mark.usefixtures("recorded")
def test_a_changed_delegate_is_called_by_the_plugin_that_has_not_changed(minirt: Command) -> None:
    changed = Path("/run/trace.d")
    changed.mkdir()
    minirt.machine.leaves(f"file {changed}/*", f"directory {changed}*")
    given = {"cniVersion": "1.0.0", "ips": [{"address": "10.50.0.99/24", "gateway": "10.50.0.1"}]}
    program = Scripted(changed).write("host-local", ADD=[says(given)])
    shown = replay(minirt, 1, "--plugin", str(program))
    assert "1 bridge  ADD eth0: differs" in shown and 'now "10.50.0.99/24"' in shown
    shown = replay(minirt, 1, "--step", "2", "--plugin", str(program))
    assert "2 host-local  ADD eth0: differs" in shown and "bridge" not in shown


@pytest.mark.usefixtures("recorded")
def test_a_replay_can_be_recorded_itself(minirt: Command) -> None:
    replay(minirt, 0)
    other = f"{TRACE}.again"
    minirt.ok("cni", "replay", str(TRACE), "--trace", other)
    again = [json.loads(line) for line in minirt.ok("cni", "trace", other, "--format", "json").splitlines()]
    assert told(again) == told(shown(minirt))


def test_a_namespace_and_a_parent_that_are_gone_have_stand_ins(minirt: Command, lab: str) -> None:
    minirt.machine.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1")
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.2/24"}]}
    minirt.network("direct", {"type": "macvlan", "master": "up0", "ipam": ipam})
    pid = minirt.machine.run("sh", "-c", f"nsenter --net={lab} sleep 600 >/dev/null 2>&1 & echo $!").stdout.strip()
    eventually(lambda: os.stat(f"/proc/{pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
    minirt.ok("cni", "add", "direct", "--pid", pid, "--trace", str(TRACE))
    minirt.ok("cni", "del", "direct", "--pid", pid, "--trace", str(TRACE))
    os.kill(int(pid), 9)
    minirt.machine.ip("link", "del", "up0")
    shown = replay(minirt, 0)
    assert "1 macvlan  ADD eth0: same" in shown and "3 macvlan  DEL eth0: same" in shown


def test_here_the_call_is_made_on_this_host(minirt: Command, lab: str) -> None:
    minirt.ok("cni", "add", "lab", lab, "--trace", str(TRACE))
    minirt.ok("cni", "del", "lab", lab, "--trace", str(TRACE))
    assert "--here needs --step" in minirt.fails(2, "cni", "replay", str(TRACE), "--here")
    minirt("cni", "replay", str(TRACE), "--step", "1", "--here")
    assert minirt.machine.links("box") == {"lo", "eth0"} and len(leases()) == 1 and cached() == []
    minirt("cni", "replay", str(TRACE), "--step", "3", "--here")
    assert minirt.machine.links("box") == {"lo"} and leases() == []


def test_a_trace_of_a_whole_life_is_small_enough_to_be_mailed(minirt: Command) -> None:
    """One line of JSON for each thing; what it costs the run is told by test_explain_cost."""
    minirt.ok("run", "-q", "--rm", "--trace", str(TRACE), "host", "true")
    assert len(TRACE.read_bytes()) < 64 << 10


@pytest.mark.usefixtures("lab")
def test_a_delegate_that_opens_its_streams_again_loses_nothing(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As shell scripts do: `echo … >/dev/stderr`."""
    delegate = tmp_path / "host-local"
    answer = '{"cniVersion": "1.0.0", "ips": [{"address": "10.50.0.9/24"}]}'
    delegate.write_text(
        f"#!/bin/sh\necho one >&2\necho two >/dev/stderr\ncat >/dev/null\necho '{answer}' >/dev/stdout\n"
    )
    delegate.chmod(0o755)
    monkeypatch.setenv("CNI_PATH", f"{tmp_path}:{GO}")
    minirt.network("go", {"type": "bridge", "bridge": "cni-lab", "ipam": {"type": "host-local"}})
    minirt.ok("cni", "add", "go", "/run/netns/box", "--trace", str(TRACE))
    inner = shown(minirt)[1]
    assert inner["stderr"] == "one\ntwo\n" and inner["result"]["ips"][0]["address"] == "10.50.0.9/24"
    minirt.ok("cni", "del", "go", "/run/netns/box")
