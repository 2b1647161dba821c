"""A trace as a picture for a slide: a sequence diagram, with what went over the wire on the arrows.

┌────────┐          ┌────────┐        ┌────────────┐
│ minirt │          │ bridge │        │ host-local │
└───┬────┘          └───┬────┘        └─────┬──────┘
    │ 1 ADD eth0        │                   │
    │ CNI_NETNS=…       │                   │
    ├──────────────────▶█ 2 ADD eth0        │
    │                   █──────────────────▶█
    │                   █◀ ─ 10.1.0.2/24 ─ ─█
    │                   █ $ ip link add …   │
    │◀ ─ 10.1.0.2/24 ─ ─█                   │
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from cni_plugins.spec.jsontext import dumps
from minirt.svg import HEADING, page, style, text, wide
from minirt.trace.mermaid import participants
from minirt.trace.reading import Call, Run, Step, Trace, in_a_note, shortened
from minirt.visible import visible

RUNTIME = "minirt"
FONT, SMALL, NAME = 15, 13, 17
LINE, MARGIN, PAD, BAR = 20, 40, 12, 12
_LEAST_GAP = 180
_LONGEST = 62  # characters of a line on an arrow, or in a note
_MOST = 8  # lines of a note

_SHAPES = """
  .name, .heading, .verb { font-weight: bold; }
  .over { paint-order: stroke; stroke-width: 5px; stroke-linejoin: round; }
  .life { stroke-width: 1.5; stroke-dasharray: 3 5; } .arrow { fill: none; stroke-width: 2; }
  .back { stroke-dasharray: 7 5; } .head { stroke-width: 2; }"""


@dataclass
class _Row:
    """Something that stands at a height of its own. `lines` are pairs of a class and a text; an arrow leads from
    column `start` to column `end`, a note stands at `start`, whose plugin `end` has called, a heading across all."""

    kind: str
    start: int
    end: int
    lines: list[tuple[str, str]]
    good: bool = True
    call: Call | None = None
    space: float = 0
    y: float = 0

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + {"note": 2 * PAD, "heading": 2 * PAD}.get(self.kind, PAD + 6) + self.space

    @property
    def width(self) -> float:
        return max(wide(words, _size(kind)) for kind, words in self.lines)


@dataclass
class _Sheet:
    names: list[str]
    rows: list[_Row] = field(default_factory=list)
    columns: list[float] = field(default_factory=list)


def draw(trace: Trace) -> str:
    """The whole document."""
    sheet = _Sheet([RUNTIME, *participants(trace)])
    for run in trace.runs:
        sheet.rows += _run(run, sheet.names, len(trace.runs) > 1)
    _place(sheet)
    title, subtitle = _title(trace)
    boxes = MARGIN + HEADING + LINE + PAD
    height = _stack(sheet.rows, boxes + 40 + PAD) + MARGIN
    width = max(_right(sheet), wide(title, HEADING) + MARGIN) + MARGIN
    out = [
        text(MARGIN, MARGIN + HEADING * 0.7, title, "heading", HEADING),
        text(MARGIN, MARGIN + HEADING + LINE * 0.8, subtitle, "quiet", SMALL),
        *_lifelines(sheet, boxes, height),
        *_bars(sheet),
        *(line for row in sheet.rows for line in _draw(row, sheet)),
    ]
    return page(width, height, title, _described(trace), style(_SHAPES, _colours), out)


def _title(trace: Trace) -> tuple[str, str]:
    networks = list(dict.fromkeys(call.network for call in trace.roots if call.network))
    words = [trace.runs[0].command] if len(trace.runs) == 1 else []
    if networks:
        words.append(f"network{'' if len(networks) == 1 else 's'} {', '.join(networks)}")
    title = ", ".join(words) or "an empty trace"
    count = len(trace.calls)
    return title, f"{count} call{'' if count == 1 else 's'} of plugins" + (
        f", {trace.runs[0].clock}" if trace.runs else ""
    )


def _described(trace: Trace) -> str:
    """The drawing for those who hear it."""
    return " ".join(
        f"{call.number}: {call.by or RUNTIME} to {call.plugin}: {call.asked}, {call.said}." for call in trace.calls
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _run(run: Run, names: list[str], several: bool) -> Iterator[_Row]:
    if several and run.roots:
        yield _Row("heading", 0, 0, [("verb", f"{run.command}, {run.clock}")])
    known: set[str] = set()
    for call in run.roots:
        yield from _call(call, 0, names, known)


def _call(call: Call, caller: int, names: list[str], known: set[str]) -> Iterator[_Row]:
    column = names.index(call.plugin)
    yield _Row("call", caller, column, [("verb", f"{call.number} {call.asked}"), *_given(call, known)], call=call)
    note: list[Step] = []
    for item in call.shown:
        if isinstance(item, Step):
            note.append(item)
            continue
        yield from _note(note, column, caller)
        note = []
        yield from _call(item, column, names, known)
    yield from _note(note, column, caller)
    took = f" · {call.answer.seconds * 1000:.1f} ms" if call.answer else ""
    yield _Row("answer", column, caller, [("said", _short(call.said) + took)], call.ok, call, 0 if caller else PAD)


def _given(call: Call, known: set[str]) -> list[tuple[str, str]]:
    """What the plugin is given, shortened: what is new of the environment, and standard input without what the runtime
    put there. `known` is what of the environment has been shown of this run."""
    if call.by:
        return [("quiet", "the same environment and standard input")]
    names = ("CNI_CONTAINERID", "CNI_NETNS")
    env = [_short(f"{name}={call.env[name]}") for name in names if call.env.get(name)]
    lines = [line for line in env if line not in known]
    known.update(env)
    own = {key: value for key, value in call.stdin.items() if key not in ("cniVersion", "name", "prevResult")}
    lines.append(_short(f"stdin: {dumps(own, indent=0)}"))
    if "prevResult" in call.stdin:
        of = "what the plugins before it gave" if call.command == "ADD" else "what came of ADD"
        lines.append(f"with prevResult, {of}")
    return [("quiet", line) for line in lines]


def _note(steps: list[Step], column: int, caller: int) -> Iterator[_Row]:
    if not steps:
        return
    commands, more = in_a_note(steps, _MOST, "$ ")
    lines = [("plain", _short(command)) for command in commands]
    if more:
        lines.append(("quiet", f"and {more} more"))
    yield _Row("note", column, caller, lines)


def _short(text: str) -> str:
    text = visible(shortened(text))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


# --- where things stand -----------------------------------------------------------------------------------------------


def _place(sheet: _Sheet) -> None:
    """The columns, so far apart that what stands on an arrow fits between its ends."""
    halves = [_box(name) / 2 for name in sheet.names]
    gaps = [max(_LEAST_GAP, left + right + 30) for left, right in pairwise(halves)]
    for row in sheet.rows:
        first, last = sorted((row.start, row.end))
        if row.kind in ("call", "answer"):
            lacking = row.width + 2 * PAD + BAR - sum(gaps[first:last])
            gaps[last - 1] += max(0.0, lacking)
    sheet.columns = [MARGIN + halves[0]]
    for gap in gaps:
        sheet.columns.append(sheet.columns[-1] + gap)


def _box(name: str) -> float:
    return wide(name, NAME) + 2 * PAD + 8


def _stack(rows: list[_Row], top: float) -> float:
    """Give each row its height; the lowest of all."""
    for row in rows:
        row.y = top
        top += row.height
    return top


def _beside(row: _Row, sheet: _Sheet) -> float:
    """The left edge of a note: right of its lifeline, or left of the last one, where the caller's leaves the room."""
    x, wide = sheet.columns[row.start], row.width + 2 * PAD
    last = row.start == len(sheet.columns) - 1
    return x - BAR - wide if last and x - sheet.columns[row.end] > wide + 3 * BAR else x + BAR


def _right(sheet: _Sheet) -> float:
    notes = [_beside(row, sheet) + row.width + 2 * PAD for row in sheet.rows if row.kind == "note"]
    return max([sheet.columns[-1] + _box(sheet.names[-1]) / 2, *notes])


# --- drawing ----------------------------------------------------------------------------------------------------------


def _lifelines(sheet: _Sheet, top: float, height: float) -> Iterator[str]:
    for x, name in zip(sheet.columns, sheet.names, strict=True):
        width = _box(name)
        yield f'<path class="life" d="M{x:.1f} {top + 38:.1f}V{height - MARGIN / 2:.1f}"/>'
        yield f'<rect class="box" x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="38" rx="8"/>'
        yield text(x, top + 25, name, "name", NAME, "middle")


def _bars(sheet: _Sheet) -> Iterator[str]:
    """Where a plugin is at work: from the call to its answer."""
    began = {id(row.call): row.y + row.height for row in sheet.rows if row.kind == "call"}
    for row in sheet.rows:
        if row.kind == "answer":
            top = began[id(row.call)] - 6
            x = sheet.columns[row.start] - BAR / 2
            end = row.y + row.height - row.space
            yield f'<rect class="bar" x="{x:.1f}" y="{top:.1f}" width="{BAR}" height="{end - top:.1f}" rx="3"/>'


def _draw(row: _Row, sheet: _Sheet) -> Iterator[str]:
    if row.kind == "heading":
        right = _right(sheet)
        yield f'<path class="life" d="M{MARGIN} {row.y + PAD / 2:.1f}H{right:.1f}"/>'
        yield text(MARGIN, row.y + PAD + LINE * 0.8, row.lines[0][1], "verb over", FONT)
    elif row.kind == "note":
        x = _beside(row, sheet)
        size = f'width="{row.width + 2 * PAD:.1f}" height="{row.height - PAD:.1f}"'
        yield f'<rect class="note" x="{x:.1f}" y="{row.y + PAD / 2:.1f}" {size} rx="5"/>'
        for number, (kind, words) in enumerate(row.lines):
            yield text(x + PAD, row.y + PAD + LINE * (number + 0.65), words, kind, _size(kind))
    else:
        yield from _arrow(row, sheet.columns[row.start], sheet.columns[row.end])


def _arrow(row: _Row, start: float, end: float) -> Iterator[str]:
    y = row.y + row.height - row.space - 6
    ahead = 1 if end > start else -1
    start, end = start + ahead * BAR / 2, end - ahead * BAR / 2
    state = "call" if row.kind == "call" else "good back" if row.good else "bad back"
    yield f'<path class="arrow {state}" d="M{start:.1f} {y:.1f}H{end - ahead * 3:.1f}"/>'
    tip = f"M{end - ahead * 10:.1f} {y - 5:.1f}L{end:.1f} {y:.1f}L{end - ahead * 10:.1f} {y + 5:.1f}Z"
    yield f'<path class="head {state.split()[0]}" d="{tip}"/>'
    left = min(start, end) + PAD
    for number, (kind, words) in enumerate(row.lines):
        shade = "" if kind != "said" else " goodtext" if row.good else " badtext"
        yield text(left, row.y + PAD / 2 + LINE * (number + 0.65), words, f"{kind}{shade} over", _size(kind))


def _size(kind: str) -> float:
    """Of a line of the classes `kind`, which stands on an arrow or in a note."""
    return FONT if kind in ("verb", "said") else SMALL


def _colours(of: Mapping[str, str]) -> Iterator[str]:
    yield f".over {{ stroke: {of['paper']}; }}"
    yield f".goodtext {{ fill: {of['green']}; }}"
    yield f".badtext {{ fill: {of['red']}; }}"
    yield f".life {{ stroke: {of['line']}; }}"
    yield f".box {{ fill: {of['frame']}; stroke: {of['blue']}; stroke-width: 2; }}"
    yield f".bar {{ fill: {of['frame']}; stroke: {of['blue']}; stroke-width: 1.5; }}"
    yield f".note {{ fill: {of['note']}; stroke: {of['rim']}; }}"
    for kind, colour in (("call", "blue"), ("good", "green"), ("bad", "red")):
        yield f".arrow.{kind} {{ stroke: {of[colour]}; }}"
        yield f".head.{kind} {{ fill: {of[colour]}; }}"
