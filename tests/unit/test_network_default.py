"""Created networks are nobody's default, whatever else is or is not in the folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minirt.cni import discovery
from minirt.errors import ConfigError, NotFound


def put(folder: Path, file: str, name: str, created: bool = False, **keys: Any) -> None:
    mark = {"minirt": {"created": "2026-01-31T12:00:00Z"}} if created else {}
    document = {"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "bridge"}]} | mark | keys
    (folder / file).write_text(json.dumps(document))


def test_a_created_network_is_found_by_its_name_only(tmp_path: Path) -> None:
    put(tmp_path, "00-made.conflist", "made", created=True)
    choice = discovery.default(str(tmp_path))
    assert choice.builtin and choice.network.name == "minirt" and "none but created networks" in choice.reason
    assert discovery.by_name("made", str(tmp_path)).network.name == "made"
    assert discovery.by_name("minirt", str(tmp_path)).builtin
    put(tmp_path, "50-mine.conflist", "mine")
    assert discovery.default(str(tmp_path)).network.name == "mine"


def test_where_people_have_lists_of_their_own_the_built_in_one_is_none_of_them(tmp_path: Path) -> None:
    put(tmp_path, "00-made.conflist", "made", created=True)
    put(tmp_path, "50-mine.conflist", "mine")
    with pytest.raises(NotFound):
        discovery.by_name("minirt", str(tmp_path))


def test_a_broken_list_beside_created_ones_is_not_passed_over_for_the_built_in_one(tmp_path: Path) -> None:
    """Its owner meant it to be the default."""
    put(tmp_path, "zz-made.conflist", "made", created=True)
    (tmp_path / "10-mine.conflist").write_text("{")
    with pytest.raises(ConfigError, match="10-mine"):
        discovery.default(str(tmp_path))
    with pytest.raises(NotFound):
        discovery.by_name("minirt", str(tmp_path))


@pytest.mark.parametrize("said", [{}, True, "made", None])
def test_a_mark_says_something(tmp_path: Path, said: Any) -> None:
    put(tmp_path, "10-mine.conflist", "mine", minirt=said)
    assert discovery.default(str(tmp_path)).network.name == "mine"
    assert discovery.mark(discovery.load(str(tmp_path / "10-mine.conflist"))) == {}


def test_a_plugin_that_speaks_of_minirt_is_no_mark(tmp_path: Path) -> None:
    put(tmp_path, "10-mine.conflist", "minirt", plugins=[{"type": "bridge", "minirt": {"created": "x"}}])
    assert not discovery.default(str(tmp_path)).builtin
