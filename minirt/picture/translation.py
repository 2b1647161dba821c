"""What a rule puts in the place of a packet's addresses: masquerade, snat, dnat, redirect.

    {"dnat": {"addr": "10.0.0.2", "port": 80}}
    {"dnat": {"addr": {"map": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@published"}}}}

nft's JSON says it (libnftables-json(5)). Of what iptables wrote, that says no more than the target's name
(`{"xt": {"type": "target", "name": "DNAT"}}`): for those alone nft's text is read, which ends in the target.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minirt.picture import matching
from minirt.picture.matching import UNKNOWN, Look

MASQUERADE, SNAT, DNAT, REDIRECT = KINDS = ("masquerade", "snat", "dnat", "redirect")
_TARGET = re.compile(r"(?:masquerade|snat|dnat|redirect)(?: to (\S+))?(?: (?:fully-)?random| persistent)*$")


@dataclass(frozen=True)
class Translation:
    """`address` and `port` are as nft has them: a value, a range, or a map that chooses by the packet; None where the
    rule leaves them to the kernel, or as they are. `family`: ip or ip6, where it is for that alone."""

    kind: str
    address: Any = None
    port: Any = None
    family: str = ""

    def of(self, look: Look) -> tuple[str, int] | object | None:
        """Address and port for the packet that is looked at, empty and 0 where none is said; None when a map has none
        for it, and the rule does not match; UNKNOWN when that cannot be told."""
        if self.family and (self.family == "ip6") != look.packet.six:
            return None
        target = None if self.kind in (MASQUERADE, SNAT) else self.port  # a source's port is nobody's way
        address, port = (look.given(item) if item is not None else "" for item in (self.address, target))
        if address is None or port is None:
            return None
        if isinstance(address, dict) and "concat" in address:
            address, port = address["concat"]
        known = isinstance(address, str) and "/" not in address and (port == "" or isinstance(port, int))
        return (address, port or 0) if known else UNKNOWN


def read(parts: Sequence[dict[str, Any]], text: str) -> Translation | None:
    """That of a rule, if it has one."""
    for part in parts:
        ((name, body),) = part.items()
        if name in KINDS:
            return Translation(name, **{key: body[word] for key, word in _WORDS if body and word in body})
        target = matching.target(name, body)
        if target in KINDS and (found := _TARGET.search(text)):
            return Translation(target, *_written(found[1] or ""))
    return None


_WORDS = (("address", "addr"), ("port", "port"), ("family", "family"))


def _written(text: str) -> tuple[Any, Any]:
    """Address and port out of nft's text: `10.0.0.2:80`, `[fd00::2]:80`, `:80`, `fd00::2`, `10.0.0.2-10.0.0.9`."""
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, ""
    return _value(address) or None, int(port) if port.isdigit() else _value(port) or None


def _value(text: str) -> Any:
    return {"range": text.split("-", 1)} if "-" in text else text
