"""Items for people: each under the one who did it, commands behind a `$`, in 100 columns.

    runtime
      network minirt, as eth0: /etc/cni/net.d holds no network lists
      $ ip netns add $ID
    runtime → bridge   ADD eth0 on network minirt
        bridge → host-local   ADD eth0 on network minirt
        bridge, meanwhile
        $ ip link add minirt0 address 9e:61:e0:45:de:24 type bridge
        host-local → bridge   address 10.143.0.2/20 (14 ms)
        $ ip -n $ID addr add 10.143.0.2/20 dev eth0 brd +
    bridge → runtime   interface eth0; address 10.143.0.2/20 (58 ms)

A command that is longer is broken as a shell allows, and can be copied as it stands. `full` shows the details too, and
texts of many lines whole; `json` is an item a line.
"""

from __future__ import annotations

import os
import sys

from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.names import unfinished, unquoted
from minirt.explain.account import ANSWER, CALL, FACT, PROBLEM, UNDO, Item
from minirt.terminal import WIDTH, coloured
from minirt.visible import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, TextIO

SHORT, FULL, JSON = "short", "full", "json"
FORMATS = (SHORT, FULL, JSON)
_TOGETHER = "\u00a0"  # a space at which no line is broken
_LONG = 32  # characters of an id that is given a name
_STYLES = {"who": "1;36", "command": "1", "why": "2", "problem": "1;31", "result": "32"}


class Text:
    """Writes items to a stream, as `form` says. A stream that is gone loses them, and nothing else."""

    def __init__(self, stream: TextIO, form: str = SHORT, environ: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self._form = form
        self._colours = form != JSON and coloured(stream, environ)
        self._speaker = ""  # who the lines are of that follow, unless it is said
        self._said = {""}
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
            self._speaker = item.to if item.level or item.kind == CALL else ""
            return
        if item.who != self._speaker:
            yield f"{margin}{self._in('who', item.who)}{', meanwhile' if item.level else ''}"
        self._speaker = item.who
        inner = margin + ("" if item.level else "  ")
        if item.kind == FACT:
            yield from wrapped(visible(item.text), inner)
            yield from self._why(item, inner)
            yield from self._name(item.details.get("id", ""), inner)
        else:
            yield from self._why(item, inner)
            yield from self._command(item, inner)

    def _crossing(self, item: Item, margin: str) -> Iterator[str]:
        """A call, or its answer."""
        took = f" ({item.seconds * 1000:.0f}{_TOGETHER}ms)" if item.seconds else ""
        head, tail = f"{item.who} → {item.to}", f"   {visible(item.text)}{took}"
        style = "problem" if item.kind == PROBLEM else "result" if item.kind == ANSWER else ""
        first, *rest = (line.replace(_TOGETHER, " ") for line in wrapped(head + tail, margin))
        if len(head) + len(margin) <= len(first):
            first = f"{margin}{self._in('who', head)}{self._in(style, first[len(margin) + len(head) :])}"
        yield first
        yield from (self._in(style, f"    {line}") for line in rest)
        inner = margin + "    "
        if item.kind == CALL:
            yield from self._why(item, inner)
            yield from self._name(item.details["environment"].get("CNI_CONTAINERID", ""), inner)
            if not item.level or self._form == FULL:
                yield from self._where(item.details, inner)
        if self._form == FULL:
            yield from map(visible, _details(item.details, inner))

    def _where(self, details: Mapping[str, Any], margin: str) -> Iterator[str]:
        """Where the network's list was read, once, and the program found."""
        source = details.get("list", "")
        if source not in self._said:
            self._said.add(source)
            yield from wrapped(f"list: {source}", margin)
        yield from wrapped(f"program: {details.get('program')} ({details.get('found')})", margin)

    def _name(self, container_id: str, margin: str) -> Iterator[str]:
        """A container's long id is said once, as a variable of the shell's."""
        if len(container_id) > _LONG and container_id != self._id:
            self._id = container_id
            yield self._in("command", f"{margin}$ export ID={container_id}")

    def _why(self, item: Item, margin: str) -> Iterator[str]:
        """Once for each reason in a short account: what has been said is known."""
        if not item.why or (self._form == SHORT and item.why in self._said):
            return
        self._said.add(item.why)
        for line in wrapped(f"# {item.why}", margin, "# "):
            yield self._in("why", line)

    def _command(self, item: Item, margin: str) -> Iterator[str]:
        first, *more = with_variable(visible(item.text), self._id).split("\n")
        sign = "undo: " if item.kind == UNDO else "$ "
        if more and self._form == SHORT:
            count = f"{len(more)} more line{'' if len(more) == 1 else 's'}: --explain=full"
            lines = [f"{margin}{sign}{first} …'   {count}"]
        else:
            lines = [*broken(first, margin + sign, margin + "    ")]
        if self._form == FULL and _is_nft(first):
            inner = margin + "    "
            more = [part for line in more for part in broken(line.expandtabs(4), inner, inner + "    ", quoted=True)]
        if self._form == FULL:
            lines += more  # of a word that is not for nft a margin would be a part
        yield from (self._in("command", line) for line in lines)

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours and style else text


def _details(details: Mapping[str, Any], margin: str) -> Iterator[str]:
    for name, value in details.items():
        if name in ("program", "found", "list"):
            continue
        if name == "environment":
            for key, text in value.items():
                yield from wrapped(f"{key}={text}", margin, "    ", ":")
        elif isinstance(value, str):
            yield from wrapped(f"{name}: {value}", margin)
        else:
            yield f"{margin}{name}:"
            for line in dumps(value, indent=2).split("\n"):
                yield from wrapped(line, margin + "  " + " " * (len(line) - len(line.lstrip())))


def with_variable(command: str, container_id: str) -> str:
    """`command` with $ID for the id, also where single quotes keep the shell from looking."""
    if not container_id or container_id not in command:
        return command
    head, *parts = command.split(container_id)
    for part in parts:
        name = "${ID}" if part[:1].isalnum() or part[:1] == "_" else "$ID"
        head += (f"'{name}'" if unfinished(head) else name) + part
    return head


def wrapped(text: str, margin: str, again: str = "  ", at: str = " ") -> list[str]:
    """Words, or what else `at` divides, in lines; one that is longer than a line stays whole."""
    text = text.strip()
    if len(margin) + len(text) <= WIDTH:
        return [margin + text]
    lines = [margin]
    for word in text.split(at):
        if len(lines[-1]) + len(word) > WIDTH and lines[-1].strip():
            lines.append(margin + again)
        lines[-1] += f"{word}{at}"
    return [line.rstrip() for line in (*lines[:-1], lines[-1][: -len(at)])]


def broken(command: str, first: str, margin: str, quoted: bool = False) -> Iterator[str]:
    """A command in lines that end in a backslash, for the shell to put together again, or, inside of the quotes of a
    text for it (`quoted` when it begins there), for nft. A word that is a list continues at the very left."""
    if len(first) + len(command) <= WIDTH:
        yield first + command
        return
    cuts = [*_cuts(command, quoted)]
    head, start = first, 0
    while len(head) + len(command) - start > WIDTH:
        room = start + WIDTH - len(head) - 1
        place, within = _best([cut for cut in cuts if cut[0] > start], room)
        if not command[place:]:
            break
        yield f"{head}{command[start:place]}\\"
        head, start = ("" if within else margin), place
    yield f"{head}{command[start:]}"


def _is_nft(command: str) -> bool:
    """Whether its quotes hold a text for nft, to which white space is nothing."""
    return command.partition("'")[0].endswith("nft ")


def _best(cuts: list[tuple[int, bool]], room: int) -> tuple[int, bool]:
    """The last that fits, a space rather than a comma; or the first, where none fits; or the very end."""
    fit = [cut for cut in cuts if cut[0] <= room]
    spaces = [cut for cut in fit if not cut[1]]
    return (spaces or fit or cuts[:1] or [(sys.maxsize, False)])[-1]


def _cuts(command: str, quoted: bool) -> Iterator[tuple[int, bool]]:
    """Behind which characters a command can be broken, and whether that is within a word, of which it is a comma."""
    nft, named = quoted or _is_nft(command), False
    for place, (char, inside) in enumerate(unquoted(command, quoted), 1):
        if char == '"' and inside:
            named = not named
        elif char == " " and not named and (nft or not inside):
            yield place, False
        elif char == "," and not inside:
            yield place, True
