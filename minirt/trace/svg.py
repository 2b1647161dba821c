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

Every width is known beforehand, for names stand in a monospaced font: nothing overlaps, whoever renders it. Where the
reader's system is dark, so is the picture (`prefers-color-scheme`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from cni_plugins.spec.jsontext import dumps
from minirt.trace.mermaid import participants
from minirt.trace.reading import Call, Run, Step, Trace, shortened
from minirt.visible import visible

RUNTIME = "minirt"
FONT, SMALL, NAME, HEADING = 15, 13, 17, 24
ADVANCE = 0.62  # of the font's size: DejaVu Sans Mono, the widest of the usual ones, has 0.602
LINE, MARGIN, PAD, BAR = 20, 40, 12, 12
_LEAST_GAP = 180
_LONGEST = 62  # characters of a line on an arrow, or in a note
_MOST = 8  # lines of a note

LIGHT = {
    "paper": "#ffffff", "ink": "#1b2330", "quiet": "#5a6675", "line": "#b3bcc8", "card": "#f4f6f9",
    "call": "#0b6bcb", "good": "#157347", "bad": "#b3261e", "note": "#fff8e6", "edge": "#d9a514",
}  # fmt: skip
DARK = {
    "paper": "#11151b", "ink": "#e8edf4", "quiet": "#a3afbe", "line": "#465160", "card": "#222a35",
    "call": "#5cb0ff", "good": "#5fd396", "bad": "#ff8a80", "note": "#2b2618", "edge": "#a8842b",
}  # fmt: skip
_SHAPES = f"""
  text {{ font-family: "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace; font-size: {FONT}px; }}
  .small {{ font-size: {SMALL}px; }} .name {{ font-size: {NAME}px; font-weight: bold; text-anchor: middle; }}
  .heading {{ font-size: {HEADING}px; font-weight: bold; }} .verb {{ font-weight: bold; }}
  .over {{ paint-order: stroke; stroke-width: 5px; stroke-linejoin: round; }}
  .life {{ stroke-width: 1.5; stroke-dasharray: 3 5; }} .arrow {{ fill: none; stroke-width: 2; }}
  .back {{ stroke-dasharray: 7 5; }} .head {{ stroke-width: 2; }}"""


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
        return max(len(text) * (FONT if kind in ("verb", "said") else SMALL) * ADVANCE for kind, text in self.lines)


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
    width = max(_right(sheet), len(title) * HEADING * ADVANCE + MARGIN) + MARGIN
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    label = escape(visible(title), {'"': "&quot;"})
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">',
            f"<title>{label}</title>",
            f"<desc>{escape(visible(_described(trace)))}</desc>",
            f"<style>{_style()}</style>",
            f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
            _text(MARGIN, MARGIN + HEADING * 0.7, title, "heading"),
            _text(MARGIN, MARGIN + HEADING + LINE * 0.8, subtitle, "small quiet"),
            *_lifelines(sheet, boxes, height),
            *_bars(sheet),
            *(line for row in sheet.rows for line in _draw(row, sheet)),
            "</svg>",
        ]
    )


def _title(trace: Trace) -> tuple[str, str]:
    networks = list(dict.fromkeys(call.network for call in trace.roots if call.network))
    words = [trace.runs[0].command] if len(trace.runs) == 1 else []
    if networks:
        words.append(f"network{'' if len(networks) == 1 else 's'} {', '.join(networks)}")
    title = ", ".join(words) or "an empty trace"
    count = len(trace.calls)
    return title, f"{count} call{'' if count == 1 else 's'} of plugins" + (
        f", {trace.runs[0].clock} UTC" if trace.runs else ""
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
        return [("small quiet", "the same environment and standard input")]
    names = ("CNI_CONTAINERID", "CNI_NETNS")
    env = [_short(f"{name}={call.env[name]}") for name in names if call.env.get(name)]
    lines = [line for line in env if line not in known]
    known.update(env)
    own = {key: value for key, value in call.stdin.items() if key not in ("cniVersion", "name", "prevResult")}
    lines.append(_short(f"stdin: {dumps(own, indent=0)}"))
    if "prevResult" in call.stdin:
        lines.append("with prevResult, what the plugins before it gave")
    return [("small quiet", line) for line in lines]


def _note(steps: list[Step], column: int, caller: int) -> Iterator[_Row]:
    if not steps:
        return
    commands = [("undo: " if step.undo else "$ ") + line for step in steps for line in step.commands]
    lines = [("small", _short(command.replace("\n", " "))) for command in commands[:_MOST]]
    if len(commands) > _MOST:
        lines.append(("small quiet", f"and {len(commands) - _MOST} more"))
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
    return len(name) * NAME * ADVANCE + 2 * PAD + 8


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
        yield _text(x, top + 25, name, "name")


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
        yield _text(MARGIN, row.y + PAD + LINE * 0.8, row.lines[0][1], "verb over")
    elif row.kind == "note":
        x = _beside(row, sheet)
        size = f'width="{row.width + 2 * PAD:.1f}" height="{row.height - PAD:.1f}"'
        yield f'<rect class="note" x="{x:.1f}" y="{row.y + PAD / 2:.1f}" {size} rx="5"/>'
        for number, (kind, text) in enumerate(row.lines):
            yield _text(x + PAD, row.y + PAD + LINE * (number + 0.65), text, kind)
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
    for number, (kind, text) in enumerate(row.lines):
        shade = "" if kind != "said" else " goodtext" if row.good else " badtext"
        yield _text(left, row.y + PAD / 2 + LINE * (number + 0.65), text, f"{kind}{shade} over")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(visible(text))}</text>'


def _style() -> str:
    """Every colour stands where it is used, twice: programs that make slides know classes, but no CSS variables."""
    return f"{_SHAPES}{_colours(LIGHT)}\n  @media (prefers-color-scheme: dark) {{{_colours(DARK)}\n  }}\n"


def _colours(of: dict[str, str]) -> str:
    rules = [
        f".paper {{ fill: {of['paper']}; }}",
        f"text {{ fill: {of['ink']}; }}",
        f".over {{ stroke: {of['paper']}; }}",
        f".quiet {{ fill: {of['quiet']}; }}",
        f".goodtext {{ fill: {of['good']}; }}",
        f".badtext {{ fill: {of['bad']}; }}",
        f".life {{ stroke: {of['line']}; }}",
        f".box {{ fill: {of['card']}; stroke: {of['call']}; stroke-width: 2; }}",
        f".bar {{ fill: {of['card']}; stroke: {of['call']}; stroke-width: 1.5; }}",
        f".note {{ fill: {of['note']}; stroke: {of['edge']}; }}",
    ]
    for kind in ("call", "good", "bad"):
        rules += [f".arrow.{kind} {{ stroke: {of[kind]}; }}", f".head.{kind} {{ fill: {of[kind]}; }}"]
    return "".join(f"\n    {rule}" for rule in rules)
