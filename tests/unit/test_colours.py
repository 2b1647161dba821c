"""What is written on a terminal."""

from __future__ import annotations

import io

import pytest

from minirt.terminal import coloured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [({}, True), ({"TERM": "xterm"}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_have_them_and_people_who_want_them(
    environ: dict[str, str], wanted: bool
) -> None:
    assert coloured(Terminal(), environ) is wanted
    assert not coloured(io.StringIO(), environ)
