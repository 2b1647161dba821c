"""Another process in a running container: what `exec` starts.

    [minirt]                                       [the process]
    execute
      setns: pid namespace for children
      clone3, in the v2 cgroup ----------------->  as process 1 does: signals, descriptors, session
      setns: back                                  joins the v1 cgroup, then all namespaces by one setns(2)
                                                   opens the terminal, looks up user and command, drops rights
      <------------------------ ready, terminal -  waits
      go -------------------------------- go --->  execve

A pidfd names the container: a process id could belong to somebody else by now. The process is our child, so that we are
the one to learn its exit code.
"""

from __future__ import annotations

import os
from errno import ENOMEM, ESRCH

from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Plan, Step
from minirt import sys, user
from minirt.cgroup import NoCgroup
from minirt.child import Child
from minirt.errors import Conflict, KernelRefused
from minirt.init import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.child import Channel
    from minirt.explain.account import Account
    from minirt.process import Process

_ALL = sys.CLONE_NEWNS | sys.CLONE_NEWNET | sys.CLONE_NEWUTS | sys.CLONE_NEWIPC | sys.CLONE_NEWCGROUP
_OWN_PID_NAMESPACE = "/proc/thread-self/ns/pid"


def execute(
    pidfd: int,
    process: Process,
    cgroup: NoCgroup,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
    account: Account | None = None,
) -> Child:
    """Run `process` in the container whose first process is `pidfd`; returns when it runs.

    Raises UsageError, NotFound (the user), Conflict (the container has ended), CommandNotFound, CommandNotExecutable,
    KernelRefused, SetupFailed.
    """
    user.check(process.user)
    if process.terminal:
        import minirt.tty  # noqa: F401  # nothing can be imported in the container
    streams = (stdin, stdout, stderr)
    group = cgroup.open()
    beside = None
    if account is not None:
        beside = account.beside("the process", f"nsenter --target {_process(pidfd)} --pid")

    def prepare(channel: Channel) -> None:
        plan = Plan(beside.tell if beside is not None else None)
        plan.do(*cgroup.join(), EnterAll(pidfd))
        finish(channel, process, streams, plan)

    try:
        kept = (*streams, *((beside.fd,) if beside is not None else ()))
        child = _start_inside(pidfd, prepare, kept, group)
    finally:
        if group >= 0:
            os.close(group)
    try:
        if beside is not None:
            beside.listen(child)
        child.wait_ready()
        child.go()
    except BaseException:
        child.kill()
        raise
    return child


@record
class EnterAll(Step):
    """This process into the container's namespaces, but for that of processes, into which it was born."""

    pidfd: int

    def describe(self) -> str:
        return f"nsenter --target {_process(self.pidfd)} --mount --net --uts --ipc --cgroup"

    def apply(self) -> None:
        _enter(self.pidfd, _ALL)


def _process(pidfd: int) -> str:
    """The number of a pidfd's process, as /proc of this mount namespace tells it."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next((line.split()[1] for line in file if line.startswith("Pid:")), "?")


def _start_inside(pidfd: int, prepare: Callable[[Channel], None], streams: tuple[int, ...], group: int) -> Child:
    """A child of ours that is born in the container's pid namespace."""
    home = os.open(_OWN_PID_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(pidfd, sys.CLONE_NEWPID)
        try:
            return Child.start(prepare, (pidfd, *streams), cgroup=group)
        except KernelRefused as error:
            raise _ended() if error.errno == ENOMEM else error from None  # the namespace has no process 1 any more
        finally:
            sys.setns(home, sys.CLONE_NEWPID)
    finally:
        os.close(home)


def _enter(pidfd: int, kinds: int) -> None:
    try:
        sys.setns(pidfd, kinds)
    except OSError as error:
        raise _ended() if error.errno == ESRCH else KernelRefused("nsenter --all", error) from error


def _ended() -> Conflict:
    return Conflict("the container has ended", "'minirt start' runs it again")
