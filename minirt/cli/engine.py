"""The library as the command line uses it: where state lies, where plugins are looked for, who is told what."""

from __future__ import annotations

import os
import sys

from minirt.cli import settings
from minirt.cli.output import warn
from minirt.state import STORIES, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.cni.executor import Executor
    from minirt.cni.operations import Cni
    from minirt.containers import Containers
    from minirt.explain.account import Account
    from minirt.netadmin.catalog import Catalog
    from minirt.netadmin.reload import Reloader
    from minirt.shelf import Shelf
    from minirt.trace.recorder import Recorder


def look() -> Shelf:
    """The containers of this host for those who only look at them: half the start-up of `make`."""
    from minirt.shelf import Shelf

    return Shelf(Store(), warn, lambda record: make().find(record.id))


def make(quiet: bool = False, account: Account | None = None, recorder: Recorder | None = None) -> Containers:
    """The containers of this host; notices go to standard error unless `quiet`, what is done to `account`, and what
    plugins are asked to `recorder`."""
    notice = _silent if quiet else warn
    trace = "" if recorder is None else recorder.path
    return _containers(cni(notice=notice, **watched(account, recorder)), notice, account, trace)


def account(values: dict[str, Any], command: str = "", detached: bool = False) -> Account | None:
    """What --explain and --step ask for, and who looks on (`minirt serve`) is told of `command`. Nothing is loaded
    when there is none of them. Raises UsageError."""
    asked = values.get("explain") is not None or values.get("step")
    if not asked and not (command and os.path.exists(STORIES)):
        return None
    from minirt.cli import explaining

    return explaining.account(values, command, detached)


def recorder(values: dict[str, Any], command: str, hold: bool = False) -> Recorder | None:
    """What --trace asks for; nothing is loaded when it is not there. Raises Conflict, KernelRefused."""
    if values["trace"] is None:
        return None
    from minirt.trace.recorder import Recorder

    return Recorder(values["trace"], f"minirt {command}", hold)


def watched(account: Account | None, recorder: Recorder | None = None) -> dict[str, Any]:
    """The options of `Cni` by which `account` and `recorder` are told what plugins do."""
    listeners = [listener.event for listener in (recorder, account) if listener is not None]
    if not listeners:
        return {}
    from minirt.cni.call import TOLD, both

    watch = both(*listeners) if len(listeners) > 1 else listeners[0]
    return {"watch": watch, "steps": TOLD if account is None else account.steps}


def catalog() -> Catalog:
    """The networks of this host."""
    from minirt.netadmin.catalog import Catalog

    plugins = cni()
    return Catalog(_containers(plugins, warn), plugins, warn)


def bystander() -> tuple[Catalog, Shelf]:
    """The networks and containers of this host for one who looks on, and takes down nothing that he finds dead."""
    from minirt.netadmin.catalog import Catalog
    from minirt.web import view

    containers = view.shelf(Store(), warn)
    return Catalog(containers, cni(), warn), containers


def reloader() -> Reloader:
    """What has the networks of running containers made anew."""
    from minirt.netadmin.reload import Reloader

    plugins = cni(**watched(account({}, "minirt network reload")))
    return Reloader(_containers(plugins, warn), plugins)


def cni(notice: Callable[[str], None] = warn, **options: Any) -> Cni:
    """What puts plugins to work; `notice` is told what is no failure, for the options see there."""
    from minirt.cni.operations import Cni

    return Cni(executor(), tell=notice, **options)


def executor() -> Executor:
    """What finds plugins and runs them."""
    from minirt.cni.executor import Executor, search_path

    return Executor(search_path(os.environ), plain=settings.plain_exec)


def _containers(
    plugins: Cni, notice: Callable[[str], None], account: Account | None = None, trace: str = ""
) -> Containers:
    from minirt.containers import Containers

    return Containers(Store(), plugins, notice, _supervisor(), account, trace)


def _supervisor() -> tuple[str, ...]:
    """How we were started ourselves, by absolute paths, with the verb of the process that stays behind."""
    ours = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    program = (os.path.abspath(word) if word == sys.argv[0] else word for word in ours)
    switches = ("--plain-exec",) if settings.plain_exec else ()
    return (sys.executable, *program, *switches, "supervise")


def _silent(_text: str) -> None:
    pass
