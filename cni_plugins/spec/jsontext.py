"""JSON text in and out, without the `json` package, which costs a process 13 ms (it imports `re` and `enum`).

The scanner is CPython's own `_json`; errors carry line and column. Differences from `json.loads`, all from RFC 8259:
NaN and Infinity are refused, and so is a number that would become one; bytes must be UTF-8 (a byte order mark is
skipped, section 8.1), and what escapes spell must be characters (section 8.2). A key that stands twice: the last one
counts, as in Go. Integers are exact. What was read can be written: nothing is nested deeper than 200 levels.
"""

from __future__ import annotations

from _json import encode_basestring, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = " \t\n\r"
_DEEPEST = 200
_INFINITIES = (float("inf"), float("-inf"))


class JsonError(ValueError):
    """The text is not JSON. `line` and `column` count from 1."""

    def __init__(self, problem: str, text: str = "", position: int = 0) -> None:
        self.problem = problem
        self.line = text.count("\n", 0, position) + 1
        self.column = position - text.rfind("\n", 0, position)
        super().__init__(f"line {self.line} column {self.column}: {problem}")


class Rules:
    """What `_json.make_scanner` reads its options from."""

    strict = True
    object_hook = None
    object_pairs_hook: Any = None
    parse_int = int

    @staticmethod
    def parse_float(number: str) -> float:
        value = float(number)
        if value in _INFINITIES:
            raise ValueError("the number is too large", number)
        return value

    @staticmethod
    def parse_constant(name: str) -> Any:
        raise ValueError(f"{name} is not JSON", name)


_scan = make_scanner(Rules)  # type: ignore[arg-type]  # typeshed says it takes its own kind


def loads(source: bytes | str) -> Any:
    """The value that `source` spells. Raises JsonError."""
    if isinstance(source, bytes):
        try:
            text = source.decode().removeprefix("\ufeff")  # the codec utf-8-sig is a module more to load
        except UnicodeDecodeError as error:
            before = source[: error.start].decode(errors="replace")
            raise JsonError(f"not UTF-8: {error.reason}", before, len(before)) from None
    else:
        text = source
    start = len(text) - len(text.lstrip(_SPACE))
    if start == len(text):
        raise JsonError("empty text, expected a value", text, start)
    try:
        value, end = _scan(text, start)
    except (StopIteration, RecursionError, SystemError, ValueError):
        raise _explain(text, start) from None
    rest = text[end:].lstrip(_SPACE)
    if rest:
        raise JsonError("text goes on after the value", text, len(text) - len(rest))
    if text.count("[") + text.count("{") > _DEEPEST and _deeper(value):
        raise JsonError("nested too deeply", text, start)
    if "\\ud" in text or "\\uD" in text:
        _refuse_halves(value, text)
    return value


def _deeper(value: Any) -> bool:
    """Whether lists and objects stand in each other deeper than is allowed."""
    level = [value]
    for _ in range(_DEEPEST):
        inside = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in inside for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def _refuse_halves(value: Any, text: str) -> None:
    """Refuse half a surrogate pair that an escape spells: no UTF-8 could be made of it again."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # a file of our own, which keeps people's bytes that are no text (surrogateescape)
    try:
        dumps(value, indent=0).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise JsonError(f"{half} is half a character", text, text.lower().find(half)) from None


def _explain(text: str, start: int) -> JsonError:
    """What is wrong with `text`. The scanner has words for it once `json.decoder` is loaded (else SystemError)."""
    import json.decoder

    try:
        _scan(text, start)
    except StopIteration as stop:
        return JsonError("expected a value", text, stop.value)
    except RecursionError:
        return JsonError("nested too deeply", text, start)
    except json.decoder.JSONDecodeError as error:
        return JsonError(error.msg[:1].lower() + error.msg[1:], text, error.pos)
    except ValueError as error:  # what `Rules` refuses, or an integer of thousands of digits
        problem, *literal = error.args
        if not literal:  # Python's own limit: more than sys.get_int_max_str_digits()
            import re

            found = re.compile(r"\d{640,}").search(text, start)
            return JsonError("an integer of thousands of digits", text, found.start() if found else start)
        return JsonError(problem, text, text.find(literal[0], start) if literal else start)
    raise AssertionError("the scanner refused a text and then took it")


def dumps(value: Any, indent: int = 4) -> str:
    """`value` as indented JSON (4 spaces, as the reference plugins print); `indent=0` puts it on one line."""
    return _text(value, "\n" if indent else "", " " * indent)


def _text(value: Any, margin: str, step: str) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value != value or value in _INFINITIES:
            raise ValueError(f"{value} is not JSON")
        return float.__repr__(value)
    inner = margin + step
    comma = "," + (inner or " ")
    if isinstance(value, dict):
        body = comma.join(f"{encode_basestring(key)}: {_text(item, inner, step)}" for key, item in value.items())
        opening, closing = "{}"
    elif isinstance(value, list | tuple):
        body = comma.join(_text(item, inner, step) for item in value)
        opening, closing = "[]"
    else:
        raise TypeError(f"{type(value).__name__} has no JSON form")
    return f"{opening}{inner}{body}{margin}{closing}" if body else opening + closing
