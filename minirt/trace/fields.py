"""What the lines of a trace may hold, as a table: a file may have been edited, cut off, or be somebody else's.

    {"answer": 2, "run": …, "exit": 0, …}        of the kind `answer`, by its first key

A line fits when it has every key of its kind, and each value is of the kind that stands there. What could be no
argument, variable or path of a program (NUL) is refused here, too, so that nobody behind has to ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from minirt.trace.recorder import FORMAT

Fits: TypeAlias = Callable[[Any], bool]

_MOST = 1 << 31  # calls of a run
_LONGEST = 1e8  # seconds: three years
_SHOWN = 40


class Unreadable(ValueError):
    """The line says what no trace says. `newer`: it is of a format that is not known here, and so is what follows."""

    def __init__(self, problem: str, newer: bool = False) -> None:
        super().__init__(problem)
        self.newer = newer


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _word(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _number(value: Any) -> bool:
    return _whole(value) and value > 0


def _exit(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and -255 <= value <= 255)


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LONGEST


def _environment(value: Any) -> bool:
    return isinstance(value, dict) and all(
        key and "=" not in key and _word(key) and _word(text) for key, text in value.items()
    )


def _words(value: Any) -> bool:
    return isinstance(value, list) and all(map(_word, value))


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


_SAID: Mapping[Fits, str] = {
    _text: "a string",
    _word: "a string without NUL",
    _whole: "a whole number",
    _number: "a number from 1",
    _exit: "an exit code or null",
    _seconds: "a number of seconds",
    _environment: "an object of variables with their values",
    _words: "a list of strings",
    _object: "an object",
    _flag: "true or false",
}
_KINDS: Mapping[str, Mapping[str, Fits]] = {
    "trace": {"run": _word, "time": _word, "command": _word},
    "call": {
        "call": _number, "run": _word, "by": _whole, "time": _word, "command": _word, "network": _word,
        "plugin": _word, "path": _word, "env": _environment, "inherited": _words, "stdin": _object,
    },
    "step": {"step": _text, "run": _word, "call": _number, "undo": _flag},
    "answer": {
        "answer": _number, "run": _word, "exit": _exit, "stdout": _text, "stderr": _text, "seconds": _seconds,
        "problem": _text, "left_out": _whole,
    },
}  # fmt: skip
_USUAL = {"left_out": 0}


def kind(line: Any) -> str:
    """Which kind of line it is; `line` has all its keys then. Raises Unreadable."""
    if not isinstance(line, dict):
        raise Unreadable("expected an object")
    found = next((name for name in ("trace", "answer", "step", "call") if name in line), "")
    if not found:
        raise Unreadable("expected one of the keys trace, call, step, answer")
    if found == "trace" and not (_number(line["trace"]) and line["trace"] == FORMAT):
        written = f"this minirt reads {FORMAT}"
        raise Unreadable(f"format {str(line['trace'])[:_SHOWN]!r}, and {written}", newer=True)
    for key, fits in _KINDS[found].items():
        if key not in line and key in _USUAL:
            line[key] = _USUAL[key]
        if key not in line:
            raise Unreadable(f"no key {key!r}, {_SAID[fits]}")
        if not fits(line[key]):
            raise Unreadable(f"{key!r} is {_shown(line[key])}, expected {_SAID[fits]}")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
