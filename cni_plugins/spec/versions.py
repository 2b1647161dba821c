"""Versions of the contract: which there are, and how they compare."""

from __future__ import annotations

from cni_plugins.spec.errors import DECODING_FAILURE, CniError

ALL = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = ALL[-1]
_DIGITS = 18  # what a part may have at most: Go refuses what is more than 64 bits

# The first version of the contract that has the verb; the others have been there from the start.
FIRST_WITH = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def parse(version: str) -> tuple[int, int, int]:
    """`"1.0"` -> `(1, 0, 0)`: one to three integers, missing parts are 0, the empty string is 0.1.0, as in libcni.

    Raises CniError 6.
    """
    if not version:
        return (0, 1, 0)
    parts = version.split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) <= _DIGITS for part in parts):
        expected = "expected MAJOR.MINOR.PATCH, such as 1.0.0"
        raise CniError(DECODING_FAILURE, f"invalid version {version[:80]!r}", expected)
    major, minor, patch = (*map(int, parts), 0, 0)[:3]
    return (major, minor, patch)


def at_least(version: str, other: str) -> bool:
    return parse(version) >= parse(other)


def allows(version: str, verb: str) -> bool:
    """Whether the contract of `version` has `verb`."""
    return verb not in FIRST_WITH or at_least(version, FIRST_WITH[verb])
