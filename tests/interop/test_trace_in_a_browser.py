"""The picture of a trace as a browser draws it: whole, and light or dark as the reader's system is."""

from __future__ import annotations

import json
import re
import subprocess
import zlib
from pathlib import Path

import pytest

from minirt import svg as drawing
from minirt.cni.call import Answered, Calling
from minirt.trace import reading, svg
from minirt.trace.recorder import Recorder

LIGHT, DARK = 1, 0  # blink's own numbers
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    recorder = Recorder(str(tmp_path / "trace"), "minirt run")
    call = Calling("ADD", "lab", "bridge", "/opt/bridge", {"CNI_IFNAME": "eth0"}, {"type": "bridge"})
    recorder.event(call)
    recorder.event(Answered(call, 0, json.dumps({"ips": [{"address": "10.1.0.2/24"}]}).encode(), b"", 0.005, ""))
    path = tmp_path / "trace.svg"
    path.write_text(svg.draw(reading.read(recorder.path)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("scheme", "paper"), [(LIGHT, drawing.LIGHT["paper"]), (DARK, drawing.DARK["paper"])])
def test_the_picture_of_a_trace_is_drawn_on_paper_of_the_readers_liking(picture: Path, scheme: int, paper: str) -> None:
    drawn = picture.with_suffix(".png")
    words = [f"--user-data-dir={picture.parent}/profile", f"--blink-settings=preferredColorScheme={scheme}"]
    size = re.search(r'width="(\d+)" height="(\d+)"', picture.read_text(encoding="utf-8"))
    assert size
    words += [f"--window-size={size[1]},{size[2]}", f"--screenshot={drawn}", picture.as_uri()]
    subprocess.run([*CHROMIUM, *words], check=True, capture_output=True, timeout=60)
    png = drawn.read_bytes()
    assert tuple(int.from_bytes(png[at : at + 4]) for at in (16, 20)) == (int(size[1]), int(size[2]))
    assert first_pixel(png) == bytes.fromhex(paper.removeprefix("#"))
    assert len(set(pixels(png))) > 100, "more than paper"


def pixels(png: bytes) -> bytes:
    """The lines of a PNG as they are filtered: each begins with its filter's number (PNG, section 9)."""
    at, data = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    return zlib.decompress(data)


def first_pixel(png: bytes) -> bytes:
    """Red, green, blue: no filter changes the first pixel of the first line but for what lies outside, which is 0."""
    return pixels(png)[1:4]
