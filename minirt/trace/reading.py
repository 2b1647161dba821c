"""A trace as it is read: runs, their calls, and in each call what went on inside, in the order in which it happened.

    Trace ── Run ── Call ── Step           the plugin changed something
                      │  └─ Call           the plugin called its delegate
                      └─ Answer            none, when the runtime was killed meanwhile

Calls are numbered through the whole file, in the order in which they began: by these numbers a person names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cni_plugins.spec import steps
from cni_plugins.spec.jsontext import JsonError, loads
from minirt.cni import words
from minirt.errors import ConfigError, NotFound, UsageError, because
from minirt.visible import visible

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
    def document(self) -> Any:
        """What standard output says as JSON; None where that is none."""
        return words.document(self.stdout)

    def said(self, command: str) -> str:
        """The answer to `command` in a few words: addresses, or what went wrong."""
        return words.said(command, self.exit, self.document, self.problem, brief=True)


@dataclass(eq=False)
class Call:
    """One call of a plugin. `by` is the type of the plugin that made it, empty for the runtime's own calls; `inside`
    is what the plugin told of itself, which foreign plugins do not."""

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

    @property
    def ok(self) -> bool:
        return self.answer is not None and self.answer.exit == 0 and not self.answer.problem

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
        return [item for item in self.inside if not (called and isinstance(item, Step) and words.is_call(item.text))]

    @property
    def asked(self) -> str:
        """The call in a few words: `ADD eth0`."""
        return words.asked(self.command, self.env)

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
        """When it began, without fractions of a second: `2026-11-24 04:19:11`, UTC."""
        return self.time[:19].replace("T", " ")


@dataclass(frozen=True)
class Trace:
    source: str
    runs: tuple[Run, ...]

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


def shortened(text: str) -> str:
    """`text` for a reader, with the ids of containers as short as people know them."""
    return _ID.sub(r"\1…", text)


def number(text: str, said_by: str) -> int:
    """The number of a call on a command line. Raises UsageError."""
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 9):
        raise UsageError(f"{said_by}: invalid number {text!r}", "calls are numbered from 1")
    return int(text)


def read(path: str) -> Trace:
    """The trace at `path`; `-` is standard input. Raises NotFound, ConfigError."""
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            text = file.read()
    except FileNotFoundError:
        hint = "'minirt run --trace FILE …' and 'minirt cni add --trace FILE …' write one"
        raise NotFound(f"no file {path!r}", hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read it: {because(error)}", where=path) from error
    return parse(text, path)


def parse(text: bytes, source: str = "") -> Trace:
    """Raises ConfigError. The last line may be half of one: somebody is just writing it."""
    reader = _Reader()
    lines = text.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            reader.take(loads(line))
        except (JsonError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            problem = "not a line of a trace" + (f": {error.problem}" if isinstance(error, JsonError) else "")
            raise ConfigError(problem, "a trace is what --trace writes", f"{source}:{number}") from None
    return Trace(source, tuple(reader.runs.values()))


class _Reader:
    """Lines in, runs out. Lines of several processes may stand between each other."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self._calls: dict[tuple[str, int], Call] = {}

    def take(self, line: Mapping[str, Any]) -> None:
        name = line["run"]
        if "trace" in line:
            self.runs[name] = Run(name, line["time"], line["command"])
        elif "answer" in line:
            call = self._calls[name, line["answer"]]
            call.answer = Answer(*map(line.__getitem__, ("exit", "stdout", "stderr", "seconds", "problem")))
        elif "step" in line:
            self._calls[name, line["call"]].inside.append(Step(line["step"], line["undo"]))
        else:
            self._begin(name, line)

    def _begin(self, name: str, line: Mapping[str, Any]) -> None:
        said = {key: line[key] for key in ("time", "command", "network", "plugin", "path", "env", "stdin")}
        call = Call(number=len(self._calls) + 1, inherited=tuple(line["inherited"]), **said)
        self._calls[name, line["call"]] = call
        caller = self._calls.get((name, line["by"]))
        if caller is None:
            self.runs[name].roots.append(call)
        else:
            call.by = caller.plugin
            caller.inside.append(call)
