"""Pools of addresses: what a range holds, what is refused, and the order in which addresses are tried.

The judge of the order is a walk one address at a time, written here from the reference plugin's description.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.sdk.ranges import Range, RangeSet, parse_range, parse_set, refuse_overlaps
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import Address, parse_address


def a_range(**keys: str) -> Range:
    return parse_range(View(keys, "ipam.ranges[0][0]"))


def a_set(*ranges: dict[str, str]) -> RangeSet:
    return parse_set([View(keys, f"set[{index}]") for index, keys in enumerate(ranges)], "set")


def refused(*ranges: dict[str, str]) -> str:
    with pytest.raises(CniError) as caught:
        a_set(*ranges)
    assert caught.value.code == 7
    return caught.value.msg


@pytest.mark.parametrize(
    ("subnet", "bounds", "gateway", "size"),
    [
        ("192.0.2.0/24", "192.0.2.1-192.0.2.254", "192.0.2.1", 253),
        ("192.0.2.0/20", None, None, None),
        ("192.0.0.0/20", "192.0.0.1-192.0.15.254", "192.0.0.1", 4093),
        ("192.168.1.0/29", "192.168.1.1-192.168.1.6", "192.168.1.1", 5),
        ("10.0.0.0/30", "10.0.0.1-10.0.0.2", "10.0.0.1", 1),
        ("2001:db8:1::/64", "2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff", "2001:db8:1::1", 2**64 - 2),
        ("2001:db8:1::/126", "2001:db8:1::1-2001:db8:1::3", "2001:db8:1::1", 2),
    ],
)
def test_a_range_that_says_only_its_subnet_has_defaults(
    subnet: str, bounds: str | None, gateway: str | None, size: int | None
) -> None:
    if bounds is None:
        assert "has host bits set (the network is 192.0.0.0/20)" in refused({"subnet": subnet})
        return
    found = a_range(subnet=subnet)
    assert (str(found), str(found.gateway), found.size) == (bounds, gateway, size)


def test_a_range_keeps_what_it_says() -> None:
    found = a_range(subnet="10.0.0.0/24", rangeStart="10.0.0.10", rangeEnd="10.0.0.20", gateway="10.9.9.9")
    assert (str(found), str(found.gateway), found.size) == ("10.0.0.10-10.0.0.20", "10.9.9.9", 11)


NET = "10.0.0.0/24"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "set[0].subnet: missing"),
        ({"subnet": "10.0.0.0/31"}, "set[0].subnet: network 10.0.0.0/31 too small to allocate from"),
        ({"subnet": "10.0.0.1/32"}, "set[0].subnet: network 10.0.0.1/32 too small to allocate from"),
        ({"subnet": "fd00::/127"}, "set[0].subnet: network fd00::/127 too small to allocate from"),
        ({"subnet": "10.0.0.1/24"}, "set[0].subnet: '10.0.0.1/24' has host bits set (the network is 10.0.0.0/24)"),
        ({"subnet": "10.0.0.0"}, "set[0].subnet: '10.0.0.0' has no prefix length"),
        (
            {"subnet": NET, "rangeStart": "10.0.1.1"},
            "set[0].rangeStart: 10.0.1.1 is not in network 10.0.0.0/24",
        ),
        ({"subnet": NET, "rangeEnd": "10.0.1.1"}, "set[0].rangeEnd: 10.0.1.1 is not in network 10.0.0.0/24"),
        (
            {"subnet": NET, "rangeStart": "fd00::1"},
            "set[0].rangeStart: fd00::1 is not in network 10.0.0.0/24",
        ),
        (
            {"subnet": NET, "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"},
            "set[0].rangeEnd: 10.0.0.8 comes before the range's start, 10.0.0.9",
        ),
        ({"subnet": NET, "gateway": "x"}, "set[0].gateway: 'x' is not an IP address"),
    ],
)
def test_ranges_that_make_no_sense_are_refused_by_their_path(keys: dict[str, str], says: str) -> None:
    assert refused(keys).startswith(says)


def test_a_set_is_of_one_family_not_empty_and_without_overlaps() -> None:
    assert refused() == "set: the range set is empty"
    assert refused({"subnet": NET}, {"subnet": "fd00::/64"}) == "set: mixed address families in one range set"
    message = refused({"subnet": "10.0.0.0/20"}, {"subnet": "10.0.1.0/24"})
    assert message == "set: ranges 10.0.0.1-10.0.15.254 and 10.0.1.1-10.0.1.254 overlap"


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ({"subnet": NET}, {"subnet": "10.0.1.0/24"}, False),
        ({"subnet": "10.0.0.0/20"}, {"subnet": "10.0.1.0/24"}, True),
        ({"subnet": "10.0.1.0/24"}, {"subnet": "10.0.0.0/20"}, True),
        (
            {"subnet": NET, "rangeEnd": "10.0.0.9"},
            {"subnet": NET, "rangeStart": "10.0.0.10"},
            False,
        ),
        (
            {"subnet": NET, "rangeEnd": "10.0.0.10"},
            {"subnet": NET, "rangeStart": "10.0.0.10"},
            True,
        ),
        ({"subnet": "fd00::/64"}, {"subnet": "fd00:0:0:0:1::/80"}, True),
        ({"subnet": "0.0.0.0/1"}, {"subnet": "::/1"}, False),
    ],
)
def test_sets_must_not_overlap(one: dict[str, str], other: dict[str, str], overlap: bool) -> None:
    sets = (a_set({"subnet": "172.16.0.0/24"}), a_set(one), a_set(other))
    if not overlap:
        refuse_overlaps(sets)
        return
    with pytest.raises(CniError, match=r"range set 1 .* overlaps with 2 ") as caught:
        refuse_overlaps(sets)
    assert caught.value.code == 7


# --- order ------------------------------------------------------------------------------------------------------------


def tried(pool: RangeSet, last: str | None = None, taken: set[str] | None = None) -> list[str]:
    held = {parse_address(text).value for text in taken or ()}
    return [str(item) for item in pool.candidates(parse_address(last) if last else None, _free_but(held))]


def _free_but(held: set[int]) -> Any:
    def free(first: Address, end: Address) -> Address | None:
        value = next((value for value in range(first.value, end.value + 1) if value not in held), None)
        return None if value is None else Address(first.family, value)

    return free


SMALL = a_set({"subnet": "10.0.0.0/29"})
PAIR = a_set(
    {"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.1", "rangeEnd": "10.0.0.3"},
    {"subnet": "10.0.1.0/29", "rangeStart": "10.0.1.2", "rangeEnd": "10.0.1.4", "gateway": "10.0.1.3"},
)


@pytest.mark.parametrize(
    ("pool", "last", "taken", "expected"),
    [
        (SMALL, None, set(), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]),
        (SMALL, "10.0.0.5", set(), ["10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
        (SMALL, "10.0.0.6", set(), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]),
        (SMALL, "10.0.0.5", {"10.0.0.6"}, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]),
        (SMALL, "10.9.9.9", set(), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]),
        (SMALL, None, {f"10.0.0.{n}" for n in range(8)}, []),
        (PAIR, "10.0.0.2", set(), ["10.0.0.3", "10.0.1.2", "10.0.1.4", "10.0.0.2"]),
        (PAIR, "10.0.1.2", set(), ["10.0.1.4", "10.0.0.2", "10.0.0.3", "10.0.1.2"]),
        (PAIR, "10.0.1.4", set(), ["10.0.0.2", "10.0.0.3", "10.0.1.2", "10.0.1.4"]),
    ],
)
def test_addresses_are_tried_in_turn(pool: RangeSet, last: str | None, taken: set[str], expected: list[str]) -> None:
    assert tried(pool, last, taken) == expected


def _walk(pool: RangeSet, last: Address | None) -> Iterator[Address]:
    """The reference plugin's iterator, one address at a time: it stops where it came in."""
    turn, current, start = 0, None, None
    if last is not None and last in pool:
        turn, current = next((index, last) for index, item in enumerate(pool.ranges) if last in item)
    while True:
        here = pool.ranges[turn]
        if current is None:
            current = here.start
        elif current == here.end:
            turn = (turn + 1) % len(pool.ranges)
            here = pool.ranges[turn]
            current = here.start
        else:
            current = current.plus(1)
        if start is None:
            start = current
        elif current == start:
            return
        if current != here.gateway:
            yield current


bounds = st.tuples(st.integers(1, 14), st.integers(1, 14)).map(sorted)


@given(st.lists(bounds, min_size=1, max_size=3), st.integers(0, 60), st.sets(st.integers(0, 63)), st.integers(0, 63))
def test_the_order_is_that_of_the_reference_plugin(
    spans: list[list[int]], last: int, taken: set[int], gateway: int
) -> None:
    base = parse_address("10.0.0.0").value
    ranges = tuple(
        Range(
            parse_range(View({"subnet": f"10.0.0.{index * 16}/28"})).subnet,
            Address(4, base + index * 16 + low),
            Address(4, base + index * 16 + high),
            Address(4, base + gateway),
        )
        for index, (low, high) in enumerate(spans)
    )
    pool, marker = RangeSet(ranges), Address(4, base + last)
    assume(pool.size)
    held = {base + number for number in taken}
    expected = [item for item in _walk(pool, marker) if item.value not in held]
    assert list(pool.candidates(marker, _free_but(held))) == expected


def test_a_range_too_large_to_walk_is_tried_without_walking_it() -> None:
    pool = a_set({"subnet": "fd00::/64"})
    asked: list[str] = []

    def free(first: Address, _end: Address) -> Address:
        asked.append(str(first))
        return first.plus(1 << 40)

    first = next(iter(pool.candidates(parse_address("fd00::5"), free)))
    assert (str(first), asked) == ("fd00::100:0:6", ["fd00::6"])
