"""The scheme as an SVG for a slide: stacks of cards on a grid, a frame around what the host is, light and dark.

    outside
    ┌─────────────────────────────┐
    │ uplinks   ╌╌ bridges, wires │ ── containers
    │ routing   ╌╌ …              │ ── …
    └─────────────────────────────┘

A card is as wide as its longest line. Every card and every line has a key (`data-key`), by which the page of `minirt
serve` knows it again, and a container's card the container's id (`data-id`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from minirt.picture.scheme import CONTAINERS, OUTSIDE, ROUTING, WIRES, Card, Edge, Scheme
from minirt.svg import HEADING, attribute, page, style, text, wide

FONT, TITLE = 14, 17
LINE, PAD, GAP, GUTTER, MARGIN, FRAME = 21, 14, 26, 84, 28, 26
_BULGE = 30  # how far a line bends that passes by the side of a card
_LEAST, _SAMPLE = 150, 40
_TALL, _MOST = 1000, 3  # containers stand in one more column for so much height, in so many at most
_LANE = 5  # how far wires are apart that run between rows of containers

_SHAPES = """
  .title, .head { font-weight: bold; }
  .frame { stroke-dasharray: 2 5; } .card { stroke-width: 2; }
  .cable { fill: none; stroke-width: 2.5; } .routed { fill: none; stroke-width: 2; stroke-dasharray: 6 5; }"""
# The colour of each kind of card.
KINDS = {
    "outside": "grey",
    "uplink": "amber",
    "routing": "purple",
    "bridge": "blue",
    "wire": "blue",
    "container": "green",
}


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


def _width(card: Card) -> float:
    title = wide(card.title, TITLE) + GAP + wide(card.subtitle, FONT)
    lines = [wide(line.text, FONT) + (GAP + wide(line.more, FONT) if line.more else 0) for line in card.lines]
    return max(_LEAST, title, *lines) + 2 * PAD if card.lines else title + 2 * PAD


def _height(card: Card) -> float:
    return PAD * 2 + LINE * (len(card.lines) + 1) + (8 if card.lines else 0) - 4


def draw(scheme: Scheme) -> str:
    """The whole document."""
    boxes, frame, width, height = _place(scheme)
    title = f"{scheme.host}, {scheme.title}"
    out = [
        text(MARGIN, MARGIN + HEADING * 0.8, title, "title", HEADING),
        '<rect class="frame" x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" rx="14"/>'.format(*frame),
        text(frame[0] + frame[2] - PAD, frame[1] + PAD + FONT * 0.8, scheme.host, "quiet", FONT, "end"),
    ]
    out += [_edge(edge, boxes) for edge in scheme.edges]
    for box in boxes.values():
        out += _card(box)
    out += _legend(frame[0], frame[1] + frame[3] + GAP)
    for number, note in enumerate(scheme.notes):
        y = height - MARGIN / 2 - LINE * (len(scheme.notes) - 1 - number)
        out.append(text(MARGIN, y, note, "quiet", FONT))
    return page(width, height, title, _described(scheme), style(_SHAPES, _colours), out)


def _described(scheme: Scheme) -> str:
    """The picture for those who hear it."""
    cards = (f"{card.title}, {card.subtitle}: {'; '.join(line.whole for line in card.lines)}." for card in scheme.cards)
    return " ".join([*cards, *scheme.notes])


def _legend(x: float, y: float) -> Iterator[str]:
    """What the two sorts of lines mean, below the frame."""
    for kind, meaning in (("cable", "a wire"), ("routed", "by the host's routing")):
        yield f'<path class="{kind}" d="M{x:.1f} {y:.1f} H{x + _SAMPLE:.1f}"/>'
        yield text(x + _SAMPLE + 8, y + FONT * 0.35, meaning, "quiet", FONT)
        x += _SAMPLE + 8 + wide(meaning, FONT) + GAP


def _colours(of: Mapping[str, str]) -> Iterator[str]:
    yield f".frame {{ fill: {of['frame']}; stroke: {of['edge']}; }}"
    yield f".warn {{ fill: {of['red']}; }}"
    yield f".card {{ fill: {of['card']}; }}"
    yield f".cable {{ stroke: {of['blue']}; }}"
    yield f".plug {{ fill: {of['blue']}; }}"
    yield f".routed {{ stroke: {of['purple']}; }}"
    for kind, colour in KINDS.items():
        yield f".{kind} .card {{ stroke: {of[colour]}; }}"
        yield f".{kind} .title {{ fill: {of[colour]}; }}"


def _place(scheme: Scheme) -> tuple[dict[str, Box], tuple[float, float, float, float], float, float]:
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
    edge = max(x + FRAME, MARGIN + wide(scheme.host, FONT) + 2 * PAD)
    bottom = lowest - GAP + FRAME
    right = edge
    if containers:
        right, lowest = _rows(boxes, containers, edge + GUTTER - FRAME, frame_top)
    total = max(right, MARGIN + wide(f"{scheme.host}, {scheme.title}", HEADING)) + MARGIN
    total = max(total, *(MARGIN * 2 + wide(note, FONT) for note in scheme.notes), 0)
    frame = (MARGIN, frame_top, edge - MARGIN, bottom - frame_top)
    below = max(bottom + GAP + MARGIN, lowest + MARGIN if containers else 0)
    return boxes, frame, total, below + LINE * len(scheme.notes)


def _pile(boxes: dict[str, Box], cards: list[Card], x: float, y: float, width: float) -> float:
    """Stand the cards one below the other; where the next one would stand."""
    for card in cards:
        boxes[card.key] = Box(card, x, y, width)
        y += _height(card) + GAP
    return y


def _rows(boxes: dict[str, Box], cards: list[Card], x: float, y: float) -> tuple[float, float]:
    """Stand the cards in rows, in as many columns as fit a slide; the right and lower edge."""
    tall = sum(_height(card) + GAP for card in cards)
    columns = min(_MOST, 1 + int(tall / _TALL))
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
    identity = f' data-id="{attribute(card.subject)}"' if card.subject else ""
    yield f'<g class="{card.kind}" data-key="{attribute(card.key)}"{identity}>'
    yield (
        f'<rect class="card" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="8"/>'
    )
    base = box.y + PAD + LINE * 0.62
    yield text(box.x + PAD, base, card.title, "title", TITLE)
    yield text(box.x + box.width - PAD, base, card.subtitle, "quiet", FONT, "end")
    for number, line in enumerate(card.lines):
        y = box.y + PAD + LINE * (number + 2) + 8 - LINE * 0.25 - 4
        yield text(box.x + PAD, y, line.text, line.style, FONT)
        if line.more:
            yield text(box.x + box.width - PAD, y, line.more, "quiet", FONT, "end")
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
    return f'<g data-key="{attribute(f"{edge.left}:{edge.left_anchor} {edge.right}:{edge.right_anchor}")}">{line}</g>'


def _bend(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (x1 + x2) / 2
    return f" C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
