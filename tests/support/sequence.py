"""A sequence diagram as mermaid's own grammar reads it (its sequenceDiagram.jison), no further than our drawings need.

    diagram = parse(text)       AssertionError for what mermaid would refuse, or take for something else
    diagram.messages            [Message("runtime", "p1", "->>", "1 ADD eth0"), …]

Every actor is declared, a text ends with its line, `#` begins an entity and nothing else, and who was activated (`+`)
is deactivated (`-`) by its own message, the last one first.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

_ENTITY = re.compile(r"#([a-z]+|[0-9]+);")
_MESSAGE = re.compile(r"(\w+)(-->>|->>|--x|-x)([+-]?)(\w+): (.+)")
_PARTICIPANT = re.compile(r"participant (\w+) as (.+)")
_NOTE = re.compile(r"Note over (\w+)(?:,(\w+))?: (.+)")


@dataclass(frozen=True)
class Message:
    sender: str
    receiver: str
    arrow: str
    text: str


@dataclass
class Diagram:
    """`actors` maps ids to names, `notes` are pairs of an actor and lines of text."""

    actors: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    notes: list[tuple[str, list[str]]] = field(default_factory=list)


def parse(source: str) -> Diagram:
    first, *lines = source.split("\n")
    assert first == "sequenceDiagram"
    diagram, active = Diagram(), list[str]()
    for line in lines:
        assert line.startswith("    "), line
        _take(diagram, line.strip(), active)
    assert active == [], "still active at the end"
    return diagram


def _take(diagram: Diagram, line: str, active: list[str]) -> None:
    if match := _PARTICIPANT.fullmatch(line):
        assert match[1] not in diagram.actors and not diagram.messages
        diagram.actors[match[1]] = _text(match[2])
    elif match := _NOTE.fullmatch(line):
        assert {match[1], match[2] or match[1]} <= set(diagram.actors)
        diagram.notes.append((match[1], _text(match[3]).split("<br/>")))
    else:
        match = _MESSAGE.fullmatch(line)
        assert match, f"no line of a sequence diagram: {line}"
        assert {match[1], match[4]} <= set(diagram.actors)
        if match[3] == "+":
            active.append(match[4])
        elif match[3] == "-":
            assert active.pop() == match[1]
        diagram.messages.append(Message(match[1], match[4], match[2], _text(match[5])))


def _text(raw: str) -> str:
    """What a reader sees."""
    rest = _ENTITY.sub("", raw)
    assert not set(rest) & set("#;"), f"the text would end early: {raw}"
    assert not set(rest.replace("<br/>", "")) & set("<>"), f"markup: {raw}"

    def character(match: re.Match[str]) -> str:
        return html.unescape(f"&#{match[1]};" if match[1].isdigit() else f"&{match[1]};")

    return _ENTITY.sub(character, raw)
