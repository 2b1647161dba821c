"""The verbs around a container that lives in the background, and what happens when minirt itself is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.command import CONTAINERS, PROGRAM, Command, eventually

SLEEP = ("host", "sleep", "600")


def supervisor(minirt: Command, reference: str) -> int:
    """The process that looks after a container: the parent of its first process."""
    pid = minirt.inspect(reference)["State"]["Pid"]
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def nothing_is_attached(minirt: Command) -> None:
    machine = minirt.machine
    assert machine.links() <= {"lo", "minirt0"}
    assert not [path for path in machine.files() if "/networks/" in path and path.rpartition("/")[2][0].isdigit()]
    assert machine.run("ip", "netns", "list").stdout == ""


def test_a_detached_container_prints_its_id_and_goes_on(minirt: Command) -> None:
    identity = minirt.ok("run", "-d", "--name", "web", *SLEEP)
    assert len(identity) == 64 and set(identity) <= set("0123456789abcdef")
    assert minirt.ok("ps", "-q") == identity[:12]
    assert minirt.ok("ps", "-q", "--no-trunc") == identity
    head, line = minirt.ok("ps").splitlines()
    assert head.split()[:2] == ["CONTAINER", "ID"]
    assert line.startswith(identity[:12]) and "Up " in line and line.endswith(" web")
    document = minirt.inspect("web")
    assert document["Id"] == identity and document["State"]["Running"] is True
    assert os.readlink(f"/proc/{document['State']['Pid']}/exe").endswith("/sleep")
    assert minirt.ok("stop", "-t", "0", "web") == "web"
    nothing_is_attached(minirt)
    assert minirt.ok("ps", "-q") == ""
    assert "Exited (137)" in minirt.ok("ps", "-a")
    assert minirt.ok("rm", identity[:10]) == identity[:10]
    assert minirt.ok("ps", "-aq") == ""


def test_what_is_to_be_said_is_said_in_the_background_too(minirt: Command) -> None:
    assert "built-in network" in minirt("run", "-d", "--name", "web", *SLEEP).stderr
    minirt.ok("rm", "-f", "web")
    assert minirt("run", "-dq", "--name", "web", *SLEEP).stderr == ""
    minirt.ok("rm", "-f", "web")


def test_a_reader_in_the_background_waits_for_its_input(minirt: Command) -> None:
    minirt.ok("run", "-di", "--name", "reader", "host", "cat")
    minirt.ok("run", "-d", "--name", "eof", "host", "cat")
    assert minirt.ok("wait", "eof") == "0"
    assert minirt.inspect("reader")["State"]["Running"] is True
    minirt.ok("rm", "-f", "reader", "eof")


def test_a_filter_that_is_none_is_told_where_no_container_is_looked_at(minirt: Command) -> None:
    assert "invalid filter 'colour=red'" in minirt.fails(1, "ps", "--filter", "colour=red")


def test_ps_filters_and_speaks_json(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "one", "-p", "8080:80", *SLEEP)
    minirt.ok("run", "-d", "--name", "two", *SLEEP)
    minirt.ok("kill", "two")
    assert minirt.ok("wait", "two") == "137"
    rows = [json.loads(line) for line in minirt.ok("ps", "-a", "--format", "json").splitlines()]
    assert [(row["Names"], row["State"]) for row in rows] == [("two", "exited"), ("one", "running")]
    assert rows[1]["Ports"] == "8080->80/tcp"
    assert [line.split()[-1] for line in minirt.ok("ps", "-f", "status=exited").splitlines()[1:]] == ["two"]
    assert minirt.ok("ps", "-aqf", "name=one", "-f", "status=running") != ""
    assert "invalid filter" in minirt.fails(1, "ps", "-f", "colour=red")
    minirt.ok("rm", "-f", "one", "two")


def test_networks_are_left_as_soon_as_the_workload_ends_however_it_ends(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "short", "host", "true")
    minirt.ok("run", "-d", "--name", "killed", *SLEEP)
    os.kill(minirt.inspect("killed")["State"]["Pid"], signal.SIGKILL)
    assert minirt.ok("wait", "short", "killed").split() == ["0", "137"]
    nothing_is_attached(minirt)
    minirt.ok("rm", "short", "killed")


def test_stop_asks_first_and_then_insists(minirt: Command) -> None:
    polite = "trap 'exit 4' TERM; while :; do sleep 0.05; done"
    minirt.ok("run", "-d", "--name", "polite", "host", "bash", "-c", polite)
    minirt.ok("run", "-d", "--name", "deaf", *SLEEP)
    minirt.ok("stop", "polite")
    minirt.ok("stop", "-t", "1", "deaf")
    assert minirt.ok("wait", "polite", "deaf").split() == ["4", "137"]
    assert minirt.ok("stop", "polite") == "polite"  # stopped already: nothing to do
    minirt.ok("rm", "polite", "deaf")


def test_a_stopped_container_starts_again_with_a_new_network(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "host", "sh", "-c", "echo started; ip -br -4 addr show eth0; sleep 600")
    minirt.ok("stop", "-t", "0", "web")
    minirt.ok("start", "web")
    assert minirt.inspect("web")["State"]["Running"] is True
    lines = eventually(lambda: (found := minirt.ok("logs", "web").splitlines())[3:] and found)
    assert lines[0] == lines[2] == "started"
    assert all(" 10.143." in line for line in (lines[1], lines[3]))
    assert minirt.ok("start", "web") == "web"  # it runs: nothing to do
    assert "is running" in minirt.fails(125, "start", "--attach", "web")
    minirt.ok("rm", "-f", "web")


def test_start_can_stay_with_the_container(minirt: Command) -> None:
    assert minirt("run", "--name", "job", "-q", "host", "sh", "-c", "echo hi; exit 3").stdout == "hi\n"
    done = minirt("start", "--attach", "job")
    assert (done.returncode, done.stdout) == (3, "hi\n")
    minirt.ok("rm", "job")


def test_logs_keep_both_streams_and_can_be_followed(minirt: Command) -> None:
    script = "echo one; echo two >&2; printf three; sleep 0.3; echo; echo four; sleep 0.3"
    minirt.ok("run", "-d", "--name", "web", "host", "sh", "-c", script)
    done = minirt("logs", "-f", "web", timeout=20)
    assert (done.stdout, done.stderr) == ("one\nthree\nfour\n", "two\n")
    assert minirt.ok("logs", "-n", "1", "web") == "four"
    when, text = minirt.ok("logs", "-t", "-n", "1", "web").split(" ", 1)
    assert text == "four" and when.endswith("Z")
    assert minirt.ok("logs", "--since", "2999-01-01", "web") == ""
    minirt.ok("rm", "web")


def test_logs_of_a_container_that_ran_in_the_foreground_are_kept(minirt: Command) -> None:
    minirt.ok("run", "--name", "job", "-q", "host", "echo", "hi")
    assert minirt.ok("logs", "job") == "hi"
    minirt.ok("rm", "job")


def test_exec_runs_inside_all_namespaces_with_the_containers_rights(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "--hostname", "box", "-e", "A=1", *SLEEP)
    script = "hostname; echo $A $B; pwd; id -u; for n in net mnt pid uts ipc cgroup; do readlink /proc/self/ns/$n; done"
    flags = ("-e", "B=2", "-w", "/usr", "-u", "daemon")
    lines = minirt.ok("exec", *flags, "web", "sh", "-c", script).splitlines()
    assert lines[:4] == ["box", "1 2", "/usr", "1"]
    pid = minirt.inspect("web")["State"]["Pid"]
    kinds = ("net", "mnt", "pid", "uts", "ipc", "cgroup")
    assert lines[4:] == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]
    status = minirt.ok("exec", "web", "grep", "-E", "^(CapEff|CapInh|NoNewPrivs):", "/proc/self/status")
    assert [line.split()[1] for line in status.splitlines()] == ["0000000000000000", "00000000a80425fb", "1"]
    assert minirt("exec", "web", "sh", "-c", "exit 9").returncode == 9
    assert minirt("exec", "web", "sh", "-c", "kill -9 $$").returncode == 137
    assert minirt("exec", "web", "nonsense").returncode == 127
    assert minirt("exec", "web", "/etc/passwd").returncode == 126
    assert minirt.ok("exec", "-i", "web", "cat", input="hello") == "hello"
    minirt.ok("rm", "-f", "web")
    assert "no container" in minirt.fails(125, "exec", "web", "true")


def test_a_running_container_is_removed_only_by_force(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    assert "is running" in minirt.fails(1, "rm", "web")
    assert minirt.ok("rm", "--force", "web") == "web"
    nothing_is_attached(minirt)
    assert "no container 'web'" in minirt.fails(1, "rm", "web")


def test_one_bad_name_does_not_keep_the_others(minirt: Command) -> None:
    minirt.ok("run", "--name", "a", "host", "true")
    minirt.ok("run", "--name", "b", "host", "true")
    done = minirt("rm", "a", "nobody", "b")
    assert (done.returncode, done.stdout) == (1, "a\nb\n")
    assert "'nobody'" in done.stderr


def test_rm_in_the_background_goes_by_itself(minirt: Command) -> None:
    minirt.ok("run", "-d", "--rm", "--name", "web", "host", "sleep", "0.2")
    eventually(lambda: minirt.ok("ps", "-aq") == "")
    nothing_is_attached(minirt)


@pytest.mark.parametrize("detached", [True, False])
def test_who_comes_after_a_killed_supervisor_takes_the_container_down(minirt: Command, detached: bool) -> None:
    if detached:
        minirt.ok("run", "-d", "--name", "web", *SLEEP)
    else:
        minirt.start("run", "--name", "web", *SLEEP)
        eventually(lambda: minirt.ok("ps", "-q"))
    pid = minirt.inspect("web")["State"]["Pid"]
    os.kill(supervisor(minirt, "web"), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists())
    done = minirt("ps", "-a")
    assert "Exited (255)" in done.stdout
    assert "supervisor died" in done.stderr
    nothing_is_attached(minirt)
    minirt.ok("rm", "web")


def test_after_a_restart_of_the_host_containers_are_stopped_and_their_addresses_free(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    identity = minirt.inspect("web")["Id"]
    os.kill(supervisor(minirt, "web"), signal.SIGKILL)
    record = CONTAINERS / identity / "record.json"
    document = json.loads(record.read_text())
    record.write_text(json.dumps(document | {"boot_id": "of yesterday", "pid": 1, "pid_start": 1}))
    done = minirt("ps", "-a")
    assert "host was restarted" in done.stderr
    nothing_is_attached(minirt)
    minirt.ok("start", "web")
    minirt.ok("rm", "-f", "web")


def test_the_supervisor_is_small_and_holds_nothing_of_the_caller(minirt: Command) -> None:
    reader, writer = os.pipe()
    minirt.ok("run", "-d", "--name", "web", *SLEEP, pass_fds=(writer,))
    os.close(writer)
    assert os.read(reader, 1) == b""  # every other end of the pipe is closed
    pid = supervisor(minirt, "web")
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert kilobytes < 6000
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    minirt.ok("rm", "-f", "web")


def test_an_interrupt_while_it_is_set_up_leaves_nothing(minirt: Command) -> None:
    plugin = Path("/run/slow")
    plugin.mkdir()
    (plugin / "slow").write_text("#!/bin/sh\n[ $CNI_COMMAND = DEL ] || sleep 30\n")
    (plugin / "slow").chmod(0o755)
    minirt.network("slow", {"type": "slow"})
    process = minirt.start("run", "--rm", "host", "true", env=os.environ | {"CNI_PATH": str(plugin)}, stderr=-1)
    eventually(lambda: list(Path("/run/netns").glob("*")))
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    nothing_is_attached(minirt)
    minirt.machine.leaves("file /run/slow/*")


def slow_network(minirt: Command, verb: str, seconds: float, *others: dict[str, Any]) -> dict[str, str]:
    """A network of the bundled plugins, `others`, and one that takes its time for `verb`; the environment that finds
    them. While it waits there is a file /run/slow/waits."""
    folder = Path("/run/slow")
    folder.mkdir()
    minirt.machine.leaves("file /run/slow/*")
    wait = f"[ $CNI_COMMAND != {verb} ] || {{ >/run/slow/waits; sleep {seconds}; rm -f /run/slow/waits; }}"
    answer = '{"cniVersion": "1.0.0", "ips": []}'
    scripts = {"slow": f"{wait}\n[ $CNI_COMMAND != ADD ] || echo '{answer}'", "bad": "[ $CNI_COMMAND != ADD ]"}
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
        (folder / name).chmod(0o755)
    configs = Path(PROGRAM).parents[2] / "minirt/configs/minirt.conflist"
    minirt.network("slow", *json.loads(configs.read_text())["plugins"], {"type": "slow"}, *others)
    return os.environ | {"CNI_PATH": f"{Path(PROGRAM).parents[1]}/libexec/minirt/cni:{folder}"}


def first_process(of: int) -> int:
    """The child of a minirt that waits in a pid namespace of its own."""
    for child in Path(f"/proc/{of}/task/{of}/children").read_text().split():
        if len(Path(f"/proc/{child}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()) > 1:
            return int(child)
    return 0


def test_a_first_process_that_is_killed_before_its_time_leaves_nothing(minirt: Command) -> None:
    environment = slow_network(minirt, "ADD", 1)
    process = minirt.start("run", "--name", "web", *SLEEP, env=environment, stderr=-1)
    eventually(Path("/run/slow/waits").exists)  # by now it has reported that it is ready
    os.kill(first_process(process.pid), signal.SIGKILL)
    assert process.wait(10) == 125
    assert process.stderr is not None
    assert "killed before it could run" in process.stderr.read()
    assert minirt.ok("ps", "-aq") == ""
    nothing_is_attached(minirt)


def test_one_that_is_being_started_is_waited_for_before_it_is_removed(minirt: Command) -> None:
    environment = slow_network(minirt, "ADD", 0.7)
    process = minirt.start("run", "-d", "--name", "web", *SLEEP, env=environment, stdout=-1)
    eventually(Path("/run/slow/waits").exists)
    assert "is running" in minirt.fails(1, "rm", "web", env=environment, timeout=10)
    assert process.wait(10) == 0
    minirt.ok("stop", "-t", "0", "web", env=environment)
    process = minirt.start("start", "web", env=environment, stdout=-1)
    eventually(Path("/run/slow/waits").exists)
    minirt.ok("rm", "-f", "web", env=environment, timeout=10)
    assert process.wait(10) == 0
    assert minirt.ok("ps", "-aq") == ""
    nothing_is_attached(minirt)


def test_an_interrupt_while_a_failure_is_undone_leaves_nothing(minirt: Command) -> None:
    environment = slow_network(minirt, "DEL", 0.5, {"type": "bad"})
    process = minirt.start("run", "-p", "8080:80", *SLEEP, env=environment, stderr=-1)
    eventually(Path("/run/slow/waits").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    nothing_is_attached(minirt)
    assert minirt.machine.elements() == []


def test_a_supervisor_that_is_killed_before_it_has_begun_leaves_nothing(minirt: Command) -> None:
    never = Path("/run/never")  # whoever reads it waits, as minirt does then with a namespace already made
    os.mkfifo(never)
    minirt.machine.run("mount", "--bind", str(never), "/etc/resolv.conf")
    try:
        process = minirt.start("run", "-d", "--network", "none", *SLEEP, stderr=-1)
        eventually(lambda: list(CONTAINERS.glob("*/hostname")) or list(Path("/run/netns").glob("*")))
        os.kill(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()), signal.SIGKILL)
        assert process.wait(10) == 125
    finally:
        minirt.machine.run("umount", "/etc/resolv.conf")
        never.unlink()
    assert minirt.ok("ps", "-aq") == ""
    nothing_is_attached(minirt)


def test_a_container_whose_supervisor_was_killed_does_not_count_as_a_success(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    waiting = minirt.start("wait", "web", stdout=-1, stderr=-1)
    eventually(lambda: "locks_lock" in Path(f"/proc/{waiting.pid}/wchan").read_text() or waiting.poll() is not None)
    os.kill(supervisor(minirt, "web"), signal.SIGKILL)
    assert waiting.communicate(timeout=10)[0] == "255\n"
    minirt.ok("rm", "web")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_nobodys(minirt: Command, closed: str) -> None:
    shell = ("sh", "-c", f'exec "$0" "$@" {closed}', PROGRAM)
    run = minirt.machine.run(*shell, "run", "-d", "--name", "web", *SLEEP, check=False, timeout=10)
    assert (run.returncode, "Traceback" in run.stderr) == (0, False)
    assert "Up " in minirt.ok("ps")
    done = minirt.machine.run(*shell, "run", "--rm", "host", "echo", "hi", check=False, timeout=10)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    minirt.ok("rm", "-f", "web")


def test_a_full_disk_below_standard_output_is_told(minirt: Command) -> None:
    done = minirt.machine.run("sh", "-c", 'exec "$0" ps -a >/dev/full', PROGRAM, check=False)
    assert done.returncode == 1 and "no space left" in done.stderr and "Traceback" not in done.stderr


def test_any_user_of_a_container_reads_its_hosts_whatever_the_umask(minirt: Command) -> None:
    words = ("run", "--rm", "-u", "nobody", "host", "cat", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
    assert "localhost" in minirt.ok(*words, umask=0o077)
