"""A trace as a sequence diagram for whatever renders mermaid: GitHub, GitLab, an editor.

    sequenceDiagram
        participant runtime as minirt
        participant p1 as bridge
        runtime->>+p1: 1 ADD eth0
        Note over p1: ip link add …
        p1-->>-runtime: 10.1.0.2/24 (5.1 ms)

`#35;` and `#59;` are mermaid's way to write the two characters that would end a message. An answer that reports a
failure has a cross for an arrowhead.
"""

from __future__ import annotations

from collections.abc import Iterator

from minirt.trace.reading import Call, Step, Trace, in_a_note, shortened
from minirt.visible import visible

RUNTIME = "runtime"
_LONGEST = 90  # characters of a note's line, or a message
_MOST = 12  # lines of a note
_HTML = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "\n": " ", "\t": " "}


def draw(trace: Trace) -> str:
    names = participants(trace)
    keys = {name: f"p{number}" for number, name in enumerate(names, 1)}
    out = ["sequenceDiagram", f"    participant {RUNTIME} as minirt"]
    out += [f"    participant {key} as {_text(name)}" for name, key in keys.items()]
    for run in trace.runs:
        if len(trace.runs) > 1 and run.roots:
            over = f"{RUNTIME},{list(keys.values())[-1]}"
            out.append(f"    Note over {over}: {_text(f'{run.command}, {run.clock}')}")
        for call in run.roots:
            out += [f"    {line}" for line in _call(call, RUNTIME, keys)]
    return "\n".join(out)


def participants(trace: Trace) -> list[str]:
    """Every plugin that was called, in the order in which they were."""
    return list(dict.fromkeys(call.plugin for call in trace.calls))


def _call(call: Call, caller: str, keys: dict[str, str]) -> Iterator[str]:
    key = keys[call.plugin]
    yield f"{caller}->>+{key}: {_text(f'{call.number} {call.asked}')}"
    note: list[Step] = []
    for item in call.shown:
        if isinstance(item, Step):
            note.append(item)
            continue
        yield from _note(note, key)
        note = []
        yield from _call(item, key, keys)
    yield from _note(note, key)
    took = f" ({call.answer.seconds * 1000:.1f} ms)" if call.answer else ""
    yield f"{key}{'-->>' if call.ok else '--x'}-{caller}: {_text(call.said + took)}"


def _note(steps: list[Step], key: str) -> Iterator[str]:
    if steps:
        commands, more = in_a_note(steps, _MOST)
        texts = [*map(_text, commands), *([f"and {more} more"] if more else [])]
        yield f"Note over {key}: {'<br/>'.join(texts)}"


def _text(text: str) -> str:
    text = visible(shortened(text))
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return "".join(_HTML.get(char, char) for char in short) or " "
