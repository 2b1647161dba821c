"""Hardware addresses: text and bytes."""

from __future__ import annotations

_DIGITS = frozenset("0123456789abcdefABCDEF")
_MULTICAST = 0x01  # of the first octet: a group's address (IEEE 802-2014, 8.2)


def mac_text(packed: bytes) -> str:
    """`02:42:0a:01:00:02`; empty for none."""
    return packed.hex(":")


def mac_bytes(text: str) -> bytes:
    """The six octets that `text` spells, with ':' or '-' between octets or '.' between pairs of them, as Go reads them.

    Raises ValueError with a sentence.
    """
    for mark, digits in ((":", 2), ("-", 2), (".", 4)):
        groups = text.split(mark)
        if len(groups) * digits == 12 and all(len(group) == digits and _DIGITS.issuperset(group) for group in groups):
            return bytes.fromhex("".join(groups))
    raise ValueError(f"{text!r} is not a hardware address (expected six pairs of hex digits, like 02:42:ac:11:00:02)")


def unicast_mac(text: str) -> str:
    """`text` in the usual form. Raises ValueError, also for an address that no single interface can have."""
    packed = mac_bytes(text)
    if packed[0] & _MULTICAST or not any(packed):
        raise ValueError(f"{text!r} is not the hardware address of a single interface")
    return mac_text(packed)
