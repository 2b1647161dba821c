"""Whether a network namespace is still there: what tells a living attachment from a forgotten one.

A path says little by itself. A pin that was unmounted leaves an ordinary file behind, and the path of a process
(/proc/PID/ns/net) may by now be another process's, in the host's own network: a DEL that is given such a path takes
interfaces from the host (containernetworking/plugins#714).
"""

from __future__ import annotations

import os

_OURS = "/proc/thread-self/ns/net"


def alive(path: str) -> bool:
    """Whether `path` is a namespace (all of them are files of one file system, nsfs), and not the one we run in."""
    try:
        there = os.stat(path)
    except (OSError, ValueError):
        return False
    ours = os.stat(_OURS)
    return there.st_dev == ours.st_dev and there.st_ino != ours.st_ino
