"""Who is told of a command: those who asked for it by `--explain` and `--step`, and those who look on."""

from __future__ import annotations

import os
import sys

from minirt.cni.call import both
from minirt.errors import UsageError
from minirt.explain.account import Account
from minirt.explain.text import FORMATS, SHORT, Text
from minirt.state import STORIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.explain.account import Item


def account(form: str | None, steps: bool, command: str, detached: bool) -> Account | None:
    """The account of `command`, None when nobody is told. `form` is the word of `--explain`, None without it; with
    `detached` another process does what is told. Raises UsageError."""
    if steps and detached:
        hint = "use --explain, or stay in the foreground (start: --attach)"
        raise UsageError("--step cannot stop what another process does", hint)
    if form is not None and form not in FORMATS:
        raise UsageError(f"invalid --explain={form}", f"one of {', '.join(FORMATS)}")
    write: Callable[[Item], None] | None = None
    fds: tuple[int, ...] = ()
    if steps or form is not None:
        # A copy: what goes on in the background has lost its standard error, and the account goes where we were asked.
        fds = (os.dup(sys.stderr.fileno()),)
        write = Text(os.fdopen(fds[0], "w", errors="replace"), form or SHORT).write
    if command and os.path.exists(STORIES):
        from minirt.explain import story  # for those who look on

        if told := story.begin(command):
            fds += (told.fd,)
            write = both(write, told.write) if write is not None else told.write
    if write is None:
        return None
    if not steps:
        return Account(write, fds=fds)
    from minirt.explain.pause import Pause

    return Account(write, Pause.at_terminal(write), fds)
