"""Where plugins are looked for, and how the bundled ones are started (reference: R11, L8; the executor seam)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minirt.cni import executor
from minirt.cni.executor import Executor
from minirt.errors import ConfigError, Conflict, KernelRefused, NotFound


def test_L8_the_first_folder_that_has_the_program_counts(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "bridge").mkdir()
    (tmp_path / "two" / "bridge").touch()
    (tmp_path / "three" / "bridge").touch()
    folders = [str(tmp_path / name) for name in ("missing", "one", "two", "three")]
    assert Executor(folders).find("bridge") == f"{tmp_path}/two/bridge"


def test_R19_a_plugin_that_is_nowhere_is_told_with_the_folders_searched(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Executor(("/a", "/b")).find("flannel")
    assert str(caught.value) == "plugin 'flannel' not found in /a, /b"
    assert "containernetworking-plugins" in caught.value.hint and "bridge" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        Executor((str(tmp_path),)).find("bridge")
    assert "minirt plugin install" in caught.value.hint


@pytest.mark.parametrize("name", ["../bridge", "a/b", "", ".", ".."])
def test_a_type_that_would_leave_the_folders_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="invalid plugin type"):
        Executor(("/usr/bin",)).find(name)


def test_R11_CNI_PATH_replaces_the_folders(tmp_path: Path) -> None:
    assert executor.search_path({"CNI_PATH": f"{tmp_path}::/b"}) == (str(tmp_path), "/b")


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter seems to be a virtual environment's, in tmp_path."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    (tmp_path / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def test_without_CNI_PATH_the_bundled_plugins_come_first_and_are_written_on_first_use(prefix: Path) -> None:
    ours = f"{prefix}/libexec/minirt/cni"
    assert executor.search_path({}) == (ours, "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
    assert {"bridge", "host-local", "loopback", "portmap"} <= set(os.listdir(ours))
    said = subprocess.run([f"{ours}/loopback"], env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True)
    assert b"supportedVersions" in said.stdout


def test_launchers_of_another_interpreter_are_written_anew(prefix: Path) -> None:
    ours = f"{prefix}/libexec/minirt/cni"
    executor.search_path({})
    right = Path(ours, "loopback").read_bytes()
    for name in os.listdir(ours):
        Path(ours, name).write_bytes(Path(ours, name).read_bytes().replace(b"#!/", b"#!/moved/"))
    executor.search_path({})
    assert Path(ours, "loopback").read_bytes() == right


def test_launchers_that_an_earlier_version_did_not_have_are_written(prefix: Path) -> None:
    ours = Path(prefix, "libexec/minirt/cni")
    executor.search_path({})
    (ours / "vrf").unlink()
    executor.search_path({})
    assert (ours / "vrf").exists()


def test_with_S_the_environment_that_the_interpreter_belongs_to_is_still_known(prefix: Path) -> None:
    top = Path(__file__).parents[2]
    program = f"import sys; sys.path.append({str(top)!r}); from minirt.cni import executor; print(executor.bundled())"
    said = subprocess.run([prefix / "bin" / "python", "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == f"{prefix}/libexec/minirt/cni\n"


def test_a_strange_program_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "bridge").write_text("#!/bin/sh\n", encoding="utf-8")
    with pytest.raises(Conflict, match=f"{tmp_path}/bridge is another program"):
        executor.install(str(tmp_path))
    assert os.listdir(tmp_path) == ["bridge"]
    assert f"{tmp_path}/bridge" in executor.install(str(tmp_path), force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_file_where_the_folder_should_be_is_told_and_no_flag_is_promised_to_help(tmp_path: Path, force: bool) -> None:
    (tmp_path / "bridge").touch()
    with pytest.raises(Conflict, match=f"{tmp_path}/bridge is not a folder") as caught:
        executor.install(str(tmp_path / "bridge"), force=force)
    assert "--force" not in caught.value.hint


def test_a_folder_that_cannot_be_written_is_told_with_the_way_around(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelRefused) as caught:
        executor.install(str(tmp_path / "file" / "cni"))
    assert "CNI_PATH" in caught.value.hint
