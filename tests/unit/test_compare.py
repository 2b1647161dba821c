"""The comparison with the reference plugins says what the tests' marks say."""

from __future__ import annotations

import re

from support import compare, house


def test_the_page_is_what_the_marks_make() -> None:
    assert compare.PAGE.read_text(encoding="utf-8") == compare.page(), "run .venv/bin/python tests/support/compare.py"


def test_every_mark_is_on_a_test_of_both_sides() -> None:
    files = [path for path in house.python_files("tests") if path.name != "sides.py"]  # it shows one
    marked = sum(len(re.findall(r"^ *@reference_fails\(", path.read_text(), re.MULTILINE)) for path in files)
    assert marked == sum(bool(test.instead) for test in compare.shared())
