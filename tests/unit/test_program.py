"""Other people's programs: where they are sought, and what is heard of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_plugins.sdk import program
from cni_plugins.sdk.program import Said
from cni_plugins.spec.errors import CniError

SHELL = "/bin/sh"


def test_both_outputs_and_the_exit_code_are_heard() -> None:
    assert program.run(SHELL, "-c", "echo one; echo two >&2; exit 7") == Said(7, "one\ntwo\n")


def test_standard_input_is_what_is_given_and_ends() -> None:
    assert program.run("/bin/cat", stdin="a line\n") == Said(0, "a line\n")
    assert program.run("/bin/cat") == Said(0, "")


def test_a_program_that_a_signal_ends_has_its_number() -> None:
    assert program.run(SHELL, "-c", "kill -9 $$") == Said(-9, "")


def test_much_output_is_heard_to_its_end() -> None:
    assert len(program.run(SHELL, "-c", "yes | head -c 1000000").text) == 1000000


def test_words_reach_the_program_as_they_are() -> None:
    assert program.run(SHELL, "-c", 'printf "%s|" "$@"', "sh", "a b", "*", "").text == "a b|*||"


def test_the_first_line_is_the_reason_and_without_one_the_exit_code() -> None:
    assert Said(1, "\nno such thing\nTry --help\n").first == "no such thing"
    assert Said(3, " \n").first == "exit 3"


def test_a_program_that_cannot_be_started_is_an_error_that_leaves_nothing_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(FileNotFoundError):
        program.run("/nowhere/at/all")
    assert len(sorted(Path("/proc/self/fd").iterdir())) == len(before)


def test_the_folders_of_administration_come_before_those_of_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sh").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.present("sh") in ("/usr/bin/sh", "/bin/sh")
    monkeypatch.setattr(program, "FOLDERS", ("/nowhere",))
    assert program.present("sh") == str(tmp_path / "sh")


def test_a_missing_program_is_code_50_and_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/where")
    monkeypatch.setattr(program, "FOLDERS", ("/nowhere",))
    assert program.present("iptables") == ""
    with pytest.raises(CniError) as caught:
        program.find("iptables", "iptables")
    assert (caught.value.code, caught.value.msg) == (50, "the iptables program is missing")
    assert caught.value.details == "install the iptables package (looked in /nowhere, /no/where)"
