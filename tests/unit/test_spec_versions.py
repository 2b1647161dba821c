"""Versions of the contract, and the errors that carry them."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec import versions
from cni_plugins.spec.errors import CniError

numbers = st.lists(st.integers(0, 99), min_size=1, max_size=3)


@given(numbers)
def test_L3_missing_parts_are_zero(parts: list[int]) -> None:
    assert versions.parse(".".join(map(str, parts))) == (*parts, 0, 0)[:3]


def test_L3_no_version_is_the_first() -> None:
    assert versions.parse("") == versions.parse("0.1.0")


@pytest.mark.parametrize("text", ["1.0.0.0", "v1", "1.", ".1", "1.-1", "1.0.0-rc", " 1.0", "1.\u0660"])
def test_L3_S4_what_is_no_version_cannot_be_decoded(text: str) -> None:
    with pytest.raises(CniError) as caught:
        versions.parse(text)
    assert caught.value.code == 6
    assert repr(text) in caught.value.msg


def test_they_are_listed_in_order_and_compared_as_numbers() -> None:
    assert sorted(versions.ALL, key=versions.parse) == list(versions.ALL)
    assert versions.NEWEST == "1.1.0"
    assert versions.at_least("0.10.0", "0.9.0") and not versions.at_least("0.3.1", "0.4.0")


@pytest.mark.parametrize(
    ("verb", "first"),
    [
        ("ADD", "0.1.0"),
        ("DEL", "0.1.0"),
        ("VERSION", "0.1.0"),
        ("CHECK", "0.4.0"),
        ("GC", "1.1.0"),
        ("STATUS", "1.1.0"),
    ],
)
def test_a_verb_is_allowed_from_its_first_version_on(verb: str, first: str) -> None:
    allowed = [version for version in versions.ALL if versions.allows(version, verb)]
    assert allowed == [version for version in versions.ALL if versions.parse(version) >= versions.parse(first)]


def test_an_error_is_an_object_of_the_contract() -> None:
    assert CniError(7, "no").to_json() == {"code": 7, "msg": "no"}
    assert CniError(7, "no", "why").to_json("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 7,
        "msg": "no",
        "details": "why",
    }
    assert str(CniError(7, "no", "why")) == "no: why"
    assert str(CniError(7, "no")) == "no"
