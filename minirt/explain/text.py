"""Items for people: each under the one who did it, commands behind a `$`, in 100 columns.

    runtime
      network minirt, as eth0: /etc/cni/net.d holds no network lists
      $ ip netns add $ID
    runtime → bridge   ADD eth0 on network minirt
        $ ip link add minirt0 address 9e:61:e0:45:de:24 type bridge
        bridge → host-local   ADD eth0 on network minirt
        host-local → bridge   address 10.143.0.2/20 (14 ms)
    bridge → runtime   interface eth0; address 10.143.0.2/20 (58 ms)

A command that is longer is broken as a shell allows, and can be copied as it stands. `full` shows the details too, and
texts of many lines whole; `json` is an item a line.
"""

from __future__ import annotations

import os

from cni_plugins.spec.jsontext import dumps
from minirt.explain.account import ANSWER, CALL, COMMAND, FACT, PROBLEM, Item

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, TextIO

SHORT, FULL, JSON = "short", "full", "json"
FORMATS = (SHORT, FULL, JSON)
WIDTH = 100
_LONG = 32  # characters of an id that is given a name
_STYLES = {"who": "1;36", "command": "1", "why": "2", "problem": "1;31", "result": "32"}


class Text:
    """Writes items to a stream, as `form` says. A stream that is gone loses them, and nothing else."""

    def __init__(self, stream: TextIO, form: str = SHORT, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self._form = form
        self._colours = form != JSON and stream.isatty() and not environ.get("NO_COLOR")
        self._last = ("", -1)
        self._said: set[str] = set()
        self._id = ""

    def write(self, item: Item) -> None:
        lines = [dumps(item.to_json(), indent=0)] if self._form == JSON else [*self._lines(item)]
        try:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()
        except (OSError, ValueError):
            pass

    def _lines(self, item: Item) -> Iterator[str]:
        margin = "    " * item.level
        if item.kind in (CALL, ANSWER, PROBLEM):
            yield from self._crossing(item, margin)
            self._last = ("", -1)
            return
        if self._last != (item.who, item.level) and item.level == 0:
            yield f"{margin}{self._in('who', item.who)}"
        self._last = (item.who, item.level)
        inner = margin + ("  " if item.level == 0 else "")
        if item.kind == FACT:
            yield from wrapped(item.text, inner)
            yield from self._why(item, inner)
            yield from self._name(item.details.get("id", ""), inner)
        else:
            yield from self._why(item, inner)
            yield from self._command(item, inner)

    def _crossing(self, item: Item, margin: str) -> Iterator[str]:
        """A call, or its answer."""
        took = f" ({item.seconds * 1000:.0f} ms)" if item.seconds else ""
        head, tail = f"{item.who} → {item.to}", f"   {item.text}{took}"
        style = "problem" if item.kind == PROBLEM else "result" if item.kind == ANSWER else ""
        first, *rest = wrapped(head + tail, margin)
        if len(head) + len(margin) <= len(first):
            first = f"{margin}{self._in('who', head)}{self._in(style, first[len(margin) + len(head) :])}"
        yield first
        yield from (self._in(style, f"    {line}") for line in rest)
        inner = margin + "    "
        if item.kind == CALL:
            yield from self._why(item, inner)
            yield from self._name(item.details["environment"].get("CNI_CONTAINERID", ""), inner)
            if not item.level or self._form == FULL:
                program, found = item.details.get("program", ""), item.details.get("found", "")
                yield from wrapped(f"program {program} ({found})", inner)
        if self._form == FULL:
            yield from _details(item.details, inner)

    def _name(self, container_id: str, margin: str) -> Iterator[str]:
        """A container's long id is said once, as a variable of the shell's."""
        if len(container_id) > _LONG and container_id != self._id:
            self._id = container_id
            yield self._in("command", f"{margin}$ ID={container_id}")

    def _why(self, item: Item, margin: str) -> Iterator[str]:
        """Once for each reason in a short account: what has been said is known."""
        if not item.why or (self._form == SHORT and item.why in self._said):
            return
        self._said.add(item.why)
        for line in wrapped(f"# {item.why}", margin, "# "):
            yield self._in("why", line)

    def _command(self, item: Item, margin: str) -> Iterator[str]:
        first, *more = with_variable(item.text, self._id).split("\n")
        sign = "$ " if item.kind == COMMAND else "undo: "
        lines = [*broken(first, margin + sign, margin + "    ")]
        if more and self._form == SHORT:
            lines.append(f"{margin}    … {len(more)} more lines, which --explain=full shows")
        elif more:
            lines += more
        yield from (self._in("command", line) for line in lines)

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours and style else text


def _details(details: Mapping[str, Any], margin: str) -> Iterator[str]:
    for name, value in details.items():
        if name in ("program", "found"):
            continue
        if name == "environment":
            for key, text in value.items():
                yield from broken(f"{key}={text}", margin, margin + "    ", ":")
        elif isinstance(value, str):
            yield from wrapped(f"{name}: {value}", margin)
        else:
            yield f"{margin}{name}:"
            for line in dumps(value, indent=2).split("\n"):
                yield from wrapped(line, margin + "  " + " " * (len(line) - len(line.lstrip())))


def with_variable(command: str, container_id: str) -> str:
    """`command` with $ID for the id, also where single quotes keep the shell from looking."""
    if not container_id:
        return command
    head, *parts = command.split(container_id)
    for part in parts:
        name = "${ID}" if part[:1].isalnum() or part[:1] == "_" else "$ID"
        head += (f"'{name}'" if head.count("'") % 2 else name) + part
    return head


def wrapped(text: str, margin: str, again: str = "  ") -> list[str]:
    """Words in lines; one that is longer than a line stays whole."""
    lines = [margin]
    for word in text.strip().split(" "):
        if len(lines[-1]) + len(word) > WIDTH and lines[-1].strip():
            lines.append(margin + again)
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


def broken(command: str, first: str, margin: str, at: str = " ") -> Iterator[str]:
    """A command in lines that end in a backslash, for the shell to put together again."""
    rest, head = command, first
    while len(head) + len(rest) > WIDTH:
        cut = _cut(rest, WIDTH - len(head) - 2, at)
        if cut <= 0:
            break
        yield f"{head}{rest[:cut].rstrip()}{' ' if at == ' ' else ''}\\"
        rest, head = rest[cut:].lstrip(" "), margin
    yield f"{head}{rest}"


def _cut(text: str, room: int, at: str) -> int:
    """Where `text` can be broken so that the first part has `room`: behind an `at` that no quotes surround."""
    best, quoted = -1, False
    for index, char in enumerate(text):
        if char == "'":
            quoted = not quoted
        if char == at and not quoted:
            if index + 1 <= room:
                best = index + 1
            elif best < 0:
                return index + 1
    return best
