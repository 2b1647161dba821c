"""Control groups of a private machine: every hierarchy is shown from a group of its own, made for the test.

So tests that run at the same time do not see each other's groups, and what a test leaves is found below its own.
On the unified hierarchy (cgroups(7), version 2) there is one, on version 1 and hybrid hosts one for each controller.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

MOUNT = "/sys/fs/cgroup"
_BUSY_FOR = 2.0  # seconds: the kernel lets go of a group a little after its last process has ended


def hierarchies() -> list[str]:
    """The roots of the hierarchies that are mounted."""
    candidates = [MOUNT, *(entry.path for entry in os.scandir(MOUNT) if entry.is_dir(follow_symlinks=False))]
    roots = [path for path in candidates if os.path.exists(f"{path}/cgroup.procs")]
    return roots[:1] if MOUNT in roots else roots


def make() -> dict[str, str]:
    """A group in each hierarchy: its path, by the root that it is to be shown at."""
    made = {root: f"{root}/minirt-test-{os.getpid()}" for root in hierarchies()}
    for root, path in made.items():
        os.makedirs(path, exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):  # on version 1 empty at first, and nothing can be put in then
            if os.path.exists(f"{root}/{name}"):
                shutil.copyfile(f"{root}/{name}", f"{path}/{name}")
    return made


def below(tops: dict[str, str]) -> Iterator[str]:
    """Every group that was made below those of `make`, the innermost first."""
    for top in tops:
        for folder, _, _ in os.walk(top, topdown=False):
            if folder != top:
                yield folder


def remove(path: str) -> None:
    """Remove a group with all that are in it. Raises OSError(EBUSY) when a process stays in one."""
    deadline = time.monotonic() + _BUSY_FOR
    for folder, _, _ in os.walk(path, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
