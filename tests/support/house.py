"""The source tree as data, for the tests that keep the house's laws."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[2]
PACKAGES = ("minirt", "cni_plugins")
CODE = (*PACKAGES, "tests", "bench")


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    return tuple(sorted(path for folder in folders for path in (TOP / folder).rglob("*.py")))


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project: those that git tracks, and those that it would if asked. The owner may be another."""
    asked = ["git", "-c", "safe.directory=*", "-C", str(TOP), "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True)
    return tuple(path for name in listed.stdout.split("\0") if name and (path := TOP / name).is_file())


def scripts() -> tuple[Path, ...]:
    """Every file that says of itself, in its first line, that a shell runs it."""
    folders = ("scripts", ".ci", "bench", "vagrant", "docs", "tests")
    found = (path for folder in folders for path in (TOP / folder).rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if path.read_bytes()[:64].splitlines()[:1] in SHELLS))


SHELLS = ([b"#!/usr/bin/env bash"], [b"#!/bin/bash"], [b"#!/bin/sh"])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), filename=str(path))


def name(path: Path) -> str:
    """The path as the house says it: relative to the top."""
    return str(path.relative_to(TOP))


def module(path: Path) -> str:
    """The dotted name that the file is imported by."""
    parts = path.relative_to(TOP).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of whatever the file imports, anywhere in it. `from a import b` counts as a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports here are absolute"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, line and length in lines of every function and method, decorators left out."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def within(dotted: str, *packages: str) -> bool:
    """Whether the dotted name is one of `packages` or below one."""
    return any(dotted == package or dotted.startswith(f"{package}.") for package in packages)
