"""Whatever configurations, results and environments there may be: a value or an error of the contract, no traceback.

Nothing here changes the kernel's state, nor may it: the calls of plugins are those that are answered before a handler
runs, and a handler that is reached all the same is a failure.
"""

from __future__ import annotations

import importlib
import json
import os
from copy import copy
from typing import Any

import pytest
from hypothesis import example
from hypothesis import strategies as st
from support.properties import given

from cni_plugins import portmap, sample
from cni_plugins.sdk import launcher
from cni_plugins.sdk.main import Outcome, Plugin, Request, dispatch
from cni_plugins.spec import convert, versions
from cni_plugins.spec.config import NetworkList, View, parse_list, parse_single
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import dumps, loads
from cni_plugins.spec.result import Result

PLUGINS: dict[str, Plugin] = {
    name: importlib.import_module(f"cni_plugins.{module}").PLUGIN for name, module in launcher.NAMES.items()
} | {"sample": sample.PLUGIN}

NAMES = st.sampled_from(sorted(PLUGINS))

TABLE = (1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999)
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")

# Words that mean something somewhere, so that what is drawn gets past the first check now and then.
_WORDS = (
    "|net|bridge|eth0|1.0.0|0.2.0|1.1.0|9.9.9|10.1.0.2/24|10.1.0.1|fd00::2/64|::1|true|0.0.0.0/0|../x|4|6|\ud800|\0"
)
WORDS = st.sampled_from(_WORDS.split("|"))
_KEYS = """
cniVersion cniVersions name type plugins disableCheck disableGC loadOnlyInlinedPlugins capabilities runtimeConfig
prevResult ipam args dns routes ips interfaces ip4 ip6 ip address gateway interface dst gw mtu mac sandbox version
nameservers search subnet ranges portMappings hostPort containerPort protocol hostIP bridge vlan isGateway ipMasq
CNIVersion Name IPs scope table priority advmss snat backend
"""
KEYS = st.sampled_from(_KEYS.split())
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)
OBJECTS = st.dictionaries(KEYS | st.text(max_size=5), VALUES, max_size=8)
PLUGIN_OBJECTS = st.builds(lambda more, name: more | {"type": name}, OBJECTS, WORDS)
LISTS = st.builds(
    lambda more, name, version, plugins: more | {"name": name, "cniVersion": version, "plugins": plugins},
    OBJECTS,
    WORDS,
    WORDS,
    st.lists(PLUGIN_OBJECTS, max_size=3) | VALUES,
)
RESULTS = st.builds(
    lambda more, version, ips: more | {"cniVersion": version, "ips": ips},
    OBJECTS,
    st.sampled_from(versions.ALL) | VALUES,
    st.lists(st.fixed_dictionaries({"address": WORDS}, optional={"interface": VALUES, "gateway": VALUES})) | VALUES,
)


def _text(document: object) -> str:
    return json.dumps(document)


@given(OBJECTS | LISTS | VALUES)
def test_R1_a_configuration_is_a_list_or_an_error_of_the_contract(document: Any) -> None:
    for parse in (parse_list, parse_single):
        try:
            read = parse(_text(document), "here")
        except CniError as error:
            assert error.code in (6, 7) and str(error).startswith("here: ")
        else:
            _is_good(read)


def _is_good(read: NetworkList) -> None:
    """What was accepted can be used: names that make paths, types that are files, versions that can be compared."""
    assert read.name and "/" not in read.name and versions.parse(read.version)
    assert all("/" not in plugin["type"] for plugin in read.plugins)
    for plugin in read.plugins:
        read.capabilities(plugin)


@given(st.binary() | st.text())
def test_R1_any_text_is_a_list_or_an_error_of_the_contract(text: bytes | str) -> None:
    for parse in (parse_list, parse_single):
        with pytest.raises(CniError) as caught:
            parse(text if isinstance(text, str) else text.decode(errors="replace"), "here")
        assert caught.value.code in (6, 7)


@given(OBJECTS, KEYS | st.text(max_size=5))
def test_every_way_to_read_a_key_gives_a_value_or_an_error_with_its_path(document: dict[str, Any], key: str) -> None:
    view = View(document, "top")
    for name in ("string", "boolean", "integer", "view", "strings", "views", "address", "cidr", "network"):
        try:
            value = getattr(view, name)(key)
            if name == "views":
                list(value)
        except CniError as error:
            assert error.code == 7 and f"top.{key}" in error.msg


@given(OBJECTS | RESULTS)
@example({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "interface": 7}]})
def test_R32_a_result_is_read_or_an_error_of_the_contract(document: dict[str, Any]) -> None:
    try:
        result = convert.decode(document)
    except CniError as error:
        assert error.code in (1, 6, 7)
        return
    for version in versions.ALL:
        try:
            again = convert.decode(loads(dumps(convert.encode(result, version))))
        except CniError as error:
            assert "no valid IP addresses" in error.msg
        else:
            assert isinstance(again, Result)


@given(
    OBJECTS, st.dictionaries(KEYS, VALUES, max_size=4), st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=2)
)
def test_what_a_plugin_reads_of_its_configuration_is_a_value_or_an_error(
    document: dict[str, Any], ipam: dict[str, Any], mappings: list[dict[str, Any]]
) -> None:
    drawn = document | {"ipam": ipam, "runtimeConfig": {"portMappings": mappings}}
    for configure in (portmap.configure, sample.configure):
        try:
            configure(View(drawn))
        except CniError as error:
            assert error.code in (2, 7)


# --- plugins as a process would answer, short of their handlers -------------------------------------------------------


def _answer(name: str, env: dict[str, str], stdin: bytes) -> Outcome:
    """The plugin's own answer, with handlers that fail: nothing drawn here may reach them."""

    def reached(_request: Request) -> Any:
        raise AssertionError("a handler was reached")

    plugin = copy(PLUGINS[name])
    plugin.add = reached
    plugin.others = dict.fromkeys(plugin.others, reached)
    return dispatch(plugin, env, lambda: stdin)


def _expected(text: str, code: int) -> int:
    """`code`, unless the text holds half a character: no plugin reads that. Python's json makes one of two halves."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return 6
    return code


def _error(outcome: Outcome) -> dict[str, Any]:
    assert outcome.exit == 1 and outcome.stderr == b""
    document = json.loads(outcome.stdout)
    assert isinstance(document["code"], int) and document["msg"] and "Traceback" not in str(document)
    assert document["code"] in TABLE, document
    assert "handler was reached" not in str(document)
    return dict(document)


ENV = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/none", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
VARIABLES = st.dictionaries(
    st.sampled_from([*ENV, "CNI_ARGS", "CNI_NETNS_OVERRIDE"]), st.text(max_size=20) | WORDS, max_size=6
)


@given(NAMES, VARIABLES, st.binary(max_size=40))
def test_P20_VERSION_is_answered_whatever_else_is_there(name: str, env: dict[str, str], stdin: bytes) -> None:
    outcome = _answer(name, env | {"CNI_COMMAND": "VERSION"}, stdin)
    assert outcome.exit == 0 and json.loads(outcome.stdout)["supportedVersions"] == list(PLUGINS[name].versions)


@given(NAMES, st.text(min_size=1, max_size=10).filter(lambda word: word not in COMMANDS), VALUES)
def test_S9_an_unknown_command_is_an_error_whatever_the_input(name: str, command: str, document: Any) -> None:
    error = _error(_answer(name, ENV | {"CNI_COMMAND": command}, _text(document).encode()))
    assert error["code"] in (4, 6, 7)


@given(NAMES, st.sampled_from(COMMANDS[:-1]), VARIABLES, st.binary(max_size=60))
def test_S1_input_that_is_no_json_is_an_error_of_the_table(
    name: str, command: str, env: dict[str, str], stdin: bytes
) -> None:
    error = _error(_answer(name, ENV | env | {"CNI_COMMAND": command}, b"{" + stdin.replace(b"}", b"")))
    assert error["code"] in (4, 6)


@given(NAMES, st.sampled_from(COMMANDS[:-1]), OBJECTS)
@example("bridge", "ADD", {"a": "\U00010000", "\U0010ffff": [1]})
@example("bridge", "ADD", {"a": "\ud800"})
def test_P1_S1_a_configuration_without_a_good_name_is_an_error(name: str, command: str, document: Any) -> None:
    for bad in ("", "../x", "a b", 7, None):
        drawn = {key: value for key, value in document.items() if key.casefold() != "name"} | {"name": bad}
        text = _text(drawn)
        assert _error(_answer(name, ENV | {"CNI_COMMAND": command}, text.encode()))["code"] == _expected(text, 7)


@given(NAMES, st.sampled_from(["ADD", "CHECK", "GC", "STATUS"]), OBJECTS)
@example("bridge", "ADD", {"a": "\U00010000"})
def test_P2_S3_a_version_that_is_not_spoken_is_an_error(name: str, command: str, document: Any) -> None:
    drawn = {key: value for key, value in document.items() if key.casefold() not in ("name", "cniversion")}
    for version, code in (("9.9.9", 1), ("one", 6), (7, 7)):
        text = _text(drawn | {"name": "net", "cniVersion": version})
        assert _error(_answer(name, ENV | {"CNI_COMMAND": command}, text.encode()))["code"] == _expected(text, code)


@pytest.mark.parametrize("name", PLUGINS)
def test_S6_the_guard_stands_before_every_plugin_and_leaves_nothing(name: str) -> None:
    """The plugin with its handlers: the namespace is our own."""
    before = sorted(os.listdir("/proc/self/fd"))
    own = ENV | {"CNI_NETNS": "/proc/thread-self/ns/net", "CNI_COMMAND": "ADD"}
    text = _text({"cniVersion": "1.0.0", "name": "net", "type": name}).encode()
    assert _error(dispatch(PLUGINS[name], own, lambda: text))["code"] == 8
    assert sorted(os.listdir("/proc/self/fd")) == before
