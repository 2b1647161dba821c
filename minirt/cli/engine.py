"""The library as the command line uses it: where state lies, where plugins are looked for, who is told what."""

from __future__ import annotations

import os

from minirt.cli import settings
from minirt.cli.output import warn
from minirt.cni.executor import Executor, search_path
from minirt.cni.operations import Cni
from minirt.containers import Containers
from minirt.state import Store


def make(quiet: bool = False) -> Containers:
    """The containers of this host; notices go to standard error unless `quiet`."""
    cni = Cni(Executor(search_path(os.environ), plain=settings.plain_exec))
    return Containers(Store(), cni, notice=_silent if quiet else warn)


def _silent(_text: str) -> None:
    pass
