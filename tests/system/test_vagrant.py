"""The lab machine's Vagrantfile, as Vagrant itself reads it. What it sets up is tested in test_fresh_machine.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import house
from support.house import TOP

# All of VirtualBox that a Vagrant without it needs to check the settings for it.
VIRTUALBOX = "#!/bin/sh\ncase $1 in --version | -v) echo 7.0.10r158379 ;; esac\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of vagrant/ that a test may spoil, where it lies in a checkout."""
    shutil.copytree(TOP / "vagrant", tmp_path / "checkout/vagrant")
    return tmp_path / "checkout/vagrant"


def _validate(folder: Path, *options: str, provider: str = "virtualbox") -> subprocess.CompletedProcess[str]:
    """`vagrant validate` without a network, with a home of its own, a VirtualBox that is but a version, and the libvirt
    that libvirt has for tests."""
    scratch = folder.parent / "scratch"
    scratch.mkdir()
    (scratch / "VBoxManage").write_text(VIRTUALBOX)
    (scratch / "VBoxManage").chmod(0o755)
    settings = {
        "PATH": f"{scratch}:{os.environ['PATH']}",
        "HOME": str(scratch),
        "VAGRANT_HOME": str(scratch / "home"),
        "VAGRANT_DOTFILE_PATH": str(scratch / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": provider,
        "LIBVIRT_DEFAULT_URI": "test:///default",
    }
    return subprocess.run(
        ["unshare", "--net", "vagrant", "validate", *options],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("provider", ["virtualbox", "libvirt"])
def test_vagrant_has_nothing_to_say_about_the_vagrantfile(folder: Path, provider: str) -> None:
    done = _validate(folder, provider=provider)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "Vagrantfile validated successfully" in done.stdout


def test_nor_has_it_where_there_is_no_provider(folder: Path) -> None:
    done = _validate(folder, "--ignore-provider")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_vagrant_would_have_said_so_of_libvirt_too(folder: Path) -> None:
    text = (folder / "Vagrantfile").read_text()
    (folder / "Vagrantfile").write_text(text.replace("machine.memorybacking", "machine.memmorybacking"))
    done = _validate(folder, provider="libvirt")
    assert done.returncode == 1 and "settings shouldn't exist: memmorybacking" in done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("machine.memory = MEMORY", "machine.memmory = MEMORY", "settings shouldn't exist: memmory"),
        ('path: "provision"', 'path: "provisoin"', "`path` for shell provisioner does not exist"),
        ('synced_folder ".."', 'synced_folder "../nowhere"', "host path of the shared folder is missing"),
        ("host: 8080, ", "", 'require a "host" and "guest" value'),
    ],
)
def test_vagrant_would_have_said_so(folder: Path, right: str, wrong: str, complaint: str) -> None:
    """What the tests above prove: a Vagrantfile with a slip in it is refused."""
    text = (folder / "Vagrantfile").read_text()
    assert right in text
    (folder / "Vagrantfile").write_text(text.replace(right, wrong, 1))
    done = _validate(folder)
    assert done.returncode != 0 and complaint in done.stderr, done.stderr


def test_the_scripts_keep_their_line_ends_on_a_laptop_that_changes_them() -> None:
    """Git for Windows checks text out with carriage returns, and a script's first line cannot have one."""
    asked = ["git", "-c", "safe.directory=*", "-C", str(TOP), "-c", "core.autocrlf=true", "check-attr", "eol", "--"]
    scripts = [house.name(path) for path in house.scripts()]
    told = subprocess.run([*asked, *scripts], capture_output=True, text=True, check=True).stdout
    assert [line for line in told.splitlines() if not line.endswith(": eol: lf")] == []
    assert "vagrant/provision: eol: lf" in told
