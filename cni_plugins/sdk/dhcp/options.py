"""DHCP options as bytes by number, and what some of them mean (RFC 2132, RFC 3396, RFC 3397, RFC 3442).

A message carries options as number, length, value. One that is longer than 255 octets comes in pieces, which belong
together in the order in which they stand (RFC 3396); two fields of the message may hold options too (option 52).
Nothing here raises for what a server sends: what cannot be read is left out.
"""

from __future__ import annotations

from cni_plugins.spec.ip import Address, Cidr
from cni_plugins.spec.result import Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SUBNET_MASK, ROUTER, NAME_SERVER, HOST_NAME, DOMAIN_NAME, MTU, STATIC_ROUTE = 1, 3, 6, 12, 15, 26, 33
REQUESTED_ADDRESS, LEASE_TIME, OVERLOAD, MESSAGE_TYPE, SERVER_ID, REQUEST_LIST = 50, 51, 52, 53, 54, 55
MESSAGE, RENEWAL_TIME, REBINDING_TIME, VENDOR_CLASS, CLIENT_ID, USER_CLASS = 56, 58, 59, 60, 61, 77
DOMAIN_SEARCH, CLASSLESS_ROUTE = 119, 121
PAD, END = 0, 255
LONGEST = 255  # octets of one piece

# The names of the reference plugin.
NUMBERS = {
    "dhcp-client-identifier": CLIENT_ID,
    "subnet-mask": SUBNET_MASK,
    "routers": ROUTER,
    "host-name": HOST_NAME,
    "user-class": USER_CLASS,
    "vendor-class-identifier": VENDOR_CLASS,
}

_ON_LINK = 253  # RT_SCOPE_LINK
_COOKIE, _SNAME, _FILE = slice(236, 240), slice(44, 108), slice(108, 236)  # of the message (RFC 2131, 2)
_MAGIC = b"\x63\x82\x53\x63"


def number(text: str) -> int | None:
    """The option that `text` names, by name or decimal number; None when it names none."""
    if text in NUMBERS:
        return NUMBERS[text]
    return int(text) if text.isascii() and text.isdigit() and int(text) <= LONGEST else None


def of(message: bytes) -> dict[int, bytes]:
    """The options of a whole message, pieces joined."""
    if message[_COOKIE] != _MAGIC:
        return {}
    found = _read(message[_COOKIE.stop :], {})
    also = found.get(OVERLOAD, b"\0")[0:1]
    if also in (b"\1", b"\3"):
        _read(message[_FILE], found)
    if also in (b"\2", b"\3"):
        _read(message[_SNAME], found)
    return found


def _read(data: bytes, found: dict[int, bytes]) -> dict[int, bytes]:
    place = 0
    while place < len(data) and data[place] != END:
        if data[place] == PAD:
            place += 1
            continue
        start = place + 2
        length = data[place + 1] if start <= len(data) else LONGEST
        if start + length > len(data):
            break
        found[data[place]] = found.get(data[place], b"") + data[start : start + length]
        place = start + length
    return found


def pack(options: Mapping[int, bytes]) -> bytes:
    """The options as they stand in a message, the end mark left out."""
    packed = bytearray()
    for code, value in options.items():
        for start in range(0, len(value) or 1, LONGEST):
            piece = value[start : start + LONGEST]
            packed += bytes((code, len(piece))) + piece
    return bytes(packed)


# --- what values mean -------------------------------------------------------------------------------------------------


def integer(value: bytes | None) -> int | None:
    """A number of 2 or 4 octets."""
    return int.from_bytes(value, "big") if value and len(value) in (2, 4) else None


def address(packed: bytes) -> Address:
    return Address(4, int.from_bytes(packed, "big"))


def addresses(value: bytes | None) -> list[Address]:
    """As many as there are whole."""
    value = value or b""
    return [address(value[start : start + 4]) for start in range(0, len(value) - 3, 4)]


def text(value: bytes | None) -> str:
    """Some servers end it with a NUL."""
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def prefix_length(mask: bytes | None) -> int | None:
    """The length that a netmask stands for; None for one that is none."""
    if mask is None or len(mask) != 4:
        return None
    bits = f"{int.from_bytes(mask, 'big'):032b}"
    return bits.count("1") if "01" not in bits else None


def classless_routes(value: bytes | None) -> Iterator[Route]:
    """Option 121: width, as many octets of the destination as it needs, router; no router (0.0.0.0) is on the link."""
    value = value or b""
    place = 0
    while place < len(value):
        width = value[place]
        octets = (width + 7) // 8
        end = place + 1 + octets + 4
        if width > 32 or end > len(value):
            return
        destination = address(value[place + 1 : place + 1 + octets].ljust(4, b"\0"))
        yield _route(Cidr(destination, width), address(value[end - 4 : end]))
        place = end


def static_routes(value: bytes | None) -> Iterator[Route]:
    """Option 33: pairs of destination and router; how long the prefix is follows from the old classes."""
    pairs = addresses(value)
    for destination, router in zip(pairs[::2], pairs[1::2], strict=False):
        first = destination.value >> 24
        if 0 < first < 224:
            yield _route(Cidr(destination, 8 if first < 128 else 16 if first < 192 else 24), router)


def _route(destination: Cidr, router: Address) -> Route:
    if router.unspecified:
        return Route(destination.network, scope=_ON_LINK)
    return Route(destination.network, router)


def domains(value: bytes | None) -> list[str]:
    """Option 119: names in the form of the DNS, where a name may end with a pointer to an earlier place."""
    value = value or b""
    found, place = [], 0
    while place < len(value):
        labels, place = _labels(value, place)
        if labels is None:
            break
        if labels:
            found.append(".".join(labels))
    return found


def _labels(value: bytes, place: int) -> tuple[list[str] | None, int]:
    """The labels of the name at `place`, and where the next name begins; None for labels that are broken off."""
    labels: list[str] = []
    after, limit = 0, place  # a pointer leads back, so that no two lead to each other
    while place < len(value):
        length = value[place]
        if length & 0xC0 == 0xC0 and place + 1 < len(value):
            target = (length & 0x3F) << 8 | value[place + 1]
            if target >= limit:
                break
            after, place, limit = after or place + 2, target, target
        elif length == 0:
            return labels, after or place + 1
        elif length & 0xC0 or place + 1 + length > len(value):
            break
        else:
            labels.append(value[place + 1 : place + 1 + length].decode("ascii", errors="replace"))
            place += 1 + length
    return None, len(value)
