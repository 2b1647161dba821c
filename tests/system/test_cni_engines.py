"""`minirt cni --docker` and `--podman`: containers that another engine started with network none, by its `inspect`.

The engine is a stand-in that answers what a file says (the shape is docker's); tests/interop has the real podman.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.cnilab import cached, laboratory, leases
from support.command import Command, eventually

ENGINES = Path("/run/engines")
ID = "0123456789abcdef" * 4


@pytest.fixture
def lab(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    ENGINES.mkdir()
    minirt.machine.leaves(f"file {ENGINES}/*", f"directory {ENGINES}")
    monkeypatch.setenv("PATH", f"{ENGINES}:{os.environ['PATH']}")
    return laboratory(minirt)


def engine(name: str, script: str) -> None:
    path = ENGINES / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def answers(name: str, **container: Any) -> None:
    """The engine knows one container, `web`."""
    (ENGINES / "answer").write_text(json.dumps([{"Id": ID} | container]))
    engine(
        name,
        f'echo "$@" >> {ENGINES}/asked\n'
        f'[ "$3" = web ] && exec cat {ENGINES}/answer\n'
        'echo "Error: No such container: $3" >&2; exit 1',
    )


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_container_of_another_engine_is_attached_at_its_pin(minirt: Command, lab: str, name: str) -> None:
    answers(name, State={"Pid": 1}, NetworkSettings={"SandboxKey": lab})
    result = json.loads(minirt.ok("cni", "add", "lab", f"--{name}", "web"))
    assert minirt.machine.addresses("eth0", "box") == {result["ips"][0]["address"]}
    assert cached() == [f"lab-{ID}-eth0"]
    assert (ENGINES / "asked").read_text() == "inspect --type=container web\n"
    minirt.ok("cni", "check", "lab", f"--{name}", "web")
    answers(name, State={"Pid": 0}, NetworkSettings={"SandboxKey": ""})
    assert "is not running" in minirt.fails(1, "cni", "add", "lab", f"--{name}", "web")
    minirt.ok("cni", "del", "lab", f"--{name}", "web")
    assert leases() == [] and cached() == []


@pytest.mark.usefixtures("lab")
def test_where_the_pin_cannot_be_seen_the_first_process_shows_the_way(minirt: Command) -> None:
    process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    eventually(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != os.stat("/proc/self/ns/net").st_ino)
    answers("docker", State={"Pid": process.pid}, NetworkSettings={"SandboxKey": "/var/run/docker/netns/hidden"})
    minirt.ok("cni", "add", "lab", "--docker", "web")
    minirt.ok("cni", "del", "lab", "--docker", "web")
    shown = minirt.machine.run("nsenter", "-t", str(process.pid), "-n", "ip", "-br", "link").stdout
    assert [line.split()[0] for line in shown.splitlines()] == ["lo"]
    process.kill()
    process.wait()
    assert leases() == []


@pytest.mark.usefixtures("lab")
def test_a_container_in_the_hosts_network_is_refused(minirt: Command) -> None:
    answers("docker", State={"Pid": os.getpid()}, NetworkSettings={"SandboxKey": ""})
    error = minirt.fails(1, "cni", "add", "lab", "--docker", "web")
    assert "container 'web' of docker is in the network namespace that minirt runs in" in error
    assert "--network none" in error


@pytest.mark.usefixtures("lab")
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'Error: No such container: web' >&2; exit 1", "docker knows no container 'web': Error: No such"),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "'docker inspect' failed: Cannot connect"),
        ("exit 3", "'docker inspect' failed: exit code 3"),
        ("echo garbage", "makes no sense: line 1 column 1"),
        ("echo '[]'", "makes no sense: expected a list of one object"),
        ("echo '[{}]'", "makes no sense: the container has no Id"),
        ("""echo '[{"Id": "x", "State": {"Pid": "1"}}]'""", "makes no sense: State.Pid: expected an integer"),
        ("""echo '[{"Id": "a b", "State": {"Pid": 0}}]'""", "is not running"),
    ],
)
def test_an_engine_that_answers_badly_is_quoted(minirt: Command, script: str, says: str) -> None:
    engine("docker", script)
    assert says in minirt.fails(1, "cni", "add", "lab", "--docker", "web")
    assert leases() == []


@pytest.mark.usefixtures("lab")
def test_an_engine_that_is_not_there_is_said(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--docker is given, and empty" in minirt.fails(1, "cni", "add", "lab", "--docker=")
    assert "invalid container name" in minirt.fails(1, "cni", "add", "lab", "--docker=--all")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no program 'docker' in PATH" in minirt.fails(1, "cni", "add", "lab", "--docker", "web")
