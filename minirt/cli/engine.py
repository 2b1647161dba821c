"""The library as the command line uses it: where state lies, where plugins are looked for, who is told what."""

from __future__ import annotations

import os
import sys

from minirt.cli import settings
from minirt.cli.output import warn
from minirt.cni.executor import Executor, search_path
from minirt.cni.operations import Cni
from minirt.containers import Containers
from minirt.state import Store


def make(quiet: bool = False) -> Containers:
    """The containers of this host; notices go to standard error unless `quiet`."""
    cni = Cni(Executor(search_path(os.environ), plain=settings.plain_exec))
    return Containers(Store(), cni, _silent if quiet else warn, _supervisor())


def _supervisor() -> tuple[str, ...]:
    """How we were started ourselves, by absolute paths, with the verb of the process that stays behind."""
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    program = (os.path.abspath(word) if word == sys.argv[0] else word for word in ours)
    switches = ("--plain-exec",) if settings.plain_exec else ()
    return (sys.executable, *program, *switches, "supervise")


def _silent(_text: str) -> None:
    pass
