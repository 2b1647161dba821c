"""`--explain` and `--step`, and those who look on: the account that a verb's run is told to. Imported only for them."""

from __future__ import annotations

import os
import sys

from minirt.errors import UsageError
from minirt.explain.account import Account
from minirt.explain.text import FORMATS, Text
from minirt.state import STORIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.explain.account import Item


def account(values: dict[str, Any], command: str, detached: bool) -> Account | None:
    """What `--explain` and `--step` ask for, and those who look on. Raises UsageError."""
    steps = bool(values.get("step"))
    if steps and detached:
        raise UsageError(
            "--step cannot stop what another process does", "use --explain, or stay in the foreground (start: --attach)"
        )
    writers: list[Callable[[Item], None]] = []
    fds = []
    if steps or values.get("explain") is not None:
        # A copy: what goes on in the background has lost its standard error, and the account goes where we were asked.
        fds.append(os.dup(sys.stderr.fileno()))
        writers.append(Text(os.fdopen(fds[0], "w", errors="replace"), _form(values)).write)
    if command and os.path.exists(STORIES):
        from minirt.explain import story  # for those who look on

        if told := story.begin(command):
            fds.append(told.fd)
            writers.append(told.write)
    if not writers:
        return None
    write = writers[0] if len(writers) == 1 else _all(writers)
    if not steps:
        return Account(write, fds=tuple(fds))
    from minirt.explain.pause import Pause

    return Account(write, Pause.at_terminal(write), tuple(fds))


def _form(values: dict[str, Any]) -> str:
    form: str = values["explain"] or FORMATS[0]
    if form not in FORMATS:
        raise UsageError(f"invalid --explain={form}", f"one of {', '.join(FORMATS)}")
    return form


def _all(writers: list[Callable[[Item], None]]) -> Callable[[Item], None]:
    def write(item: Item) -> None:
        for each in writers:
            each(item)

    return write
