"""Configurations: values that are what they say, keys as Go matches them, mistakes named by their path."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec.config import NetworkList, View, decode, parse_list, parse_single
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address, parse_cidr

PLUGIN = {"type": "bridge"}


def refused(call: Callable[[], object], code: int = 7) -> str:
    with pytest.raises(CniError) as caught:
        call()
    assert caught.value.code == code
    return caught.value.msg


ACCESSORS: dict[str, tuple[Callable[[View], object], str]] = {
    "string": (lambda view: view.string("k"), "a string"),
    "boolean": (lambda view: view.boolean("k"), "true or false"),
    "integer": (lambda view: view.integer("k"), "an integer"),
    "view": (lambda view: view.view("k"), "an object"),
    "strings": (lambda view: view.strings("k"), "a list"),
    "views": (lambda view: list(view.views("k")), "a list"),
    "address": (lambda view: view.address("k"), "a string"),
}
SAMPLES = {
    "a string": "x",
    "true or false": True,
    "an integer": 5,
    "an object": {"a": 1},
    "a list": [],
    "a number": 1.5,
}


@pytest.mark.parametrize("name", ACCESSORS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_values_are_never_coerced(name: str, kind: str) -> None:
    read, wanted = ACCESSORS[name]
    view = View({"k": SAMPLES[kind]}, "ipam.ranges[0]")
    if kind == wanted and name != "address":
        read(view)
    else:
        message = refused(lambda: read(view))
        assert message.startswith("ipam.ranges[0].k: ")
        if name != "address" or kind != "a string":
            shown = json.dumps(SAMPLES[kind])
            assert message == f"ipam.ranges[0].k: expected {wanted}, got {shown}"


@pytest.mark.parametrize("document", [{}, {"k": None}])
def test_absent_and_null_give_the_default(document: dict[str, Any]) -> None:
    view = View(document)
    assert (view.string("k", "d"), view.boolean("k", True), view.integer("k", 7)) == ("d", True, 7)
    assert (view.strings("k"), list(view.views("k")), view.view("k").document) == ([], [], {})
    assert (view.address("k"), view.cidr("k"), view.network("k")) == (None, None, None)
    assert not view.has("k")


def test_S10_keys_match_exactly_first_and_else_whatever_their_case() -> None:
    view = View({"BANDWIDTH": 1, "bandWidth": 2, "RuntimeConfig": {"x": 3}})
    assert view.get("bandWidth") == 2
    assert view.get("bandwidth") == 1
    assert view.view("runtimeConfig").integer("X") == 3


@given(st.integers(-10, 10), st.integers(-5, 5), st.integers(-5, 5))
def test_integers_have_bounds(value: int, low: int, high: int) -> None:
    view = View({"k": value})
    if low <= value <= high:
        assert view.integer("k", low=low, high=high) == value
    else:
        assert (
            refused(lambda: view.integer("k", low=low, high=high))
            == f"k: expected an integer from {low} to {high}, got {value}"
        )


def test_a_list_with_one_wrong_item_names_the_item() -> None:
    view = View({"k": ["a", 7], "o": [{}, "x"]}, "ipam")
    assert refused(lambda: view.strings("k")) == "ipam.k[1]: expected a string, got 7"
    assert refused(lambda: list(view.views("o"))) == 'ipam.o[1]: expected an object, got "x"'
    assert [item.path for item in View({"o": [{}, {}]}, "ipam").views("o")] == ["ipam.o[0]", "ipam.o[1]"]


def test_addresses_come_out_parsed_or_with_the_sentence_that_says_why_not() -> None:
    view = View({"a": "10.0.0.1", "c": "10.0.0.1/8", "n": "10.0.0.0/8", "bad": "ten"}, "ipam")
    assert view.address("a") == parse_address("10.0.0.1")
    assert view.cidr("c") == parse_cidr("10.0.0.1/8")
    assert view.network("n") == parse_cidr("10.0.0.0/8")
    assert refused(lambda: view.network("c")) == "ipam.c: '10.0.0.1/8' has host bits set (the network is 10.0.0.0/8)"
    assert refused(lambda: view.address("bad")) == "ipam.bad: 'ten' is not an IP address"


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(refused(lambda: View({"k": "x" * 1000}).integer("k"))) < 120


@pytest.mark.parametrize(
    ("source", "says"), [(b"{", "line 1 column 2"), ("[]", "expected a JSON object"), (b"\xff", "not UTF-8")]
)
def test_what_is_no_object_cannot_be_decoded(source: bytes | str, says: str) -> None:
    message = refused(lambda: decode(source, "/etc/cni/net.d/x.conf"), 6)
    assert message.startswith("/etc/cni/net.d/x.conf: ")
    assert says in message


# --- network lists ----------------------------------------------------------------------------------------------------


def network_list(**keys: Any) -> NetworkList:
    return parse_list(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [PLUGIN]} | keys), "here")


def test_a_list_is_read_and_its_plugins_left_alone() -> None:
    plugins = [
        {"type": "bridge", "unknown": {"deep": [1, 2.5, None]}},
        {"type": "portmap", "capabilities": {"portMappings": True, "x": False}},
    ]
    text = json.dumps({"cniVersion": "0.4.0", "name": "net", "plugins": plugins})
    read = parse_list(text, "/etc/cni/net.d/10.conflist")
    assert (read.name, read.version, read.source, read.text) == ("net", "0.4.0", "/etc/cni/net.d/10.conflist", text)
    assert list(read.plugins) == plugins
    assert read.capabilities(read.plugins[1]) == {"portMappings"}
    assert read.capabilities(read.plugins[0]) == set()
    assert not (read.disable_check or read.disable_gc or read.only_inlined)


@pytest.mark.parametrize(
    ("stated", "offered", "chosen"),
    [
        ("1.0.0", None, "1.0.0"),
        ("1.0.0", ["0.4.0", "1.1.0"], "1.1.0"),
        ("1.1.0", ["0.4.0"], "1.1.0"),
        ("0.4.0", ["0.10.0", "9.9.9"], "0.10.0"),
        ("9.9.9", None, "9.9.9"),
        ("9.9.9", ["1.0.0"], "1.0.0"),
        (None, None, "0.1.0"),
        (None, ["1.0.0"], "1.0.0"),
        ("0.3.1", [], "0.3.1"),
    ],
)
def test_R2_L1_the_highest_version_that_both_speak_is_chosen(
    stated: str | None, offered: list[str] | None, chosen: str
) -> None:
    assert network_list(cniVersion=stated, cniVersions=offered).version == chosen


@pytest.mark.parametrize("key", ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"])
@pytest.mark.parametrize(
    ("value", "read"), [(True, True), (False, False), ("true", True), ("False", False), ("TRUE", True)]
)
def test_the_switches_of_a_list_may_be_strings(key: str, value: object, read: bool) -> None:
    read_list = network_list(**{key: value})
    flags = {
        "disableCheck": read_list.disable_check,
        "disableGC": read_list.disable_gc,
        "loadOnlyInlinedPlugins": read_list.only_inlined,
    }
    assert flags.pop(key) is read
    assert not any(flags.values())


@pytest.mark.parametrize(
    ("keys", "code", "says"),
    [
        ({"name": None}, 7, "missing network name"),
        ({"name": "a b"}, 7, "invalid network name 'a b'"),
        ({"name": 7}, 7, "name: expected a string, got 7"),
        ({"plugins": []}, 7, "plugins: the list is empty"),
        ({"plugins": {}}, 7, "plugins: expected a list"),
        ({"plugins": ["bridge"]}, 7, 'plugins[0]: expected an object, got "bridge"'),
        ({"plugins": [PLUGIN, {}]}, 7, "plugins[1].type: invalid plugin type ''"),
        ({"plugins": [{"type": "../x"}]}, 7, "plugins[0].type: invalid plugin type '../x'"),
        ({"plugins": [{"type": 1}]}, 7, "plugins[0].type: expected a string, got 1"),
        (
            {"plugins": None, "loadOnlyInlinedPlugins": True},
            7,
            "loadOnlyInlinedPlugins is true, but there is no plugins list",
        ),
        ({"disableCheck": "maybe"}, 7, 'disableCheck: expected true or false, got "maybe"'),
        ({"cniVersion": "one"}, 6, "cniVersion: invalid version 'one'"),
        ({"cniVersions": ["1.0.0", "one"]}, 6, "cniVersions[1]: invalid version 'one'"),
        ({"cniVersion": "1." + 5000 * "9"}, 6, "cniVersion: invalid version '1.999"),
        ({"cniVersions": "1.0.0"}, 7, "cniVersions: expected a list"),
    ],
)
def test_R1_L1_L4_what_is_wrong_with_a_list_is_said_with_its_source(keys: dict[str, Any], code: int, says: str) -> None:
    assert refused(lambda: network_list(**keys), code).startswith(f"here: {says}")


def test_a_single_plugin_becomes_a_list_of_one() -> None:
    document = {"cniVersion": "0.4.0", "name": "net", "type": "bridge", "mine": [1]}
    read = parse_single(json.dumps(document), "/etc/cni/net.d/x.conf")
    assert (read.name, read.version, read.plugins) == ("net", "0.4.0", (document,))
    assert parse_list(read.text, read.source) == read
