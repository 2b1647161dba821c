"""JSON text against the standard library's: the same values, the same texts, the same places of errors."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec.jsontext import JsonError, dumps, loads

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _judge(text: str) -> Any:
    """What the standard library makes of it; what it could not write again as UTF-8 JSON is refused."""
    value = json.loads(text, parse_constant=_refuse)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    return value


@given(values)
def test_what_is_written_is_what_the_standard_library_writes(value: Any) -> None:
    assert dumps(value) == json.dumps(value, indent=4, ensure_ascii=False)
    assert dumps(value, indent=0) == json.dumps(value, ensure_ascii=False)


@given(values)
def test_what_was_written_is_read_back(value: Any) -> None:
    assert loads(dumps(value)) == value
    assert loads(json.dumps(value)) == value


@given(
    values.map(json.dumps), st.integers(0, 200), st.sampled_from(["", "{", "}", ",", '"', "0", "\\", "\n", " ", "Na"])
)
@example("[1]", 1, "NaN,")
@example("[1]", 0, "-Infinity")
@example('{"a": 1}', 8, "x")
@example('"\\ud800"', 0, '"')
@example('"\\ud83d\\ude00"', 7, "\\")
@example("[1e400]", 6, "]")
def test_a_text_with_a_mistake_is_judged_as_the_standard_library_judges_it(text: str, at: int, put: str) -> None:
    damaged = text[:at] + put + text[at + 1 :]
    try:
        expected = _judge(damaged)
    except ValueError:
        with pytest.raises(JsonError):
            loads(damaged)
    else:
        assert loads(damaged) == expected


@given(st.text())
def test_any_text_is_a_value_or_an_error_that_names_a_place_in_it(text: str) -> None:
    try:
        expected = _judge(text)
    except ValueError:
        with pytest.raises(JsonError) as caught:
            loads(text)
        lines = text.split("\n")
        assert 1 <= caught.value.line <= len(lines)
        assert 1 <= caught.value.column <= len(lines[caught.value.line - 1]) + 1
    else:
        assert loads(text) == expected


@given(st.binary())
def test_any_bytes_are_a_value_or_an_error(source: bytes) -> None:
    try:
        loads(source)
    except JsonError:
        pass


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("", 1, 1, "empty text"),
        (" \n ", 2, 2, "empty text"),
        ('{\n  "a": 1\n  "b": 2\n}', 3, 3, "expecting ',' delimiter"),
        ('{"a": 1, b}', 1, 10, "expecting property name"),
        ("[1, 2", 1, 6, "expecting ',' delimiter"),
        ("{} {}", 1, 4, "text goes on after the value"),
        ('["\t"]', 1, 3, "invalid control character"),
        ("nope", 1, 1, "expected a value"),
        ("[NaN]", 1, 2, "NaN is not JSON"),
        ('{"a":\n -1e400}', 2, 2, "the number is too large"),
        ('{"a": [\n"\\ud800"]}', 2, 2, r"\ud800 is half a character"),
        ('{"x\\uDFFFx": 1}', 1, 4, r"\udfff is half a character"),
        ("[" * 100_000, 1, 1, "nested too deeply"),
        ("[" * 450 + "]" * 450, 1, 1, "nested too deeply"),
        ('{"a":' * 201 + "1" + "}" * 201, 1, 1, "nested too deeply"),
    ],
)
def test_errors_say_where_and_what(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(JsonError) as caught:
        loads(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert problem in caught.value.problem.lower() or problem in caught.value.problem
    assert str(caught.value) == f"line {line} column {column}: {caught.value.problem}"


def test_what_can_be_read_can_be_written() -> None:
    for text in ("[" * 200 + "]" * 200, '{"a":' * 200 + "1" + "}" * 200, '["\\ud83d\\ude00", 1e308]'):
        assert loads(dumps(loads(text)).encode()) == json.loads(text)
    wide: list[object] = [{"a": [{}]}] * 1000
    assert loads(dumps(wide)) == wide


def test_a_file_of_our_own_keeps_bytes_that_are_no_text() -> None:
    assert loads('["\udcff", "\\\\ud800"]') == ["\udcff", "\\ud800"]


def test_an_integer_that_python_would_not_read_is_told_with_its_place() -> None:
    with pytest.raises(JsonError, match=r"^line 2 column 6: an integer of thousands of digits$"):
        loads('{"a": 1,\n"b":' + " " + 5000 * "9" + "}")


def test_an_error_is_explained_in_an_interpreter_that_has_not_loaded_json() -> None:
    """The scanner itself needs `json.decoder` for its words; where it is missing, a SystemError must not come out."""
    import subprocess
    import sys

    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from cni_plugins.spec.jsontext import JsonError, loads\n"
        "assert 'json' not in sys.modules\n"
        "try: loads('{\"a\" 1}')\n"
        "except JsonError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "line 1 column 6: expecting ':' delimiter\n"


def test_bytes_are_utf_8_with_or_without_a_mark() -> None:
    assert loads(b'\xef\xbb\xbf{"a": "\xc3\xa9"}') == {"a": "é"}
    with pytest.raises(JsonError) as caught:
        loads(b'{\n"a": "\xff"}')
    assert (caught.value.line, caught.value.column) == (2, 7)


def test_the_last_of_two_keys_counts_and_integers_are_exact() -> None:
    assert loads('{"a": 1, "a": 9007199254740993}') == {"a": 9007199254740993}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        dumps({"a": value})


def test_what_has_no_json_form_is_not_written() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        dumps({1, 2})
