"""An init for the tests: whatever a test starts and forgets is adopted here, reaped at once when it ends, and found.

pytest's process is split in two before the first test. The parent stays as a child subreaper (prctl(2)) that does
nothing but reap and pass pytest's exit status on; the child goes on as pytest. So "the process is gone" means gone,
whatever process 1 of the machine does about orphans, and what still runs after a test is a child of one of the two.
No thread is involved: setns(CLONE_NEWNS) would refuse a process that has more than one.
"""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

_libc = ctypes.CDLL(None, use_errno=True)
_apart: set[int] = set()


def set_apart(pid: int) -> None:
    """A process of the session's own, which is no test's: neither it nor what it starts is found."""
    _apart.add(pid)


def adopt() -> None:
    """Put a reaping parent above this process. Returns in the child."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to pytest too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    os._exit(_reap_until(child))


def _reap_until(child: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def processes() -> dict[int, str]:
    """Every live process below this one or adopted for it, with its command line. Zombies do not count."""
    family = _parents()
    roots = {os.getpid(), os.getppid()}
    return {
        pid: _command(pid)
        for pid in family
        if pid not in roots and any(ancestor in roots for ancestor in _line(pid, family)) and not _is_apart(pid, family)
    }


def _is_apart(pid: int, parents: dict[int, int]) -> bool:
    return not _apart.isdisjoint((pid, *_line(pid, parents)))


def _line(pid: int, parents: dict[int, int]) -> list[int]:
    line = []
    while pid := parents.get(pid, 0):
        line.append(pid)
    return line


def _parents() -> dict[int, int]:
    """Each live process and its parent (proc(5), /proc/pid/stat: state and ppid follow the last parenthesis)."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between the listing and now
            if state not in "ZX":
                found[int(name)] = int(parent)
    return found


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""
