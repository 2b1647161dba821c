"""What is written for a person: how wide, in colours or without, and that nothing fails when nobody can read it."""

from __future__ import annotations

import os
import sys

from minirt.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

WIDTH = 100  # columns


def coloured(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """A terminal that has colours, and a person who has not said no (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def tell(text: str) -> None:
    """Write `text` on standard error. One that is full, or that nobody reads, loses it, and no run fails for that."""
    try:
        sys.stderr.write(visible(text))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass
