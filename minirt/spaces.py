"""The namespaces of a container beside the host's: which are its own, which it shares, and with whom.

    NAMESPACE   HOST         CONTAINER    WHOSE         WHAT IT HOLDS
    net         4026531833   4026532256   its own       links, addresses, routes, firewall rules

The numbers are those of `lsns` and of /proc/PID/ns: the same number is the same namespace. The host is whoever asks.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from minirt.errors import Conflict
from minirt.state import RUNNING, Record

HEAD = ("NAMESPACE", "HOST", "CONTAINER", "WHOSE", "WHAT IT HOLDS")
KINDS = {
    "cgroup": "control groups below its own",
    "ipc": "shared memory, message queues",
    "mnt": "mounts: its tree of files",
    "net": "links, addresses, routes, firewall rules",
    "pid": "process numbers",
    "time": "clocks since the machine's start",
    "user": "user and group ids, capabilities",
    "uts": "the host name",
}


def title(record: Record) -> str:
    """A line on whose namespaces they are."""
    state = f"process 1 of it is {record.pid} on the host" if record.status == RUNNING else record.status
    return f"{record.name} ({record.short}), {state}"


def rows(record: Record, everybody: Sequence[Record]) -> list[tuple[str, ...]]:
    """The table's lines. Raises Conflict when there is nothing to compare."""
    theirs = dict(_of(record))
    if not theirs:
        raise Conflict(f"container {record.name!r} does not run: it has no namespaces", f"minirt start {record.name}")
    others = {other.name: dict(_of(other)) for other in everybody if other.id != record.id}
    found: list[tuple[str, ...]] = []
    for kind, what in KINDS.items():
        host = identity(f"/proc/self/ns/{kind}")
        if not host:
            continue  # a kernel without it
        inside = theirs.get(kind, 0)
        sharers = [name for name, spaces in others.items() if inside and spaces.get(kind) == inside]
        found.append((kind, str(host), str(inside or "-"), _whose(host, inside, sharers), what))
    return found


def _whose(host: int, inside: int, sharers: Sequence[str]) -> str:
    if not inside:
        return "none now"
    if inside == host:
        return "the host's"
    more = f" and {len(sharers) - 1} more" if len(sharers) > 1 else ""
    return f"shared with {sharers[0]}{more}" if sharers else "its own"


def _of(record: Record) -> Iterator[tuple[str, int]]:
    """Its namespaces by kind. Of one that does not run, only the network's may be left, which a file keeps."""
    for kind in KINDS:
        number = identity(f"/proc/{record.pid}/ns/{kind}") if record.status == RUNNING else 0
        if kind == "net" and record.netns:
            number = number or identity(record.netns)
        if number:
            yield kind, number


def identity(path: str) -> int:
    """The number of the namespace at `path`; 0 when there is none, or the path can be nobody's."""
    try:
        return os.stat(path).st_ino
    except (OSError, ValueError):
        return 0
