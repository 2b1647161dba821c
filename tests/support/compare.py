"""docs/compare.md: where the reference plugins fail a test that ours pass, made from the tests' own marks.

    .venv/bin/python tests/support/compare.py        writes it anew

tests/unit/test_compare.py fails when the page is stale.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from support import house  # noqa: E402  run as a program, the path comes first

PAGE = house.TOP / "docs" / "compare.md"

HEAD = """# Beside the reference plugins

Tests that take the fixture `side` run twice: over the plugins here, and over the Go reference plugins as Debian 12
packages them (containernetworking-plugins 1.1.1). Of {both} such tests the reference passes {passed}; this page has the
others. Each is marked in its test, and its run over the reference must fail, or the suite does: what is said here is
seen at every run. Issues are those of containernetworking/plugins (p#) and containernetworking/cni (c#).

This page is made by `tests/support/compare.py`, and a test fails when it is stale.
"""


@dataclass
class Shared:
    """A test of both sides; `instead` says what the reference does, and is empty where it passes."""

    file: str
    name: str
    instead: str = ""
    issues: str = ""

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")


def shared() -> Iterator[Shared]:
    for path in house.python_files("tests"):
        functions = [node for node in ast.walk(house.tree(path)) if isinstance(node, ast.FunctionDef)]
        both = _fixtures_of_side(functions)
        for node in functions:
            if node.name.startswith("test_") and both & _asked_for(node):
                yield Shared(house.name(path), node.name, *_mark(node))


def _fixtures_of_side(functions: list[ast.FunctionDef]) -> set[str]:
    """The fixture itself, and those of the same file that are made of it."""
    found = {"side"}
    fixtures = [node for node in functions if any("fixture" in ast.unparse(item) for item in node.decorator_list)]
    for _ in fixtures:
        found |= {node.name for node in fixtures if found & _asked_for(node)}
    return found


def _asked_for(node: ast.FunctionDef) -> set[str]:
    return {argument.arg for argument in node.args.args}


def _mark(node: ast.FunctionDef) -> tuple[str, ...]:
    for item in node.decorator_list:
        if isinstance(item, ast.Call) and ast.unparse(item.func).endswith("reference_fails"):
            return tuple(ast.literal_eval(argument) for argument in item.args)
    return ()


def page() -> str:
    """The text of docs/compare.md."""
    both = sorted(shared(), key=lambda test: (test.file, test.name))
    failed = [test for test in both if test.instead]
    parts = [HEAD.format(both=len(both), passed=len(both) - len(failed))]
    for file in dict.fromkeys(test.file for test in failed):
        parts.append(f"## `{file}`\n\n| what is asked | the reference | its issues |\n|---|---|---|")
        parts += [_row(test) for test in failed if test.file == file]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _row(test: Shared) -> str:
    return f"| {test.sentence} | {test.instead} | {test.issues} |".replace("  |", " |")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
