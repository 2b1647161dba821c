"""How a page looks, asked of the browser that shows it: what is clipped or too small, what can hardly be read or hit.

Each question is a body of JavaScript that gives a list of faults, empty where there are none; `GRAPH` is the picture's
shadow tree. Contrast and its formula are WCAG 2.2's (1.4.3, "relative luminance"), 4.5 to 1 is what it asks of text.
"""

from __future__ import annotations

import base64
from typing import Any

from support.browser import Browser
from support.webpage import GRAPH

SCREENS = {"phone": (360, 740), "tall-phone": (390, 844), "laptop": (1280, 800), "projector": (1920, 1080)}
SCHEMES = ("light", "dark")
READABLE = 4.5
FINGER = 40  # pixels: as high as what is pointed at with a finger

_TOOLS = """
    const visible = (e) => !e.closest('.hidden, .skip') &&
        e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const named = (e) => `${e.localName}#${e.id}.${e.getAttribute('class')} ${e.textContent.trim().slice(0, 40)}`;
    const written = (e) => [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const texts = (root) => [...root.querySelectorAll(':not(style, title, desc)')]
        .filter((e) => visible(e) && written(e));
    const box = (e) => e.getBoundingClientRect();
"""

# The page is no wider than the screen, and neither is anything that does not scroll by itself; no word is cut off, and
# what stands side by side does not overlap.
CLIPPED = """
    const found = [], page = document.documentElement;
    if (page.scrollWidth > page.clientWidth) found.push(`the page is ${page.scrollWidth} wide`);
    const scrolls = (e) => e && (/auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    for (const e of document.querySelectorAll('body *')) {
        if (!visible(e) || e.ownerSVGElement || scrolls(e)) continue;
        if (box(e).right > page.clientWidth + 1) found.push(`beyond the edge: ${named(e)}`);
        const hides = getComputedStyle(e).overflowX === 'hidden';
        if (hides && e.scrollWidth > e.clientWidth + 1) found.push(`cut off: ${named(e)}`);
    }
    const meet = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    const rows = '.bar, .storyhead, .player, .lanes, .panel > header, .typed, :is(a, li).row, .graph footer, .now';
    for (const row of document.querySelectorAll(rows)) {
        [...row.children].filter(visible).forEach((a, at, all) => all.slice(at + 1).forEach((b) => {
            if (meet(box(a), box(b))) found.push(`${named(a)} overlaps ${named(b)}`);
        }));
    }
    return found;
"""

# What is faint on purpose, what cannot be pressed and what a story has not come to yet, is left out.
PALE = """
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const ground = (e) => {
        const rgb = numbers(getComputedStyle(e).backgroundColor);
        return rgb.length === 3 || rgb[3] === 1 ? rgb : ground(e.parentElement);
    };
    const faint = (e) => e && (Number(getComputedStyle(e).opacity) < 1 || faint(e.parentElement));
    const contrast = (e) => {
        const { color, fill } = getComputedStyle(e);
        const [bright, dark] = [numbers(e.ownerSVGElement ? fill : color), ground(e)].map(light).sort((a, b) => b - a);
        return (bright + 0.05) / (dark + 0.05);
    };
    const pale = texts(document).filter((e) => !faint(e) && !e.closest(':disabled') && contrast(e) < arguments[0]);
    return pale.map((e) => `${contrast(e).toFixed(2)} ${named(e)}`);
"""

LOW = """
    const pointed = 'a, button, summary, label, input:not(label *), [data-step] .hit';
    const all = [...document.querySelectorAll(pointed), ...GRAPH.querySelectorAll('g.container')];
    const low = all.filter((e) => visible(e) && box(e).height < arguments[0]);
    return low.map((e) => `${box(e).height} ${named(e)}`);
""".replace("GRAPH", GRAPH)

TINY = """
    const size = (e) => {
        const wide = e.ownerSVGElement?.viewBox.baseVal?.width;
        return wide ? Number(e.getAttribute('font-size')) * box(e.ownerSVGElement).width / wide
            : parseFloat(getComputedStyle(e).fontSize);
    };
    const tiny = [...texts(document), ...texts(GRAPH)].filter((e) => size(e) < arguments[0]);
    return tiny.map((e) => `${size(e).toFixed(1)} ${named(e)}`);
""".replace("GRAPH", GRAPH)

_COLOURS = """
    const image = new Image();
    image.src = `data:image/png;base64,${arguments[0]}`;
    return image.decode().then(() => {
        const { width, height } = image, canvas = document.createElement('canvas');
        const context = Object.assign(canvas, { width, height }).getContext('2d');
        context.drawImage(image, 0, 0);
        const dots = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer), counts = new Map();
        for (const dot of dots) counts.set(dot, (counts.get(dot) ?? 0) + 1);
        const two = (value) => (value & 255).toString(16).padStart(2, '0');
        const hex = (dot) => `#${two(dot)}${two(dot >> 8)}${two(dot >> 16)}`;
        const often = [...counts].sort((a, b) => b[1] - a[1]);
        return [width, height, often.map(([dot, count]) => [hex(dot), count / dots.length])];
    });
"""


def faults(browser: Browser, question: str, least: float = 0) -> list[str]:
    found: list[str] = browser.script(_TOOLS + question, least)
    return found


def painted(browser: Browser, png: bytes) -> tuple[tuple[int, int], dict[str, float]]:
    """The size of a picture, and its colours, each with its share of the area, the largest first."""
    width, height, colours = browser.script(_COLOURS, base64.b64encode(png).decode())
    return (width, height), dict(colours)


def variable(browser: Browser, name: str) -> str:
    """A colour of the page's own, by its name in the style sheet."""
    value: Any = browser.script(
        f"return getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
    )
    return str(value)
