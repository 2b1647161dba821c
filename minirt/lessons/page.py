"""The course's pages as data: what is said, what is typed, and the facts that are true afterwards.

A page is a page of docs/course, read by people; what is for us stands in comments. Below a block of commands:

    <!-- check red is there, and knows no blue.
    ip netns list | grep -qw red
    ! ip -n red link show blue
    -->

is a fact in words, and the lines that all succeed when it holds: LOOK or LOOK | TEST, and ! before it for the contrary.
LOOK is a question to the kernel, which changes nothing, and its answer is shown to who has not yet done it.
`<!-- needs PATH, of the package NAME -->` above a block: it can only be done where that file is.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from minirt.errors import NotFound

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "course")

_PART = re.compile(
    r"^```console\n(?P<block>.*?)^```"
    r"|^<!-- check (?P<fact>[^\n]+)\n(?P<question>.*?)^-->"
    r"|^<!-- needs (?P<path>\S+), of the package (?P<package>\S+) -->"
    r"|^# (?P<title>[^\n]+)"
    r"|(?P<text>(?:^(?!```|<!--|# )[^\n]+\n?)+)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Fact:
    words: str
    lines: tuple[str, ...]


def look(line: str) -> str:
    """Of a fact's line the question alone, whose answer says why it does not hold."""
    return line.removeprefix("! ").partition(" | ")[0]


@dataclass(frozen=True)
class Need:
    path: str
    package: str


@dataclass
class Step:
    """What is typed in one go, and what is true after it."""

    commands: list[str]
    facts: list[Fact]
    need: Need | None = None


@dataclass
class Lesson:
    number: int
    title: str
    parts: list[str | Step]

    @property
    def steps(self) -> list[Step]:
        return [part for part in self.parts if isinstance(part, Step)]


def lessons() -> list[Lesson]:
    """All of them, in order."""
    names = sorted(name for name in os.listdir(FOLDER) if re.match(r"\d+-.*\.md$", name))
    return [read(os.path.join(FOLDER, name)) for name in names]


def find(number: str) -> Lesson:
    """Raises NotFound."""
    known = lessons()
    for lesson in known:
        if str(lesson.number) == number:
            return lesson
    raise NotFound(
        f"there is no lesson {number!r}", f"they are numbered from 1 to {len(known)}; 'minirt lesson' lists them"
    )


def read(path: str) -> Lesson:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    number, title = 0, ""
    parts: list[str | Step] = []
    need: Need | None = None
    for found in _PART.finditer(text):
        if found["title"]:
            number_text, _, title = found["title"].partition(". ")
            number = int(number_text)
        elif found["text"]:
            parts.append(" ".join(found["text"].split()))
        elif found["path"]:
            need = Need(found["path"], found["package"])
        elif found["fact"]:
            _last_step(parts, path).facts.append(Fact(found["fact"], tuple(found["question"].splitlines())))
        else:
            parts.append(Step(commands(found["block"]), [], need))
            need = None
    return Lesson(number, title, parts)


def commands(block: str) -> list[str]:
    """What is typed in a block: lines that begin with "# "; "> " continues the one above."""
    typed: list[str] = []
    for line in block.splitlines():
        if line.startswith("# "):
            typed.append(line[2:])
        elif line.startswith("> "):
            typed[-1] += f"\n{line[2:]}"
    return typed


def _last_step(parts: list[str | Step], path: str) -> Step:
    if parts and isinstance(parts[-1], Step):
        return parts[-1]
    raise ValueError(f"{path}: a check stands below a block of commands")
