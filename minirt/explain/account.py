"""An account of what happens: events in, items out, in the order in which things happen.

    level 0   runtime          facts, commands; calls of plugins, and their answers
    level 1     bridge         commands; calls of delegates, and their answers
    level 2       host-local   commands
    level 0   process 1        commands

The commands are what the steps say of themselves; nothing is known here of what a plugin does. An item is given to
`write` at once. Commands of a step are given to `pause` instead, when there is one: the step waits until it returns.
"""

from __future__ import annotations

import os

from cni_plugins.spec.names import parameters
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step, Undoing, commands
from minirt.cni import executor, words
from minirt.cni.cache import ROOT
from minirt.cni.call import STOPPED, TOLD, Answered, Calling
from minirt.cni.inside import Stepping
from minirt.explain import glossary
from minirt.explain.beside import Beside
from minirt.namespaces import NETNS_DIR
from minirt.signals import name_of, signal
from minirt.supervise import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from minirt.explain.foreign import Snapshot
    from minirt.networks import Selection
    from minirt.state import Record

    Pause: TypeAlias = Callable[[list["Item"], str, int], None]  # of a step; network namespace, process

_NOTHING: Mapping[str, Any] = {}
_EVER = float("inf")
RUNTIME = "runtime"
FACT, COMMAND, UNDO, CALL, ANSWER, PROBLEM = "fact", "command", "undo", "call", "answer", "problem"


@record
class Item:
    """One thing that happens. `who` does it, `to` is the other side of a call or an answer; `details` are for those
    who want to know all."""

    kind: str
    who: str
    text: str
    level: int = 0
    to: str = ""
    why: str = ""
    seconds: float = 0.0
    details: Mapping[str, Any] = _NOTHING

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if value or key == "level"}


class Account:
    """What is told of one command of a person. `fds` are the descriptors that it writes to."""

    def __init__(self, write: Callable[[Item], None], pause: Pause | None = None, fds: tuple[int, ...] = ()) -> None:
        self._write = write
        self._pause = pause
        self._plugins: list[str] = []
        self._before: dict[str, Snapshot] = {}
        self._busy: set[str] = set()  # plugins that have changed something, or asked another, in their call
        self._last = ""  # the kind of the last step
        self._failed = False  # whether an ADD of the runtime's has
        self._down = False  # whether a container is taken down, which nobody can refuse
        self.fds = fds
        self.netns = ""

    @property
    def stops(self) -> bool:
        return self._pause is not None

    @property
    def steps(self) -> str:
        """What this wants to hear of plugins' own steps, for `Cni`."""
        return STOPPED if self.stops else TOLD

    def show(self, items: Iterable[Item]) -> None:
        """What somebody else has told."""
        for item in items:
            self._write(item)

    def ask(self, items: list[Item], netns: str, pid: int) -> None:
        """The same, of a step that waits until this returns."""
        if self._pause is not None:
            self._pause(items, netns, pid)

    # --- the runtime's own -------------------------------------------------------------------------------------------

    def fact(self, text: str, who: str = RUNTIME, level: int = 0, **details: Any) -> None:
        """Among `details`: `id` and `name` of a container; `waits`, where the command then waits for a process."""
        self._write(Item(FACT, who, text, level, details=details))

    def begins(self, record: Record, selection: Selection) -> None:
        """A container is about to be made."""
        self._down = False
        self.netns = record.netns or f"{NETNS_DIR}/{record.id}"
        self.fact(f"a container called {record.name}", id=record.id, name=record.name)
        for attachment, reason in zip(selection.attachments, selection.reasons, strict=True):
            self.fact(f"network {attachment.network.name}, as {attachment.ifname}: {reason}")
        if not selection.attachments:
            self.fact(f"no network of its own to join: --network {record.spec.network_mode}")

    def connected(self, record: Record) -> None:
        """Its networks are joined, and what came of it is written down."""
        if record.attached:
            self.fact(f"the results go into {ROOT}/results, for DEL and CHECK")
            self.fact("and into the container's /etc/hosts and /etc/resolv.conf")

    def starts(self, record: Record) -> None:
        """Its workload is about to start."""
        self.fact(f"all is there: process 1 becomes {' '.join(record.spec.args)}", waits=True)

    def joins(self, record: Record) -> None:
        """A process is about to be started in a container that is there."""
        self.netns = record.netns
        self.fact(f"one more process in the container {record.name}", id=record.id, waits=True)

    def ends(self, record: Record, number: int, grace: float) -> None:
        """A container is about to be stopped by a signal."""
        more = f"; SIGKILL, if it has not ended in {grace:g} s" if number != signal.SIGKILL and grace < _EVER else ""
        self.netns = record.netns
        self.fact(f"{name_of(number)} to process {record.pid}, its process 1{more}", id=record.id)

    def goes_down(self) -> None:
        """A container is taken down."""
        self._down = True

    def step(self, step: Step) -> None:
        """For a plan of the runtime's: it is about to be done, or undone."""
        kind = UNDO if isinstance(step, Undoing) else COMMAND
        self._command(kind, RUNTIME, step.describe(), 0)

    def beside(self, who: str, birth: str) -> Beside:
        """The ear for what a process of the container tells. It has been born, by the command `birth`, when it is
        heard: nobody is asked whether it may be."""
        born = _items(COMMAND, who, birth, 0)
        return Beside(self.stops, lambda: self.show(born), lambda text, pid: self._command(COMMAND, who, text, 0, pid))

    def _command(self, kind: str, who: str, text: str, level: int, pid: int = 0, asks: bool = True) -> None:
        """A step; where it is a process of the container's that makes it, `pid` is that."""
        if kind == UNDO and self._last == COMMAND:
            self.fact("it failed: what was done until then is taken back", who, level)
        self._last = kind
        items = _items(kind, who, text, level)
        if self._pause is None or not asks or not items:
            return self.show(items)
        try:
            self._pause(items, self.netns, pid)
        except (KeyboardInterrupt, Interrupted):
            if not self._down:
                raise
            self.fact("it is taken down all the same")

    # --- plugins -----------------------------------------------------------------------------------------------------

    def event(self, event: Calling | Answered | Stepping) -> None:
        """For `Cni(watch=)`. No run fails, and no taking down stops, because somebody listens."""
        try:
            self._event(event)
        except Exception as error:
            self.fact(f"this cannot be told: {error!r}")

    def _event(self, event: Calling | Answered | Stepping) -> None:
        match event:
            case Calling():
                self._calling(event)
            case Answered():
                self._answered(event)
            case Stepping(text=text) if words.is_call(text):
                pass  # the call that follows says so itself
            case Stepping(plugin=plugin, text=text, undo=undo, asks=asks):
                self._busy.add(plugin)
                self._command(UNDO if undo else COMMAND, plugin, text, self._level(plugin), asks=asks)

    def _level(self, plugin: str) -> int:
        return self._plugins.index(plugin) + 1 if plugin in self._plugins else len(self._plugins)

    def _calling(self, call: Calling) -> None:
        self.netns = call.env.get("CNI_NETNS", "") or self.netns
        text = words.asked(call.command, call.env) + (f" on network {call.network}" if call.network else "")
        env = parameters(call.env)
        details = {"program": call.path, "found": _found(call), "list": call.source, "environment": env}
        details["configuration"] = dict(call.config)
        verbs = glossary.DELEGATES if call.by else glossary.VERBS
        why = verbs.get(call.command, "")
        if self._failed and call.command == "DEL" and not call.by:
            why = glossary.AFTER_FAILURE
        self._write(Item(CALL, call.by or RUNTIME, text, len(self._plugins), call.plugin, why, details=details))
        self._plugins.append(call.plugin)
        self._busy.discard(call.plugin)
        self._busy.add(call.by)
        if not call.by and not executor.is_ours(call.path) and call.command in ("ADD", "DEL", "GC"):
            from minirt.explain.foreign import Snapshot  # for plugins that tell nothing themselves

            self._before[call.plugin] = Snapshot.take(self.netns)

    def _answered(self, answer: Answered) -> None:
        call = answer.call
        before = self._before.pop(call.plugin, None)
        level = self._level(call.plugin)
        if before is not None:
            self.fact("not one of minirt's: what it changed is seen from outside", call.plugin, level)
            for line in before.changes(before.take(self.netns)):
                self.fact(line, call.plugin, level)
        elif answer.exit == 0 and not (call.by or call.plugin in self._busy) and call.command in ("ADD", "DEL", "GC"):
            self.fact("nothing has to be changed", call.plugin, level)
        if call.plugin in self._plugins:
            self._plugins.remove(call.plugin)
        kind = PROBLEM if answer.problem or answer.exit != 0 else ANSWER
        self._failed = kind == PROBLEM and call.command == "ADD" if not call.by else self._failed
        result = words.document(answer.stdout)
        text = words.said(call.command, answer.exit, result, answer.problem)
        if result is None:
            result = answer.stdout.decode(errors="replace")
        details = {"result": result, "log": answer.stderr.decode(errors="replace").strip()}
        details = {key: value for key, value in details.items() if value}
        to = call.by or RUNTIME
        self._write(Item(kind, call.plugin, text, level - 1, to, seconds=answer.seconds, details=details))


def _items(kind: str, who: str, text: str, level: int) -> list[Item]:
    """Each command of a step."""
    return [Item(kind, who, line, level, why=glossary.why(line)) for line in commands(text)]


def _found(call: Calling) -> str:
    """How the program was found, in words."""
    folders = call.env.get("CNI_PATH", "").split(":")
    folder = os.path.dirname(call.path)
    if folder not in folders:
        return "named by its path"
    place = folders.index(folder) + 1
    return f"folder {place} of {len(folders)} in CNI_PATH"
