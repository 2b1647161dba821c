"""Recorded calls run again, perhaps by another program: for whoever changes a plugin, and asks what that changes.

A call is given what it was given then: the variables of the contract and the same standard input; what a plugin
inherits otherwise is the present environment. Before the call that is asked for, the runtime's earlier ones are run
again, by the programs that were recorded: a DEL needs something to delete. They all happen on a `stage`. What is drawn
at random there (hardware addresses, names of links) takes the place of what was recorded in the calls that follow, and
the other way round in answers.

With `here` there is no stage: the one call is made on this host, in the namespace that was recorded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from minirt.cni import call as calls
from minirt.cni.call import Answered, Calling
from minirt.cni.executor import Executor
from minirt.cni.locks import Locks
from minirt.cni.netns import alive
from minirt.errors import ConfigError, NotFound, PluginError, UsageError
from minirt.terminal import WIDTH
from minirt.trace import differences
from minirt.trace.differences import Difference
from minirt.trace.reading import Answer, Call, Trace
from minirt.trace.stage import STORE, Stage
from minirt.trace.tree import fitted, milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cni.call import Watch

_LINKS = "/run/replay/plugins"  # on the stage: the changed plugin under the name by which others call it
_NEED_NETNS = ("ADD", "CHECK")


@dataclass(frozen=True)
class Wish:
    """What is to be run again: call number `step`, or all of the runtime's own where that is 0; by the program at
    `plugin`, or those that were recorded where that is empty."""

    step: int = 0
    plugin: str = ""
    here: bool = False


@dataclass(frozen=True)
class Replayed:
    """One call that was run again. `staged` says that it only set the stage."""

    call: Call
    path: str
    now: Answer
    found: list[Difference]
    staged: bool

    @property
    def same(self) -> bool:
        return all(difference.chance for difference in self.found)


class Replay:
    """Runs calls of `trace` again. `watch` is told of them. Raises NotFound, UsageError before anything is run."""

    def __init__(
        self, trace: Trace, wish: Wish, timeout: float, plain: bool = False, watch: Watch | None = None
    ) -> None:
        self._trace = trace
        self._wish = wish
        self._timeout = timeout
        self._plain = plain
        self._watch = watch
        self._wanted = [trace.call(wish.step)] if wish.step else trace.roots
        self._changed = self._changed_type()
        self._drawn: dict[str, str] = {}
        self._spaces: dict[str, str] = {}
        self._stores: dict[str, str] = {}

    def _changed_type(self) -> str:
        """The type that the changed program is of; empty without one."""
        path = self._wish.plugin
        if not path:
            return ""
        if not os.path.isfile(path):
            raise NotFound(f"no program {path!r}", "--plugin names the program to run in place of the recorded one")
        if not os.access(path, os.X_OK):
            raise UsageError(f"{path!r} cannot be executed", f"`chmod +x {names.quoted(path)}`")
        name = os.path.basename(path)
        if self._wish.step:
            return self._type_of(self._wanted[0])
        called = dict.fromkeys(call.who for call in self._trace.calls)
        if name not in called:
            hint = f"it has calls of {', '.join(called)}; --step N says which one the program is for"
            raise UsageError(f"the trace has no call of {name!r}", hint)
        return name

    def _type_of(self, call: Call) -> str:
        """It becomes the name of a file."""
        try:
            return names.plugin_type(call.plugin)
        except CniError as error:
            raise ConfigError(f"call {call.number}: {error}", where=self._trace.source) from None

    def run(self) -> Iterator[Replayed]:
        """Each call, once it has been made. Raises NotFound, KernelRefused; a plugin that fails is an answer too."""
        if self._wish.here:
            yield from self._here()
            return
        first = self._trace.root_of(self._wanted[0]) if self._wanted else None
        roots = self._trace.roots
        before = roots[: roots.index(first)] if first is not None else []
        stage = Stage([*before, *self._wanted], self._folders())
        self._spaces, self._stores = stage.spaces, stage.stores
        self._drawn = {old: new for old, new in stage.spaces.items() if old.startswith("/")}  # others are any word
        if self._changed:
            os.makedirs(_LINKS, exist_ok=True)
            os.symlink(os.path.abspath(self._wish.plugin), f"{_LINKS}/{self._changed}")
        for each in before:
            stage.prepare(each)
            yield self._again(each, each.path, staged=True)
        for each in self._wanted:
            stage.prepare(each)
            yield self._again(each, self._program(each), _LINKS if self._changed else "")

    def _folders(self) -> Iterator[str]:
        """Where programs lie that may be called."""
        for call in self._trace.calls:
            yield os.path.dirname(call.path)
            yield from filter(None, call.env.get("CNI_PATH", "").split(":"))
        if self._wish.plugin:
            yield os.path.dirname(os.path.abspath(self._wish.plugin))

    def _program(self, call: Call) -> str:
        return os.path.abspath(self._wish.plugin) if self._changed == call.plugin else call.path

    def _here(self) -> Iterator[Replayed]:
        if not self._wish.step:
            raise UsageError("--here needs --step N", "on this host one call is made at a time")
        (call,) = self._wanted
        netns = call.env.get("CNI_NETNS", "")
        if call.command in _NEED_NETNS and not alive(netns):
            hint = f"`ip netns add {os.path.basename(netns)}` makes one; without --here the replay has its own"
            raise NotFound(f"no network namespace at {netns!r}", hint)
        locks = Locks()
        with locks.container(call.env.get("CNI_CONTAINERID", "")), locks.network(call.network, call.command == "GC"):
            yield self._again(call, self._program(call))

    def _again(self, call: Call, path: str, first: str = "", staged: bool = False) -> Replayed:
        if not os.path.isfile(path):
            raise NotFound(f"call {call.number}: no program {path!r} any more", "--plugin PATH names another")
        if call.command != "VERSION" and not isinstance(call.stdin.get("cniVersion"), str):
            raise ConfigError(f"call {call.number}: no version in its configuration", where=self._trace.source)
        env = names.inherited(os.environ)
        env |= {key: self._drawn.get(text, text) for key, text in call.env.items() if key not in names.OURS}
        if netns := call.env.get("CNI_NETNS"):
            env["CNI_NETNS"] = self._spaces.get(netns, netns)
        if first:
            env["CNI_PATH"] = ":".join(filter(None, (first, env.get("CNI_PATH", ""))))
        config = _swapped(dict(call.stdin), self._drawn, self._stores)
        folders = [folder for folder in env.get("CNI_PATH", "").split(":") if folder]
        calling = Calling(call.command, call.network, call.plugin, path, env, config)
        now = self._make(calling, Executor(folders, self._plain))
        recorded = call.answer or Answer(None, "", "", 0, "")
        found = differences.between(call.command, recorded, self._as_recorded(now))
        if call.command == "ADD":
            self._drawn |= {_text(item.before): _text(item.now) for item in found if item.chance}
        return Replayed(call, path, now, found, staged)

    def _make(self, calling: Calling, executor: Executor) -> Answer:
        answers: list[Answered] = []

        def watch(event: calls.Event) -> None:
            if isinstance(event, Answered) and not event.call.by:
                answers.append(event)

        heard = watch if self._watch is None else calls.both(self._watch, watch)
        try:
            if calling.command == "VERSION":
                calls.ask_versions(calling, executor, self._timeout, heard)
            else:
                calls.make(calling, executor, self._timeout, (), heard, calls.TOLD)
        except PluginError:
            pass  # it is in the answer
        (answer,) = answers
        stdout, stderr = (text.decode(errors="backslashreplace") for text in (answer.stdout, answer.stderr))
        return Answer(answer.exit, stdout, stderr, answer.seconds, answer.problem)

    def _as_recorded(self, now: Answer) -> Answer:
        """The answer in the words of then."""
        stdout, stderr = now.stdout, now.stderr
        for old, new in (*self._spaces.items(), *self._stores.items(), *self._drawn.items()):
            stdout, stderr = stdout.replace(new, old), stderr.replace(new, old)
        return replace(now, stdout=stdout, stderr=stderr)


def _text(told: str) -> str:
    """A string of JSON without its quotes: names of links and hardware addresses need no escapes."""
    return told.strip('"')


def _swapped(value: Any, words: Mapping[str, str], stores: Mapping[str, str]) -> Any:
    """A document with strings in the place of others: `words` anywhere, `stores` where a folder is named."""
    if isinstance(value, dict):
        return {key: _swapped(item, stores if key == STORE else words, stores) for key, item in value.items()}
    if isinstance(value, list):
        return [_swapped(item, words, stores) for item in value]
    return words.get(value, value) if isinstance(value, str) else value


def report(replayed: Replayed) -> Iterator[str]:
    """A replayed call for a person."""
    call = replayed.call
    took = f"{milliseconds(call.answer.seconds)}, now " if call.answer else "now "
    verdict = "same" if replayed.same else "differs"
    yield f"{call.number} {call.who}  {call.asked}: {verdict} ({took}{milliseconds(replayed.now.seconds)})"
    for line in differences.lines(replayed.found):
        parts = fitted(line, WIDTH - 4) if len(line) > WIDTH - 4 else [line]
        yield from (f"    {part}" for part in parts)
