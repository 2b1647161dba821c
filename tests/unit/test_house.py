"""The house's laws: who imports whom, how long a thing may be, and that no checker has anything left to say.

A law that an exception is due from names it here, with its reason.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support import house
from support.house import TOP, within

BIN = Path(sys.executable).parent

# The one place where the halves touch: the fork executor runs a bundled plugin's main, and knows its launchers.
SEAM = "minirt/cni/executor.py:"

# spec is the contract as data: whoever does input and output, or asks where and when it runs, stands outside of it.
# (_socket.inet_pton and inet_ntop are arithmetic.)
IO = ("os", "io", "posix", "socket", "_socket.socket", "subprocess", "select", "fcntl", "pathlib", "tempfile", "shutil")
IO_CALLS = ("open", "print", "input")

SHARED_WITH_CNI = ("minirt.errors", "minirt.files")

LONGEST_FILE = 450
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12

# Paths of one machine's disk are nobody else's, nor are hosts that its set-up fetches from: of the names of hosts in
# the world, the tree has these; the last is part of a name, which every SVG bears.
STRANGERS = re.compile(r"(?<![\w.~}-])/(?:work/\w|Users/\w|root/\.)")
HOST = re.compile(r"https?://([a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+)")
KNOWN_HOSTS = ("keepachangelog.com", "semver.org", "www.w3.org")
TEXTS = (".py", ".md", ".toml", ".json", ".conflist", ".conf", ".rb", ".sh", "")


def _imports(folders: tuple[str, ...], never: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    """What the files below `folders` import of `never`, leaving out what is of `but`."""
    return [
        f"{house.name(path)}:{line} imports {dotted}"
        for path in house.python_files(*folders)
        for line, dotted in house.imports(path)
        if within(dotted, *never) and not within(dotted, *but)
    ]


def test_the_plugins_know_nothing_of_the_runtime() -> None:
    assert _imports(("cni_plugins",), never=("minirt", "tests")) == []


def test_the_runtime_knows_the_wire_and_meets_plugins_as_programs() -> None:
    found = _imports(("minirt",), never=("cni_plugins",), but=("cni_plugins.spec",))
    assert [line for line in found if not line.startswith(SEAM)] == []
    assert _imports(("minirt",), never=("tests",)) == []


def test_the_side_of_the_contract_that_minirt_has_knows_no_containers() -> None:
    """minirt/cni can be used alone: of the runtime it shares the errors, and how files are written."""
    assert _imports(("minirt/cni",), never=("minirt",), but=("minirt.cni", *SHARED_WITH_CNI)) == []


def test_the_library_does_not_know_its_command_line() -> None:
    found = _imports(("minirt",), never=("minirt.cli",))
    assert [line for line in found if not line.startswith(("minirt/cli/", "minirt/__main__.py:"))] == []


def test_the_spec_does_no_input_or_output() -> None:
    assert _imports(("cni_plugins/spec",), never=IO) == []
    assert _imports(("cni_plugins/spec",), never=("cni_plugins",), but=("cni_plugins.spec",)) == []
    calls = [
        f"{house.name(path)}:{node.lineno} calls {node.func.id}"
        for path in house.python_files("cni_plugins/spec")
        for node in ast.walk(house.tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IO_CALLS
    ]
    assert calls == []


def test_a_plugin_is_one_file_that_stands_on_the_sdk_alone() -> None:
    files = (path for path in (TOP / "cni_plugins").glob("*.py") if path.stem != "__init__")
    plugins = tuple(house.module(path) for path in files)
    assert _imports(("cni_plugins",), never=plugins) == []


def test_the_package_roots_import_nothing() -> None:
    """Start-up is the cost, and everything pays for these two."""
    assert [list(house.imports(TOP / package / "__init__.py")) for package in house.PACKAGES] == [[], []]


def test_no_file_is_too_long_for_one_sitting() -> None:
    lengths = {house.name(path): path.read_bytes().count(b"\n") for path in house.python_files(*house.CODE)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long_to_hold_in_mind() -> None:
    lengths = {
        f"{house.name(path)}:{line} {function}": length
        for path in house.python_files(*house.CODE)
        for function, line, length in house.functions(path)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    packages = [length for name, length in lengths.items() if name.startswith(house.PACKAGES)]
    assert statistics.median(packages) <= MEDIAN_FUNCTION


def test_every_module_says_what_it_is() -> None:
    silent = [house.name(path) for path in house.python_files(*house.CODE) if not ast.get_docstring(house.tree(path))]
    assert silent == []


def test_nothing_names_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in house.tracked():
        if path.suffix not in TEXTS or path.name in ("LICENSE", Path(__file__).name):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            strange = [host for host in HOST.findall(line) if host not in KNOWN_HOSTS]
            if strange or STRANGERS.search(line):
                found.append(f"{house.name(path)}:{number} {line.strip()}")
    assert found == []


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs/architecture.md"])
def test_what_whoever_comes_next_reads_first_is_there(name: str) -> None:
    assert len((TOP / name).read_text(encoding="utf-8")) > 500


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (TOP / "LICENSE").read_text(
        encoding="utf-8"
    )
    assert 'license = "GPL-3.0-or-later"' in (TOP / "pyproject.toml").read_text(encoding="utf-8")


CHECKERS = {
    "ruff check": [f"{BIN}/ruff", "check", "--no-cache", "."],
    "ruff format": [f"{BIN}/ruff", "format", "--no-cache", "--check", "."],
    "mypy strict": [f"{BIN}/mypy"],
    "shellcheck": ["shellcheck", *map(str, house.scripts())],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_checkers_have_nothing_to_say(checker: str) -> None:
    done = subprocess.run(CHECKERS[checker], cwd=TOP, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
