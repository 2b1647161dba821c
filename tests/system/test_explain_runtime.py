"""What the runtime tells of its own steps is true: typed by hand, they make a container like the one that was told of.

Of the commands that make a process another (unshare, nsenter, setpriv), each runs a shell that types the rest.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from support import leftovers
from support.command import Command

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "directory *", "file *", "netns *", "cgroup *", "mount *")

# What a process sees of where it is. Numbers of mounts, devices and peer groups differ; so do control groups' hosts.
LOOK = (
    "cat /proc/self/mountinfo; echo; hostname; grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; "
    "ls /dev /sys/class/net; cat /proc/self/cgroup; echo $(ls /proc | grep -c '^[0-9]') processes"
)


def steady(text: str) -> list[str]:
    mounts, _, rest = text.partition("\n\n")
    found = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        words = before.split()
        propagation = [word.split(":")[0] for word in words[6:]]
        found.append(" ".join([*words[3:6], *propagation, "-", after]))
    return [*found, *rest.splitlines()]


def script(commands: list[str], last: str) -> str:
    """All of `commands`, each in the shell of those that make a process another."""
    lines: list[str] = []
    for place, command in enumerate(commands):
        if re.match(r"unshare |nsenter |setpriv ", command):
            inner = script(commands[place + 1 :], last).replace("'", "'\\''")
            return "\n".join([*lines, f"exec {command} sh -ec '{inner}'"])
        lines.append(command)
    return "\n".join([*lines, last])


@pytest.mark.parametrize("asked", [(), ("--read-only", "--user", "1000:1000", "-v", "/usr/share:/mnt:ro")])
def test_the_commands_of_a_run_make_the_same_container(minirt: Command, asked: tuple[str, ...]) -> None:
    argv = ("run", "--explain=json", "--network", "none", "--hostname", "box", "--name", "web", *asked, "host", "sh")
    done = minirt(*argv, "-c", LOOK)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    commands = [item["text"] for item in told if item["kind"] == "command"]
    down = next(place for place, command in enumerate(commands) if command.startswith("ip netns delete"))
    up, taken_down = commands[:down], commands[down:]
    typed = subprocess.run(["sh", "-ec", script(up, LOOK)], capture_output=True, text=True, timeout=60)
    assert typed.returncode == 0, typed.stderr
    assert steady(typed.stdout) == steady(done.stdout), "\n".join(up)
    for command in taken_down:
        minirt.machine.run("sh", "-ec", command)
    assert "web" not in minirt.machine.run("ip", "netns").stdout
    minirt.ok("rm", "web")
