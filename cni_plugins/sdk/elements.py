"""Elements of nftables sets and maps: as a person types them, and as the kernel reads them.

An element has a key of one or more fields, in a map also a value or a chain to jump to, and a comment that says whose
it is. Fields side by side are a concatenation: each is padded to 4 bytes. An interval is two elements in a set of one
field (first, and the one after the last, marked as an end), and one element with a second key in a set of several.

The law of this file: it builds and reads attributes, and sends nothing. Tests compare what it builds with what the nft
program lists. Source: linux/netfilter/nf_tables.h; comments are libnftnl's user data (libnftnl/udata.h).
"""

from __future__ import annotations

from cni_plugins.sdk.netlink import attribute, attributes, each_attribute, nested, string, text, u32
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
    number = PROTOCOLS[name].to_bytes(1, "big")
    return Field(name, number, number)


def port(number: int) -> Field:
    packed = number.to_bytes(2, "big")
    return Field(str(number), packed, packed)


def link(name: str) -> Field:
    packed = name.encode().ljust(_IFNAMSIZ, b"\0")
    return Field(f'"{name}"', packed, packed)


@record
class Element:
    """One element of a set or map of a table in family inet. `interval` says that the set is flagged so; `jump` is the
    chain that an element of a verdict map leads to."""

    table: str
    set: str
    key: tuple[Field, ...]
    value: tuple[Field, ...] = ()
    comment: str = ""
    interval: bool = False
    jump: str = ""

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
    return place(elements[0].table, elements[0].set) + _list(item for element in elements for item in _items(element))


def question(element: Element) -> bytes:
    """The attributes of a message that asks for `element`, or for the interval that holds its first key."""
    return place(element.table, element.set) + _list([_key(_join(element.key))])


def place(table: str, name: str) -> bytes:
    """The attributes that say which set is meant; a message of them alone asks for all that it holds."""
    return text(NFTA_SET_ELEM_LIST_TABLE, table) + text(NFTA_SET_ELEM_LIST_SET, name)


def _list(items: Iterable[bytes]) -> bytes:
    return nested(NFTA_SET_ELEM_LIST_ELEMENTS, *(nested(NFTA_LIST_ELEM, item) for item in items))


def read(body: bytes, offset: int) -> Iterator[Stored]:
    """The elements in the attributes of an answer."""
    for _kind, listed in each_attribute(attributes(body, offset).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")):
        found = attributes(listed)
        data = attributes(found.get(NFTA_SET_ELEM_DATA, b""))
        verdict = attributes(data.get(NFTA_DATA_VERDICT, b""))
        yield Stored(
            _data(found, NFTA_SET_ELEM_KEY),
            _data(found, NFTA_SET_ELEM_KEY_END),
            data.get(NFTA_DATA_VALUE, b""),
            _comment(found.get(NFTA_SET_ELEM_USERDATA, b"")),
            string(verdict.get(NFTA_VERDICT_CHAIN)),
        )


def _words(fields: tuple[Field, ...]) -> str:
    return " . ".join(field.words for field in fields)


def _join(fields: tuple[Field, ...], last: bool = False) -> bytes:
    """The fields as the kernel's registers hold them; a field alone keeps its own length."""
    ends = [field.last if last else field.first for field in fields]
    return ends[0] if len(ends) == 1 else b"".join(end + bytes(-len(end) % 4) for end in ends)


def _key(packed: bytes, kind: int = NFTA_SET_ELEM_KEY) -> bytes:
    return nested(kind, attribute(NFTA_DATA_VALUE, packed))


def _jump(chain: str) -> bytes:
    verdict = u32(NFTA_VERDICT_CODE, NFT_JUMP, ">") + text(NFTA_VERDICT_CHAIN, chain)
    return nested(NFTA_SET_ELEM_DATA, nested(NFTA_DATA_VERDICT, verdict))


def _items(element: Element) -> Iterator[bytes]:
    """The attributes of each element that the kernel stores for this one."""
    first, last = _join(element.key), _join(element.key, last=True)
    ranged = element.interval and len(element.key) > 1
    yield (
        _key(first)
        + (_key(last, NFTA_SET_ELEM_KEY_END) if ranged else b"")
        + (_key(_join(element.value), NFTA_SET_ELEM_DATA) if element.value else b"")
        + (_jump(element.jump) if element.jump else b"")
        + (_user_data(element.comment) if element.comment else b"")
    )
    if element.interval and not ranged and last.strip(b"\xff"):  # nothing comes after the highest key
        after = (int.from_bytes(last, "big") + 1).to_bytes(len(last), "big")
        yield u32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END, ">") + _key(after)


def _user_data(comment: str) -> bytes:
    """Type, length, text and its NUL, a byte each for type and length."""
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
