"""Control groups of containers, on the hierarchies of this machine: v1, and v2 where it is mounted beside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import box, leftovers
from support.machine import Machine

from minirt import cgroup, init
from minirt.errors import KernelRefused
from minirt.process import Process

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*leftovers.FOLDERS)]


def unified() -> str:
    """Where v2 is mounted here: as the only hierarchy, or beside those of v1."""
    return "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"


def launched(group: cgroup.NoCgroup, *args: str) -> box.Ended:
    for step in group.steps():
        step.apply()
    streams = box.Streams()
    child = init.launch(init.Spec(Process(args), cgroup=group), *streams.given)
    child.wait_ready()
    child.go()
    return streams.end(child)


def test_on_v2_it_is_born_in_its_group_and_sees_it_as_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "MOUNT", unified())
    group = cgroup.of("box")
    assert isinstance(group, cgroup.Unified)
    ended = launched(
        group, "sh", "-c", "grep ^0: /proc/self/cgroup; stat -fc %T /sys/fs/cgroup; mkdir /sys/fs/cgroup/x"
    )
    assert ended.lines == ["0::/", "cgroup2fs"]
    assert "Read-only file system" in ended.stderr
    group.remove()
    assert not os.path.exists(f"{unified()}/minirt")


def test_on_v2_its_processes_are_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "MOUNT", unified())
    group = cgroup.of("box")
    for step in group.steps():
        step.apply()
    child = init.launch(init.Spec(Process(("sleep", "60")), cgroup=group))
    assert Path(group.paths[0], "cgroup.procs").read_text().split() == [str(child.pid)]
    child.kill()
    group.remove()


def test_two_containers_share_the_group_above_and_the_last_takes_it_along() -> None:
    first, second = cgroup.of("first"), cgroup.of("second")
    for step in (*first.steps(), *second.steps()):
        step.apply()
    first.remove()
    assert all(map(os.path.isdir, second.paths)) and second.paths
    second.remove()
    second.remove()
    assert not any(os.path.exists(os.path.dirname(path)) for path in second.paths)


def test_a_host_without_a_hierarchy_to_write_to_runs_containers_too(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "none", "/sys/fs/cgroup")
    try:
        group = cgroup.of("box")
        assert (group.steps(), group.join(), group.open()) == ((), (), -1)
        assert launched(group, "echo", "ok").stdout == "ok\n"
        group.remove()
    finally:
        machine.run("umount", "/sys/fs/cgroup")


def test_a_group_with_processes_is_not_removed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_BUSY_FOR", 0.05)
    with box.running() as container:
        with pytest.raises(OSError, match="busy"):
            cgroup.of(box.NAME).remove()
        assert box.execute(container, "echo", "still here").code == 0


def test_a_group_that_cannot_be_made_is_told_with_its_step() -> None:
    with pytest.raises(KernelRefused, match="mkdir -p /proc/minirt"):
        cgroup.MakeCgroup("/proc/minirt/box").apply()
