"""What came out otherwise: two answers of a plugin compared, key by key where they are JSON.

Two runs of one plugin differ in what is drawn at random: hardware addresses, and the names that many plugins give to
their end of a veth pair. Such differences are told apart.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cni_plugins.spec.jsontext import dumps
from minirt.cni import words
from minirt.trace.reading import Answer
from minirt.visible import visible

_ABSENT = object()
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_VETH = re.compile(r"veth[0-9a-f]+")


@dataclass(frozen=True)
class Difference:
    """Something that differs. `place` is `exit`, `answer`, `stderr`, `stdout`, or `result` with the path of a key;
    `before` and `now` are what was recorded and what came out, as text; with `chance` both are drawn at random."""

    place: str
    before: str
    now: str
    chance: bool = False


def between(command: str, before: Answer, now: Answer) -> list[Difference]:
    """All differences of two answers to `command`, but the time that it took."""
    found = []
    if before.exit != now.exit:
        found.append(Difference("exit", words.ended(before.exit), words.ended(now.exit)))
    old, new = before.document, now.document
    said = before.said(command), now.said(command)
    if before.ok is not now.ok or (None in (before.exit, now.exit) and said[0] != said[1]):
        found.append(Difference("answer", *said))
    if (before.exit == 0) is not (now.exit == 0):
        pass  # a result has no key of an error in common
    elif isinstance(old, dict) and isinstance(new, dict):
        found += _values("result ", old, new)
    elif before.stdout.strip() != now.stdout.strip():
        found.append(Difference("stdout", before.stdout, now.stdout))
    if before.stderr != now.stderr:
        found.append(Difference("stderr", before.stderr, now.stderr))
    return found


def _values(place: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from _values(f"{place}.{key}", old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            yield from _values(f"{place}[{index}]", _item(old, index), _item(new, index))
    elif old is _ABSENT or new is _ABSENT or type(old) is not type(new) or old != new:
        yield Difference(place, _told(old), _told(new), _by_chance(place, old, new))


def _item(items: list[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _told(value: Any) -> str:
    return "absent" if value is _ABSENT else dumps(value, indent=0)


def _by_chance(place: str, old: Any, new: Any) -> bool:
    if "interfaces" not in place or not isinstance(old, str) or not isinstance(new, str):
        return False
    kind = _MAC if place.endswith(".mac") else _VETH if place.endswith(".name") else None
    return kind is not None and bool(kind.fullmatch(old) and kind.fullmatch(new))


def lines(found: list[Difference]) -> Iterator[str]:
    """The differences for a person: those by chance in one line."""
    for difference in found:
        if difference.chance:
            continue
        if "\n" in difference.before.strip() + difference.now.strip() or difference.place in ("stderr", "stdout"):
            yield f"{difference.place}:"
            yield from _texts(difference.before, difference.now)
        else:
            yield visible(f"{difference.place}: {difference.before}, now {difference.now}")
    drawn = [difference.place.removeprefix("result ") for difference in found if difference.chance]
    if drawn:
        yield f"left aside, drawn anew each time: {', '.join(drawn)}"


def _texts(before: str, now: str) -> Iterator[str]:
    for line in difflib.ndiff(visible(before).splitlines(), visible(now).splitlines()):
        if not line.startswith("?"):
            yield f"  {line}".rstrip()
