"""A second process in a container that runs, as `exec` starts it, told by real programs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import box, cgroups, leftovers

from minirt import cgroup, join
from minirt.errors import CommandNotExecutable, CommandNotFound, Conflict, NotFound, SetupFailed, UsageError
from minirt.process import Process
from minirt.spec import Volume

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*leftovers.FOLDERS)]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
READ = "readlink " + " ".join(f"/proc/self/ns/{kind}" for kind in NAMESPACES)


def test_it_is_in_every_namespace_of_the_container() -> None:
    with box.running() as container:
        theirs = [os.readlink(f"/proc/{container.pid}/ns/{kind}") for kind in NAMESPACES]
        assert box.execute(container, "sh", "-c", READ).lines == theirs


def test_it_has_the_containers_root_host_name_and_processes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text\n")
    with box.running(volumes=(Volume(str(tmp_path), "/v"),)) as container:
        shown = box.execute(container, "sh", "-c", "cat /v/file; hostname; cat /proc/1/comm; pwd; echo $HOSTNAME")
        assert shown.lines == ["text", "box", "sleep", "/", "box"]


def test_it_has_no_more_rights_than_process_1() -> None:
    with box.running() as container:
        first, second = (
            [
                line
                for line in box.execute(container, "cat", f"/proc/{pid}/status").lines
                if line.startswith(("Cap", "NoNewPrivs", "Groups", "Uid", "Gid", "Umask", "SigIgn", "SigBlk"))
            ]
            for pid in ("1", "self")
        )
        assert first == second
        assert "CapInh:\t0000000000000000" in second  # CVE-2022-29162


def test_it_is_in_the_containers_control_group() -> None:
    with box.running() as container:
        first, second = (box.execute(container, "cat", f"/proc/{pid}/cgroup").lines for pid in ("1", "self"))
        assert first == second
        (group,) = set(Path(cgroups.MOUNT).rglob("minirt/box/cgroup.procs"))
        assert group.read_text().split() == [str(container.pid)]


def test_it_does_not_change_where_our_own_children_go() -> None:
    with box.running() as container:
        box.execute(container, "true")
        pid = os.fork()
        if not pid:
            os._exit(os.readlink("/proc/self/ns/pid") != os.readlink(f"/proc/{os.getppid()}/ns/pid"))
        assert os.waitpid(pid, 0)[1] == 0


def test_no_descriptor_of_the_runtime_survives() -> None:
    with box.running() as container:
        assert box.execute(container, "ls", "/proc/self/fd").lines == ["0", "1", "2", "3"]


def test_user_directory_environment_and_exit_code(tmp_path: Path) -> None:
    root = box.rootfs(tmp_path / "root")
    script = "echo $(id -u) $(id -G) $PWD $HOME $A; exit 9"
    with box.running(directory=str(root)) as container:
        ended = box.execute(container, "sh", "-c", script, user="ana", cwd="/etc", env=(("A", "b"),))
        assert (ended.code, ended.stdout) == (9, "1000 100 10 29 /etc /home/ana b\n")


def test_its_end_is_not_the_containers() -> None:
    with box.running() as container:
        assert box.execute(container, "sh", "-c", "kill -9 $$").code == -signal.SIGKILL
        assert box.execute(container, "true").code == 0


def test_it_ends_with_the_container() -> None:
    with box.running() as container:
        streams = box.Streams()
        child = join.execute(container.pidfd, Process(("sleep", "74")), cgroup.of(box.NAME), *streams.given)
        os.kill(container.pid, signal.SIGKILL)
        # Reaped before process 1, which the kernel holds until its namespace is empty.
        assert streams.end(child).code == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "error"),
    [("no-such-command", CommandNotFound), ("/etc", CommandNotExecutable), ("/proc/self/exe", CommandNotExecutable)],
)
def test_a_command_that_cannot_be_is_told_and_leaves_nothing(name: str, error: type[Exception]) -> None:
    with box.running() as container:
        with pytest.raises(error):
            box.execute(container, name)
        (processes,) = box.execute(container, "sh", "-c", "echo /proc/[0-9]*").lines
        assert len(processes.split()) == 2  # sleep and this very sh


@pytest.mark.parametrize("user", ["1000abc", "nobody-there"])
def test_an_unknown_user_is_refused(user: str) -> None:
    """CVE-2026-30892: a user that begins with digits became somebody else."""
    with box.running() as container, pytest.raises(NotFound, match=user):
        box.execute(container, "true", user=user)


@pytest.mark.parametrize("user", [":5", "5:", "4294967295"])
def test_a_malformed_user_is_refused(user: str) -> None:
    with box.running() as container, pytest.raises(UsageError, match="invalid user"):
        box.execute(container, "true", user=user)


@pytest.mark.parametrize("number", range(3, 21))
def test_no_descriptor_leads_to_a_directory_of_the_host(number: int) -> None:
    with box.running() as container, pytest.raises(SetupFailed, match="working directory"):
        box.execute(container, "ls", cwd=f"/proc/self/fd/{number}")


def test_a_container_that_has_ended_is_told() -> None:
    with box.running() as container:
        os.kill(container.pid, signal.SIGKILL)
        os.waitid(os.P_PIDFD, container.pidfd, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Conflict, match="has ended"):
            box.execute(container, "true")


def test_nobody_in_the_container_may_look_at_it_before_it_is_executed() -> None:
    """Its /proc/PID/exe and descriptors are the host's until then (CVE-2016-9962, CVE-2019-5736)."""
    watcher = (
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1) ;; *)"
        " l=$(readlink $p/exe 2>/dev/null) && case $l in *python*) echo $l;; esac;; esac; done; done"
    )
    with box.running("sh", "-c", f"({watcher}) > /tmp/seen") as container:
        for _ in range(20):
            box.execute(container, "true")
        assert box.execute(container, "cat", "/tmp/seen").stdout == ""
