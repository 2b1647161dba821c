"""A job in the background that first says how it began: the supervisor of a detached container.

    [minirt run -d]                        [supervisor]
      fork ──────────────────────────────▶ own session, no descriptor of the caller but the report's
      read the report  ◀── ready or error ── container is up, or what went wrong
      print the id, exit                     watches until the end, then DEL

A command line that click did not have to read leaves a process of 3 MB; that is what the supervisor is forked from.
"""

from __future__ import annotations

import os

from cni_plugins.spec.jsontext import dumps, loads
from minirt import errors
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READY = b"ready"


def in_background(job: Callable[[Callable[[], None]], object], keep: tuple[int, ...] = ()) -> None:
    """Run `job(ready)` in a process of its own; returns when it calls `ready`, raises the MinirtError it died of.

    Of our descriptors it keeps those in `keep` only.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _background(job, writer, keep)
    os.close(writer)
    with open(reader, "rb") as file:
        report = file.read()
    if report != READY:
        os.waitpid(pid, 0)
        raise _revived(report)


def _background(job: Callable[[Callable[[], None]], object], report: int, keep: tuple[int, ...]) -> None:
    """The child's whole life. Never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        _only(report, *keep)

        def ready() -> None:
            os.write(report, READY)
            os.close(report)

        job(ready)
        code = 0
    except MinirtError as error:
        os.write(report, _frozen(error))
    except BaseException as error:
        os.write(report, _frozen(MinirtError(f"the supervisor died: {type(error).__name__}: {error}")))
    finally:
        os._exit(code)


def _only(*kept: int) -> None:
    """Standard streams on /dev/null, and of the others those in `kept`: the caller's pipes must see their end."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    start = 3
    for fd in sorted(kept):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _frozen(error: MinirtError) -> bytes:
    """The error as it travels: its class by name, so that the exit code is the same, message and hint."""
    return dumps({"kind": type(error).__name__, "message": error.message, "hint": error.hint}, indent=0).encode()


def _revived(report: bytes) -> MinirtError:
    if not report:
        return MinirtError("the supervisor died before the container was up", "try without --detach to see more")
    document = loads(report)
    kind = getattr(errors, document["kind"])
    error = MinirtError(document["message"], document["hint"])
    error.exit_code = kind.exit_code
    return error
