"""The account of a run, typed: its commands make a process another, which looks at where it is.

Of the commands that make a process another (unshare, nsenter, setpriv), each runs a shell that types the rest.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

from support.command import Command

# What a process sees of where it is. Numbers of mounts, devices and peer groups differ; so do control groups' hosts.
LOOK = (
    "cat /proc/self/mountinfo; echo; hostname; grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; "
    "ls /dev /sys/class/net; stat -Lc %u /dev/stdout; cat /proc/self/cgroup; pwd; "
    "set -- /proc/[0-9]*; echo $# processes; "
    # Its control group is the root of what it sees; who is in there tells whether it is the container's.
    "for f in /sys/fs/cgroup/pids/tasks /sys/fs/cgroup/cgroup.procs; do "
    "[ ! -e $f ] || { n=0; while read -r _; do n=$((n+1)); done <$f; echo $n in the group; }; done"
)
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
        if command.startswith("script "):  # which runs its commands by a terminal of its own
            inner = script(commands[place + 1 :], last).replace("'", "'\\''")
            return "\n".join([*lines, f"exec {command} --return --command 'set -e\n{inner}'"])
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


def check_run(minirt: Command, *asked: str) -> None:
    """Its commands make the same container, and take it down."""
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


def check_exec(minirt: Command, *asked: str) -> None:
    """Its commands lead into the same container."""
    minirt.ok("run", "-d", "-q", "--name", "web", "--network", "none", "host", "sleep", "100")
    done = minirt("exec", "--explain=json", *asked, "web", "sh", "-c", LOOK)
    assert done.returncode == 0, done.stderr
    commands = told(done.stderr)
    assert steady(types(commands)) == steady(done.stdout), "\n".join(commands)
    minirt.ok("rm", "--force", "web")
