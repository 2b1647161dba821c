"""A machine with nothing but its distribution's smallest base system, made by debootstrap from our own mirror."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from support.house import TOP

ENTER = TOP / "tests/support/enter-fresh"
SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list.d/ubuntu.sources", "/etc/apt/sources.list")
NOT_OURS = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".setup.log", ".hypothesis")


def mirror() -> str:
    """Where this machine gets its distribution's packages from: the first address in apt's sources."""
    for path in SOURCES:
        if os.path.exists(path):
            text = Path(path).read_text(encoding="utf-8")
            found = re.search(r"^(?:URIs: *|deb (?:\[.*?\] *)?)(\S+://\S+)", text, re.MULTILINE)
            if found:
                return found[1]
    raise AssertionError("apt's sources name no mirror")


def release() -> str:
    """The code name of the distribution's release."""
    found = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "the distribution's release has no code name"
    return found[1]


def base_system(path: Path) -> None:
    """The release's smallest system, at `path`. It takes most of a minute: what changes it works on a copy."""
    _run("debootstrap", "--variant=minbase", release(), str(path), mirror())


class FreshMachine:
    """A root at `path`: a copy of a base system, with a copy of the checkout at /minirt."""

    def __init__(self, path: Path, base: Path) -> None:
        self.path = path
        _run("cp", "-a", f"{base}/.", str(path))
        shutil.copytree(TOP, path / "minirt", ignore=NOT_OURS, symlinks=True)

    def run(self, script: str) -> str:
        """What a script of commands prints there, both streams. Raises AssertionError when it fails."""
        return _run(str(ENTER), str(self.path), "sh", "-euc", f"cd /minirt\n{script}")


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-6000:]}"
    return done.stdout
