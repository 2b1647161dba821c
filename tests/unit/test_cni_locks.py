"""Who waits for whom (reference: R12, R13)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minirt.cni.locks import Locks


@pytest.fixture
def locks(tmp_path: Path) -> Locks:
    return Locks(str(tmp_path / "run" / "lock"))


def in_child(body: Callable[[], None]) -> int:
    """Run `body` in a forked child; its pid. Exits 0 when it returns, 3 when it met BlockingIOError."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
        os._exit(0)
    except BlockingIOError:
        os._exit(3)
    finally:
        os._exit(9)


def ended(pid: int) -> int | None:
    """Its exit code, or None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def end_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def waits(pid: int) -> bool:
    """Whether the child falls asleep; the lock is the only thing it could wait for."""
    for _ in range(500):
        if ended(pid) is not None:
            return False
        if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "S":
            return True
        time.sleep(0.01)
    return False


def test_R12_one_operation_at_a_time_for_a_container(locks: Locks) -> None:
    def other() -> None:
        with locks.container("c1", wait=False):
            pass

    with locks.container("c1"):
        assert end_of(in_child(other)) == 3
    assert end_of(in_child(other)) == 0


def test_R12_containers_do_not_wait_for_each_other(locks: Locks) -> None:
    def other() -> None:
        with locks.container("c2", wait=False):
            pass

    with locks.container("c1"):
        assert end_of(in_child(other)) == 0


def test_R12_a_container_and_a_network_of_one_name_have_nothing_to_do_with_each_other(locks: Locks) -> None:
    with locks.container("x"), locks.network("x"), locks.network("x"):
        pass


def test_R13_operations_share_a_network_and_collection_has_it_alone(locks: Locks) -> None:
    done = locks.path + ".collected"

    def collect() -> None:
        with locks.network("net", alone=True):
            Path(done).touch()

    with locks.network("net"), locks.network("net"):
        pid = in_child(collect)
        assert waits(pid) and not os.path.exists(done)
    assert end_of(pid) == 0 and os.path.exists(done)


def test_R13_nothing_starts_on_a_network_that_is_being_collected(locks: Locks) -> None:
    done = locks.path + ".added"

    def add() -> None:
        with locks.network("net"):
            Path(done).touch()

    with locks.network("net", alone=True):
        pid = in_child(add)
        assert waits(pid) and not os.path.exists(done)
    assert end_of(pid) == 0 and os.path.exists(done)


def test_R13_a_crash_releases_what_it_held(locks: Locks) -> None:
    read, write = os.pipe()

    def crash() -> None:
        with locks.container("c1"), locks.network("net", alone=True):
            os.write(write, b"x")
            time.sleep(60)

    pid = in_child(crash)
    os.read(read, 1)
    with pytest.raises(BlockingIOError), locks.container("c1", wait=False):
        pass
    os.kill(pid, signal.SIGKILL)
    assert end_of(pid) == -signal.SIGKILL
    with locks.container("c1", wait=False), locks.network("net", alone=True):
        pass
    os.close(read)
    os.close(write)


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(locks: Locks) -> None:
    with locks.container("c1"):
        pid = in_child(lambda: time.sleep(60))
    try:
        with locks.container("c1", wait=False):
            pass
    finally:
        os.kill(pid, signal.SIGKILL)
        end_of(pid)


def test_names_leave_nothing_behind_but_the_one_file(locks: Locks) -> None:
    for name in ("c1", "c2", "c3"):
        with locks.container(name), locks.network(name):
            pass
    assert os.listdir(os.path.dirname(locks.path)) == [os.path.basename(locks.path)]
    assert os.path.getsize(locks.path) == 0
