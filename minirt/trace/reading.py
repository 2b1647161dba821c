"""A trace as it is read: runs, their calls, and in each call what went on inside, in the order in which it happened.

    Trace ── Run ── Call ── Step           the plugin changed something
                      │  └─ Call           the plugin called its delegate
                      └─ Answer            none, when the runtime was killed meanwhile

Calls are numbered through the whole file, in the order in which they began: by these numbers a person names them.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cni_plugins.spec import steps
from cni_plugins.spec.jsontext import JsonError, loads
from minirt.cni import words
from minirt.errors import ConfigError, NotFound, because
from minirt.trace import fields
from minirt.trace.fields import Unreadable
from minirt.visible import line as fit
from minirt.visible import visible

STDIN = "-"
MOST = 64 << 20  # bytes of a trace: a thousand containers' lives
_DEEPEST = 16  # delegates of delegates

_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")  # a container's, as minirt, docker and podman make them


@dataclass(frozen=True)
class Step:
    """A change that a plugin made; with `undo` it took that back. `text` is the command that does the same."""

    text: str
    undo: bool

    @property
    def commands(self) -> list[str]:
        return steps.commands(visible(self.text))


@dataclass(frozen=True)
class Answer:
    """How a call ended. `exit` is minus a signal's number, or None; `problem` is empty when all was well."""

    exit: int | None
    stdout: str
    stderr: str
    seconds: float
    problem: str

    @property
    def ok(self) -> bool:
        return self.exit == 0 and not self.problem

    @property
    def document(self) -> Any:
        """What standard output says as JSON; None where that is none."""
        return words.document(self.stdout)

    def said(self, command: str) -> str:
        """The answer to `command` in a few words: addresses, or what went wrong."""
        return words.said(command, self.exit, self.document, self.problem, brief=True)


@dataclass(eq=False)
class Call:
    """One call of a plugin. `by` is the type of the plugin that made it, empty for the runtime's own calls; `inside`
    is what the plugin told of itself, which foreign plugins do not; `left_out` is how much more it told than is
    recorded. What stands in `stdin` and `answer` is as it was; `who`, `asked`, `said` and `on` are fit to be shown."""

    number: int
    time: str
    command: str
    network: str
    plugin: str
    path: str
    env: Mapping[str, str]
    inherited: tuple[str, ...]
    stdin: Mapping[str, Any]
    by: str = ""
    inside: list[Step | Call] = field(default_factory=list)
    answer: Answer | None = None
    left_out: int = 0
    depth: int = 0

    @property
    def ok(self) -> bool:
        return self.answer is not None and self.answer.ok

    @property
    def calls(self) -> Iterator[Call]:
        """This one, and all that it led to."""
        yield self
        for item in self.inside:
            if isinstance(item, Call):
                yield from item.calls

    @property
    def shown(self) -> list[Step | Call]:
        """What a drawing shows of the inside: that a delegate is called, its call says better than the step."""
        called = any(isinstance(item, Call) for item in self.inside)
        shown = [item for item in self.inside if not (called and isinstance(item, Step) and words.is_call(item.text))]
        if self.left_out:
            shown.append(Step(f"# and {self.left_out} more steps and calls, which are not recorded", False))
        return shown

    @property
    def who(self) -> str:
        """The plugin's type."""
        return fit(self.plugin)

    @property
    def on(self) -> str:
        """The network."""
        return fit(self.network)

    @property
    def asked(self) -> str:
        """The call in a few words: `ADD eth0`."""
        return fit(words.asked(self.command, self.env))

    @property
    def said(self) -> str:
        """The answer in a few words: addresses, or what went wrong."""
        return words.NOT_RUN if self.answer is None else visible(self.answer.said(self.command))


@dataclass(frozen=True)
class Run:
    """One process that recorded: `command` is what a person had typed, without its arguments."""

    name: str
    time: str
    command: str
    roots: list[Call] = field(default_factory=list)

    @property
    def clock(self) -> str:
        """When it began, without fractions of a second: `2026-11-24 04:19:11 UTC`."""
        return fit(f"{self.time[:19].replace('T', ' ')} UTC")

    @property
    def typed(self) -> str:
        """The command, fit to be shown."""
        return fit(self.command)


@dataclass(frozen=True)
class Trace:
    """`broken` are the lines that were left out, with the reason: `FILE:3: 'time' is 5, expected …`."""

    source: str
    runs: tuple[Run, ...]
    broken: tuple[str, ...] = ()

    @property
    def roots(self) -> list[Call]:
        """The runtime's own calls."""
        return [call for run in self.runs for call in run.roots]

    @property
    def calls(self) -> list[Call]:
        """All calls, by number."""
        return sorted((call for root in self.roots for call in root.calls), key=lambda call: call.number)

    def call(self, number: int) -> Call:
        """Raises NotFound."""
        calls = self.calls
        for call in calls:
            if call.number == number:
                return call
        has = f"it has 1 to {len(calls)}" if calls else "it has none"
        raise NotFound(f"{self.source}: no call {number}, {has}", f"'minirt cni trace {self.source}' shows them")

    def only(self, number: int) -> Trace:
        """The trace of one call, and what it led to, under its own number. Raises NotFound."""
        call = self.call(number)
        run = next(run for run in self.runs if self.root_of(call) in run.roots)
        return Trace(self.source, (Run(run.name, run.time, run.command, [call]),))

    def root_of(self, wanted: Call) -> Call:
        """The runtime's own call that led to it."""
        return next(root for root in self.roots if wanted in root.calls)


def in_a_note(steps: Sequence[Step], most: int, sign: str = "") -> tuple[list[str], int]:
    """The commands that a drawing's note has room for, a line each, and how many are left out. Where there are too
    many, settings (sysctl) make room for links, addresses and rules."""
    lines = [("undo: " if step.undo else sign) + first_line(line) for step in steps for line in step.commands]
    if len(lines) <= most:
        return lines, 0
    weighty = [line for line in lines if "sysctl -w" not in line]
    kept = (weighty or lines)[:most]
    return kept, len(lines) - len(kept)


def first_line(command: str) -> str:
    """Of a command that has several, for where there is room for one."""
    first, newline, _ = command.partition("\n")
    return f"{first} …" if newline else first


def shortened(text: str) -> str:
    """`text` for a reader, with the ids of containers as short as people know them."""
    return _ID.sub(r"\1…", text)


def read(path: str) -> Trace:
    """The trace at `path`; `-` is standard input. Raises NotFound, ConfigError."""
    try:
        text = _content(path)
    except FileNotFoundError:
        hint = "'minirt run --trace FILE …' and 'minirt cni add --trace FILE …' write one"
        raise NotFound(f"no file {path!r}", hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read it: {because(error)}", where=path) from error
    if len(text) > MOST:
        hint = 'its lines can be had in parts: `tail -n 1000`, behind a first line that says "trace"'
        raise ConfigError(f"longer than {MOST >> 20} MiB, which no trace should be", hint, path)
    return parse(text, "standard input" if path == STDIN else path)


def _content(path: str) -> bytes:
    """A little more than may be read, when there is more. Nobody is waited for, unless it is standard input that is
    asked for. Raises OSError, ConfigError."""
    if path == STDIN:
        with open(0, "rb", closefd=False) as file:
            return file.read(MOST + 1)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise ConfigError("not a regular file", "what comes out of a pipe is read as '-', standard input", path)
        return file.read(MOST + 1)


def parse(text: bytes, source: str = "") -> Trace:
    """Raises ConfigError for what is no trace, or of a format that is not known. Lines that cannot be read otherwise
    are left out, and told by `broken`. The last one may be half a line: somebody is just writing it."""
    reader = _Reader()
    broken = []
    *lines, last = text.split(b"\n")
    for number, line in enumerate([*lines, last], 1):
        if not line.strip():
            continue
        try:
            reader.take(_loaded(line))
        except Unreadable as error:
            where = f"{source}:{number}"
            if error.newer or not reader.runs:
                raise ConfigError(f"not a line of a trace: {error}", "a trace is what --trace writes", where) from None
            if number <= len(lines) or not isinstance(error, _NoJson):
                broken.append(f"{where}: {error}")
    return Trace(source, tuple(reader.runs.values()), tuple(broken))


class _NoJson(Unreadable):
    """The line, or what there is of it, is no JSON."""


def _loaded(line: bytes) -> Any:
    try:
        return loads(line)
    except JsonError as error:
        raise _NoJson(error.problem) from None


class _Reader:
    """Lines in, runs out. Lines of several processes may stand between each other."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self._calls: dict[tuple[str, int], Call] = {}

    def take(self, line: Any) -> None:
        """Raises Unreadable."""
        kind = fields.kind(line)
        name = line["run"]
        if kind == "trace":
            if name in self.runs:
                raise Unreadable(f"the run {name!r} has begun already")
            self.runs[name] = Run(name, line["time"], line["command"])
        elif name not in self.runs:
            raise Unreadable(f"the run {name!r} has not begun")
        elif kind == "call":
            self._begin(name, line)
        elif kind == "step":
            self._known(name, line["call"]).inside.append(Step(line["step"], line["undo"]))
        else:
            call = self._known(name, line["answer"])
            if call.answer is not None:
                raise Unreadable(f"call {line['answer']} is answered twice")
            call.answer = Answer(*map(line.__getitem__, ("exit", "stdout", "stderr", "seconds", "problem")))
            call.left_out = line["left_out"]

    def _known(self, name: str, number: int) -> Call:
        try:
            return self._calls[name, number]
        except KeyError:
            raise Unreadable(f"its call {number} is not there") from None

    def _begin(self, name: str, line: Mapping[str, Any]) -> None:
        if (name, line["call"]) in self._calls:
            raise Unreadable(f"call {line['call']} is there twice")
        caller = self._known(name, line["by"]) if line["by"] else None
        if caller is not None and caller.depth == _DEEPEST:
            raise Unreadable(f"calls stand in each other more than {_DEEPEST} deep")
        said = {key: line[key] for key in ("time", "command", "network", "plugin", "path", "env", "stdin")}
        call = Call(number=len(self._calls) + 1, inherited=tuple(line["inherited"]), **said)
        self._calls[name, line["call"]] = call
        if caller is None:
            self.runs[name].roots.append(call)
        else:
            call.by, call.depth = caller.plugin, caller.depth + 1
            caller.inside.append(call)
