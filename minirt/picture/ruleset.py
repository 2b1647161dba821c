"""The rules of nftables in one namespace, and which of them a given packet would meet.

nft's JSON says what a rule does, its text how a person reads it; both know the rule by its handle. What a program has
written through iptables stands there as well, in parts that JSON does not spell out ("xt"): for those few that plugins
use, and for nothing else, the text is read. A part that is not understood is neither true nor false: its rule is told
as one that may match, and changes nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from typing import Any

from minirt.picture import matching, translation
from minirt.picture.matching import UNKNOWN, Packet
from minirt.picture.translation import Translation

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_HANDLE = re.compile(r"^(.*?)\s*# handle (\d+)$")
_XT_MARK = re.compile(r"meta mark set (?:mark (and|or|xor) )?(0x[0-9a-f]+)$")
_SIGNS = {"and": "&", "or": "|", "xor": "^"}
_AT_DEVICES = re.compile(r"\s*type \w+ hook \w+ devices? (?:= \{)?([^;{}]*?)(?:\} )?priority")
_TRIES = 20
_FINAL = ("accept", "drop", "reject", "return")
_AT_TIMES = ("limit", "quota", "ct count")  # hold for some packets and not for others


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule. `text` is nft's own; `translation` what it puts in the place of addresses, if it does."""

    family: str
    table: str
    chain: str
    handle: int
    parts: tuple[dict[str, Any], ...]
    text: str
    translation: Translation | None = None

    @property
    def packets(self) -> int:
        """What its counter shows; -1 where it has none."""
        for part in self.parts:
            if isinstance(part.get("counter"), dict):
                return int(part["counter"]["packets"])
        return -1

    @property
    def deed(self) -> tuple[dict[str, Any], ...]:
        """What it does, whatever it has counted."""
        return tuple(part for part in self.parts if "counter" not in part)

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
    decides, empty where it goes on; `element` is the entry of a set or map that made it match. Where it translates, and
    says to what, that is `address` and `port`."""

    rule: Rule
    verdict: str
    element: str = ""
    certain: bool = True
    address: str = ""
    port: int = 0


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
                parts = tuple(_filled(part) for part in body["expr"] if isinstance(part, dict))
                rule = Rule(*key, body["handle"], parts, text, translation.read(parts, text))
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
            translated = translated or verdict in translation.KINDS
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
        for part in rule.parts:
            ((name, body),) = part.items()
            if name == "vmap":
                chosen = look.choose(body.get("key"), body.get("data"))
                if chosen is None:
                    return "", ""
                if chosen is UNKNOWN:
                    passage.hits.append(Hit(rule, name, element, False))
                    return "", ""
                name, body = next(iter(chosen.items())) if isinstance(chosen, dict) else (str(chosen), None)
                element = look.element or element
            if (mark := _marked(name, body, rule.text, look)) is not None:
                sure = certain and isinstance(mark, int)
                passage.packet = replace(passage.packet, mark=mark if sure else None)
            verdict = matching.target(name, body)
            if verdict in translation.KINDS:
                return _translate(rule, passage, look, certain, element), ""
            if verdict in _FINAL:
                passage.hits.append(Hit(rule, verdict, element, certain))
                return (verdict if certain else ""), ""
            if verdict in ("jump", "goto"):
                passage.hits.append(Hit(rule, "", element, certain))
                return verdict, body["target"]
        return "", ""


def _translate(rule: Rule, passage: Passage, look: matching.Look, certain: bool, element: str) -> str:
    """A rule that translates; its verdict. A dnat is seen by the rules behind it, the others change the packet when it
    has passed the hook."""
    to = rule.translation.of(look) if rule.translation else UNKNOWN
    if to is None or rule.translation is None:
        return ""
    certain = certain and to is not UNKNOWN
    address, port = to if isinstance(to, tuple) else ("", 0)
    kind = rule.translation.kind
    passage.hits.append(Hit(rule, kind, look.element or element, certain, address, port))
    if certain and kind == translation.DNAT:
        packet = passage.packet
        passage.packet = replace(packet, destination=address or packet.destination, port=port or packet.port, dnat=True)
    return kind if certain else ""


def _marked(name: str, body: Any, text: str, look: matching.Look) -> Any:
    """The packet's mark as this part of a rule sets it: UNKNOWN where that cannot be told, None when it sets none."""
    if name == "mangle" and body.get("key") == {"meta": {"key": "mark"}}:
        mark = look.given(body.get("value"))
        return UNKNOWN if mark is None else mark
    if name == "xt" and body.get("name") == "MARK" and (found := _XT_MARK.search(text)):
        number = int(found[2], 16)
        return look.given({_SIGNS[found[1]]: [{"meta": {"key": "mark"}}, number]} if found[1] else number)
    return None


def _filled(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a rule, with an empty body where nft has nothing to say of it: {"masquerade": null}."""
    return {name: {} if body is None else body for name, body in part.items()}


def _chain(body: dict[str, Any], devices: tuple[str, ...]) -> Chain:
    priority = body.get("prio", 0)
    number = priority if isinstance(priority, int) else _PRIORITIES.get(str(priority), 0)
    place = body["family"], body["table"], body["name"]
    return Chain(*place, body["hook"], body["type"], number, body.get("policy", "accept"), devices)


def _devices(text: str) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Of chains at a device's hook, which devices; nft's JSON has told that only since 1.0.8."""
    found = {}
    table, chain = ("", ""), ""
    for line in text.split("\n"):
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
    for line in text.split("\n"):
        words = line.split()
        if words[:1] == ["table"]:
            table = words[1], words[2]
        elif match := _HANDLE.match(line):
            found[*table, int(match[2])] = " ".join(match[1].split())
    return found


def read() -> Ruleset:
    """The rules of the namespace that this process is in."""
    try:
        items, text = objects("list", "ruleset"), listed("-a", "list", "ruleset")
    except (OSError, subprocess.SubprocessError) as error:
        return Ruleset([], "", f"the rules of nftables cannot be read, and none are shown: {error}")
    return Ruleset(items, text)


def objects(*words: str) -> list[dict[str, Any]]:
    """What nft lists, as the objects of its JSON. When rules change while it reads, it begins anew and prints both:
    then it is asked again. Raises OSError, subprocess.SubprocessError."""
    for _ in range(_TRIES):
        document = listed("-j", *words)
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


def listed(*words: str) -> str:
    """What nft prints. Raises OSError, subprocess.SubprocessError."""
    env = os.environ | {"LC_ALL": "C.UTF-8"}
    command = (program(), *words)
    done = subprocess.run(command, capture_output=True, env=env, timeout=30, check=True)  # noqa: S603
    return os.fsdecode(done.stdout)  # the kernel takes any bytes for a name
