"""Whether a part of a rule holds for a packet: yes, no, or not to be told (None).

    {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@subnets4"}}

What is asked for on the left is looked up in the packet; the right is a value, a prefix, a range, a set of them, or the
name of a set of the table. Source: libnftables-json(5).
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cni_plugins.spec.ip import bracketed

_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132}
_TARGETS = ("MASQUERADE", "DNAT", "SNAT", "REDIRECT", "DROP", "REJECT")  # of iptables, by what nft calls them
UNKNOWN = object()  # what is asked for, and cannot be told


@dataclass(frozen=True)
class Packet:
    """The first packet of a flow. `local` says that its destination is an address of the namespace that it is in;
    `mark` is None where a rule may have set it, or not."""

    source: str
    destination: str
    protocol: str
    port: int = 0
    arriving: str = ""
    leaving: str = ""
    local: bool = False
    dnat: bool = False
    mark: int | None = 0
    mac: str = ""

    @property
    def six(self) -> bool:
        """Whether it is IPv6."""
        return ":" in self.destination

    def __str__(self) -> str:
        if not self.port:
            return f"{self.protocol} {self.source} → {self.destination}"
        return f"{self.protocol} {self.source} → {bracketed(self.destination)}:{self.port}"


def _untold(_packet: Packet) -> object:
    return UNKNOWN


# What a packet has, by the words that nft asks for it with.
_FACTS: dict[tuple[str, str], Callable[[Packet], Any]] = {
    ("ip", "saddr"): lambda packet: packet.source,
    ("ip", "daddr"): lambda packet: packet.destination,
    ("ip", "protocol"): lambda packet: packet.protocol,
    ("ip6", "saddr"): lambda packet: packet.source,
    ("ip6", "daddr"): lambda packet: packet.destination,
    ("ip6", "nexthdr"): lambda packet: packet.protocol,
    ("icmp", "type"): lambda _packet: "echo-request",
    ("icmpv6", "type"): lambda _packet: "echo-request",
    ("ether", "saddr"): lambda packet: packet.mac or UNKNOWN,
    ("ether", "type"): lambda packet: "ip6" if packet.six else "ip",
    ("meta", "protocol"): lambda packet: "ip6" if packet.six else "ip",
    ("meta", "nfproto"): lambda packet: "ipv6" if packet.six else "ipv4",
    ("meta", "l4proto"): lambda packet: packet.protocol,
    ("meta", "iif"): lambda packet: packet.arriving,
    ("meta", "oif"): lambda packet: packet.leaving,
    ("meta", "iifname"): lambda packet: packet.arriving,
    ("meta", "oifname"): lambda packet: packet.leaving,
    ("meta", "mark"): lambda packet: UNKNOWN if packet.mark is None else packet.mark,
    ("ct", "state"): lambda _packet: {"new"},
    ("ct", "direction"): lambda _packet: "original",
    ("ct", "status"): lambda packet: {"dnat"} if packet.dnat else {"none"},
}


class Look:
    """Compares one packet with the parts of one rule; `element` is the last entry of a set that was found."""

    def __init__(
        self, packet: Packet, sets: dict[tuple[str, str, str], dict[str, Any]], family: str, table: str
    ) -> None:
        self.packet = packet
        self._sets = sets
        self._table = family, table
        self.element = ""

    def match(self, body: dict[str, Any]) -> bool | None:
        value = self._value(body["left"])
        if value is UNKNOWN:
            return None
        if value is None:
            return False  # the packet has no such thing: the rule is about others
        found = self._within(value, body["right"])
        if found is None:
            return None
        return not found if body["op"] == "!=" else found

    def choose(self, key: Any, data: Any) -> Any:
        """What a map gives for the packet; None when it has nothing."""
        value = self._value(key)
        if value is UNKNOWN or value is None:
            return value
        for entry in self.entries(data):
            left, right = entry if isinstance(entry, list) else (entry, None)
            if self._fits(value, plain(left)):
                self.element = f"{show(plain(left))} : {show(right)}"
                return right
        return None

    def entries(self, data: Any) -> list[Any]:
        if isinstance(data, str) and data.startswith("@"):
            return list(self._sets.get((*self._table, data[1:]), {}).get("elem", []))
        return list(data.get("set", [])) if isinstance(data, dict) else []

    def _within(self, value: Any, right: Any) -> bool | None:
        right = plain(right)
        if (isinstance(right, str) and right.startswith("@")) or (isinstance(right, dict) and "set" in right):
            for entry in self.entries(right):
                if self._fits(value, plain(entry)):
                    self.element = show(plain(entry))
                    return True
            return False
        if isinstance(right, list):
            return any(self._fits(value, item) for item in right)
        return self._fits(value, right)

    def _fits(self, value: Any, wanted: Any) -> bool:
        if isinstance(value, list):
            parts = wanted.get("concat", []) if isinstance(wanted, dict) else []
            return bool(parts) and all(self._fits(one, plain(part)) for one, part in zip(value, parts, strict=False))
        if isinstance(value, set):
            return bool(value & set(wanted)) if isinstance(wanted, list) else wanted in value
        if isinstance(wanted, dict) and "prefix" in wanted:
            net = f"{wanted['prefix']['addr']}/{wanted['prefix']['len']}"
            return _inside(value, net)
        if isinstance(wanted, dict) and "range" in wanted:
            low, high = wanted["range"]
            return bool(_number(low) <= _number(value) <= _number(high)) if _alike(value, low) else False
        if isinstance(wanted, str) and wanted.endswith("*"):
            return str(value).startswith(wanted[:-1])
        if isinstance(wanted, str) and "/" in wanted:
            return _inside(value, wanted)
        return str(_PROTOCOLS.get(str(value), value)) == str(_PROTOCOLS.get(str(wanted), wanted))

    def given(self, wanted: Any) -> Any:
        """What a statement's expression comes to for this packet: None when a map has nothing for it."""
        match wanted:
            case str() | int():
                return wanted
            case {"map": {"key": key, "data": data}}:
                return self.choose(key, data)
            case {"meta": _}:
                return self._value(wanted)
            case {"&": [inner, int(number)]}:
                return _changed(operator.and_, self.given(inner), number)
            case {"|": [inner, int(number)]}:
                return _changed(operator.or_, self.given(inner), number)
            case {"^": [inner, int(number)]}:
                return _changed(operator.xor, self.given(inner), number)
        return UNKNOWN

    def _value(self, left: Any) -> Any:
        """What the packet has where `left` looks; None when such a packet has none."""
        packet = self.packet
        match left:
            case {"payload": {"protocol": ("ip" | "ip6") as protocol}} if (protocol == "ip6") != packet.six:
                return None
            case {"payload": {"protocol": ("icmp" | "icmpv6") as protocol}} if protocol != packet.protocol:
                return None
            case {"payload": {"protocol": protocol, "field": "dport"}}:
                return packet.port or None if protocol in ("th", packet.protocol) else None
            case {"payload": {"protocol": place, "field": field}}:
                return _FACTS.get((place, field), _untold)(packet)
            case {"meta": {"key": key}}:
                return _FACTS.get(("meta", key), _untold)(packet)
            case {"ct": {"key": key}}:
                return _FACTS.get(("ct", key), _untold)(packet)
            case {"fib": {"result": "type", "flags": "daddr" | ["daddr"]}}:
                return "local" if packet.local else "unicast"
            case {"concat": parts}:
                values = [self._value(part) for part in parts]
                if None in values:
                    return None
                return UNKNOWN if UNKNOWN in values else values
            case {"&": [inner, int(mask)]}:
                value = self._value(inner)
                return value & mask if isinstance(value, int) else value if value is None else UNKNOWN
        return UNKNOWN


def foreign(name: str, text: str, packet: Packet) -> bool | None:
    """A match of iptables, which only nft's text spells out."""
    if name == "comment":
        return True
    if name == "addrtype" and "fib daddr type local" in text:
        return packet.local
    if name == "conntrack" and (found := re.search(r"ct state ([a-z,]+)", text)):
        return "new" in found[1].split(",")
    if name in PORTS and (ranges := ports(text)):
        return any(low <= packet.port <= high for low, high in ranges)
    return None


PORTS = ("multiport", "tcp", "udp", "sctp")  # matches of iptables that look at ports


def ports(text: str) -> list[tuple[int, int]]:
    """The destination ports that the text of such a match names: `tcp dport { 70-90, 99 }`."""
    found = re.search(r"dports? (?:\{ ?)?(\d[\d, :-]*)", text)
    items = [re.split("[-:]", item) for item in found[1].replace(" ", "").split(",")] if found else []
    return [(int(item[0]), int(item[-1])) for item in items if item[0]]


def target(name: str, body: Any) -> str:
    """What a part of a rule decides, in nft's words; a target of iptables is told by the name that nft has for it."""
    if name != "xt" or not isinstance(body, dict) or body.get("type") != "target":
        return name
    return str(body["name"]).lower() if body.get("name") in _TARGETS else ""


def show(value: Any) -> str:
    """A value of nft's JSON as nft's text writes it."""
    match value:
        case {"concat": parts}:
            return " . ".join(show(plain(part)) for part in parts)
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [low, high]}:
            return f"{low}-{high}"
        case {"jump": {"target": target}} | {"goto": {"target": target}}:
            return f"jump {target}"
        case dict():
            return next(iter(value), "")
    return str(value)


def plain(entry: Any) -> Any:
    """An element without its comment, time-out and counter."""
    return entry["elem"]["val"] if isinstance(entry, dict) and "elem" in entry else entry


def _inside(value: Any, network: str) -> bool:
    try:
        return ipaddress.ip_address(str(value)) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _changed(how: Callable[[int, int], int], value: Any, number: int) -> Any:
    return how(value, number) if isinstance(value, int) else value


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(ipaddress.ip_address(str(value)))


def _alike(value: Any, other: Any) -> bool:
    return isinstance(value, int) == isinstance(other, int)
