"""Launchers: programs of a folder in CNI_PATH that are a few lines of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_plugins.sdk import launcher

REAL = os.path.realpath(sys.executable)


def test_a_launcher_names_the_real_interpreter_isolated_and_without_site() -> None:
    lines = launcher.text("host-local").decode().splitlines()
    assert lines[0] == f"#!{REAL} -IS"
    assert ".venv" not in lines[0]
    assert "from cni_plugins.host_local import PLUGIN" in lines


@pytest.mark.parametrize("name", launcher.NAMES)
def test_every_launcher_runs_from_anywhere_with_no_environment_at_all(name: str, tmp_path: Path) -> None:
    launcher.write(str(tmp_path / "bin"))
    program = str(tmp_path / "bin" / name)
    run = subprocess.run([program], env={"CNI_COMMAND": "VERSION"}, cwd="/", capture_output=True, check=True)
    assert json.loads(run.stdout)["supportedVersions"][-1] == "1.1.0"
    about = subprocess.run([program], env={}, cwd="/", capture_output=True, check=True)
    assert about.stdout == b""
    assert name in about.stderr.decode()


def test_the_package_comes_behind_the_standard_library() -> None:
    """A module of ours, or of a neighbour of ours, must not stand in for one of Python's."""
    text = launcher.text("loopback").decode()
    assert f"sys.path.append({launcher.home()!r})" in text
    assert os.path.isdir(os.path.join(launcher.home(), "cni_plugins"))
    assert "insert" not in text


def test_writing_makes_the_folder_says_what_it_wrote_and_is_idempotent(tmp_path: Path) -> None:
    folder = tmp_path / "opt" / "cni" / "bin"
    assert launcher.write(str(folder)) == [str(folder / name) for name in launcher.NAMES]
    before = {path: path.stat().st_ino for path in folder.iterdir()}
    assert {path.name for path in before} == set(launcher.NAMES)
    assert {path.stat().st_mode & 0o777 for path in before} == {0o755}
    assert launcher.write(str(folder)) == []
    assert {path: path.stat().st_ino for path in folder.iterdir()} == before


def test_what_is_stale_or_broken_is_written_anew_and_the_rest_left(tmp_path: Path) -> None:
    launcher.write(str(tmp_path))
    stale = tmp_path / "bridge"
    stale.write_bytes(launcher.text("bridge").replace(REAL.encode(), b"/usr/bin/python3.1"))
    (tmp_path / "loopback").chmod(0o644)
    (tmp_path / "host-local").unlink()
    (tmp_path / "another").write_bytes(b"theirs")
    assert sorted(launcher.write(str(tmp_path))) == [
        str(tmp_path / name) for name in ("bridge", "host-local", "loopback")
    ]
    assert stale.read_bytes() == launcher.text("bridge")
    assert (tmp_path / "another").read_bytes() == b"theirs"


def test_another_program_of_the_name_is_not_replaced_unless_told(tmp_path: Path) -> None:
    theirs = tmp_path / "host-local"
    theirs.write_bytes(b"\x7fELF theirs")
    with pytest.raises(FileExistsError) as caught:
        launcher.write(str(tmp_path))
    assert caught.value.filename == str(theirs)
    assert os.listdir(tmp_path) == ["host-local"], "nothing is written when something would be lost"
    launcher.write(str(tmp_path), force=True)
    assert launcher.is_ours("host-local", str(theirs))


def test_a_link_to_another_program_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"theirs")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bridge").symlink_to(program)
    launcher.write(str(tmp_path / "bin"), force=True)
    assert program.read_bytes() == b"theirs"
    assert not (tmp_path / "bin" / "bridge").is_symlink()


def test_ours_is_what_this_interpreter_would_write_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "bridge"
    path.write_bytes(launcher.text("bridge"))
    assert launcher.is_ours("bridge", str(path))
    assert not launcher.is_ours("loopback", str(path))
    assert not launcher.is_ours("no-plugin-of-ours", str(path))
    path.write_bytes(launcher.text("bridge") + b"\n")
    assert not launcher.is_ours("bridge", str(path))


@pytest.mark.parametrize("path", ["/opt/my python/bin/python", "/opt/" + "x" * 250])
def test_an_interpreter_that_cannot_stand_in_a_first_line_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", path)
    with pytest.raises(ValueError, match="cannot stand in a script's first line"):
        launcher.text("bridge")
