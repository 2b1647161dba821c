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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.netadmin.catalog import Catalog
    from minirt.netadmin.reload import Reloader


def make(quiet: bool = False) -> Containers:
    """The containers of this host; notices go to standard error unless `quiet`."""
    return _containers(_cni(), _silent if quiet else warn)


def catalog() -> Catalog:
    """The networks of this host."""
    from minirt.netadmin.catalog import Catalog

    cni = _cni()
    return Catalog(_containers(cni, warn), cni, warn)


def reloader() -> Reloader:
    """What has the networks of running containers made anew."""
    from minirt.netadmin.reload import Reloader

    cni = _cni()
    return Reloader(_containers(cni, warn), cni)


def _cni() -> Cni:
    return Cni(Executor(search_path(os.environ), plain=settings.plain_exec))


def _containers(cni: Cni, notice: Callable[[str], None]) -> Containers:
    return Containers(Store(), cni, notice, _supervisor())


def _supervisor() -> tuple[str, ...]:
    """How we were started ourselves, by absolute paths, with the verb of the process that stays behind."""
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    program = (os.path.abspath(word) if word == sys.argv[0] else word for word in ours)
    switches = ("--plain-exec",) if settings.plain_exec else ()
    return (sys.executable, *program, *switches, "supervise")


def _silent(_text: str) -> None:
    pass
