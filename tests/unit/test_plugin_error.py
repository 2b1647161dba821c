"""What a person is shown of a plugin that says too much."""

from __future__ import annotations

from minirt.errors import PluginError


def test_of_a_long_log_the_last_lines_are_shown_and_all_is_kept() -> None:
    log = "".join(f"line {number}\n" for number in range(10_000))
    error = PluginError("odd", "ADD", "it gave up", stderr=log)
    assert str(error).startswith("plugin 'odd' failed on ADD: it gave up: …\nline ")
    assert str(error).endswith("line 9998\nline 9999")
    assert len(str(error)) < 2100 and error.stderr == log


def test_of_a_long_sentence_the_beginning_is_shown() -> None:
    error = PluginError("odd", "ADD", "why" * 10_000, details="more" * 10_000, stderr="y" * 100_000)
    assert str(error).startswith("plugin 'odd' failed on ADD: whywhy") and str(error).endswith("yyy")
    assert len(str(error)) < 6100 and str(error).count("…") == 3


def test_what_is_short_is_shown_whole() -> None:
    error = PluginError("odd", "DEL", "busy", code=11, details="eth0", stderr="a\nb\n", network="net")
    assert str(error) == "network 'net': plugin 'odd' failed on DEL (code 11): busy: eth0: a\nb"
