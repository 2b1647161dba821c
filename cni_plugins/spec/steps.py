"""Steps: changes to the kernel's state that describe themselves, and the plan that carries them out.

A step is a frozen record (see `record`) with three methods. `describe()` gives the command that a person would type
for the same change, or several, a line each; `apply()` makes it; `undo()` takes it back, where that is possible. Making
a step costs nothing and touches nothing, so lists of them can be compared in tests without root, printed for a learner,
carried out, and rolled back. Runtime and plugins both speak in steps: that is why they live beside the contract.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Step:
    """One change. A step whose change dies with something that an earlier step undoes needs no `undo` of its own."""

    def describe(self) -> str:
        raise NotImplementedError

    def apply(self) -> None:
        raise NotImplementedError

    def undo(self) -> None:
        pass


def commands(text: str) -> list[str]:
    """The commands of a description: a line each, but for a quoted text of several lines, which stays whole."""
    found: list[str] = []
    for line in text.split("\n"):
        if found and found[-1].count("'") % 2:
            found[-1] += f"\n{line}"
        elif line:
            found.append(line)
    return found


class Undoing(Step):
    """What a watcher sees before a step is undone."""

    def __init__(self, step: Step) -> None:
        self.step = step

    def describe(self) -> str:
        return self.step.describe()


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
