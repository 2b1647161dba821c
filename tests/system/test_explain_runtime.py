"""What the runtime tells of its own steps is true: typed by hand, they make a container like the one that was told of.

Of the commands that make a process another (unshare, nsenter, setpriv), each runs a shell that types the rest.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.command import Command, bridge, eventually
from support.typed import differences, look

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "directory *", "file *", "netns *", "cgroup *", "mount *")

# What a process sees of where it is. Numbers of mounts, devices and peer groups differ; so do control groups' hosts.
LOOK = (
    "cat /proc/self/mountinfo; echo; hostname; grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; "
    "ls /dev /sys/class/net; cat /proc/self/cgroup; pwd; set -- /proc/[0-9]*; echo $# processes"
)
JOINING = ("--network", "container:first", "host", "sh")
BECOMES = re.compile(r"unshare |nsenter |setpriv ")


def steady(text: str) -> list[str]:
    mounts, _, rest = text.partition("\n\n")
    found = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        propagation = [word.split(":")[0] for word in words[6:]]
        found.append(" ".join([*words[3:6], *propagation, "-", after]))
    return [*found, *rest.splitlines()]


def script(commands: Sequence[str], last: str) -> str:
    """All of `commands`, each in the shell of those that make a process another."""
    lines: list[str] = []
    for place, command in enumerate(commands):
        if BECOMES.match(command):
            inner = script(commands[place + 1 :], last).replace("'", "'\\''")
            return "\n".join([*lines, f"exec {command} sh -ec '{inner}'"])
        lines.append(command)
    return "\n".join([*lines, last])


def told(stderr: str) -> list[str]:
    items: list[dict[str, Any]] = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return [item["text"] for item in items if item["kind"] == "command"]


def types(commands: Sequence[str], last: str = LOOK) -> str:
    done = subprocess.run(
        ["sh", "-ec", script(commands, last)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "asked",
    [
        (),
        ("--read-only", "--user", "1000:1000", "-v", "/usr/share:/mnt:ro"),
        (
            "--user",
            "0:5",
            "--workdir",
            "/new/home",
            "-v",
            "/etc/hostname:/new/place/file",
            "-v",
            "/run/a b:/new/it's:noexec",
        ),
        ("-v", "/run/a b:/mnt:bind,rslave", "-v", "/usr/bin:/mnt/below:ro"),
    ],
)
def test_the_commands_of_a_run_make_the_same_container(minirt: Command, asked: tuple[str, ...]) -> None:
    Path("/run/a b").mkdir()
    argv = ("run", "--explain=json", "--network", "none", "--hostname", "box", "--name", "web", *asked, "host", "sh")
    done = minirt(*argv, "-c", LOOK)
    assert done.returncode == 0, done.stderr
    commands = told(done.stderr)
    down = next(place for place, command in enumerate(commands) if command.startswith("ip netns delete"))
    up, taken_down = commands[:down], commands[down:]
    assert steady(types(up)) == steady(done.stdout), "\n".join(up)
    for command in taken_down:
        minirt.machine.run("sh", "-ec", command)
    assert "web" not in minirt.machine.run("ip", "netns").stdout
    minirt.ok("rm", "web")


def test_the_commands_of_a_run_in_anothers_network_make_the_same_container(minirt: Command) -> None:
    minirt.ok("run", "-d", "-q", "--name", "first", "host", "sleep", "100")
    done = minirt("run", "-d", "--explain=json", "--name", "web", *JOINING, "-c", f"{LOOK}; ip addr; sleep 100")
    assert done.returncode == 0, done.stderr
    commands = told(done.stderr)
    assert any(command.startswith("nsenter --net=/run/netns/") for command in commands)
    made = eventually(lambda: (text := minirt.ok("logs", "web")) and "inet" in text and text)
    assert steady(types(commands, f"{LOOK}; ip addr")) == steady(made), "\n".join(commands)
    minirt.ok("rm", "--force", "first", "web")


@pytest.mark.parametrize("asked", [(), ("--user", "1000:1000", "--workdir", "/tmp")])
def test_the_commands_of_exec_lead_into_the_same_container(minirt: Command, asked: tuple[str, ...]) -> None:
    minirt.ok("run", "-d", "-q", "--name", "web", "--network", "none", "host", "sleep", "100")
    done = minirt("exec", "--explain=json", *asked, "web", "sh", "-c", LOOK)
    assert done.returncode == 0, done.stderr
    commands = told(done.stderr)
    assert steady(types(commands)) == steady(done.stdout), "\n".join(commands)
    minirt.ok("rm", "--force", "web")


def test_the_commands_of_an_end_take_down_what_is_left_of_a_container(minirt: Command) -> None:
    """Its supervisor is killed when it runs again, and so nobody else takes it down."""
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/30", ipMasq=True), portmap)
    minirt.ok("run", "-d", "-q", "--name", "web", "--network", "lab", "-p", "8080:80", "host", "sleep", "100")
    commands = told(minirt("stop", "--time", "0", "--explain=json", "web").stderr)
    stopped = look()
    minirt.ok("start", "web")
    workload = minirt.inspect("web")["State"]["Pid"]
    assert look() != stopped
    supervisor = int(Path(f"/proc/{workload}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{workload}").exists())
    for command in commands:
        minirt.machine.run("sh", "-ec", command)
    assert differences(stopped, look()) == [], "\n".join(commands)
    assert not minirt.machine.text("ip", "netns")
    minirt.ok("rm", "--force", "web")
