"""Process 1 of a container, from its birth to the moment it becomes the workload.

    [minirt]                                       [process 1]
    namespaces.network_steps, cgroup.steps
    launch
      clone3: new pid namespace, v2 cgroup ----->  signals, mask and descriptors as a program expects them
                                                   untraceable; leads a session of its own
    CNI ADD for each network,                      joins the v1 cgroup, the pinned network namespace;
    in the namespace that is pinned                  leaves mount, uts, ipc and cgroup namespaces for new ones
    already, while process 1                       sets the host name
    prepares itself                                builds the root, becomes it, hides the host's (rootfs.py)
                                                   opens the terminal
    writes /etc/hosts and others, in               looks up user and directory; drops rights, and from here on
    place: their files are mounted                   dies with its parent; looks up the command (process.py)
    wait_ready <------------- ready, terminal ---  waits
    go ----------------------------------- go -->  execve

The messages are child.py's. The set-up takes some 4 ms and hides behind ADD; it is the same when there is no network
to add. Every failure of process 1 is known before `go`, but for those of execve itself.
"""

from __future__ import annotations

import os
import stat
from errno import EINVAL

from cni_plugins.spec.names import quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Plan
from minirt import rootfs, sys, user
from minirt.cgroup import NoCgroup
from minirt.child import Child
from minirt.errors import KernelRefused
from minirt.kernel import KernelStep, namespace_hint
from minirt.namespaces import open_network
from minirt.process import Process, execute, settle
from minirt.rootfs import Rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.spec.steps import Step
    from minirt.child import Channel

# As unshare(1) calls them, as /proc/self/ns does, and as the kernel does.
_NAMESPACES = (
    ("mount", "mnt", sys.CLONE_NEWNS),
    ("uts", "uts", sys.CLONE_NEWUTS),
    ("ipc", "ipc", sys.CLONE_NEWIPC),
    ("cgroup", "cgroup", sys.CLONE_NEWCGROUP),
)


@record
class Spec:
    """A container as process 1 needs to know it. `netns` is the path of its network namespace, empty for the host's."""

    process: Process
    rootfs: Rootfs = Rootfs()
    hostname: str = ""
    netns: str = ""
    cgroup: NoCgroup = NoCgroup()


@record
class EnterNetwork(KernelStep):
    """This process into the network namespace at `path`."""

    path: str

    def describe(self) -> str:
        return f"nsenter --net={quoted(self.path)}"

    def change(self) -> None:
        fd = open_network(self.path)
        try:
            sys.setns(fd, sys.CLONE_NEWNET)
        finally:
            os.close(fd)


@record
class Unshare(KernelStep):
    """New namespaces for this process; the pid namespace is there since its birth."""

    def describe(self) -> str:
        return f"unshare {' '.join(f'--{kind}' for kind, _, _ in _NAMESPACES)}"

    def change(self) -> None:
        for kind, name, flag in _NAMESPACES:
            try:
                sys.unshare(flag)
            except OSError as error:
                raise KernelRefused(f"unshare --{kind}", error, namespace_hint(error, name)) from error


@record
class SetHostname(KernelStep):
    name: str

    def describe(self) -> str:
        return f"hostname {quoted(self.name)}"

    def change(self) -> None:
        sys.sethostname(self.name)

    def hint(self, error: OSError) -> str:
        return "a host name has at most 64 bytes" if error.errno == EINVAL else KernelStep.hint(self, error)


def steps(spec: Spec) -> tuple[Step, ...]:
    """What process 1 does to the kernel's state, in order. Raises UsageError."""
    return (
        *spec.cgroup.join(),
        *((EnterNetwork(spec.netns),) if spec.netns else ()),
        Unshare(),
        *((SetHostname(spec.hostname),) if spec.hostname else ()),
        *rootfs.steps(spec.rootfs, spec.cgroup),
    )


def launch(
    spec: Spec,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
    watch: Callable[[Step], None] | None = None,
    keep: tuple[int, ...] = (),
) -> Child:
    """Start process 1, which prepares itself beside us and then waits for `Child.go`.

    The three descriptors become the workload's, unless it gets a terminal. `watch` is called in the child, with each
    step before it is applied; it may use the descriptors of `keep`. Raises UsageError, NotFound, KernelRefused; what
    goes wrong in the child is raised by `Child.wait_ready`.
    """
    user.check(spec.process.user)
    rootfs.check(spec.rootfs)
    todo = steps(spec)
    if spec.process.terminal:
        import minirt.tty  # noqa: F401  # nothing can be imported in the container
    if spec.netns:
        os.close(open_network(spec.netns))  # told now if it is missing, not when ADD has been done
    streams = (stdin, stdout, stderr)
    group = spec.cgroup.open()

    def prepare(channel: Channel) -> None:
        plan = Plan(watch)
        plan.do(*todo)
        finish(channel, spec.process, streams, plan, console=True)

    try:
        return Child.start(prepare, (*streams, *keep), sys.CLONE_NEWPID, group)
    finally:
        if group >= 0:
            os.close(group)


def finish(
    channel: Channel, process: Process, streams: tuple[int, int, int], plan: Plan, console: bool = False
) -> None:
    """From the container's root to the workload: its terminal or streams, its user, the word to go, its program."""
    master = -1
    if process.terminal:
        from minirt import tty

        master, slave = tty.open_pair(process.size)
        plan.do(tty.Terminal(slave), *((tty.Console(slave),) if console else ()))
        streams = (slave, slave, slave)
    _place(streams)
    # Pipes and terminals of ours are the user's to open again through /dev/stdout; files of the caller are not.
    owned = tuple(fd for fd in range(3) if process.terminal or stat.S_ISFIFO(os.fstat(fd).st_mode))
    command = settle(process, owned, plan)
    channel.ready(master)
    execute(command)


def _place(streams: tuple[int, int, int]) -> None:
    """Make them standard input, output and error. One of them may stand where another is to go: copies come first."""
    for number, fd in enumerate([os.dup(fd) for fd in streams]):
        os.dup2(fd, number)
        os.close(fd)
