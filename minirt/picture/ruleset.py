"""The rules of nftables in one namespace, and which of them a given packet would meet.

nft's JSON says what a rule does, its text how a person reads it; both know the rule by its handle. What a program has
written through iptables stands there as well, in parts that JSON does not spell out ("xt"): the text does, and is read
for those few that plugins use. A part that is not understood is neither true nor false: its rule is told as one that
may match, and changes nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from typing import Any

from minirt.picture import matching
from minirt.picture.matching import Packet
from minirt.picture.model import Port

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_HANDLE = re.compile(r"^(.*?)\s*# handle (\d+)$")
_DNAT = re.compile(r"dnat (?:ip6? )?to \[?([0-9a-fA-F.:]+?)\]?(?::(\d+))?$")
_SNAT = re.compile(r"snat (?:ip6? )?to \[?([0-9a-fA-F.:]+?)\]?$")
_MARK = re.compile(r"meta mark set (?:(?:meta )?mark (or|\|) )?(0x[0-9a-f]+)")
_AT_DEVICES = re.compile(r"\s*type \w+ hook \w+ devices? (?:= \{)?([^;{}]*?)(?:\} )?priority")
_REDIRECT = re.compile(r"redirect to :(\d+)$")
_TRIES = 20
_FINAL = ("accept", "drop", "reject", "return")
_NAT = ("masquerade", "snat", "dnat", "redirect")
_AT_TIMES = ("limit", "quota", "ct count")  # hold for some packets and not for others
_TARGETS = ("MASQUERADE", "DNAT", "SNAT", "REDIRECT", "DROP", "REJECT")  # of iptables, by what nft calls them


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule. `text` is nft's own, `packets` what its counter shows, -1 where it has none."""

    family: str
    table: str
    chain: str
    handle: int
    parts: tuple[dict[str, Any], ...]
    text: str

    @property
    def packets(self) -> int:
        for part in self.parts:
            if isinstance(part.get("counter"), dict):
                return int(part["counter"]["packets"])
        return -1

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.chain}"


@dataclass(frozen=True)
class Chain:
    """A base chain: the kernel calls it at `hook`, of `devices` alone where the hook is a device's."""

    family: str
    table: str
    name: str
    hook: str
    kind: str
    priority: int
    policy: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hit:
    """A rule that matches the packet. `certain` is False where a part of it is not understood; `verdict` is what it
    decides, empty where it goes on; `element` is the entry of a set or map that made it match."""

    rule: Rule
    verdict: str
    element: str = ""
    certain: bool = True


@dataclass
class Passage:
    """What one hook does to a packet: the rules met, and the packet as it leaves; `dropped` says by which rule."""

    packet: Packet
    hits: list[Hit] = field(default_factory=list)
    dropped: str = ""


class Ruleset:
    """All tables of the namespace that this process is in, as they are now; `problem` says why none could be read."""

    def __init__(self, document: list[dict[str, Any]], text: str, problem: str = "") -> None:
        self.problem = problem
        lines, devices = _lines(text), _devices(text)
        self.sets: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.chains: list[Chain] = []
        self.rules: dict[tuple[str, str, str], list[Rule]] = {}
        for item in document:
            ((kind, body),) = item.items()
            if kind in ("set", "map"):
                self.sets[body["family"], body["table"], body["name"]] = body
            elif kind == "chain" and "hook" in body:
                place = body["family"], body["table"], body["name"]
                self.chains.append(_chain(body, devices.get(place, ())))
            elif kind == "rule":
                key = body["family"], body["table"], body["chain"]
                text = lines.get((body["family"], body["table"], body["handle"]), "")
                rule = Rule(*key, body["handle"], tuple(part for part in body["expr"] if isinstance(part, dict)), text)
                self.rules.setdefault(key, []).append(rule)
        self.chains.sort(key=lambda chain: chain.priority)

    def at(self, hook: str, packet: Packet, layer: str = "ip", device: str = "") -> Passage:
        """`packet` at a hook of the kernel: prerouting, input, forward, output, postrouting of IP's or, with the layer
        `bridge`, of a bridge; ingress and egress of `device`."""
        passage = Passage(packet)
        families = ("bridge",) if layer == "bridge" else ("inet", "ip6" if ":" in packet.destination else "ip")
        families = ("netdev", "inet") if device else families
        translated = False
        for chain in self.chains:
            if chain.hook != hook or chain.family not in families or passage.dropped:
                continue
            if device and device not in chain.devices:
                continue
            if chain.kind == "nat" and translated:
                continue  # the first translation decides
            verdict = self._walk((chain.family, chain.table, chain.name), passage)
            translated = translated or verdict in _NAT
            if verdict in ("drop", "reject"):
                passage.dropped = passage.hits[-1].rule.place
            elif verdict in ("", "return") and chain.policy == "drop":
                passage.dropped = f"the policy of {chain.family} {chain.table} {chain.name}"
        return passage

    def _walk(self, key: tuple[str, str, str], passage: Passage, depth: int = 0, certain: bool = True) -> str:
        """One chain; its verdict, empty when it comes to its end. `certain` says that the packet does come there."""
        for rule in self.rules.get(key, ()) if depth < 16 else ():
            verdict, target = self._try(rule, passage, certain)
            if target:
                sure = certain and passage.hits[-1].certain
                ended = self._walk((*key[:2], target), passage, depth + 1, sure)
                if verdict == "goto" and sure:
                    return "" if ended == "return" else ended
                verdict = "" if ended == "return" else ended
            if verdict:
                return verdict
        return ""

    def _try(self, rule: Rule, passage: Passage, certain: bool) -> tuple[str, str]:
        """One rule; its verdict, and the chain that it goes on in."""
        element = ""
        look = matching.Look(passage.packet, self.sets, rule.family, rule.table)
        for part in rule.parts:
            ((name, body),) = part.items()
            found: bool | None = True  # whatever counts, logs or decides is no match
            if name == "match":
                found = look.match(body)
            elif name == "xt" and body.get("type") == "match":
                found = matching.foreign(body.get("name", ""), rule.text, passage.packet)
            elif name in _AT_TIMES:
                found = None
            if found is False:
                return "", ""
            certain = certain and found is not None
            element = look.element or element
        return self._act(rule, passage, look, certain, element)

    def _act(self, rule: Rule, passage: Passage, look: matching.Look, certain: bool, element: str) -> tuple[str, str]:
        """What a rule whose matches hold does."""
        if certain and (found := _MARK.search(rule.text)):
            mark = passage.packet.mark if found[1] else 0
            passage.packet = replace(passage.packet, mark=mark | int(found[2], 16))
        for part in rule.parts:
            ((name, body),) = part.items()
            if name == "vmap":
                chosen = look.choose(body.get("key"), body.get("data"))
                if chosen is None:
                    return "", ""
                name, body = next(iter(chosen.items())) if isinstance(chosen, dict) else (str(chosen), None)
                element = look.element or element
            target = body.get("name", "") if name == "xt" and body.get("type") == "target" else ""
            verdict = target.lower() if target in _TARGETS else name
            if verdict == "dnat":
                to = _translation(rule, body, look)
                if to is None:
                    return "", ""
                element = look.element or element
                if certain:
                    passage.packet = replace(
                        passage.packet, destination=to[0], port=to[1] or passage.packet.port, dnat=True
                    )
            if verdict in (*_FINAL, *_NAT):
                passage.hits.append(Hit(rule, verdict, element, certain))
                return (verdict if certain else ""), ""
            if verdict in ("jump", "goto"):
                passage.hits.append(Hit(rule, "", element, certain))
                return verdict, body["target"]
        return "", ""


def _translation(rule: Rule, body: Any, look: matching.Look) -> tuple[str, int] | None:
    """Where a dnat sends the packet; None when its map has nothing for it."""
    if isinstance(body, dict) and "addr" in body:
        address = body["addr"]
        if isinstance(address, dict) and "map" in address:
            chosen = look.choose(address["map"].get("key"), address["map"].get("data"))
            if chosen is None:
                return None
            values = chosen["concat"] if isinstance(chosen, dict) and "concat" in chosen else [chosen]
            return str(values[0]), int(values[1]) if len(values) > 1 else 0
        port = body.get("port")
        return str(address), port if isinstance(port, int) else 0
    found = _DNAT.search(rule.text)
    return (found[1], int(found[2] or 0)) if found else None


def given_port(rule: Rule) -> int:
    """The port that a redirect names; 0 when it keeps the packet's."""
    found = _REDIRECT.search(rule.text)
    return int(found[1]) if found else 0


def given_source(rule: Rule) -> str:
    """The address that a snat names; empty for a masquerade."""
    found = _SNAT.search(rule.text)
    return found[1] if found else ""


def _chain(body: dict[str, Any], devices: tuple[str, ...]) -> Chain:
    priority = body.get("prio", 0)
    number = priority if isinstance(priority, int) else _PRIORITIES.get(str(priority), 0)
    place = body["family"], body["table"], body["name"]
    return Chain(*place, body["hook"], body["type"], number, body.get("policy", "accept"), devices)


def _devices(text: str) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Of chains at a device's hook, which devices; nft's JSON has told that only since 1.0.8."""
    found = {}
    table, chain = ("", ""), ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = words[1], words[2]
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif match := _AT_DEVICES.match(line):
            found[*table, chain] = tuple(re.findall(r"[^\s\",]+", match[1]))
    return found


def _lines(text: str) -> dict[tuple[str, str, int], str]:
    """nft's text of every rule, by family, table and handle."""
    found = {}
    table = ("", "")
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = words[1], words[2]
        elif match := _HANDLE.match(line):
            found[*table, int(match[2])] = " ".join(match[1].split())
    return found


def read() -> Ruleset:
    """The rules of the namespace that this process is in."""
    try:
        items, text = objects("list", "ruleset"), _nft("-a", "list", "ruleset")
    except (OSError, subprocess.SubprocessError) as error:
        return Ruleset([], "", f"the rules of nftables cannot be read, and none are shown: {error}")
    return Ruleset(items, text)


def objects(*words: str) -> list[dict[str, Any]]:
    """What nft lists, as the objects of its JSON. When rules change while it reads, it begins anew and prints both:
    then it is asked again. Raises OSError, subprocess.SubprocessError."""
    for _ in range(_TRIES):
        document = _nft("-j", *words)
        try:
            return [item for item in json.loads(document)["nftables"] if "metainfo" not in item]
        except json.JSONDecodeError:
            continue
    raise subprocess.SubprocessError("they change faster than nft can read them")


def program() -> str:
    """The path of nft; root's own folders are looked through as well. Raises FileNotFoundError."""
    found = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError("there is no nft (package nftables)")
    return found


def _nft(*words: str) -> str:
    env = os.environ | {"LC_ALL": "C.UTF-8"}
    command = (program(), *words)
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=30, check=True)  # noqa: S603
    return done.stdout


# --- published ports --------------------------------------------------------------------------------------------------

_DPORT = re.compile(r"(tcp|udp|sctp) dport (\d+)")
_DADDR = re.compile(r"ip6? daddr ([0-9a-fA-F.:]+)(?: |$)")


def published(rules: Ruleset) -> list[Port]:
    """Every port that a dnat publishes: an element of a map, or a rule of its own."""
    found = []
    for group in rules.rules.values():
        for rule in group:
            for part in rule.parts:
                ((name, body),) = part.items()
                address = body.get("addr") if name == "dnat" and isinstance(body, dict) else None
                if isinstance(address, dict) and "map" in address:
                    found += _of_map(rules, rule, address["map"].get("data"))
                elif name == "dnat" or (name == "xt" and body.get("name") == "DNAT"):
                    found += _of_rule(rule)
    return list(dict.fromkeys(found))


def _of_map(rules: Ruleset, rule: Rule, data: Any) -> list[Port]:
    look = matching.Look(Packet("", "", ""), rules.sets, rule.family, rule.table)
    found = []
    for entry in look.entries(data):
        key, value = (matching.plain(entry[0]), entry[1]) if isinstance(entry, list) else (None, None)
        if not (isinstance(key, dict) and isinstance(value, dict) and "concat" in key and "concat" in value):
            continue
        *address, protocol, number = key["concat"]
        target, inner = value["concat"]
        name = str(data).lstrip("@")
        text = f"{rule.family} {rule.table} {name} {{ {matching.show(key)} : {matching.show(value)} }}"
        found.append(Port(str(protocol), str(address[0]) if address else "", int(number), target, int(inner), text))
    return found


def _of_rule(rule: Rule) -> list[Port]:
    port, to, at = _DPORT.search(rule.text), _DNAT.search(rule.text), _DADDR.search(rule.text)
    if not port or not to:
        return []
    inner = int(to[2] or port[2])
    return [Port(port[1], at[1] if at else "", int(port[2]), to[1], inner, f"{rule.place}: {rule.text}")]
