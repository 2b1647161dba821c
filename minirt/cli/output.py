"""How verbs print: results to standard output, everything else to standard error."""

from __future__ import annotations

import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any


def warn(text: str) -> None:
    """A line on standard error; a run does not fail because it cannot be written."""
    from minirt.terminal import tell  # most have nothing to tell

    tell(f"minirt: {text}\n")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three spaces apart, the last one free."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join(
        "   ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    )


def ago(seconds: float) -> str:
    """How long, in the one unit that says enough: `5 seconds`, `3 minutes`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}s"
    return f"{int(seconds)} second{'' if int(seconds) == 1 else 's'}"


def each(references: Iterable[str], action: Callable[[str], Any]) -> int:
    """Do `action` for every reference and print what it was called by, or what it returns; failures do not stop it."""
    code = 0
    for reference in references:
        try:
            answer = action(reference)
        except MinirtError as error:
            error.show()
            code = 1
        else:
            print(reference if answer is None else answer)
    return code


def need_root(verb: str) -> None:
    """Namespaces, mounts and links need root. Raises MinirtError."""
    if os.geteuid():
        raise MinirtError(f"'minirt {verb}' needs root", "run it with sudo")
