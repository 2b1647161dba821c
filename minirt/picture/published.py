"""The ports that rules publish: every dnat, whether by an element of a map or in a rule of its own.

    tcp dport { 81, 82 } dnat to 10.0.0.2:80                                   two ports
    dnat ip to meta l4proto . th dport map @published                          one for each element of the map

A rule says in its matches, and a map in its keys, which packets it is for. Each is a list of cases, and a port is
published for every combination of them that contradicts itself nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from minirt.picture import matching
from minirt.picture.matching import PORTS, Look, Packet, plain, show
from minirt.picture.model import Port
from minirt.picture.ruleset import Rule, Ruleset
from minirt.picture.translation import DNAT, Translation

# What a case says of packets: their protocol, address, and first and last port, as far as it does.
Case = dict[str, Any]


def published(rules: Ruleset) -> list[Port]:
    """All of them, each once."""
    found: dict[Port, None] = {}
    for group in rules.rules.values():
        for rule in group:
            if rule.translation and rule.translation.kind == DNAT:
                found |= dict.fromkeys(_of(rules, rule, rule.translation))
    return list(found)


def _of(rules: Ruleset, rule: Rule, to: Translation) -> Iterator[Port]:
    look = Look(Packet("", "", ""), rules.sets, rule.family, rule.table)
    matches = [cases for part in rule.parts if (cases := _cases(part, rule.text, look))]
    outcomes = product(_outcomes(to.address, look), _outcomes(to.port, look))
    for conditions, ((where, address), (there, port)) in product(product(*matches), outcomes):
        case = _together([*conditions, where, there])
        if case is None or "port" not in case or "protocol" not in case:
            continue  # it contradicts itself, or is no port
        if isinstance(address, dict) and "concat" in address:
            address, port = address["concat"]
        low, high = case["port"]
        inner = port if isinstance(port, int) else low
        until = high if high > low else 0
        yield Port(case["protocol"], case.get("address", ""), low, show(address or ""), inner, until=until)


def _outcomes(wanted: Any, look: Look) -> list[tuple[Case, Any]]:
    """What a dnat's address or port may come to, each with the case that it does in."""
    if isinstance(wanted, dict) and "map" in wanted:
        key, data = wanted["map"].get("key"), wanted["map"].get("data")
        pairs = (entry for entry in look.entries(data) if isinstance(entry, list))
        return [(_case(key, plain(left)), right) for left, right in pairs]
    return [({}, wanted)]


def _cases(part: dict[str, Any], text: str, look: Look) -> list[Case]:
    """The cases in which a part of a rule holds; none where it says nothing of ports, addresses and protocols."""
    ((name, body),) = part.items()
    if name == "xt" and body.get("type") == "match" and body.get("name") in PORTS:
        return [{"port": item} for item in matching.ports(text)]
    if name != "match" or body.get("op") not in ("==", "in"):
        return []
    right = plain(body["right"])
    named = isinstance(right, str) and right.startswith("@")
    values = look.entries(right) if named or (isinstance(right, dict) and "set" in right) else [right]
    return [case for value in values if (case := _case(body["left"], plain(value)))]


def _case(left: Any, value: Any) -> Case:
    """What it says of a packet that it has `value` where `left` looks."""
    match left, value:
        case {"concat": lefts}, {"concat": values}:
            parts = [_case(one, plain(other)) for one, other in zip(lefts, values, strict=False)]
            return _together(parts) or {}
        case {"payload": {"protocol": protocol, "field": "dport"}}, _:
            port = tuple(value["range"]) if isinstance(value, dict) and "range" in value else (value, value)
            return {"port": port} if protocol == "th" else {"port": port, "protocol": protocol}
        case {"payload": {"protocol": "ip" | "ip6", "field": "daddr"}}, _:
            return {"address": show(value)}
        case {"meta": {"key": "l4proto"}} | {"payload": {"field": "protocol" | "nexthdr"}}, _:
            return {"protocol": show(value)}
    return {}


def _together(cases: list[Case]) -> Case | None:
    """All that the cases say; None when they contradict each other."""
    whole: Case = {}
    for case in cases:
        for key, value in case.items():
            known: Any = whole.setdefault(key, value)
            if key == "port":
                whole[key] = low, high = max(known[0], value[0]), min(known[1], value[1])
                if low > high:
                    return None
            elif known != value:
                return None
    return whole
