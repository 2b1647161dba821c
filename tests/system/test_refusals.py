"""A kernel that refuses: the whole program tells what, why and what to do, and leaves nothing.

The refusals are put in by strace(1), call by call, so that they are those of a kernel without the thing.
"""

from __future__ import annotations

import pytest
from support.command import FURNITURE, PROGRAM
from support.machine import Machine

pytestmark = pytest.mark.leaves(*FURNITURE)

CALLS = "clone3,unshare,mount,mount_setattr,pivot_root,sethostname,capset"

# What is missing, the network, the call that fails (strace counts them per process), the step that is told, the hint.
REFUSALS = {
    "network namespaces": ("none", "unshare:error=EINVAL:when=1", "ip netns add", "no net namespaces"),
    "the right to have any": ("none", "unshare:error=EPERM:when=1", "ip netns add", "CAP_SYS_ADMIN"),
    "room for more": ("none", "unshare:error=ENOSPC:when=1", "ip netns add", "/proc/sys/user/max_net_namespaces"),
    "pid namespaces": ("host", "clone3:error=EINVAL:when=1", "unshare --pid --fork", "no pid namespaces"),
    "mount namespaces": ("host", "unshare:error=EINVAL:when=1", "unshare --mount`", "no mnt namespaces"),
    "uts namespaces": ("host", "unshare:error=EINVAL:when=2", "unshare --uts`", "no uts namespaces"),
    "ipc namespaces": ("host", "unshare:error=EINVAL:when=3", "unshare --ipc`", "no ipc namespaces"),
    "cgroup namespaces": ("host", "unshare:error=EINVAL:when=4", "unshare --cgroup`", "no cgroup namespaces"),
    "overlay": ("host", "mount:error=ENODEV:when=3", "mount -t overlay", "modprobe overlay"),
    "a layer it can take": ("host", "mount:error=EINVAL:when=3", "mount -t overlay", "dmesg"),
    "proc for us": ("host", "mount:error=EPERM:when=4", "mount -t proc", "CAP_SYS_ADMIN"),
    "mount attributes": ("host", "mount_setattr:error=ENOSYS:when=1", "mount -o ", "5.12"),
    "a root to leave": ("host", "pivot_root:error=EINVAL:when=1", "pivot_root . .", "chroot"),
    "names": ("host", "sethostname:error=EPERM:when=1", "hostname ", ""),
    "capabilities": ("host", "capset:error=EPERM:when=1", "setpriv --reuid=0", "CAP_SETPCAP"),
}


@pytest.mark.parametrize("missing", REFUSALS)
def test_what_the_kernel_refuses_is_told_by_its_step(machine: Machine, missing: str) -> None:
    network, injection, step, hint = REFUSALS[missing]
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}", "-e", f"inject={injection}")
    done = machine.run(*strace, PROGRAM, "run", "--rm", "--network", network, "host", "true", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("minirt: error: the kernel refused `")
    assert step in done.stderr
    assert hint in done.stderr
    assert done.stderr.count("\n") == (2 if hint else 1)
