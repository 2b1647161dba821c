"""Steps made of system calls: what the kernel refuses becomes KernelRefused, told by the step's own description."""

from __future__ import annotations

from errno import EINVAL, ENOSPC, ENOSYS, EPERM

from cni_plugins.spec.steps import Step
from minirt.errors import KernelRefused


class KernelStep(Step):
    """A step that writes its system calls down in `change`, where they may raise OSError."""

    def apply(self) -> None:
        try:
            self.change()
        except OSError as error:
            raise KernelRefused(self.describe(), error, self.hint(error)) from error

    def change(self) -> None:
        raise NotImplementedError

    def hint(self, error: OSError) -> str:
        """What a person can do about `error`; empty when nothing is known."""
        return "minirt needs Linux 5.12 or newer" if error.errno == ENOSYS else ""


def namespace_hint(error: OSError, kind: str) -> str:
    """What a refusal of unshare(2) or clone(2) means for a namespace of this kind (`net`, `pid`, …)."""
    if error.errno in (EINVAL, ENOSYS):
        return f"this kernel has no {kind} namespaces: see 'ls /proc/self/ns'"
    if error.errno == EPERM:
        return "this needs root with CAP_SYS_ADMIN, which some containers and sandboxes withhold"
    if error.errno == ENOSPC:
        return f"there are too many {kind} namespaces: see /proc/sys/user/max_{kind}_namespaces"
    return ""
