"""The laws that conftest.py keeps, seen by running pytest on files of tests under it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

FILES = {
    "test_links.py": """
import pytest

def _leak(machine):
    machine.patience = 0.0
    machine.ip("link", "add", "v0", "type", "veth")

def test_leaves(machine):
    _leak(machine)

@pytest.mark.leaves("link v*")
def test_declares(machine):
    _leak(machine)

def test_fails(machine):
    _leak(machine)
    assert False
""",
    "test_moon.py": "import pytest\ndef test_waits(): pytest.skip('no moon')",
    "test_module.py": "import pytest\npytest.importorskip('no_such_module')",
}


def _pytest(folder: Path, ci: str) -> str:
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    settings = ["-c", f"{TESTS.parent}/pyproject.toml", f"--rootdir={folder}", "-p", "conftest", "-v"]
    command = [sys.executable, "-m", "pytest", *settings, "--continue-on-collection-errors", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "CI": ci}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=False).stdout


def test_a_passed_test_that_leaves_something_undeclared_fails(tmp_path: Path) -> None:
    said = _pytest(tmp_path, ci="")
    assert "test_links.py::test_leaves PASSED" in said and "test_links.py::test_leaves ERROR" in said
    assert "left behind (to be removed, or declared with pytest.mark.leaves):\n  link v0\n  link veth0\n" in said
    assert "test_links.py::test_declares ERROR" not in said, "it declared the leak"
    assert "test_links.py::test_fails ERROR" not in said, "it failed already"
    assert "1 failed, 2 passed, 2 skipped, 1 error in" in said, "elsewhere a skipped test is no failure"


def test_in_ci_a_skipped_test_is_a_failed_one(tmp_path: Path) -> None:
    said = _pytest(tmp_path, ci="true")
    assert "test_moon.py::test_waits FAILED" in said
    assert "in CI a skipped test is a failure" in said and "no moon" in said
    assert "no_such_module" in said and "2 failed, 2 passed, 2 errors in" in said
