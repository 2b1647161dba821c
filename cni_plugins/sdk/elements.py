"""Elements of nftables sets and maps: as a person types them, and as the kernel reads them.

An element has a key of one or more fields, in a map also a value or a chain to jump to, and a comment that says whose
it is. Fields side by side are a concatenation: each is padded to 4 bytes. An interval is two elements in a set of one
field (first, and the one after the last, marked as an end), and one element with a second key in a set of several.

The law of this file: it builds and reads attributes, and sends nothing. Tests compare what it builds with what the nft
program lists. Source: linux/netfilter/nf_tables.h; comments are libnftnl's user data (libnftnl/udata.h).
"""

from __future__ import annotations

from _struct import Struct

from cni_plugins.sdk.netlink import NLA_F_NESTED, attribute, attributes, each_attribute, nested, string, text, u32
from cni_plugins.spec.ip import Address, Cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Taken from the Linux kernel headers: linux/netfilter/nf_tables.h.
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_LIST_ELEM = 1
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS = 1, 2, 3
NFTA_SET_ELEM_USERDATA, NFTA_SET_ELEM_KEY_END = 6, 10
NFTA_DATA_VALUE, NFTA_DATA_VERDICT = 1, 2
NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN = 1, 2
NFT_JUMP = 2**32 - 3
NFT_SET_ELEM_INTERVAL_END = 1
UDATA_COMMENT = 0  # NFTNL_UDATA_SET_ELEM_COMMENT

_PADDING = (b"", bytes(3), bytes(2), bytes(1))
_TWO_HEADERS = Struct("=HHHH")  # of an attribute, and of the first one in it

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_IFNAMSIZ = 16


@record
class Field:
    """One field of a key or value: `words` as nft writes it, and its bytes; a range has two different ends."""

    words: str
    first: bytes
    last: bytes


def address(value: Address) -> Field:
    return Field(str(value), value.packed, value.packed)


def subnet(value: Cidr) -> Field:
    return Field(str(value.network), value.first.packed, value.last.packed)


def protocol(name: str) -> Field:
    return _PROTOCOL_FIELDS[name]


def port(number: int) -> Field:
    found = _PORT_FIELDS.get(number)
    if found is None:
        packed = number.to_bytes(2, "big")
        found = _PORT_FIELDS[number] = Field(str(number), packed, packed)
    return found


def link(name: str) -> Field:
    packed = name.encode().ljust(_IFNAMSIZ, b"\0")
    return Field(f'"{name}"', packed, packed)


_PORT_FIELDS: dict[int, Field] = {}  # each is used several times: by family, as key and as value
_PROTOCOL_FIELDS = {name: Field(name, bytes((number,)), bytes((number,))) for name, number in PROTOCOLS.items()}


@record
class Element:
    """One element of a set or map of a table. `interval` says that the set is flagged so; `jump` is the
    chain that an element of a verdict map leads to."""

    table: str
    set: str
    key: tuple[Field, ...]
    value: tuple[Field, ...] = ()
    comment: str = ""
    interval: bool = False
    jump: str = ""
    family: str = "inet"

    def __str__(self) -> str:
        """`any4 { tcp . 8080 comment "web c1 eth0" : 10.88.0.5 . 80 }`"""
        comment = f' comment "{self.comment}"' if self.comment else ""
        value = f" : {_words(self.value)}" if self.value else f" : jump {self.jump}" if self.jump else ""
        return f"{self.set} {{ {_words(self.key)}{comment}{value} }}"


@record
class Stored:
    """An element as the kernel holds it. `end` is empty but for an interval of several fields."""

    key: bytes
    end: bytes = b""
    value: bytes = b""
    comment: str = ""
    jump: str = ""

    def fits(self, element: Element) -> bool:
        """Whether it is `element`, whoever's comment it bears."""
        end = _join(element.key, last=True) if element.interval and len(element.key) > 1 else self.end
        wanted = (_join(element.key), end, _join(element.value), element.jump)
        return (self.key, self.end, self.value, self.jump) == wanted


def whole(*elements: Element) -> bytes:
    """The attributes of a message that adds or deletes `elements`, which are of one set. A deletion looks at their keys
    alone."""
    comments = {words: _user_data(words) for words in {element.comment for element in elements}}
    items = [item for element in elements for item in _items(element, comments[element.comment])]
    return place(elements[0].table, elements[0].set) + _list(items)


def question(element: Element) -> bytes:
    """The attributes of a message that asks for `element`, or for the interval that holds its first key."""
    return place(element.table, element.set) + _list([_key(_join(element.key))])


def packed_key(element: Element) -> bytes:
    """The key as the kernel gives it back."""
    return _join(element.key)


def place(table: str, name: str) -> bytes:
    """The attributes that say which set is meant; a message of them alone asks for all that it holds."""
    return text(NFTA_SET_ELEM_LIST_TABLE, table) + text(NFTA_SET_ELEM_LIST_SET, name)


def _list(items: Iterable[bytes]) -> bytes:
    return nested(NFTA_SET_ELEM_LIST_ELEMENTS, *(nested(NFTA_LIST_ELEM, item) for item in items))


def read(body: bytes, offset: int) -> Iterator[Stored]:
    """The elements in the attributes of an answer."""
    for _kind, listed in each_attribute(attributes(body, offset).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        found = attributes(listed)
        data = attributes(found[NFTA_SET_ELEM_DATA]) if NFTA_SET_ELEM_DATA in found else {}
        verdict = attributes(data[NFTA_DATA_VERDICT]) if NFTA_DATA_VERDICT in data else {}
        yield Stored(
            _data(found, NFTA_SET_ELEM_KEY),
            _data(found, NFTA_SET_ELEM_KEY_END) if NFTA_SET_ELEM_KEY_END in found else b"",
            data.get(NFTA_DATA_VALUE, b""),
            _comment(found.get(NFTA_SET_ELEM_USERDATA, b"")),
            string(verdict.get(NFTA_VERDICT_CHAIN)),
        )


def _words(fields: tuple[Field, ...]) -> str:
    return " . ".join(field.words for field in fields)


def _join(fields: tuple[Field, ...], last: bool = False) -> bytes:
    """The fields as the kernel's registers hold them; a field alone keeps its own length."""
    ends = [field.last if last else field.first for field in fields]
    return ends[0] if len(ends) == 1 else b"".join([end + _PADDING[len(end) % 4] for end in ends])


def _key(packed: bytes, kind: int = NFTA_SET_ELEM_KEY) -> bytes:
    """`nested(kind, attribute(NFTA_DATA_VALUE, packed))`, which is most of what is written for many elements."""
    size = len(packed)
    padding = -size % 4
    return (
        _TWO_HEADERS.pack(8 + size + padding, kind | NLA_F_NESTED, 4 + size, NFTA_DATA_VALUE) + packed + bytes(padding)
    )


def _jump(chain: str) -> bytes:
    verdict = u32(NFTA_VERDICT_CODE, NFT_JUMP, ">") + text(NFTA_VERDICT_CHAIN, chain)
    return nested(NFTA_SET_ELEM_DATA, nested(NFTA_DATA_VERDICT, verdict))


def _items(element: Element, comment: bytes) -> Iterator[bytes]:
    """The attributes of each element that the kernel stores for this one; `comment` as an attribute."""
    first = _join(element.key)
    value = _key(_join(element.value), NFTA_SET_ELEM_DATA) if element.value else b""
    if element.jump:
        value = _jump(element.jump)
    if not element.interval:
        yield _key(first) + value + comment
        return
    last = _join(element.key, last=True)
    ranged = len(element.key) > 1
    yield _key(first) + (_key(last, NFTA_SET_ELEM_KEY_END) if ranged else b"") + value + comment
    if not ranged and last.strip(b"\xff"):  # nothing comes after the highest key
        after = (int.from_bytes(last, "big") + 1).to_bytes(len(last), "big")
        yield u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END, ">") + _key(after)


def _user_data(comment: str) -> bytes:
    """Type, length, text and its NUL, a byte each for type and length; nothing for no comment."""
    if not comment:
        return b""
    words = comment.encode() + b"\0"
    return attribute(NFTA_SET_ELEM_USERDATA, bytes((UDATA_COMMENT, len(words))) + words)


def _comment(data: bytes) -> str:
    while len(data) > 2:
        kind, size = data[:2]
        if kind == UDATA_COMMENT:
            return data[2 : 2 + size].rstrip(b"\0").decode(errors="replace")
        data = data[2 + size :]
    return ""


def _data(found: dict[int, bytes], kind: int) -> bytes:
    return next((value for key, value in each_attribute(found.get(kind, b"")) if key == NFTA_DATA_VALUE), b"")
