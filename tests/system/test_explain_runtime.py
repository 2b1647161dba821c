"""What the runtime tells of its own steps is true: typed by hand, they make a container like the one that was told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import leftovers
from support.command import PROGRAM, Command, bridge, eventually
from support.typed import differences, look
from support.typedrun import LOOK, check_exec, check_run, steady, told, types

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "directory *", "file *", "netns *", "cgroup *", "mount *")

SEEN = (
    'cat /proc/self/mountinfo; echo; hostname; grep -E "^(Cap|NoNewPrivs|Uid|Gid|Groups)" /proc/self/status; '
    "ls /dev; stat -Lc %u /dev/stdout"
)
JOINING = ("--network", "container:first", "host", "sh")


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
    check_run(minirt, *asked)


def test_the_commands_of_a_run_in_anothers_network_make_the_same_container(minirt: Command) -> None:
    minirt.ok("run", "-d", "-q", "--name", "first", "host", "sleep", "100")
    done = minirt("run", "-d", "--explain=json", "--name", "web", *JOINING, "-c", f"{LOOK}; ip addr; sleep 100")
    assert done.returncode == 0, done.stderr
    commands = told(done.stderr)
    assert any(command.startswith("nsenter --net=/run/netns/") for command in commands)
    made = eventually(lambda: (text := minirt.ok("logs", "web")) and "inet" in text and text)
    assert steady(types(commands, f"{LOOK}; ip addr")) == steady(made), "\n".join(commands)
    minirt.ok("rm", "--force", "first", "web")


@pytest.mark.parametrize("asked", ["", "--user 1000:5"])
def test_the_commands_of_a_run_with_a_terminal_make_the_same_container(minirt: Command, asked: str) -> None:
    """But for the process that moves what is typed there."""
    how = f"--network none --hostname box --name web {asked} -t"
    words = f"{PROGRAM} run --explain=json {how} host sh -c '{SEEN}; tty' 2>/run/told"
    made = minirt.machine.text("script", "--quiet", "--return", "--command", words, "/dev/null")
    commands = told(Path("/run/told").read_text(encoding="utf-8"))
    up = commands[: next(place for place, command in enumerate(commands) if command.startswith("ip netns delete"))]
    assert any("/dev/console" in command for command in up)
    assert steady(types(up, f"{SEEN}; tty")) == steady(made.replace("\n\n", "\n")), "\n".join(up)  # two terminals
    minirt.ok("rm", "web")


@pytest.mark.parametrize("asked", [(), ("--user", "1000:1000", "--workdir", "/tmp")])
def test_the_commands_of_exec_lead_into_the_same_container(minirt: Command, asked: tuple[str, ...]) -> None:
    check_exec(minirt, *asked)


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
