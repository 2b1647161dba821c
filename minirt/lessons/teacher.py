"""A lesson, held: text, then commands that the learner types or has typed, then a look at what is true.

A step's commands wait in a queue. Enter types the first of them; what the learner types himself is run, and taken from
the queue if it was its turn. When the queue is empty, or at the word `next`, the step's facts are looked at: the lesson
goes on when all of them hold, by whatever way they came about.
"""

from __future__ import annotations

import os
import shutil

from minirt.errors import NotFound
from minirt.lessons.lab import Lab
from minirt.lessons.page import Fact, Lesson, Step, lessons
from minirt.lessons.screen import Screen

HELP = (
    "Enter types the next command for you. Or type it yourself, or anything else: this is a shell of the lab. "
    "`next` goes on when what the step is for has been done, `again` shows and starts the step anew, `quit` ends the "
    "lesson."
)
_PACKAGES = {"ip": "iproute2", "bridge": "iproute2", "nft": "nftables", "ping": "iputils-ping", "curl": "curl"}


def hold(lesson: Lesson) -> bool:
    """Hold a lesson, from its title to the end or until the learner leaves; whether it was finished. Raises NotFound,
    MinirtError."""
    _require(lesson)
    screen = Screen()
    with Lab() as lab:
        screen.title(f"{lesson.number}. {lesson.title}")
        screen.aside(
            "This is a machine of its own inside of yours, and goes when the lesson ends: nothing in it can be broken. "
            f"Another terminal comes in by: nsenter --target {lab.pid} --net --mount --pid"
        )
        screen.aside(f"{HELP} `?` says this again.")
        try:
            for part, following in zip(lesson.parts, [*lesson.parts[1:], None], strict=True):
                if isinstance(part, Step):
                    _Sitting(part, lab, screen).hold()
                    continue
                screen.paragraph(part)
                if isinstance(following, str):
                    screen.pause()
        except (EOFError, KeyboardInterrupt):
            screen.aside("The lab goes, and with it all that was made in it.")
            return False
        screen.aside(_farewell(lesson))
    return True


def _require(lesson: Lesson) -> None:
    """Raises NotFound for a program that the lesson's commands are."""
    words = {word for step in lesson.steps for command in step.commands for word in command.split()}
    missing = [name for name in _PACKAGES if name in words and not shutil.which(name)]
    if missing:
        packages = " ".join(dict.fromkeys(_PACKAGES[name] for name in missing))
        raise NotFound(f"lesson {lesson.number} needs {', '.join(missing)}", f"apt install {packages}")


def _farewell(lesson: Lesson) -> str:
    rest = [other for other in lessons() if other.number > lesson.number]
    following = f"'minirt lesson {rest[0].number}' goes on: {rest[0].title}." if rest else "It was the last one."
    return f"That was lesson {lesson.number}. {following}"


class _Sitting:
    """One step. `hold` raises EOFError when the learner leaves."""

    def __init__(self, step: Step, lab: Lab, screen: Screen) -> None:
        self._step = step
        self._lab = lab
        self._screen = screen
        self._queue: list[str] = []
        self._praised = False

    def hold(self) -> None:
        need = self._step.need
        self._screen.commands(self._step.commands)
        if need and not os.path.exists(need.path):
            self._screen.aside(f"To be read only, here: {need.path} is missing, of the package {need.package}.")
            return
        self._queue = list(self._step.commands)
        while not self._answer(self._screen.ask()):
            pass

    def _answer(self, text: str) -> bool:
        """Do what the learner wants; whether the step is done."""
        match text.strip():
            case "":
                return self._go_on()
            case "next":
                return self._judge()
            case "quit" | "exit" | "logout":
                raise EOFError
            case "?":
                self._screen.aside(HELP)
            case "again":
                self._screen.commands(self._step.commands)
                self._queue = list(self._step.commands)
            case _:
                return self._typed(text)
        return False

    def _go_on(self) -> bool:
        """Type the next command; without one, only look."""
        if self._queue:
            command = self._queue.pop(0)
            self._screen.typed(command)
            self._lab.run(command)
        return not self._queue and self._judge()

    def _typed(self, text: str) -> bool:
        expected = bool(self._queue) and text.split() == self._queue[0].split()
        if expected:
            self._queue.pop(0)
        self._lab.run(text)
        if not self._queue:
            return self._judge()
        if not expected and not self._praised and self._step.facts and not self._missing():
            self._praised = True
            self._screen.aside("That does it as well. `next` goes on, Enter types what is left.")
        return False

    def _missing(self) -> list[Fact]:
        return [fact for fact in self._step.facts if not self._lab.holds(fact.question)]

    def _judge(self) -> bool:
        missing = self._missing()
        for fact in self._step.facts:
            self._screen.verdict(fact.words, good=fact not in missing)
        if missing:
            self._screen.aside("Not yet. Mend it and press Enter; `again` starts the step anew.")
        return not missing
