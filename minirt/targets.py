"""Whom a network is attached to by hand: a namespace at a path, or of a process, or of a container of some engine.

    a path               cnitool's id for it, so that either tool finds what the other attached
    a process            likewise, of the path /proc/PID/ns/net
    a container of ours  its own id; whatever takes it down will detach what was attached to it by hand
    docker, podman       the id that their `inspect` gives, and the namespace; see `engines`

A container that has ended has no namespace: DEL then works without one, ADD and CHECK cannot. The namespace that minirt
itself runs in is refused: plugins would make and delete interfaces of the host.
"""

from __future__ import annotations

import os

from cni_plugins.spec.record import record, replace
from minirt.cni.netns import alive
from minirt.cni.tool import absolute, container_id
from minirt.errors import Conflict, NotFound, UsageError
from minirt.namespaces import NETNS_DIR, open_network
from minirt.state import RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minirt.containers import Containers

_OURS = "/proc/thread-self/ns/net"
_WHERE = "a path such as /run/netns/NAME, or one of --pid, --container, --docker, --podman"


@record
class Target:
    """Who is attached: the id that plugins are told, and where the network namespace is (empty when there is none).

    `who` names it in messages.
    """

    container_id: str
    netns: str
    who: str


def joining(given: Mapping[str, str | None], containers: Containers) -> Target:
    """The target of an ADD. Raises NotFound, Conflict, UsageError when it has no namespace to work in."""
    target = present(given, containers)
    if given.get("container"):
        # Before the deed, so that whoever takes the container down knows of it, even if we die in the middle.
        containers.store.note_guests(containers.find(target.container_id))
    return target


def present(given: Mapping[str, str | None], containers: Containers) -> Target:
    """The target of a CHECK: its namespace is there. Raises NotFound, Conflict, UsageError."""
    target = find(given, containers)
    if not target.netns:
        raise Conflict(f"{target.who} is not running: it has no network namespace")
    _refuse_ours(target)
    os.close(_opened(target.netns))
    return target


def leaving(given: Mapping[str, str | None], containers: Containers) -> Target:
    """The target of a DEL: its `netns` is empty where the namespace is gone. Raises Conflict for the host's own."""
    target = find(given, containers)
    _refuse_ours(target)
    return target if alive(target.netns) else replace(target, netns="")


def find(given: Mapping[str, str | None], containers: Containers) -> Target:
    """The target by the one of `given` (a kind of `_KINDS` -> what was said of it) that is there. Raises UsageError."""
    said = {kind: value for kind, value in given.items() if value is not None}
    if len(said) != 1:
        names = [kind.upper() if kind == "netns" else f"--{kind}" for kind in said]
        which = "both" if len(said) == 2 else "all"
        problem = f"{' and '.join(names)} {which} name the namespace" if said else "which network namespace?"
        raise UsageError(problem, f"{_WHERE} says it")
    ((kind, value),) = said.items()
    return _KINDS[kind](value, containers)


def _path(netns: str, _containers: Containers) -> Target:
    if not netns:
        raise UsageError("the path of the network namespace is empty", _WHERE)
    path = absolute(netns)
    return Target(container_id(path), path, path)


def _process(pid: str, _containers: Containers) -> Target:
    if not (pid.isascii() and pid.isdigit()):
        raise UsageError(f"invalid process id {pid!r}", "a number, as ps shows it")
    path = f"/proc/{pid}/ns/net"
    return Target(container_id(path), path, f"process {pid}")


def _container(reference: str, containers: Containers) -> Target:
    found = containers.find(reference)
    netns = found.netns
    if found.status == RUNNING and not netns:
        raise Conflict(
            f"container {reference!r} is in the host's own network namespace", "it was started with --network host"
        )
    return Target(found.id, netns, f"container {reference!r}")


def _engine(program: str) -> Callable[[str, Containers], Target]:
    def target(name: str, _containers: Containers) -> Target:
        from minirt import engines  # `subprocess` is dear

        found = engines.inspect(program, name)
        return Target(found.id, found.netns, f"container {name!r} of {program}")

    return target


_KINDS: dict[str, Callable[[str, Containers], Target]] = {
    "netns": _path,
    "pid": _process,
    "container": _container,
    "docker": _engine("docker"),
    "podman": _engine("podman"),
}


def _refuse_ours(target: Target) -> None:
    try:
        ours = os.path.samefile(target.netns, _OURS)
    except (OSError, ValueError):
        ours = False
    if ours:
        raise Conflict(
            f"{target.who} is in the network namespace that minirt runs in",
            "plugins would change the host's own interfaces; a container is given its own by --network none",
        )


def _opened(netns: str) -> int:
    """A descriptor of the namespace. Raises NotFound with the path that was probably meant."""
    try:
        return open_network(netns)
    except NotFound as error:
        pinned = os.path.join(NETNS_DIR, os.path.basename(netns))
        if alive(pinned):
            error.hint = f"there is {pinned}: it is the path that is wanted, not the name alone"
        raise
