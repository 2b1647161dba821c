"""What a container's processes may never do: capabilities(7) and no_new_privs.

docker's default set; inheritable and ambient stay empty (CVE-2022-29162, CVE-2022-27650: an inheritable capability
comes back in any program whose file asks for it).

prctl(2) goes through `_prctl`, the C half of python-prctl: its Python half makes some hundred properties at import, for
1.5 ms. By hand goes what it lacks: the ambient set, and capabilities newer than the headers it was compiled with, which
it refuses to name and so would leave in every set.
"""

from __future__ import annotations

from errno import EINVAL

import _prctl  # type: ignore[import-not-found]  # it has no stubs

from minirt import sys

DEFAULT = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)

_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MOST = 64  # the sets are 64 bits wide (linux/capability.h); EINVAL tells where this kernel's own end


def mask(names: tuple[str, ...]) -> int:
    """A bit for each of the capabilities, named without CAP_."""
    return sum(1 << getattr(_prctl, f"CAP_{name}") for name in names)


def bound(kept: int) -> None:
    """Drop all but `kept` from the bounding set. Needs CAP_SETPCAP, so it comes before everything else here."""
    try:
        for number in range(_MOST):
            if kept >> number & 1:
                continue
            if number <= _prctl.CAP_LAST_CAP:
                _prctl.prctl(_prctl.PR_CAPBSET_DROP, number)
            else:
                sys.prctl(_PR_CAPBSET_DROP, number)
    except OSError as error:
        if error.errno != EINVAL:  # past the last one that this kernel knows
            raise


def keep(kept: int) -> None:
    """Effective and permitted become `kept`, inheritable and ambient empty; nothing executed gains any back.

    What this process does not have itself is left out: the host may be a container too. A user other than root has
    none left, as the change of user cleared both sets.
    """
    sys.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    held = kept & sys.capget()
    sys.capset(held, held, 0)
    _prctl.prctl(_prctl.PR_SET_NO_NEW_PRIVS, 1)


def conceal() -> None:
    """Nobody may trace this process, or open what is behind its /proc, until it executes another program.

    A container's processes see us there: our executable and our descriptors belong to the host (CVE-2019-5736).
    """
    _prctl.prctl(_prctl.PR_SET_DUMPABLE, 0)


def die_with_parent(signal: int) -> None:
    """`signal` for us when our parent ends. A change of user forgets it: say it again after that."""
    _prctl.prctl(_prctl.PR_SET_PDEATHSIG, signal)
