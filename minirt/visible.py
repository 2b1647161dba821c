"""What others have written, made fit to be shown: a plugin may say anything, a link have any name, and root reads it.

Control characters would be obeyed by a terminal, and are forbidden in XML; marks of direction would have a line read in
another order than it stands in (Unicode, UAX #9). What is shown in their place is a backslash and their number.
"""

from __future__ import annotations

import re

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff"
_IN_TEXT = re.compile(f"[{_OBEYED}]")
_IN_LINE = re.compile(f"[{_OBEYED}\t\n]")


def visible(text: str) -> str:
    """A text, which may have several lines."""
    return _IN_TEXT.sub(_escaped, text)


def line(text: str) -> str:
    """A name, or another fact that stands in a line with others."""
    return _IN_LINE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
