"""One control group a container: what belongs to it can be seen, and later limited, as one (cgroups(7)).

On the unified hierarchy (v2) it is /sys/fs/cgroup/minirt/ID, and the container is born in it (CLONE_INTO_CGROUP). On v1
and hybrid hosts it is one directory in each of `V1_HIERARCHIES`, and the container's first process moves itself by
writing 0 to `tasks`: moving by `cgroup.procs`, or somebody else, waits 9 to 13 ms for RCU. Hosts without any hierarchy
that we may write to get `NoCgroup`, the same methods doing nothing. Ending what runs in it is the pid namespace's task.
"""

from __future__ import annotations

import os
import time
from errno import EACCES, EBUSY, ENOTEMPTY, EPERM, EROFS

from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step
from minirt import sys
from minirt.kernel import KernelStep

MOUNT = "/sys/fs/cgroup"
PARENT = "minirt"
V1_HIERARCHIES = ("pids",)

_BUSY_FOR = 1.0  # seconds: the kernel lets go of a group a little after its last process has ended


class NoCgroup:
    """The null object: no hierarchy, no steps, nothing to join."""

    paths: tuple[str, ...] = ()
    hierarchies: tuple[str, ...] = ()  # of v1
    unified = False

    def steps(self) -> tuple[Step, ...]:
        return tuple(MakeCgroup(path) for path in self.paths)

    def open(self) -> int:
        """A descriptor for clone3, -1 where a process has to move itself by `join`. The caller closes it."""
        return -1

    def join(self) -> tuple[Step, ...]:
        """Steps for the process that is to move; they are written down before it enters a mount namespace."""
        return ()

    def removal(self) -> tuple[Step, ...]:
        """Steps that remove the group if it is there; KernelRefused (EBUSY) when a process stays in it."""
        return tuple(RemoveCgroup(path) for path in self.paths)

    def remove(self) -> None:
        """The same at once. Raises OSError."""
        for path in self.paths:
            remove(path)


class Unified(NoCgroup):
    """A v2 group."""

    unified = True

    def __init__(self, container_id: str) -> None:
        self.paths = (f"{MOUNT}/{PARENT}/{container_id}",)

    def open(self) -> int:
        return os.open(self.paths[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def join(self) -> tuple[Step, ...]:
        return tuple(BornThere(path) for path in self.paths)


class Legacy(NoCgroup):
    """A v1 group in each hierarchy that there is."""

    def __init__(self, container_id: str, hierarchies: tuple[str, ...]) -> None:
        self.hierarchies = hierarchies
        self.paths = tuple(f"{MOUNT}/{hierarchy}/{PARENT}/{container_id}" for hierarchy in hierarchies)

    def join(self) -> tuple[Step, ...]:
        return tuple(JoinCgroup(path) for path in self.paths)


def of(container_id: str) -> NoCgroup:
    """The group of this container on this host, whether it has been made or not."""
    if _kind(MOUNT) == sys.CGROUP2_SUPER_MAGIC:
        return Unified(container_id) if _writable(MOUNT) else NoCgroup()
    hierarchies = tuple(name for name in V1_HIERARCHIES if _writable(f"{MOUNT}/{name}"))
    return Legacy(container_id, hierarchies) if hierarchies else NoCgroup()


def _kind(path: str) -> int:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return sys.filesystem(fd)
    finally:
        os.close(fd)


def _writable(path: str) -> bool:
    """Whether `path` is the root of a hierarchy that is not mounted read-only."""
    return os.access(f"{path}/cgroup.procs", os.W_OK)


@record
class MakeCgroup(KernelStep):
    path: str

    def describe(self) -> str:
        return f"mkdir -p {self.path}"

    def change(self) -> None:
        while True:
            try:
                return os.mkdir(self.path)
            except FileNotFoundError:  # the first container, or the last one has just left
                os.makedirs(os.path.dirname(self.path), exist_ok=True)

    def opposite(self) -> Step | None:
        return RemoveCgroup(self.path)

    def hint(self, error: OSError) -> str:
        return f"is {MOUNT} delegated to us?" if error.errno in (EACCES, EPERM, EROFS) else ""


@record
class RemoveCgroup(KernelStep):
    """The group, and the one that all containers are in when this was the last one."""

    path: str

    def describe(self) -> str:
        return f"rmdir {self.path}" if os.path.isdir(self.path) else ""

    def change(self) -> None:
        remove(self.path)


@record
class JoinCgroup(KernelStep):
    """This process, alone, moves itself."""

    path: str

    def describe(self) -> str:
        return f"echo 0 > {self.path}/tasks"

    def change(self) -> None:
        fd = os.open(f"{self.path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"0")
        finally:
            os.close(fd)


@record
class BornThere(Step):
    """This process is in the group since its birth; a person's shell has to move."""

    path: str

    def describe(self) -> str:
        return f"echo 0 > {self.path}/cgroup.procs"

    def apply(self) -> None:
        pass


def remove(path: str) -> None:
    """Remove the group at `path`, and the one above when it was the last there."""
    deadline = time.monotonic() + _BUSY_FOR
    while True:
        try:
            os.rmdir(path)
            break
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno != EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
    try:
        os.rmdir(os.path.dirname(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (EBUSY, ENOTEMPTY):  # other containers
            raise
