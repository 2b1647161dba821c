"""A container without its lifecycle: process 1 by `minirt.init`, in a pinned namespace and a control group.

For tests that judge from inside, by real programs, what a container's process finds. `rootfs` makes a directory to be
the root, with busybox and nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_plugins.spec.steps import Plan
from minirt import cgroup, init, join, namespaces
from minirt.child import Child
from minirt.init import Spec
from minirt.process import Process
from minirt.rootfs import Rootfs
from minirt.spec import Volume

BUSYBOX = "/bin/busybox"
NAME = "box"


@dataclass
class Ended:
    """How a workload ended: an exit code as `os.waitstatus_to_exitcode` gives it, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class Streams:
    """Pipes for a workload's standard streams; what it writes is small enough to wait in them."""

    def __init__(self) -> None:
        self._null = os.open("/dev/null", os.O_RDONLY)
        (self._out, out), (self._err, err) = os.pipe(), os.pipe()
        self.given = (self._null, out, err)

    def end(self, child: Child) -> Ended:
        for fd in self.given:
            os.close(fd)
        with open(self._out) as out, open(self._err) as err:
            texts = out.read(), err.read()
        os.close(child.pidfd)
        return Ended(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]), *texts)

    def drop(self) -> None:
        for fd in (*self.given, self._out, self._err):
            os.close(fd)


def spec(
    *args: str, directory: str = "", read_only: bool = False, volumes: tuple[Volume, ...] = (), **options: Any
) -> Spec:
    """`options` are fields of Process; the network namespace and the group are those of `prepared`."""
    return Spec(
        Process(args, **options),
        Rootfs(directory, read_only, volumes),
        hostname=NAME,
        netns=namespaces.path_of(NAME),
        cgroup=cgroup.of(NAME),
    )


@contextmanager
def prepared() -> Iterator[None]:
    """A namespace and a group for a container, taken back at the end."""
    plan = Plan()
    with plan:
        plan.do(*namespaces.network_steps(NAME), *cgroup.of(NAME).steps())
        yield
    assert plan.undo() == []


def run(*args: str, **options: Any) -> Ended:
    """Run `args` in a container of their own. Raises what minirt raises."""
    with prepared():
        return finish(spec(*args, **options))


def sh(script: str, **options: Any) -> list[str]:
    """The lines that a shell script printed in a container of its own; it must succeed, and be silent otherwise."""
    ended = run("sh", "-ec", script, **options)
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.lines


def finish(wanted: Spec) -> Ended:
    streams = Streams()
    try:
        child = init.launch(wanted, *streams.given)
        child.wait_ready()
        child.go()
    except BaseException:
        streams.drop()
        raise
    return streams.end(child)


@contextmanager
def running(*args: str, **options: Any) -> Iterator[Child]:
    """A container whose process 1 runs `args` until it is killed."""
    with prepared():
        null = os.open("/dev/null", os.O_RDWR)
        child = init.launch(spec(*(args or ("sleep", "60")), **options), null, null, null)
        os.close(null)
        try:
            child.wait_ready()
            child.go()
            yield child
        finally:
            child.kill()


def execute(container: Child, *args: str, **options: Any) -> Ended:
    """Run `args` in a container that runs."""
    streams = Streams()
    try:
        child = join.execute(container.pidfd, Process(args, **options), cgroup.of(NAME), *streams.given)
    except BaseException:
        streams.drop()
        raise
    return streams.end(child)


def rootfs(path: Path) -> Path:
    """A root made of busybox, its links, and two files of users."""
    (path / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "bin/busybox")
    for name in subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (path / "bin" / name).symlink_to("busybox")
    (path / "etc").mkdir()
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nana:x:1000:100:Ana:/home/ana:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nusers:x:100:\nwheel:x:10:root,ana\naudio:x:29:ana\n")
    return path
