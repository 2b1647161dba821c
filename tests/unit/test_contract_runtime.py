"""The runtime's side of the contract's tables: what each command tells a plugin, and what each code of an error means.

Reference: sections 1.2, 1.3 and 1.6; the plugin's side of the same rows is in tests/netns/test_contract_input.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.listbench import ONE, Bench
from support.scripted import fails, says

from minirt.cni import tool
from minirt.cni.operations import Cni
from minirt.errors import ConfigError, MinirtError, PluginError

NEWEST = {"cniVersion": "1.1.0"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def use(bench: Bench, cni: Cni, command: str, **more: Any) -> None:
    """Have `command` done with the plugin "a" of the list "net"."""
    attachment = bench.attachment("a", text=NEWEST, **more)
    verbs: dict[str, Callable[[], object]] = {
        "ADD": lambda: cni.add(attachment),
        "DEL": lambda: cni.delete(attachment),
        "CHECK": lambda: cni.check(attachment),
        "GC": lambda: cni.gc(attachment.network, []),
        "STATUS": lambda: cni.status(attachment.network),
        "VERSION": lambda: cni.version("a"),
    }
    verbs[command]()


# --- 1.3: the environment, by command ---------------------------------------------------------------------------------

ALWAYS = {"CNI_COMMAND", "CNI_PATH"}
ATTACHED = ALWAYS | {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"}
TOLD = {
    "ADD": ATTACHED,
    "CHECK": ATTACHED,
    "DEL": ATTACHED,
    "GC": ALWAYS,
    "STATUS": ALWAYS,
    "VERSION": ATTACHED - {"CNI_ARGS"},  # L14: they mean nothing
}


def test_R17_R26_each_command_is_given_the_variables_of_its_row_and_no_others(bench: Bench) -> None:
    spoken = {"cniVersion": "1.1.0", "supportedVersions": ["1.1.0"]}
    bench.plugins.write("a", ADD=[says(ONE)], VERSION=[says(spoken)])
    cni = bench.cni()
    for command in TOLD:
        use(bench, cni, command)
    calls = {call.command: {name for name in call.env if name.startswith("CNI_")} for call in bench.plugins.calls()}
    assert {command: names - {"CNI_NFNL_FD"} for command, names in calls.items()} == TOLD


def test_R23_DEL_is_given_an_empty_namespace_when_it_has_gone(bench: Bench) -> None:
    bench.plugins.write("a")
    use(bench, bench.cni(), "DEL", netns="")
    assert bench.plugins.calls()[0].env["CNI_NETNS"] == ""


# --- 1.1: the configuration, as the plugin reads it -------------------------------------------------------------------


def test_R4_R5_R6_R7_R8_L5_L6_L7_what_a_plugin_reads_is_its_own_keys_and_those_of_the_call(bench: Bench) -> None:
    own = {"type": "a", "x": {"deep": [1, None, 1.5]}, "big": 2**64 + 1, "IPAM": {"Type": "b"}, "": "empty"}
    written = own | {
        "name": "mine",
        "CNIVersion": "0.2.0",
        "capabilities": {"mac": True, "ips": False},
        "RuntimeConfig": {"old": 1},
        "prevResult": {"cniVersion": "7.0.0"},
        "cni.dev/else": 1,
        "cni.dev/valid-attachments": [{"containerID": "x", "ifname": "y"}],
    }
    bench.plugins.write("a", ADD=[says(ONE)])
    text = NEWEST | {"plugins": [written]}
    asked = bench.attachment("a", text=text, capability_args={"mac": "02:00:00:00:00:01"})
    cni = bench.cni()
    cni.add(asked)
    cni.check(asked)
    cni.status(asked.network)
    cni.gc(asked.network, [("c1", "eth0")])
    cni.delete(asked)
    expected = {"cniVersion": "1.1.0", "name": "net"} | own
    wished = {"runtimeConfig": {"mac": "02:00:00:00:00:01"}}
    before = {"prevResult": ONE | {"cniVersion": "1.1.0"}}
    alive = dict.fromkeys(
        ("cni.dev/valid-attachments", "cni.dev/attachments"), ({"containerID": "c1", "ifname": "eth0"},)
    )
    assert {call.command: call.config for call in bench.plugins.calls()} == {
        "ADD": expected | wished,
        "CHECK": expected | wished | before,
        "STATUS": expected | {"RuntimeConfig": {"old": 1}},
        "GC": expected | {"RuntimeConfig": {"old": 1}} | {key: list(value) for key, value in alive.items()},
        "DEL": expected | wished | before,
    }
    assert b"18446744073709551617" in bench.plugins.calls()[0].stdin


# --- 1.2: identifiers -------------------------------------------------------------------------------------------------

BAD_NAMES = ("-a", "_a", ".", "a/b", "../a", "a b", "a:b", "a\n", "é")
BAD_IFNAMES = ("", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u00a0b", "x" * 16, "é" * 8)


@pytest.mark.parametrize(
    "fields", [*({"container_id": name} for name in ("", *BAD_NAMES)), *({"ifname": name} for name in BAD_IFNAMES)]
)
def test_L15_what_a_plugin_would_answer_with_code_4_never_reaches_one(bench: Bench, fields: dict[str, str]) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(ConfigError) as caught:
        use(bench, bench.cni(), "ADD", **fields)
    assert repr(*fields.values()) in str(caught.value)
    assert bench.order() == [] and bench.cached() == []


@pytest.mark.parametrize("name", ["", *BAD_NAMES])
def test_L15_a_network_or_plugin_whose_name_makes_no_path_is_no_list(bench: Bench, name: str) -> None:
    with pytest.raises(MinirtError):
        tool.Tool(bench.cni(), tool.Wishes(directory=str(bench.folder))).add(name, "c1", str(bench.folder))
    for fields in ({"name": name}, {"plugins": [{"type": f"{name}/"}]}):
        with pytest.raises(Exception, match=r"invalid|missing") as caught:
            bench.attachment("a", text=fields)
        assert getattr(caught.value, "code", 0) == 7
    assert os.listdir(bench.plugins.folder) == []


@pytest.mark.parametrize("text", ["A", "A=", "=1", "A=1;", "A=1;;B=2", "A=1=2", ";"])
def test_a_malformed_pair_of_CNI_ARGS_is_refused_where_it_is_said(text: str) -> None:
    with pytest.raises(MinirtError, match="invalid CNI_ARGS pair"):
        tool.parse_args(text, "--args")


# --- 1.6: the codes ---------------------------------------------------------------------------------------------------

CODES = (2, 3, 4, 5, 6, 7, 8, 50, 51, 100, 107, 999, 4294967295)


@pytest.mark.parametrize("code", CODES)
def test_R34_a_code_of_the_contract_ends_ADD_and_is_told_with_all_that_was_said(bench: Bench, code: int) -> None:
    bench.plugins.write("a", ADD=[fails(code, "the message", "the details")])
    with pytest.raises(PluginError) as caught:
        use(bench, bench.cni(), "ADD")
    error = caught.value
    assert (error.code, error.msg, error.details) == (code, "the message", "the details")
    assert f"plugin 'a' failed on ADD (code {code}): the message: the details" in str(error)
    assert bench.order() == ["a ADD", "a DEL"] and bench.cached() == []


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_code_11_is_tried_again_and_given_in_to_at_last(bench: Bench, command: str) -> None:
    busy = fails(11, "try again later")
    if command == "CHECK":
        bench.plugins.write("a", ADD=[says(ONE)])
        use(bench, bench.cni(), "ADD")
        bench.plugins.log.unlink()
    bench.plugins.write("a", **{command: [busy, busy, says(ONE)]})
    use(bench, bench.cni(), command)
    assert bench.order().count(f"a {command}") == 3
    bench.plugins.write("a", **{command: [busy]})
    bench.plugins.log.unlink()
    with pytest.raises((PluginError, MinirtError), match="try again later"):
        use(bench, bench.cni(), command, **({} if command == "CHECK" else {"container_id": "c2"}))
    assert bench.order().count(f"a {command}") == 3, "bounded"


def test_R14_between_two_tries_of_ADD_there_is_a_DEL(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[fails(11, "later"), says(ONE)])
    use(bench, bench.cni(), "ADD")
    assert bench.order() == ["a ADD", "a DEL", "a ADD"]


def test_R31_code_1_of_a_list_with_one_version_is_an_error_and_GC_and_STATUS_pass_it_over(bench: Bench) -> None:
    answers = [fails(1, "incompatible CNI versions")]
    bench.plugins.write("a", ADD=answers, GC=answers, STATUS=answers)
    with pytest.raises(PluginError) as caught:
        use(bench, bench.cni(), "ADD")
    assert caught.value.code == 1
    use(bench, bench.cni(), "GC")
    use(bench, bench.cni(), "STATUS")


@pytest.mark.parametrize("code", [50, 51])
def test_R29_L26_the_codes_of_STATUS_are_told_and_forbid_nothing(bench: Bench, code: int) -> None:
    bench.plugins.write("a", ADD=[says(ONE)], STATUS=[fails(code, "no addresses left")])
    cni = bench.cni()
    with pytest.raises(PluginError) as caught:
        use(bench, cni, "STATUS")
    assert caught.value.code == code
    use(bench, cni, "ADD")


@pytest.mark.parametrize(
    "document",
    [{"code": "7", "msg": "no"}, {"code": 7}, {"msg": "no"}, {"code": 7, "msg": 1}, {"code": 7.5, "msg": "x"}],
)
def test_R34_what_is_no_error_object_is_quoted(bench: Bench, document: dict[str, Any]) -> None:
    bench.plugins.write("a", ADD=[says(document, exit=1)])
    with pytest.raises(PluginError, match="what is no error object") as caught:
        use(bench, bench.cni(), "ADD")
    assert caught.value.code == 0


@pytest.mark.parametrize("command", ["DEL", "GC", "STATUS", "CHECK"])
def test_R34_exit_0_with_an_error_object_is_a_failure_of_every_command(bench: Bench, command: str) -> None:
    bench.plugins.write("a", ADD=[says(ONE)], **{command: [fails(7, "not so", exit=0)]})
    cni = bench.cni()
    use(bench, cni, "ADD")
    with pytest.raises(MinirtError, match="it exited with 0, but printed an error: not so"):
        use(bench, cni, command)


def test_P12_what_other_commands_print_is_nobodys_business(bench: Bench) -> None:
    chatter = [says(b"chatter")]
    bench.plugins.write("a", ADD=[says(ONE)], CHECK=chatter, GC=chatter, STATUS=chatter, DEL=chatter)
    cni = bench.cni()
    for command in ("ADD", "CHECK", "STATUS", "GC", "DEL"):
        use(bench, cni, command)
