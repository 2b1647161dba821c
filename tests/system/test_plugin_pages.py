"""The plugins' pages: each plugin has one, with all its keys, and its example does what the page shows."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from support import pages
from support.command import Command

from cni_plugins.sdk import keys, launcher


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: page.stem)
def test_the_example_of_a_page_does_what_is_shown(minirt: Command, page: Path) -> None:
    pages.run(minirt, page)


def test_every_plugin_has_a_page_and_an_example() -> None:
    expected = {pages.ALSO.get(name, name) for name in launcher.NAMES}
    assert {page.stem for page in pages.FOLDER.glob("*.md")} == expected
    assert {path.stem for path in pages.EXAMPLES.glob("*.conflist")} == expected | {"minirt"}


@pytest.mark.parametrize("name", sorted({*launcher.NAMES} - {*pages.ALSO}))
def test_a_page_has_every_key_of_its_plugin_and_no_other(name: str) -> None:
    known = getattr(importlib.import_module(f"cni_plugins.{launcher.NAMES[name]}"), "KEYS", ())
    told = pages.keys(pages.FOLDER / f"{name}.md")
    assert set(known) - told == set(), "keys that the page does not tell of"
    assert told - set(known) - set(keys.EVERYBODYS) == set(), "keys that the plugin does not know"


@pytest.mark.parametrize("path", sorted(pages.EXAMPLES.glob("*.conflist")), ids=lambda path: path.stem)
def test_an_example_is_commented(path: Path) -> None:
    network = json.loads(path.read_text())
    assert path.stem == "minirt" or isinstance(network["//"], str)
