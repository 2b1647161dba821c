"""The list of what the contract demands is whole, and the page that is made of it is fresh."""

from __future__ import annotations

import pytest
from support import conformance, requirements


def test_every_requirement_is_there() -> None:
    counts = {letter: len(texts) for letter, texts in requirements.STATEMENTS.items()}
    assert counts == {"R": 34, "P": 24, "S": 10, "L": 34, "D": 8, "U": 25, "B": 12}


def test_every_requirement_has_a_test_or_a_reason() -> None:
    proved = conformance.tests().keys() | requirements.DECISIONS.keys()
    assert [number for number in conformance.statements() if number not in proved] == []


def test_every_number_is_one_of_a_requirement() -> None:
    known = conformance.statements().keys()
    assert [number for number in conformance.tests() if number not in known] == []
    assert [number for number in requirements.DECISIONS if number not in known] == []


def test_the_page_is_what_the_tests_say() -> None:
    if conformance.PAGE.read_text(encoding="utf-8") != conformance.page():
        pytest.fail("docs/conformance.md is stale: .venv/bin/python tests/support/conformance.py", pytrace=False)


@pytest.mark.parametrize(
    ("marks", "numbers"),
    [("_R1", ["R1"]), ("_R18_L2", ["R18", "L2"]), ("_L27_to_L30", ["L27", "L28", "L29", "L30"])],
)
def test_a_name_carries_several_numbers(marks: str, numbers: list[str]) -> None:
    assert list(conformance.numbers(marks)) == numbers
