"""A job in the background that first says how it began: bringing up a detached container.

    [minirt run -d]                        [the supervisor to be]
      fork ──────────────────────────────▶ own session, no descriptor of the caller but the report's
      prints ◀──────────────────── notice ──
      prints the id, exits ◀─────── ready ── the container is up; exec into something small that watches it
                                             or
      raises ◀──────────────────── failed ── what went wrong; nothing is left

The report is a pipe with a message a line: its kind, a space, JSON.
"""

from __future__ import annotations

import os

from cni_plugins.spec.jsontext import dumps, loads
from minirt import errors
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_NOTICE, _READY, _FAILED = "notice", "ready", "failed"


class Report:
    """The child's end."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def _say(self, kind: str, what: Any = None) -> None:
        os.write(self.fd, f"{kind} {dumps(what, indent=0)}\n".encode(errors="surrogateescape"))

    def notice(self, text: str) -> None:
        """A sentence for the person at the terminal."""
        self._say(_NOTICE, text)

    def ready(self) -> None:
        """The job has begun well. It is believed when the pipe ends after it: by the exec that follows."""
        self._say(_READY)

    def failed(self, error: BaseException) -> None:
        """What the job died of."""
        if not isinstance(error, MinirtError):
            error = MinirtError(f"the supervisor died: {type(error).__name__}: {error}")
        self._say(_FAILED, errors.to_json(error))


def in_background(job: Callable[[Report], object], notice: Callable[[str], None], keep: tuple[int, ...] = ()) -> None:
    """Run `job` in a process of its own; returns when it is ready, raises the MinirtError it died of.

    Of our descriptors it keeps those in `keep` only. `notice` is told what it reports on its way.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _background(job, Report(writer), keep)
    os.close(writer)
    ready = False
    with open(reader, errors="surrogateescape") as messages:
        for message in messages:
            kind, _, text = message.partition(" ")
            if kind == _FAILED:
                os.waitpid(pid, 0)
                raise errors.from_json(loads(text))
            if kind == _NOTICE:
                notice(loads(text))
            ready = kind == _READY
    if not ready:
        os.waitpid(pid, 0)
        raise MinirtError("the supervisor was killed before the container was up")


def _background(job: Callable[[Report], object], report: Report, keep: tuple[int, ...]) -> NoReturn:
    """The child's whole life."""
    code = 1
    try:
        os.setsid()
        os.chdir("/")
        _only(report.fd, *keep)
        job(report)
        code = 0
    except BaseException as error:
        report.failed(error)
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
