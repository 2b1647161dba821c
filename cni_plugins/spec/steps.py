"""Steps: changes to the kernel's state that describe themselves, and the plan that carries them out.

A step is a frozen record (see `record`). `describe()` gives the command that a person would type for the same change,
or several, a line each; `apply()` makes it; `undo()` takes it back, where that is possible, and mostly is another step,
its `opposite()`, which describes itself as well. Making a step costs nothing and touches nothing, so lists of them can
be compared in tests without root, printed for a learner, carried out, and rolled back. Runtime and plugins both speak
in steps: that is why they live beside the contract.
"""

from __future__ import annotations

from cni_plugins.spec.names import unfinished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Step:
    """One change. A step whose change dies with something that an earlier step undoes needs no opposite.

    Where a person gives leave for each step, one that does not ask is only told: it is made under a lock that others
    wait for."""

    asks = True

    def describe(self) -> str:
        raise NotImplementedError

    def apply(self) -> None:
        raise NotImplementedError

    def opposite(self) -> Step | None:
        """The step that takes it back, as things stand now; None where nothing has to be done."""
        return None

    def undo(self) -> None:
        opposite = self.opposite()
        if opposite is not None:
            opposite.apply()

    def describe_undo(self) -> str:
        """The command for what `undo` does; empty where it does nothing, or tells of what it does itself."""
        opposite = self.opposite()
        return opposite.describe() if opposite is not None else ""


def commands(text: str) -> list[str]:
    """The commands of a description: a line each, but for a quoted text of several lines, which stays whole."""
    if "\n" not in text:
        return [text] if text else []
    found: list[str] = []
    for line in text.split("\n"):
        if found and unfinished(found[-1]):
            found[-1] += f"\n{line}"
        elif line:
            found.append(line)
    return found


class Undoing(Step):
    """What a watcher sees before a step is undone."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.asks = step.asks

    def describe(self) -> str:
        try:
            return self.step.describe_undo()
        except Exception:  # what cannot be told has to be undone all the same
            return ""


class Plan:
    """The steps carried out so far. As a context manager it undoes them, newest first, when its block fails.

    `watch`, when given, is called with each step just before it is applied, and with `Undoing` before it is undone.
    """

    def __init__(self, watch: Callable[[Step], None] | None = None) -> None:
        self.done: list[Step] = []
        self._watch = watch

    def do(self, *steps: Step) -> None:
        """Carry out `steps` in order. The first that fails raises; what was done before it stays to be undone."""
        for step in steps:
            if self._watch is not None:
                self._watch(step)
            step.apply()
            self.done.append(step)

    def undo(self) -> list[Exception]:
        """Take back all that was done, newest first, whatever fails on the way; returns what failed."""
        failures: list[Exception] = []
        while self.done:
            step = self.done.pop()
            try:
                if self._watch is not None:
                    self._watch(Undoing(step))
                step.undo()
            except Exception as error:
                error.add_note(f"while undoing: {step.describe()}")
                failures.append(error)
        return failures

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            for failure in self.undo():
                error.add_note(f"not undone: {failure} ({'; '.join(failure.__notes__)})")
