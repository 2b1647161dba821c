"""`minirt inspect --namespaces`: the numbers are those of /proc, and what is shared is told with whom."""

from __future__ import annotations

import os

from support.command import Command

SLEEP = ("host", "sleep", "600")
KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def number(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]")


def shown(minirt: Command, name: str) -> dict[str, list[str]]:
    """By kind: host, container, whose, what (columns are three spaces apart)."""
    title, head, *lines = minirt.ok("inspect", "--namespaces", name).splitlines()
    assert name in title and head.split()[0] == "NAMESPACE"
    assert max(map(len, lines)) <= 100
    rows = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_every_namespace_of_a_container_is_compared_with_the_hosts(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    pid = minirt.inspect("web")["State"]["Pid"]
    rows = shown(minirt, "web")
    assert tuple(rows) == KINDS
    for kind, (host, inside, whose, what) in rows.items():
        assert (host, inside) == (number("self", kind), number(pid, kind))
        assert whose == ("the host's" if host == inside else "its own")
        assert what
    assert {kind for kind, row in rows.items() if row[2] == "its own"} >= {"ipc", "mnt", "net", "pid", "uts"}
    minirt.ok("rm", "-f", "web")


def test_a_shared_network_is_told_with_whom(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    minirt.ok("run", "-d", "--name", "guest", "--network", "container:web", *SLEEP)
    minirt.ok("run", "-d", "--name", "open", "--network", "host", *SLEEP)
    assert shown(minirt, "guest")["net"][2] == "shared with web"
    assert shown(minirt, "web")["net"][2] == "shared with guest"
    assert shown(minirt, "web")["pid"][2] == "its own"
    assert shown(minirt, "open")["net"][2] == "the host's"
    minirt.ok("stop", "-t0", "guest")
    assert "does not run" in minirt.fails(1, "inspect", "--namespaces", "guest")
    both = minirt.ok("inspect", "--namespaces", "web", "open")
    assert both.count("WHAT IT HOLDS") == 2
    minirt.ok("rm", "-f", "web", "guest", "open")
