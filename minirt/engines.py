"""Containers of other engines, as their own `inspect` tells of them.

Source: docker-inspect(1), podman-container-inspect(1): a JSON list with one object, of which we read

    Id                          the container's id
    State.Pid                   its first process; 0 unless it runs
    NetworkSettings.SandboxKey  the path where its network namespace is pinned; empty, or hidden from us, in some modes

The pin is the better path: it does not become another's when the process ends.
"""

from __future__ import annotations

import subprocess

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, loads
from cni_plugins.spec.record import record
from minirt.cni.netns import alive
from minirt.errors import MinirtError, NotFound, UsageError, because

PATIENCE = 30.0  # seconds for an answer


@record
class Inspected:
    """One container. `netns` is empty when it does not run."""

    id: str
    netns: str


def inspect(program: str, name: str) -> Inspected:
    """What `program` knows of the container called `name`. Raises NotFound, UsageError, MinirtError."""
    if not name or name.startswith("-"):
        raise UsageError(f"invalid container name {name!r}")
    done = _run([program, "inspect", "--type=container", name])
    if done.returncode:
        said = done.stderr.decode(errors="backslashreplace").strip() or f"exit code {done.returncode}"
        if "no such" in said.lower():
            raise NotFound(f"{program} knows no container {name!r}: {said}", f"'{program} ps -a' lists them")
        raise MinirtError(f"'{program} inspect' failed: {said}")
    try:
        return _read(loads(done.stdout))
    except (JsonError, CniError, ValueError) as error:
        raise MinirtError(
            f"'{program} inspect' gave an answer that makes no sense: {error}",
            f"is {program!r} in PATH what it should be?",
        ) from None


def _run(argv: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603  # a person named the engine, and no shell reads the container's name
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise NotFound(f"no program {argv[0]!r} in PATH", "sudo may have shortened PATH") from None
    except subprocess.TimeoutExpired:
        raise MinirtError(f"'{' '.join(argv)}' gave no answer within {PATIENCE:.0f} s") from None
    except OSError as error:
        raise MinirtError(f"cannot run {argv[0]!r}: {because(error)}") from error


def _read(document: object) -> Inspected:
    if not (isinstance(document, list) and len(document) == 1 and isinstance(document[0], dict)):
        raise ValueError("expected a list of one object")
    view = View(document[0])
    container_id = view.string("Id")
    if not container_id:
        raise ValueError("the container has no Id")
    pinned = view.view("NetworkSettings").string("SandboxKey")
    process = view.view("State").integer("Pid")
    if pinned and alive(pinned):
        return Inspected(container_id, pinned)
    return Inspected(container_id, f"/proc/{process}/ns/net" if process else "")
