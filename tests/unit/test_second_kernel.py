"""The second kernel's side of pytest, with a guest that is a few lines of shell: what it owes is never lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import secondkernel
from support.secondkernel import Guest

Boot = Callable[[str], Guest]


@pytest.fixture
def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    def start(script: str) -> Guest:
        program = tmp_path / "boot"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(secondkernel, "BOOT", program)
        return Guest(["a", "b"])

    return start


def test_a_test_is_over_when_its_guest_says_so_and_its_reports_are_kept(boot: Boot) -> None:
    guest = boot("""cat >/dev/null; echo '{"nodeid": "a", "when": "call"}' >&3; echo '{"done": "a"}' >&3; sleep 60""")
    assert guest.wait_for("a") == ""
    assert guest.reports["a"] == [{"nodeid": "a", "when": "call"}]
    guest.end()


def test_a_guest_that_dies_owes_its_last_words(boot: Boot) -> None:
    guest = boot("""cat >/dev/null; echo '{"done": "a"}' >&3; echo "Kernel panic - not syncing" >&2; exit 1""")
    assert guest.wait_for("a") == ""
    reason = guest.wait_for("b")
    assert "ended before it had run this test" in reason and "Kernel panic - not syncing" in reason


def test_a_guest_that_says_nothing_is_ended(boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secondkernel, "SILENCE", 0.2)
    guest = boot("cat >/dev/null; echo booting; exec sleep 60")
    assert "said nothing for 0 s and was ended:\n\nbooting" in guest.wait_for("a")
    assert "ended before" in guest.wait_for("b")


def test_a_guest_is_asked_for_its_tests_and_a_line_half_written_is_waited_for(boot: Boot) -> None:
    guest = boot("""printf '{"done": ' >&3; grep -x b; sleep 0.1; echo '"a"}' >&3""")
    assert guest.wait_for("a") == ""
    assert guest.wait_for("b").endswith("\nb\n"), "the request's line came back on the console"


def test_a_kernel_that_is_not_there_is_told(boot: Boot) -> None:
    guest = boot("cat >/dev/null; exec no-such-kernel")
    assert "no-such-kernel: not found" in guest.wait_for("a")


def test_no_file_of_a_guests_is_found_in_any_folder(boot: Boot) -> None:
    guest = boot("cat >/dev/null; exec sleep 60")
    own = [os.readlink(f"/proc/self/fd/{fd}") for fd in (guest._lines, guest._console)]
    assert all(name.startswith("/memfd:") for name in own)
    guest.end()
