"""minirt run: what the workload finds, what comes out, and how it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.command import PROGRAM, Command, eventually


def test_the_workload_has_lo_and_eth0_with_an_address_of_the_network(minirt: Command) -> None:
    lines = minirt.ok("run", "--rm", "host", "ip", "-br", "addr").splitlines()
    assert [line.split()[0].partition("@")[0] for line in lines] == ["lo", "eth0"]
    assert "127.0.0.1/8" in lines[0]
    assert " 10.143." in lines[1] and " fd6d:" in lines[1]


def test_it_says_that_the_built_in_network_is_used_unless_it_is_to_be_quiet(minirt: Command) -> None:
    assert "built-in network 'minirt'" in minirt("run", "--rm", "host", "true").stderr
    assert minirt("run", "--rm", "-q", "host", "true").stderr == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "sh -c 'kill -TERM $$'"), 143),
        (("nonsense",), 127),
        (("/nonsense/sh",), 127),
        (("/etc/passwd",), 126),
        (("/etc",), 126),
    ],
)
def test_the_exit_code_is_the_workloads_or_says_why_there_was_none(
    minirt: Command, command: tuple[str, ...], code: int
) -> None:
    assert minirt("run", "--rm", "host", *command).returncode == code


def test_a_workload_ended_by_a_signal_gives_128_and_its_number(minirt: Command) -> None:
    process = minirt.start("run", "--rm", "--name", "x", "host", "sleep", "60")
    eventually(lambda: minirt("kill", "-s", "KILL", "x").returncode == 0)
    assert process.wait(10) == 137


def test_standard_streams_are_told_apart(minirt: Command) -> None:
    done = minirt("run", "--rm", "-q", "host", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_standard_input_is_empty_unless_it_is_asked_for(minirt: Command) -> None:
    assert minirt.ok("run", "--rm", "host", "cat", input="hello\n") == ""
    assert minirt.ok("run", "--rm", "-i", "host", "cat", input="hello\n") == "hello"


def test_much_output_comes_whole(minirt: Command) -> None:
    text = minirt.ok("run", "--rm", "host", "seq", "200000")
    assert text.splitlines() == [str(number) for number in range(1, 200001)]


def test_a_reader_who_leaves_ends_the_workload(minirt: Command) -> None:
    line = minirt.machine.run("bash", "-c", f"{PROGRAM} run --rm -q host yes | head -n 1", timeout=20)
    assert line.stdout == "y\n"


def test_environment_directory_user_and_host_name(minirt: Command) -> None:
    script = "echo $A $B $HOME $(hostname) $(pwd) $(id -u):$(id -g)"
    flags = ("-e", "A=1", "-e", "B", "-w", "/usr/share", "-u", "daemon", "--hostname", "box")
    line = minirt.ok("run", "--rm", *flags, "host", "sh", "-c", script, env=os.environ | {"B": "two"})
    assert line == "1 two /usr/sbin box /usr/share 1:1"


def test_the_host_image_is_this_machine_under_a_layer_that_is_thrown_away(minirt: Command) -> None:
    script = "cat /etc/os-release && echo gone > /etc/os-release && rm -r /usr/share && touch /new"
    before = Path("/etc/os-release").read_text()
    assert minirt.ok("run", "--rm", "host", "sh", "-c", script) + "\n" == before
    assert Path("/etc/os-release").read_text() == before
    assert Path("/usr/share").is_dir() and not Path("/new").exists()


def test_a_directory_is_an_image_with_rootfs(minirt: Command, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "bin/busybox").chmod(0o755)
    run = ("run", "--rm", "-q", "--rootfs")
    assert minirt.ok(*run, str(tmp_path), "/bin/busybox", "sh", "-c", "echo $0 >/made; ls /") != ""
    assert (tmp_path / "made").exists()
    done = minirt(*run, "--read-only", str(tmp_path), "/bin/busybox", "touch", "/made2")
    assert done.returncode == 1 and "Read-only" in done.stderr
    assert not (tmp_path / "made2").exists()


def test_volumes_show_a_path_of_the_host(minirt: Command, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    script = "cat /data/in; echo back > /data/out; echo no > /fixed/out"
    done = minirt("run", "--rm", "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/fixed:ro", "host", "sh", "-c", script)
    assert done.stdout == "hello\n"
    assert "Read-only" in done.stderr
    assert (tmp_path / "out").read_text() == "back\n"


def test_the_entry_point_is_put_before_the_command(minirt: Command) -> None:
    assert minirt.ok("run", "--rm", "--entrypoint", "echo", "host", "-n", "a", "b") == "a b"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on_to_the_workload(minirt: Command, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    process = minirt.start("run", "--rm", "-q", "host", "bash", "-c", script, stdout=-1)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=10)[0] == "got\n"
    assert process.returncode == 3


def test_each_namespace_is_new_and_the_network_is_pinned_under_the_id(minirt: Command) -> None:
    kinds = ("net", "mnt", "pid", "uts", "ipc", "cgroup")
    identity = minirt.ok("run", "-d", "--name", "x", "host", "sleep", "60")
    inside = minirt.ok("exec", "x", "sh", "-c", f"for kind in {' '.join(kinds)}; do readlink /proc/self/ns/$kind; done")
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    assert not set(inside.splitlines()) & set(outside)
    assert identity in minirt.machine.run("ip", "netns", "list").stdout
    found = minirt.machine.run("ip", "netns", "exec", identity, "readlink", "/proc/self/ns/net").stdout
    assert found.strip() == inside.splitlines()[0]
    minirt.ok("rm", "--force", "x")


def test_no_descriptor_of_ours_is_left_to_the_workload(minirt: Command) -> None:
    with open("/etc/passwd") as leaked:
        shown = minirt.ok("run", "--rm", "host", "ls", "/proc/self/fd", pass_fds=(leaked.fileno(),)).split()
    assert shown == ["0", "1", "2", "3"]  # the last is ls's own


def test_hosts_host_name_and_resolver_follow_from_the_network(minirt: Command) -> None:
    script = "cat /etc/hostname; grep -w web /etc/hosts; ip -br -4 addr show eth0"
    name, hosts, _, address = minirt.ok(
        "run", "--rm", "--name", "web", "--hostname", "box", "host", "sh", "-c", script
    ).splitlines()
    assert name == "box"
    assert hosts.split()[1:] == ["box", "web"]
    assert hosts.split()[0] in address


def test_it_runs_beside_others_at_the_same_time(minirt: Command) -> None:
    script = "ip -br -4 addr show eth0"
    processes = [minirt.start("run", "--rm", "-q", "host", "sh", "-c", script, stdout=-1) for _ in range(12)]
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 12
    assert len({answer.split()[2] for answer in answers}) == 12
