"""Identifiers, against the expressions that the Go libraries match them with."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import example
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError

PLAIN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
texts = st.text(alphabet="aZ09_.-/: \n\0é\u0660", max_size=20) | st.text(max_size=20)


def accepts(check: Callable[[str], str], name: str) -> bool:
    try:
        return check(name) == name
    except CniError as error:
        assert repr(name) in error.msg or not name
        return False


@given(texts)
@example("a\n")
@example("\u0660")
def test_container_ids_and_network_names_are_what_the_libraries_take(name: str) -> None:
    expected = PLAIN.fullmatch(name) is not None
    assert accepts(names.container_id, name) is expected
    assert accepts(names.network, name) is expected


@given(texts)
@example(".")
@example("..")
@example("x" * 15)
@example("x" * 16)
@example("é" * 8)
@example("a\u3000b")
@example("eth%d")
@example("\udcff" * 15)
@example("\udcff" * 16)
def test_interface_names_fit_the_kernel(name: str) -> None:
    expected = 1 <= len(name.encode(errors="surrogateescape")) <= 15 and name not in (".", "..")
    expected = expected and not any(char in "/:%" or char.isspace() for char in name)
    assert accepts(names.ifname, name) is expected


@given(texts)
@example("../bridge")
@example("..")
def test_plugin_types_are_file_names(name: str) -> None:
    expected = bool(name) and not set(name) & set("/\0") and name not in (".", "..")
    assert accepts(names.plugin_type, name) is expected


@pytest.mark.parametrize(
    ("check", "code"),
    [(names.container_id, 4), (names.ifname, 4), (names.network, 7), (names.plugin_type, 7)],
)
def test_each_kind_has_the_code_of_the_contract(check: Callable[[str], str], code: int) -> None:
    for name in ("", "a/b"):
        with pytest.raises(CniError) as caught:
            check(name)
        assert caught.value.code == code
