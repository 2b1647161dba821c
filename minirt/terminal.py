"""What a terminal is written on: how wide a text may be, and whether its reader wants colours."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

WIDTH = 100  # columns


def coloured(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """A terminal that has colours, and a person who has not said no (no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
