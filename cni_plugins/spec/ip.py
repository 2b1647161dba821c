"""IP addresses and CIDRs as integers, without the price of `ipaddress` (10 ms)."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from cni_plugins.spec.record import record

BITS = {4: 32, 6: 128}
_AF = {4: AF_INET, 6: AF_INET6}


@record
class Address:
    """One IP address: `family` is 4 or 6, `value` its integer."""

    family: int
    value: int

    def __str__(self) -> str:
        return inet_ntop(self.af, self.packed)

    @property
    def af(self) -> int:
        """The kernel's number of the family: AF_INET or AF_INET6."""
        return _AF[self.family]

    @property
    def packed(self) -> bytes:
        return self.value.to_bytes(BITS[self.family] // 8, "big")

    @property
    def unspecified(self) -> bool:
        return self.value == 0

    def plus(self, count: int) -> Address:
        return Address(self.family, self.value + count)


@record
class Cidr:
    """An address with a prefix length; host bits may be set (an interface's address) or not (a network)."""

    address: Address
    length: int

    def __str__(self) -> str:
        return f"{self.address}/{self.length}"

    @property
    def family(self) -> int:
        return self.address.family

    @property
    def hostmask(self) -> int:
        return (1 << (BITS[self.family] - self.length)) - 1

    @property
    def network(self) -> Cidr:
        """The same prefix with the host bits cleared."""
        return Cidr(self.first, self.length)

    @property
    def first(self) -> Address:
        return Address(self.family, self.address.value & ~self.hostmask)

    @property
    def last(self) -> Address:
        return Address(self.family, self.address.value | self.hostmask)

    def __contains__(self, address: Address) -> bool:
        return address.family == self.family and self.first.value <= address.value <= self.last.value


def bracketed(address: str) -> str:
    """The text of an address as it stands before a port: one of IPv6 in brackets (RFC 3986, section 3.2.2)."""
    return f"[{address}]" if ":" in address else address


def parse_address(text: str) -> Address:
    """The address that `text` spells. Raises ValueError with a sentence."""
    family = 6 if ":" in text else 4
    try:
        return Address(family, int.from_bytes(inet_pton(_AF[family], text), "big"))
    except (OSError, ValueError):  # ValueError: a NUL in the text
        raise ValueError(f"{text!r} is not an IP address") from None


def parse_cidr(text: str) -> Cidr:
    """The CIDR that `text` spells, host bits kept. Raises ValueError with a sentence."""
    address_text, slash, length_text = text.partition("/")
    if not slash:
        raise ValueError(f"{text!r} has no prefix length (expected ADDRESS/LENGTH)")
    address = parse_address(address_text)
    if not (length_text.isascii() and length_text.isdigit() and int(length_text) <= BITS[address.family]):
        raise ValueError(f"{text!r} has no valid prefix length (0 to {BITS[address.family]})")
    return Cidr(address, int(length_text))


def host_cidr(address: Address) -> Cidr:
    """The one-address prefix: /32 or /128."""
    return Cidr(address, BITS[address.family])


def parse_network(text: str) -> Cidr:
    """A CIDR without host bits. Raises ValueError."""
    cidr = parse_cidr(text)
    if cidr.address != cidr.first:
        raise ValueError(f"{text!r} has host bits set (the network is {cidr.network})")
    return cidr
