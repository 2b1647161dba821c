"""Drawings as their readers take them: an SVG's boxes and texts as rectangles, mermaid's and dot's nodes and edges."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
ADVANCE = 0.602  # of the font's size: a character of DejaVu Sans Mono


@dataclass(frozen=True)
class Area:
    """A rectangle of an SVG, and what stands there."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Area) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: Area) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


BOXES = {"card", "box", "note"}  # rectangles that texts stand in


class Svg:
    """An SVG, read as XML."""

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text)
        self.page = Area("page", 0, 0, float(self.root.attrib["width"]), float(self.root.attrib["height"]))
        self.cards = [self._rect(item) for item in self.root.iter(f"{SVG}rect") if item.get("class") in BOXES]
        self.texts = [self._text(item) for item in self.root.iter(f"{SVG}text")]
        self.words = [item.name for item in self.texts]
        paths = [item for item in self.root.iter(f"{SVG}path") if not item.attrib["d"].endswith("Z")]
        self.paths = [item.attrib["d"] for item in paths if item.get("class") != "life"]
        self.lifelines = [item.attrib["d"] for item in paths if item.get("class") == "life"]

    @staticmethod
    def _rect(item: ElementTree.Element) -> Area:
        x, y, width, height = (float(item.attrib[key]) for key in ("x", "y", "width", "height"))
        return Area("card", x, y, x + width, y + height)

    @staticmethod
    def _text(item: ElementTree.Element) -> Area:
        x, y, size = (float(item.attrib[key]) for key in ("x", "y", "font-size"))
        width = len(item.text or "") * size * ADVANCE
        left = x - width * {"end": 1, "middle": 0.5}.get(item.get("text-anchor", ""), 0)
        return Area(item.text or "", left, y - size * 0.78, left + width, y + size * 0.22)

    def faults(self) -> list[str]:
        """Texts that overlap, leave their card or the page; cards that overlap; wires that run through a card."""
        found = [f"{a.name!r} overlaps {b.name!r}" for a, b in combinations(self.texts, 2) if a.meets(b)]
        found += [f"cards overlap: {a} {b}" for a, b in combinations(self.cards, 2) if a.meets(b)]
        found += [f"{text.name!r} leaves the page" for text in self.texts if not self.page.holds(text)]
        for text in self.texts:
            found += [
                f"{text.name!r} crosses a card" for card in self.cards if card.meets(text) and not card.holds(text)
            ]
        for path in self.paths:
            spots = [Area(path, x - 0.5, y - 0.5, x + 0.5, y + 0.5) for x, y in _along(path)]
            found += [f"a wire runs through a card: {path}" for card in self.cards if any(map(card.holds, spots))]
        return found


def _along(path: str) -> list[tuple[float, float]]:
    """Points of a path, which is made of M, H and C alone, without its first and last few."""
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]
    at, rest, points = (numbers[0], numbers[1]), numbers[2:], []
    for command in re.findall("[HC]", path):
        if command == "H":
            end = (rest.pop(0), at[1])
            steps = [(at[0] + (end[0] - at[0]) * part / 20, at[1]) for part in range(21)]
        else:
            one, two, end = ((rest.pop(0), rest.pop(0)) for _ in range(3))
            steps = [_bezier(at, one, two, end, part / 20) for part in range(21)]
        points += steps
        at = end
    return points[1:-1]


def _bezier(
    a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float], t: float
) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x, y = (sum(w * point[axis] for w, point in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
    return x, y


NODE = re.compile(r'^\s*(\w+)\["(.*)"\]$')
EDGE = re.compile(r'^\s*(\w+) (?:---|-\.-)(?:\|"(.*)"\|)? (\w+)$')


def mermaid(text: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Nodes with their labels, and edges (from, label, to); a line that is neither fails."""
    lines = text.strip().splitlines()
    assert lines[0] == "---" and lines[2:4] == ["---", "flowchart LR"] and lines[1].startswith("title: ")
    nodes, edges = {}, []
    depth = 0
    for line in lines[4:]:
        if match := EDGE.match(line):
            edges.append((match[1], match[2] or "", match[3]))
        elif line.strip().startswith("subgraph "):
            depth += 1
        elif line.strip() == "end":
            depth -= 1
        else:
            match = NODE.match(line)
            assert match and match[1] not in nodes, line
            nodes[match[1]] = match[2]
    assert depth == 0
    assert {end for edge in edges for end in (edge[0], edge[2])} <= set(nodes)
    return nodes, edges


def dot(text: str) -> list[tuple[str, str, str, str]]:
    """What graphviz makes of it: edges as (tail, its port, head, its port)."""
    done = subprocess.run(["dot", "-Tdot_json"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    graph = json.loads(done.stdout)
    names = {item["_gvid"]: item["name"] for item in graph["objects"]}
    return [
        (names[edge["tail"]], edge.get("tailport", ""), names[edge["head"]], edge.get("headport", ""))
        for edge in graph.get("edges", ())
    ]
