"""docs/conformance.md: every requirement of the contract, and the tests that prove it, by the numbers in their names.

    .venv/bin/python tests/support/conformance.py        writes it anew

tests/unit/test_conformance.py fails when the file is stale, and when a number has neither test nor reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from support import house, requirements  # noqa: E402  run as a program, the path comes first

PAGE = house.TOP / "docs" / "conformance.md"
TEST = re.compile(r"^ *(?:async )?def (test((?:(?:_to)?_[RPSLDUB]\d+)+)_\w+)\(", re.MULTILINE)
NUMBER = re.compile(r"(_to)?_([RPSLDUB])(\d+)")

HEAD = """# Conformance

What the Container Network Interface demands, version 1.1.0 and all before, and the tests that prove it. The numbers are
the house's own; a test carries in its name those that it proves. Where we differ by decision, the reason stands there.

This page is made by `tests/support/conformance.py`, and a test fails when it is stale.
"""


def numbers(marks: str) -> Iterator[str]:
    """`_L27_to_L30` -> L27, L28, L29, L30."""
    last = 0
    for to, letter, digits in NUMBER.findall(marks):
        number = int(digits)
        for each in range(last + 1 if to else number, number + 1):
            yield f"{letter}{each}"
        last = number


def tests() -> dict[str, list[tuple[str, str]]]:
    """Requirement -> the tests that carry it, as (file, name), in the order of the files."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in house.python_files("tests"):
        for name, marks in TEST.findall(path.read_text(encoding="utf-8")):
            for number in numbers(marks):
                found.setdefault(number, []).append((house.name(path), name))
    return found


def statements() -> dict[str, str]:
    """Requirement -> what it says."""
    return {
        f"{letter}{number}": text
        for letter, texts in requirements.STATEMENTS.items()
        for number, text in enumerate(texts, 1)
    }


def page() -> str:
    """The text of docs/conformance.md."""
    proofs = tests()
    parts = [HEAD]
    for number, text in statements().items():
        if number[1:] == "1":
            parts.append(f"## {requirements.TITLES[number[0]]}\n")
        parts.append(_entry(number, text, proofs.get(number, [])))
    return "\n".join(parts)


def _entry(number: str, text: str, proofs: list[tuple[str, str]]) -> str:
    lines = [f"**{number}** {text}"]
    if number in requirements.DECISIONS:
        lines += ["", f"> Here: {requirements.DECISIONS[number]}"]
    lines += ["", *(f"- `{path}` {name}" for path, name in proofs), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
