"""Pools of addresses: ranges of a subnet, sets of ranges, and the order in which their addresses are tried.

The rules are those of the reference host-local, whose configurations and stores must go on working: which addresses a
range holds when it does not say, what is too small, what overlaps, and the round robin that starts after the address
given last, skips gateways and tries that last address last.
"""

from __future__ import annotations

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, CniError
from cni_plugins.spec.ip import BITS, Address, Cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@record
class Range:
    """The addresses from `start` to `end`, both included, of `subnet`. `gateway` is never given out."""

    subnet: Cidr
    start: Address
    end: Address
    gateway: Address

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    def __contains__(self, address: Address) -> bool:
        return address.family == self.subnet.family and self.start.value <= address.value <= self.end.value

    @property
    def size(self) -> int:
        """How many addresses it can give."""
        return self.end.value - self.start.value + 1 - (self.gateway in self)


@record
class RangeSet:
    """A pool: ranges of one family that do not overlap. An attachment gets one address of each set."""

    ranges: tuple[Range, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.ranges))

    def __contains__(self, address: Address) -> bool:
        return any(address in item for item in self.ranges)

    @property
    def family(self) -> int:
        return self.ranges[0].subnet.family

    @property
    def size(self) -> int:
        return sum(item.size for item in self.ranges)

    def range_of(self, address: Address) -> Range:
        """The range that holds `address`, which must be in the set."""
        return next(item for item in self.ranges if address in item)

    def candidates(self, last: Address | None, free: Callable[[Address, Address], Address | None]) -> Iterator[Address]:
        """Addresses to try, beginning after `last`, each once; `last` itself is the last of them.

        `free(first, end)` gives the first address from `first` to `end` that seems to be free, or None: what is known
        to be taken need not be tried one by one.
        """
        for first, end, gateway in self._stretches(last):
            address = free(first, end)
            while address is not None:
                if address != gateway:
                    yield address
                address = free(address.plus(1), end) if address != end else None

    def _stretches(self, last: Address | None) -> Iterator[tuple[Address, Address, Address]]:
        """First address, last address and gateway of what is to be walked, in order."""
        turn = 0
        if last is not None and last in self:
            here = self.range_of(last)
            turn = self.ranges.index(here)
            if last != here.end:
                yield last.plus(1), here.end, here.gateway
            turn += 1
        count = len(self.ranges)
        wrapped = [self.ranges[(turn + step) % count] for step in range(count)]
        for item in wrapped:
            if last is not None and last in item:
                yield item.start, last, item.gateway
            else:
                yield item.start, item.end, item.gateway


def parse_range(view: View) -> Range:
    """One range of a configuration. Raises CniError 7."""
    subnet = view.network("subnet")
    if subnet is None:
        raise CniError(INVALID_CONFIG, f"{view.where('subnet')}: missing")
    if subnet.length > BITS[subnet.family] - 2:
        raise CniError(INVALID_CONFIG, f"{view.where('subnet')}: network {subnet} too small to allocate from")
    first = subnet.first.plus(1)
    last = subnet.last if subnet.family == 6 else subnet.last.plus(-1)  # IPv4 keeps its broadcast address
    start, end = view.address("rangeStart") or first, view.address("rangeEnd") or last
    for key, address in (("rangeStart", start), ("rangeEnd", end)):
        if address not in subnet:
            raise CniError(INVALID_CONFIG, f"{view.where(key)}: {address} is not in network {subnet}")
    if end.value < start.value:
        raise CniError(INVALID_CONFIG, f"{view.where('rangeEnd')}: {end} comes before the range's start, {start}")
    return Range(subnet, start, end, view.address("gateway") or first)


def parse_set(views: list[View], where: str) -> RangeSet:
    """One set of a configuration; `where` is its path, for errors. Raises CniError 7."""
    ranges = tuple(parse_range(view) for view in views)
    if not ranges:
        raise CniError(INVALID_CONFIG, f"{where}: the range set is empty")
    if len({item.subnet.family for item in ranges}) > 1:
        raise CniError(INVALID_CONFIG, f"{where}: mixed address families in one range set")
    for index, item in enumerate(ranges):
        for other in ranges[index + 1 :]:
            if _overlap(item, other):
                raise CniError(INVALID_CONFIG, f"{where}: ranges {item} and {other} overlap")
    return RangeSet(ranges)


def refuse_overlaps(sets: tuple[RangeSet, ...]) -> None:
    """Raises CniError 7 when two sets could give the same address."""
    for index, one in enumerate(sets):
        for step, other in enumerate(sets[index + 1 :], 1):
            if any(_overlap(item, another) for item in one.ranges for another in other.ranges):
                text = f"range set {index} ({one}) overlaps with {index + step} ({other})"
                raise CniError(INVALID_CONFIG, text)


def _overlap(one: Range, other: Range) -> bool:
    return one.start in other or other.start in one
