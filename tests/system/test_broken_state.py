"""State that is damaged, disks that are full, readers that do not read: the rest of the host goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.cnilab import RESULTS
from support.command import CONTAINERS, PROGRAM, Command, eventually

SLEEP = ("host", "sleep", "600")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"id": 1}', None])
def test_a_damaged_record_is_told_and_can_be_removed(minirt: Command, text: str | None) -> None:
    minirt.ok("run", "-d", "--name", "good", *SLEEP)
    identity = minirt.ok("run", "-d", "--name", "bad", "-p", "8080:80", *SLEEP)
    minirt.ok("stop", "-t0", "bad")
    minirt.ok("start", "bad")
    pid = minirt.inspect("bad")["State"]["Pid"]
    record = CONTAINERS / identity / "record.json"
    if text is None:
        record.unlink()
    else:
        record.write_text(text)
    os.kill(pid, 9)
    eventually(lambda: not Path(f"/proc/{pid}/exe").exists())
    done = minirt("ps", "-a")
    assert done.returncode == 0 and done.stdout.endswith(" good\n")
    assert identity[:12] in done.stderr and "damaged" in done.stderr
    assert "damaged" in minirt.fails(1, "rm", "bad")
    minirt.ok("rm", "-f", "bad")
    assert minirt("ps", "-a").stderr == ""
    assert minirt.machine.elements() != []  # of the good one: its subnet is masqueraded
    minirt.ok("run", "--rm", "--name", "bad", "-p", "8080:80", "host", "true")
    minirt.ok("rm", "-f", "good")


@pytest.mark.parametrize("way", ["run", "run -d"])
def test_what_is_remembered_of_a_network_and_cannot_be_read_is_told_on_the_way(minirt: Command, way: str) -> None:
    """It is no failure: the container's own record says what to delete."""
    run = ("run", "-i", "--name", "web", "host", "cat")
    process = minirt.start(*run, stdin=subprocess.PIPE, stderr=subprocess.PIPE) if way == "run" else None
    if process is None:
        minirt.ok("run", "-d", "--name", "web", *SLEEP)
    (entry,) = eventually(lambda: list(RESULTS.glob("*-eth0")))
    eventually(lambda: minirt.inspect("web")["State"]["Running"])
    entry.write_text("{")
    if process is None:
        record = json.loads((CONTAINERS / minirt.inspect("web")["Id"] / "record.json").read_text())
        supervisor = int(Path(f"/proc/{record['pid']}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        told = eventually(lambda: minirt("rm", "-f", "web").stderr)
    else:
        told = process.communicate(timeout=20)[1]
        minirt.ok("rm", "web")
    assert f"minirt: {entry}: unreadable, going on without it" in told
    assert told.count("unreadable") == 1
    assert minirt.machine.links() <= {"lo", "minirt0"}


def test_a_full_disk_costs_lines_of_the_log_and_not_the_workload(minirt: Command) -> None:
    minirt.machine.run("mount", "-o", "remount,size=1m", "/var/lib/minirt")
    minirt.ok("run", "-d", "--name", "loud", "host", "sh", "-c", "yes | head -c 4000000; sleep 600")
    free = os.statvfs
    eventually(lambda: free("/var/lib/minirt").f_bavail == 0)
    assert minirt.inspect("loud")["State"]["Running"] is True
    assert minirt.ok("exec", "loud", "echo", "alive") == "alive"
    assert minirt.ok("logs", "-n", "1", "loud") == "y"
    minirt.ok("rm", "-f", "loud")


def test_a_reader_that_does_not_read_keeps_nobody_from_removing(minirt: Command) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen([PROGRAM, "run", "--name", "loud", "-q", "host", "yes"], stdout=writer)
    os.close(writer)
    eventually(lambda: minirt.ok("ps", "-q"))
    minirt.ok("rm", "-f", "loud", timeout=15)
    assert process.wait(10) == 137
    os.close(reader)


def test_waiting_for_a_container_that_removes_itself_gives_its_code(minirt: Command) -> None:
    minirt.ok("run", "-d", "--rm", "--name", "job", "host", "sh", "-c", "sleep 0.5; exit 7")
    assert minirt.ok("wait", "job") == "7"


@pytest.mark.usefixtures("minirt")
def test_bytes_that_are_no_text_reach_the_workload_as_they_are() -> None:
    argv = [PROGRAM.encode(), b"run", b"--rm", b"-qe", b"A=\xff\xfe", b"host", b"printenv", b"A"]
    assert subprocess.run(argv, capture_output=True, check=True).stdout == b"\xff\xfe\n"


def test_one_bad_file_among_the_lists_is_a_warning(minirt: Command) -> None:
    folder = Path("/etc/cni/net.d")
    folder.mkdir()
    (folder / "loop.conflist").symlink_to("loop.conflist")
    (folder / "gone.conflist").symlink_to("/nonsense")
    (folder / "folder.conflist").mkdir()
    minirt.machine.leaves("file /etc/cni/net.d/*", "directory /etc/cni/net.d/*")
    (folder / "zz.conflist").write_text((Path(PROGRAM).parents[2] / "configs/minirt.conflist").read_text())
    done = minirt("run", "--rm", "host", "true")
    assert done.returncode == 0, done.stderr
    assert "loop.conflist" in done.stderr and "gone.conflist" in done.stderr


def test_what_a_killed_creation_left_is_swept(minirt: Command) -> None:
    CONTAINERS.mkdir(parents=True)
    (CONTAINERS / ".abc").mkdir()
    (CONTAINERS / ".abc" / ".record.json.new").write_text("{")
    old = (CONTAINERS / ".abc").stat().st_mtime - 3600
    os.utime(CONTAINERS / ".abc", (old, old))
    minirt.ok("ps")
    assert not (CONTAINERS / ".abc").exists()
