"""What a workload starts with: its environment, and the file that its command means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minirt import child, errors, process
from minirt.errors import CommandNotExecutable, CommandNotFound, KernelRefused, NotFound, SetupFailed, UsageError

DOCKERS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_the_environment_is_dockers_and_nothing_of_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE")
    assert process.environment((), "box", "/root", False) == {
        "PATH": DOCKERS_PATH,
        "HOSTNAME": "box",
        "HOME": "/root",
    }
    assert process.environment((), "box", "/root", True)["TERM"] == "xterm"


def test_what_is_asked_for_wins() -> None:
    given = (("HOME", "/x"), ("A", "1"), ("A", "2"), ("TERM", ""))
    env = process.environment(given, "box", "/root", True)
    assert (env["HOME"], env["A"], env["TERM"]) == ("/x", "2", "")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name, mode in (("first/plain", 0o644), ("second/plain", 0o755), ("second/only", 0o755), ("first/no", 0o644)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(mode)
    (tmp_path / "first/folder").mkdir()
    return tmp_path


def test_a_command_is_the_first_in_the_path_that_can_be_executed(folders: Path) -> None:
    path = f"{folders}/missing:{folders}/first::{folders}/second"
    assert process.find("only", path) == f"{folders}/second/only"
    assert process.find("plain", path) == f"{folders}/second/plain"
    assert process.find(f"{folders}/second/only", "") == f"{folders}/second/only"


@pytest.mark.parametrize("name", ["no", "folder"])
def test_one_that_is_there_and_cannot_be_executed_is_told_apart(folders: Path, name: str) -> None:
    with pytest.raises(CommandNotExecutable, match=name):
        process.find(name, f"{folders}/first:{folders}/second")


def test_an_empty_part_of_the_path_is_not_the_working_directory(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders / "second")
    for path in ("", ":", "/nowhere:"):
        with pytest.raises(CommandNotFound, match="only"):
            process.find("only", path)


ERRORS = [
    CommandNotFound("no command 'x' in the container", "PATH there is /bin"),
    CommandNotExecutable("cannot execute 'x': permission denied"),
    NotFound("no user 'ä'", ""),
    UsageError("invalid"),
    SetupFailed("working directory '/x': not a directory", "choose another"),
    KernelRefused("mount -t overlay overlay /x", OSError(19, "No such device"), "try another kernel"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_failure_crosses_the_channel_as_itself(error: errors.MinirtError) -> None:
    back = child._unpacked(child._packed(error))
    assert type(back) is type(error)
    assert (str(back), back.hint, back.exit_code) == (str(error), error.hint, error.exit_code)


@pytest.mark.parametrize("letter", ["x", "\udcff", "\N{GRINNING FACE}"])
def test_a_failure_of_any_length_crosses_the_channel_in_one_packet(letter: str) -> None:
    foreseen = (SetupFailed(letter * 100_000, letter * 100_000), ValueError(letter * 100_000))
    for error in (*foreseen, KernelRefused("mount " + letter * 100_000, OSError(19, "No such device"))):
        packed = child._packed(error)
        assert len(packed) < child._LARGEST
        back = child._unpacked(packed)
        assert letter * 1000 in str(back) and back.exit_code == 125
        assert back.hint[:10] == getattr(error, "hint", "")[:10]


def test_a_failure_nobody_foresaw_says_where_it_was() -> None:
    for foreseen in (OSError(5, os.strerror(5)), ZeroDivisionError("division by zero")):
        try:
            raise foreseen
        except Exception as error:
            back = child._unpacked(child._packed(error))
        assert "test_process.py:" in f"{back} {back.hint}"
        assert back.exit_code == 125


def test_every_error_has_one_of_three_exit_codes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MinirtError)]
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    assert codes.pop("CommandNotFound") == 127
    assert codes.pop("CommandNotExecutable") == 126
    assert set(codes.values()) == {125}
    assert errors.exit_code(ValueError()) == 125
    assert all(f" {kind.__name__} " in str(errors.__doc__) for kind in kinds), "the tree shows all of them"
