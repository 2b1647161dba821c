"""`--explain` and `--step`: the account that a verb's run is told to. Imported only when one of them is given."""

from __future__ import annotations

import os
import sys

from minirt.errors import UsageError
from minirt.explain.account import Account
from minirt.explain.text import FORMATS, Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def account(values: dict[str, Any], detached: bool = False) -> Account:
    """What `--explain` and `--step` ask for. Raises UsageError."""
    form = values["explain"] or FORMATS[0]
    if form not in FORMATS:
        raise UsageError(f"invalid --explain={form}", f"one of {', '.join(FORMATS)}")
    if values.get("step") and detached:
        raise UsageError("--step cannot stop what another process does", "use --explain, or run it in the foreground")
    # A copy: what goes on in the background has lost its standard error, and the account goes where we were asked.
    fd = os.dup(sys.stderr.fileno())
    write = Text(os.fdopen(fd, "w", errors="replace"), form).write
    if not values.get("step"):
        return Account(write, fds=(fd,))
    from minirt.explain.pause import Pause

    return Account(write, Pause.at_terminal(write), (fd,))
