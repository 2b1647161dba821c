"""The scheme as an SVG for a slide: stacks of cards on a grid, a frame around what the host is, light and dark.

    outside
    ┌─────────────────────────────┐
    │ uplinks   ╌╌ bridges, wires │ ── containers
    │ routing   ╌╌ …              │ ── …
    └─────────────────────────────┘

Nothing is measured by a browser: names stand in a monospaced font, whose characters are all equally wide, so a card is
as wide as its longest line and nothing overlaps, whoever renders it. Where the reader's system is dark, so is the
picture (`prefers-color-scheme`). Every card and every line has a key (`data-key`), by which the page of `minirt serve`
knows it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape

from minirt.picture.scheme import CONTAINERS, HEAD, OUTSIDE, ROUTING, WIRES, Card, Edge, Scheme

FONT, TITLE, HEADING = 14, 17, 24
ADVANCE = 0.62  # of the font's size: DejaVu Sans Mono, the widest of the usual ones, has 0.602
LINE, PAD, GAP, GUTTER, MARGIN, FRAME = 21, 14, 26, 84, 28, 26
_BULGE = 30  # how far a line bends that passes by the side of a card
_LEAST, _SAMPLE = 150, 40
_TALL, _MOST, _LANE = (
    1000,
    3,
    5,
)  # when containers stand in one more column; how far wires are apart that run between their rows

LIGHT = {
    "paper": "#ffffff", "ink": "#1b2330", "quiet": "#5a6675", "warn": "#b3261e", "frame": "#f4f6f9", "edge": "#8793a3",
    "card": "#ffffff", "outside": "#6b7686", "uplink": "#8a5a00", "routing": "#6c3fb4", "bridge": "#0b6bcb",
    "wire": "#0b6bcb", "container": "#157347",
}  # fmt: skip
DARK = {
    "paper": "#11151b", "ink": "#e8edf4", "quiet": "#a3afbe", "warn": "#ff8a80", "frame": "#191f28", "edge": "#7d8a9b",
    "card": "#222a35", "outside": "#9aa6b6", "uplink": "#f0b44c", "routing": "#b794f6", "bridge": "#5cb0ff",
    "wire": "#5cb0ff", "container": "#5fd396",
}  # fmt: skip
_SHAPES = """
  text { font-family: "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace; }
  .title, .head { font-weight: bold; }
  .frame { stroke-dasharray: 2 5; } .card { stroke-width: 2; }
  .cable { fill: none; stroke-width: 2.5; } .routed { fill: none; stroke-width: 2; stroke-dasharray: 6 5; }"""
KINDS = ("outside", "uplink", "routing", "bridge", "wire", "container")


@dataclass
class Box:
    """A card where it stands. One that stands behind others is reached between their rows: at the height `lane`, from
    `lane_start` to `lane_end`; `lanes` counts the wires that do so."""

    card: Card
    x: float
    y: float
    width: float
    lane: float = 0
    lane_start: float = 0
    lane_end: float = 0
    lanes: int = 0

    @property
    def height(self) -> float:
        return _height(self.card)

    def at(self, anchor: str) -> float:
        """The height at which a line ends at the card."""
        for number, line in enumerate(self.card.lines):
            if anchor and line.anchor == anchor:
                return self.y + PAD + LINE * (number + 2) + 8 - FONT * 0.35
        return self.y + PAD + LINE * 0.5


def _wide(text: str, size: float = FONT) -> float:
    return len(text) * size * ADVANCE


def _width(card: Card) -> float:
    title = _wide(card.title, TITLE) + GAP + _wide(card.subtitle)
    lines = [_wide(line.text) + (GAP + _wide(line.more) if line.more else 0) for line in card.lines]
    return max(_LEAST, title, *lines) + 2 * PAD if card.lines else title + 2 * PAD


def _height(card: Card) -> float:
    return PAD * 2 + LINE * (len(card.lines) + 1) + (8 if card.lines else 0) - 4


def draw(scheme: Scheme, columns: int = 0) -> str:
    """The whole document, with the containers in so many columns; in as many as fit a slide where none are said."""
    boxes, frame, width, height = _place(scheme, columns)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{_attribute(f"{scheme.host}, {scheme.title}")}">',
        f"<title>{escape(f'{scheme.host}, {scheme.title}')}</title>",
        f"<desc>{escape(_described(scheme))}</desc>",
        f"<style>{_style()}</style>",
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        _text(MARGIN, MARGIN + HEADING * 0.8, f"{scheme.host}, {scheme.title}", "title", HEADING),
        '<rect class="frame" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="14"/>'.format(*frame),
        _text(frame[0] + frame[2] - PAD, frame[1] + PAD + FONT * 0.8, scheme.host, "quiet", FONT, "end"),
    ]
    out += [_edge(edge, boxes) for edge in scheme.edges]
    for box in boxes.values():
        out += _card(box)
    out += _legend(scheme, frame[0], frame[1] + frame[3] + GAP)
    for number, note in enumerate(scheme.notes):
        out.append(_text(MARGIN, height - MARGIN / 2 - LINE * (len(scheme.notes) - 1 - number), note, "quiet"))
    return "\n".join([*out, "</svg>"])


def _described(scheme: Scheme) -> str:
    """The picture for those who hear it."""
    cards = (f"{card.title}, {card.subtitle}: {'; '.join(line.whole for line in card.lines)}." for card in scheme.cards)
    return " ".join([*cards, *scheme.notes])


def _sorts(scheme: Scheme) -> list[tuple[str, str, float]]:
    """The sorts of lines that there are: class, meaning, and how wide that stands in the legend."""
    there = {edge.routed for edge in scheme.edges}
    sorts = ((False, "cable", "a wire"), (True, "routed", "by the host's routing"))
    return [(kind, text, _SAMPLE + 8 + _wide(text) + GAP) for routed, kind, text in sorts if routed in there]


def _legend(scheme: Scheme, x: float, y: float) -> Iterator[str]:
    """What the sorts of lines mean, below the frame."""
    for kind, text, width in _sorts(scheme):
        yield f'<path class="{kind}" d="M{x:.1f} {y:.1f} H{x + _SAMPLE:.1f}"/>'
        yield _text(x + _SAMPLE + 8, y + FONT * 0.35, text, "quiet")
        x += width


def _style() -> str:
    """Every colour stands where it is used, twice: programs that make slides know classes, but no CSS variables."""
    return f"{_SHAPES}{_colours(LIGHT)}\n  @media (prefers-color-scheme: dark) {{{_colours(DARK)}\n  }}\n"


def _colours(of: dict[str, str]) -> str:
    rules = [
        f".paper {{ fill: {of['paper']}; }}",
        f".frame {{ fill: {of['frame']}; stroke: {of['edge']}; }}",
        f"text {{ fill: {of['ink']}; }}",
        f".quiet {{ fill: {of['quiet']}; }}",
        f".warn {{ fill: {of['warn']}; }}",
        f".card {{ fill: {of['card']}; }}",
        f".cable {{ stroke: {of['bridge']}; }}",
        f".plug {{ fill: {of['bridge']}; }}",
        f".routed {{ stroke: {of['routing']}; }}",
    ]
    for kind in KINDS:
        rules += [f".{kind} .card {{ stroke: {of[kind]}; }}", f".{kind} .title {{ fill: {of[kind]}; }}"]
    return "".join(f"\n    {rule}" for rule in rules)


def _place(scheme: Scheme, columns: int) -> tuple[dict[str, Box], tuple[float, float, float, float], float, float]:
    """Where the cards stand, the frame around the host's (x, y, width, height), and the size of it all."""
    boxes: dict[str, Box] = {}
    outside, inside, wires, containers = (
        [card for card in scheme.cards if low <= card.column <= high]
        for low, high in ((OUTSIDE, OUTSIDE), (OUTSIDE + 1, ROUTING), (WIRES, WIRES), (CONTAINERS, CONTAINERS))
    )
    x: float = MARGIN + FRAME
    y: float = MARGIN + HEADING + GAP
    width = max(map(_width, [*outside, *inside]))
    frame_top = _pile(boxes, outside, x, y, width)
    top = frame_top + FRAME + LINE
    lowest = _pile(boxes, inside, x, top, width)
    x += width
    if wires:
        width = max(map(_width, wires))
        lowest = max(lowest, _pile(boxes, wires, x + GUTTER, top, width))
        x += GUTTER + width
    edge = max(x + FRAME, MARGIN + _wide(scheme.host) + 2 * PAD)
    bottom = lowest - GAP + FRAME
    right = edge
    if containers:
        right, lowest = _rows(boxes, containers, edge + GUTTER - FRAME, frame_top, columns)
    total = max(right, MARGIN + _wide(f"{scheme.host}, {scheme.title}", HEADING)) + MARGIN
    total = max(total, *(MARGIN * 2 + _wide(note) for note in scheme.notes), 0)
    total = max(total, MARGIN * 2 + sum(wide for _, _, wide in _sorts(scheme)) - GAP)
    frame = (MARGIN, frame_top, edge - MARGIN, bottom - frame_top)
    below = max(bottom + GAP + MARGIN, lowest + MARGIN if containers else 0)
    return boxes, frame, total, below + LINE * len(scheme.notes)


def _pile(boxes: dict[str, Box], cards: list[Card], x: float, y: float, width: float) -> float:
    """Stand the cards one below the other; where the next one would stand."""
    for card in cards:
        boxes[card.key] = Box(card, x, y, width)
        y += _height(card) + GAP
    return y


def _rows(boxes: dict[str, Box], cards: list[Card], x: float, y: float, columns: int) -> tuple[float, float]:
    """Stand the cards in rows, in as many columns as fit a slide; the right and lower edge."""
    tall = sum(_height(card) + GAP for card in cards)
    columns = columns or min(_MOST, 1 + int(tall / _TALL))
    widths = [max(map(_width, cards[column::columns]), default=0) for column in range(columns)]
    lefts = [x + sum(widths[:column]) + GUTTER * column for column in range(columns)]
    for first in range(0, len(cards), columns):
        row = cards[first : first + columns]
        for column, card in enumerate(row):
            box = boxes[card.key] = Box(card, lefts[column], y, widths[column])
            if column:
                box.lane = y - GAP / 2 + _LANE * (2 * column - 3)
                box.lane_start, box.lane_end = x, lefts[column] - GUTTER
        y += max(map(_height, row)) + GAP
    return lefts[-1] + widths[-1], y - GAP


def _card(box: Box) -> Iterator[str]:
    card = box.card
    yield f'<g class="{card.kind}" data-key="{_attribute(card.key)}">'
    yield (
        f'<rect class="card" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="8"/>'
    )
    base = box.y + PAD + LINE * 0.62
    yield _text(box.x + PAD, base, card.title, "title", TITLE)
    yield _text(box.x + box.width - PAD, base, card.subtitle, "quiet", FONT, "end")
    for number, line in enumerate(card.lines):
        y = box.y + PAD + LINE * (number + 2) + 8 - LINE * 0.25 - 4
        yield _text(box.x + PAD, y, line.text, "head" if line.style == HEAD else line.style)
        if line.more:
            yield _text(box.x + box.width - PAD, y, line.more, "quiet", FONT, "end")
    yield "</g>"


def _edge(edge: Edge, boxes: dict[str, Box]) -> str:
    left, right = boxes[edge.left], boxes[edge.right]
    x1, y1 = left.x + left.width, left.at(edge.left_anchor)
    x2, y2 = right.x, right.at(edge.right_anchor)
    if right.lane:
        lane = right.lane + _LANE * right.lanes
        right.lanes += 1
        shape = f"{_bend(x1, y1, right.lane_start, lane)} H{right.lane_end:.1f}{_bend(right.lane_end, lane, x2, y2)}"
    elif left.x != right.x:
        shape = _bend(x1, y1, x2, y2)
    elif not any(left.y < box.y < right.y for box in boxes.values() if box.x == left.x):
        x1 = x2 = left.x + left.width / 2
        y1, y2 = left.y + left.height, right.y
        shape = _bend(x1, y1, x2, y2)
    else:  # past the cards between them, by the side
        side = x1 if edge.routed else x2
        bulge = side + (_BULGE if edge.routed else -_BULGE)
        x1 = x2 = side
        shape = f" C{bulge:.1f} {y1:.1f} {bulge:.1f} {y2:.1f} {side:.1f} {y2:.1f}"
    line = f'<path class="{"routed" if edge.routed else "cable"}" d="M{x1:.1f} {y1:.1f}{shape}"/>'
    if not edge.routed:
        line += "".join(f'<circle class="plug" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>' for x, y in ((x1, y1), (x2, y2)))
    return f'<g data-key="{_attribute(f"{edge.left}:{edge.left_anchor} {edge.right}:{edge.right_anchor}")}">{line}</g>'


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (x1 + x2) / 2
    return f" C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"


def _text(x: float, y: float, text: str, kind: str, size: float = FONT, anchor: str = "") -> str:
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size:.0f}"{end}>{escape(text)}</text>'


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})
