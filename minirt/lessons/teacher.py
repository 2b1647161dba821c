"""A lesson, held: text, then commands that the learner types or has typed, then a look at what is true.

A step's commands wait in a queue. Enter types the first of them; what the learner types themselves is run, and taken
from the queue if it stands there. When the queue is empty, or at the word `next`, the step's facts are looked at: the
lesson goes on when all of them hold, by whatever way they came about.
"""

from __future__ import annotations

import os
import shutil

from minirt.errors import NotFound
from minirt.lessons.lab import Lab
from minirt.lessons.page import Lesson, Step, lessons, look
from minirt.lessons.screen import Screen

HELP = (
    "Enter types the next command for you. Or type it yourself, or anything else: this is a shell in the lab. `next` "
    "goes on when what the step is for has been done, `again` begins the step again, in a new lab where all is as it "
    "was before it, `quit` or ctrl-D ends the lesson, `?` says this again."
)
_PAUSED = "Enter goes on with the text. Whatever else you type is run in the lab. `quit` or ctrl-D ends the lesson."
_PACKAGES = {"ip": "iproute2", "bridge": "iproute2", "nft": "nftables", "ping": "iputils-ping", "curl": "curl"}


def hold(lesson: Lesson) -> bool:
    """Hold a lesson, from its title to the end or until the learner leaves; whether it was finished. Raises NotFound,
    MinirtError."""
    _require(lesson)
    screen = Screen()
    with Lab() as lab:
        screen.title(f"{lesson.number}. {lesson.title}")
        screen.aside(
            "This is the lab, a machine of its own inside of yours, which goes when the lesson ends. It has no link, "
            "address or rule of yours. Your files can be read in it, and not be changed, but for those below /tmp. "
            f"{_door(lab)}",
            HELP,
        )
        try:
            _tell(lesson, lab, screen)
        except (EOFError, KeyboardInterrupt):
            screen.aside("The lab goes, and with it all that was made in it.")
            return False
        screen.aside(_farewell(lesson))
    return True


def _tell(lesson: Lesson, lab: Lab, screen: Screen) -> None:
    """Raises EOFError when the learner leaves."""
    text: list[str] = []  # since the last step
    before: list[str] = []  # all that was to be typed up to there
    for part, following in zip(lesson.parts, [*lesson.parts[1:], None], strict=True):
        if isinstance(part, str):
            screen.paragraph(part)
            text.append(part)
            if isinstance(following, str):
                _wait(lab, screen)
            continue
        need = part.need
        if need and not os.path.exists(need.path):
            screen.commands(part.commands)
            screen.aside(f"Only to read here: {need.path} (package {need.package}) is missing.")
        else:
            _Sitting(part, text, before, lab, screen).hold()
            before += part.commands
        text = []


def _wait(lab: Lab, screen: Screen) -> None:
    """Until the learner has read. Raises EOFError."""
    while typed := screen.pause().strip():
        match typed:
            case "next":
                return
            case "quit" | "exit" | "logout":
                raise EOFError
            case "?" | "again":
                screen.aside(_PAUSED)
            case _:
                lab.run(typed)


def _door(lab: Lab) -> str:
    return f"Another terminal comes in by: nsenter --target {lab.pid} --net --mount --pid"


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
    """One step, after this text, and after the commands `before` it. `hold` raises EOFError when the learner leaves."""

    def __init__(self, step: Step, text: list[str], before: list[str], lab: Lab, screen: Screen) -> None:
        self._step = step
        self._text = text
        self._before = before
        self._lab = lab
        self._screen = screen
        self._queue: list[str] = []
        self._praised = False

    def hold(self) -> None:
        self._begin()
        while not self._answer(self._screen.ask()):
            pass

    def _begin(self) -> None:
        self._screen.commands(self._step.commands)
        self._queue = list(self._step.commands)

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
                self._again()
            case _:
                return self._typed(text)
        return False

    def _again(self) -> None:
        """Everything is as it was before the step, whatever the learner has done to it."""
        self._screen.aside("Wait: a new lab is made, and the commands up to here are typed in it.")
        self._lab.renew(self._before)
        self._screen.aside(f"It is there. {_door(self._lab)}")
        for paragraph in self._text:
            self._screen.paragraph(paragraph)
        self._begin()

    def _go_on(self) -> bool:
        """Type the next command; without one, only look."""
        if self._queue:
            command = self._queue.pop(0)
            self._screen.typed(command)
            self._lab.run(command)
        return not self._queue and self._judge()

    def _typed(self, text: str) -> bool:
        same = [command for command in self._queue if command.split() == text.split()]
        if same:
            self._queue.remove(same[0])
        self._lab.run(text)
        if not self._queue:
            return self._judge()
        if not same and not self._praised and self._step.facts and not self._missing():
            self._praised = True
            self._screen.aside("What this step is for has been done. `next` goes on, Enter types what is left.")
        return False

    def _missing(self) -> dict[str, str]:
        """The words of what is not true, each with the first of its lines that fails."""
        failing = {
            fact.words: [line for line in fact.lines if not self._lab.holds(line)][:1] for fact in self._step.facts
        }
        return {words: lines[0] for words, lines in failing.items() if lines}

    def _judge(self) -> bool:
        missing = self._missing()
        for fact in self._step.facts:
            self._screen.verdict(fact.words, good=fact.words not in missing)
            if fact.words in missing:
                question = look(missing[fact.words])
                self._screen.evidence(question)
                self._lab.show(question, self._screen.width)
        if missing:
            self._screen.aside("Not yet. Mend it and press Enter, or begin the step again by `again`.")
        return not missing
