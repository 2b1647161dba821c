"""What others have written, made fit to be shown: a plugin may say anything, a link have any name, and root reads it.

Control characters would be obeyed by a terminal, and are forbidden in XML; marks of direction would have a line read in
another order than it stands in (Unicode, UAX #9). What is shown in their place is a backslash and their number.
No regular expressions here: every failure is shown by way of this file, and `import re` costs more than that.
"""

from __future__ import annotations

# From, to: C0 less newline and tab, DEL and C1, marks of direction and line ends of Unicode, halves of characters, and
# what is no character.
_OBEYED = (
    ("\x00", "\x08"),
    ("\x0b", "\x1f"),
    ("\x7f", "\x9f"),
    ("\u200e", "\u200f"),
    ("\u2028", "\u202e"),
    ("\u2066", "\u2069"),
    ("\ud800", "\udfff"),
    ("\ufffe", "\uffff"),
)
_IN_LINE = (*_OBEYED, ("\t", "\n"))


def visible(text: str) -> str:
    """A text, which may have several lines."""
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _escaped(text, _OBEYED)


def line(text: str) -> str:
    """A name, or another fact that stands in a line with others."""
    return _escaped(text, _IN_LINE)


def in_json(text: str) -> str:
    """A document of JSON, whose strings say the same: the escapes are JSON's own."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"\\u{ord(char):04x}" if _is_in(char, _OBEYED) else char for char in text)


def _escaped(text: str, obeyed: tuple[tuple[str, str], ...]) -> str:
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if _is_in(char, obeyed) else char for char in text)


def _is_in(char: str, obeyed: tuple[tuple[str, str], ...]) -> bool:
    return any(first <= char <= last for first, last in obeyed)
