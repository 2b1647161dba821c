"""A trace as a tree in 100 columns: who called whom, what they changed, what they answered, how long it took.

    minirt run, 2026-11-24 04:19:11 UTC
    ├─ 1 bridge  ADD eth0 on lab: 10.1.0.2/24                                                   5.1 ms
    │  ├─ 2 host-local  ADD eth0: 10.1.0.2/24                                                   1.2 ms
    │  └─ $ ip link add cni0 type bridge
    └─ 3 portmap  ADD eth0 on lab: error 7: no such thing                                       1.0 ms

`full` adds to each call what went over the wire: environment, standard input, standard output, standard error.
"""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from cni_plugins.spec.jsontext import dumps
from minirt.cni import words
from minirt.terminal import WIDTH
from minirt.trace.reading import Call, Run, Step, Trace, shortened
from minirt.visible import line as fit
from minirt.visible import visible

_STYLES = {"who": "1;36", "said": "32", "problem": "1;31", "quiet": "2"}


class Tree:
    """Lines for a terminal; `colours` only where somebody sees them."""

    def __init__(self, full: bool = False, colours: bool = False) -> None:
        self._full = full
        self._colours = colours

    def draw(self, trace: Trace) -> str:
        if not trace.roots:
            return self._in("quiet", f"no call is recorded in {fit(trace.source)}")
        return "\n".join(line for run in trace.runs for line in self._run(run))

    def _run(self, run: Run) -> Iterator[str]:
        yield f"{self._in('who', run.typed)}, {run.clock}"
        for call, (branch, stem) in _branches(run.roots):
            yield from self._call(call, branch, stem)

    def _call(self, call: Call, branch: str, stem: str) -> Iterator[str]:
        yield from self._head(call, branch, stem)
        below = call.shown
        if self._full:
            bar = "│  " if below else "   "
            yield from (f"{stem}{bar}{line}" for line in self._wire(call, WIDTH - len(stem) - 3))
        for item, (inner_branch, inner_stem) in _branches([*_each(below)]):
            if isinstance(item, Call):
                yield from self._call(item, stem + inner_branch, stem + inner_stem)
            else:
                undo, command = item
                yield from self._command(undo, command, stem + inner_branch, stem + inner_stem)

    def _head(self, call: Call, branch: str, stem: str) -> Iterator[str]:
        who = f"{call.number} {call.who}"
        network = f" on {call.on}" if call.network and not call.by else ""
        took = milliseconds(call.answer.seconds) if call.answer else ""
        prefix = f"{branch}{who}  {call.asked}{network}: "
        text = wrap(
            call.said, WIDTH - len(took) - 2, initial_indent="x" * len(prefix), subsequent_indent="x" * (len(stem) + 3)
        )
        style = "said" if call.ok else "problem"
        first = text[0][len(prefix) :]
        gap = " " * (WIDTH - len(prefix) - len(first) - len(took))
        call_text = f"{call.asked}{network}"
        yield f"{branch}{self._in('who', who)}  {call_text}: {self._in(style, first)}{gap}{took}".rstrip()
        more = "│  " if call.shown or self._full else "   "
        for line in text[1:]:
            yield f"{stem}{more}{self._in(style, line[len(stem) + 3 :])}"

    def _command(self, undo: bool, command: str, branch: str, stem: str) -> Iterator[str]:
        first, *more = (command if self._full else shortened(command)).split("\n")
        sign = "undo: " if undo else "$ "
        lines = fitted(first, WIDTH - len(branch) - len(sign), "    ")
        yield f"{branch}{sign}{lines[0]}"
        yield from (f"{stem}  {line}" for line in lines[1:])
        if more and not self._full:
            count = f"… {len(more)} more line{'' if len(more) == 1 else 's'}, which --full shows"
            yield f"{stem}    {self._in('quiet', count)}"
        elif more:
            yield from (f"{stem}    {part}" for line in more for part in fitted(line, WIDTH - len(stem) - 4))

    def _wire(self, call: Call, width: int) -> Iterator[str]:
        for title, text in _sections(call):
            yield self._in("quiet", title)
            for line in visible(text).splitlines():
                indent = " " * (len(line) - len(line.lstrip()))
                yield from (f"  {indent}{part}" for part in fitted(line.strip(), width - 2 - len(indent)))

    def _in(self, style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colours and text else text


def _each(items: list[Step | Call]) -> Iterator[Call | tuple[bool, str]]:
    """Calls, and the commands of steps, which may have several; with True where one takes back."""
    for item in items:
        if isinstance(item, Call):
            yield item
        else:
            yield from ((item.undo, command) for command in item.commands)


def _branches(items: list[Any]) -> Iterator[tuple[Any, tuple[str, str]]]:
    for number, item in enumerate(items, 1):
        yield item, (("├─ ", "│  ") if number < len(items) else ("└─ ", "   "))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def fitted(text: str, width: int, hang: str = "  ") -> list[str]:
    """`text` in lines; what has no space to be broken at is broken anywhere."""
    return wrap(text, max(width, 20), subsequent_indent=hang, break_on_hyphens=False) or [""]


def _sections(call: Call) -> Iterator[tuple[str, str]]:
    """What went over the wire, under its headings."""
    yield "program", call.path
    yield "environment", "\n".join(f"{key}={text}" for key, text in call.env.items())
    if call.inherited:
        yield "inherited, their values not recorded", " ".join(call.inherited)
    yield "standard input", dumps(dict(call.stdin), indent=2)
    if call.answer is None:
        return
    document = call.answer.document
    stdout = call.answer.stdout.strip() if document is None else dumps(document, indent=2)
    for title, text in (("standard output", stdout), ("standard error", call.answer.stderr)):
        if text.strip():
            yield title, text
    code = call.answer.exit
    yield "exit", f"{'none: ' if code is None else ''}{words.ended(code)}"
