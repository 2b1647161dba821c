"""What every SVG of minirt's is made of: one palette for light and dark, texts whose width is known, the page around.

Nothing is measured by a browser: names stand in a monospaced font, whose characters are all equally wide, so where a
text ends is known beforehand and nothing overlaps, whoever renders it. Where the reader's system is dark, so is the
picture (`prefers-color-scheme`). Every colour stands where it is used, twice: programs that make slides know classes,
but no CSS variables. Whatever is written is made fit for XML, and to be seen (`visible`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from xml.sax.saxutils import escape

from minirt.visible import line as shown

ADVANCE = 0.62  # of the font's size: DejaVu Sans Mono, the widest of the usual ones, has 0.602
HEADING = 24

LIGHT = {
    "paper": "#ffffff", "ink": "#1b2330", "quiet": "#5a6675", "card": "#ffffff", "frame": "#f4f6f9", "edge": "#8793a3",
    "line": "#b3bcc8", "blue": "#0b6bcb", "green": "#157347", "red": "#b3261e", "amber": "#8a5a00",
    "purple": "#6c3fb4", "grey": "#6b7686", "note": "#fff8e6", "rim": "#d9a514",
}  # fmt: skip
DARK = {
    "paper": "#11151b", "ink": "#e8edf4", "quiet": "#a3afbe", "card": "#222a35", "frame": "#191f28", "edge": "#7d8a9b",
    "line": "#465160", "blue": "#5cb0ff", "green": "#5fd396", "red": "#ff8a80", "amber": "#f0b44c",
    "purple": "#b794f6", "grey": "#9aa6b6", "note": "#2b2618", "rim": "#a8842b",
}  # fmt: skip
_TEXT = """
  text { font-family: "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace; }"""


def wide(words: str, size: float) -> float:
    """How much room a text of that size takes."""
    return len(shown(words)) * size * ADVANCE


def text(x: float, y: float, words: str, kind: str, size: float, anchor: str = "") -> str:
    """A line of text of the classes `kind`; with the anchor "end" or "middle", x is where that is."""
    end = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" font-size="{size:.0f}"{end}>{escape(shown(words))}</text>'


def attribute(words: str) -> str:
    return escape(shown(words), {'"': "&quot;"})


def style(shapes: str, rules: Callable[[Mapping[str, str]], Iterable[str]]) -> str:
    """The sheet: `shapes` for both, and what `rules` make of the colours of each."""
    light, dark = ("".join(f"\n    {rule}" for rule in (*_common(of), *rules(of))) for of in (LIGHT, DARK))
    return f"{_TEXT}{shapes}{light}\n  @media (prefers-color-scheme: dark) {{{dark}\n  }}\n"


def _common(of: Mapping[str, str]) -> Iterable[str]:
    yield f".paper {{ fill: {of['paper']}; }}"
    yield f"text {{ fill: {of['ink']}; }}"
    yield f".quiet {{ fill: {of['quiet']}; }}"


def page(width: float, height: float, title: str, description: str, sheet: str, drawn: Iterable[str]) -> str:
    """The document. Title and description are for those who hear it."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{attribute(title)}">',
            f"<title>{escape(shown(title))}</title>",
            f"<desc>{escape(shown(description))}</desc>",
            f"<style>{sheet}</style>",
            f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
            *drawn,
            "</svg>",
        ]
    )
