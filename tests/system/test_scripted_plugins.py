"""Whatever a plugin may do instead of its work, under `minirt cni add` and under `minirt run`: one sentence that says
what it did, every plugin that was called deleted again, and nothing left.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest
from support.cnilab import RESULT, cached, laboratory, scripted_plugins
from support.command import CONTAINERS, Command
from support.scripted import Answer, Scripted, fails, says

Way = Callable[..., str]

OLD = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24"}}
ROUTES = [{"dst": f"10.{index >> 8}.{index & 255}.0/24"} for index in range(5000)]
REFUSED = fails(1, "incompatible CNI versions", "config is 1.0.0, plugin supports 0.4.0")

# What a plugin does on ADD, and what the error says of it.
BAD = {
    "garbage": (says(b"hello \xff\n"), "it printed a result that is not JSON (line 1 column 7: not UTF-8"),
    "a log instead of a result": (says(b"done.\n"), "it printed a result that is not JSON"),
    "silence": (Answer(), "it exited with 0 and printed nothing, where a result was due"),
    "silence and a log": (
        Answer(exit=4, stderr=b"the log\n"),
        "it exited with 4 and only wrote to standard error: the",
    ),
    "partial JSON": (says(b'{"cniVersion": "1.0.0", "ips": [{'), "it printed a result that is not JSON (line 1 column"),
    "a list": (says([RESULT]), "it printed a result that is no JSON object"),
    "huge output": (Answer(flood=1000), "wrote more than 16 MiB and was killed"),
    "death by signal": (Answer(signal=11), "it was ended by signal 11 (Segmentation fault)"),
    "a result, then death": (says(RESULT, signal=9), "it was ended by signal 9 (Killed)"),
    "exit 0 with an error object": (fails(7, "not so", exit=0), "it exited with 0, but printed an error: not so"),
    "a result, then exit 1": (says(RESULT, exit=1), "it exited with 1 and printed what is no error object"),
    "an unknown version": (says({"cniVersion": "7.0.0"}), "it printed an invalid result: result of version '7.0.0'"),
    "a version not spoken": (REFUSED, "(code 1): incompatible CNI versions: config is 1.0.0, plugin supports 0.4.0"),
    "a bad address": (says({"ips": [{"address": "ten"}]}), "result.ips[0].address: 'ten' has no prefix length"),
    "an error without end": (fails(107, "x" * 200_000), "plugin 'two' failed on ADD (code 107): xxx"),
}


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The network `odd`, whose first plugin works; what the second does is the test's business."""
    laboratory(minirt)
    monkeypatch.setenv("CNI_PATH", "")
    plugins = scripted_plugins(minirt)
    minirt.network("odd", {"type": "one"}, {"type": "two"})
    plugins.write("one", ADD=[says(RESULT)])
    return plugins


@pytest.fixture(params=["cni add", "run", "run -d"])
def failing(request: pytest.FixtureRequest, minirt: Command) -> Way:
    """What `minirt` says when the attachment fails in one of the ways to make it."""
    if request.param != "cni add":
        return lambda: minirt.fails(125, *request.param.split(), "--network", "odd", "host", "true")
    return lambda: minirt.fails(1, "cni", "add", "odd", "/run/netns/box")


@pytest.fixture(params=["cni add", "run"])
def working(request: pytest.FixtureRequest, minirt: Command) -> Way:
    """The address that came of an attachment that works, and is taken down again."""

    def by_run() -> str:
        minirt.ok("run", "-d", "--name", "web", "--network", "odd", "host", "sleep", "600")
        networks = minirt.inspect("web")["NetworkSettings"]["Networks"]
        minirt.ok("rm", "-f", "web")
        return str(networks["odd"]["IPAddress"])

    def by_tool() -> str:
        result = json.loads(minirt.ok("cni", "add", "odd", "/run/netns/box"))
        minirt.ok("cni", "del", "odd", "/run/netns/box")
        address = result["ip4"]["ip"] if "ip4" in result else result["ips"][0]["address"]
        return str(address.partition("/")[0])

    return by_run if request.param == "run" else by_tool


def nothing_left() -> None:
    assert cached() == []
    assert not CONTAINERS.exists() or os.listdir(CONTAINERS) == []


@pytest.mark.parametrize("kind", BAD)
def test_R34_what_a_plugin_does_instead_of_its_work_is_told_and_taken_back(
    scripted: Scripted, failing: Way, kind: str
) -> None:
    answer, sentence = BAD[kind]
    scripted.write("two", ADD=[answer])
    error = failing()
    assert "network 'odd': plugin 'two' failed on ADD" in error and sentence in error
    assert scripted.order() == ["one ADD", "two ADD", "two DEL", "one DEL"]
    nothing_left()


def test_a_plugin_that_fails_in_taking_back_too_is_told_of_both(scripted: Scripted, failing: Way) -> None:
    scripted.write("two", ADD=[Answer(signal=9)], DEL=[says(b"garbage", exit=2)])
    error = failing()
    assert "it was ended by signal 9" in error and "not undone: " in error and "garbage" in error
    assert scripted.order()[:4] == ["one ADD", "two ADD", "two DEL", "one DEL"]
    nothing_left()


def test_a_child_left_running_with_the_streams_open_is_not_waited_for(scripted: Scripted, working: Way) -> None:
    scripted.write("two", ADD=[says(RESULT, leave=2.5)])
    began = time.monotonic()
    assert working() == "10.1.0.2"
    assert time.monotonic() - began < 2


def test_a_long_result_is_read_whole(scripted: Scripted, working: Way) -> None:
    scripted.write("two", ADD=[says(RESULT | {"routes": ROUTES, "dns": {"search": ["x" * 1000] * 50}})])
    assert working() == "10.1.0.2"
    (deleted,) = [call for call in scripted.calls() if (call.plugin, call.command) == ("two", "DEL")]
    assert deleted.config["prevResult"]["routes"] == ROUTES


def test_R32_a_result_of_an_older_version_is_understood(scripted: Scripted, working: Way) -> None:
    scripted.write("two", ADD=[says(OLD)])
    assert working() == "10.1.0.2"
    (deleted,) = [call for call in scripted.calls() if (call.plugin, call.command) == ("two", "DEL")]
    assert deleted.config["prevResult"] == {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}


@pytest.mark.parametrize("listed", ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a_list_of_any_version_works_from_ADD_to_DEL(
    minirt: Command, scripted: Scripted, working: Way, listed: str
) -> None:
    minirt.network("odd", {"type": "one"}, {"type": "two"}, cniVersion=listed)
    scripted.write("two", ADD=[says({"ips": [{"address": "10.1.0.3/24"}]} if listed >= "0.3" else OLD)])
    assert working() == ("10.1.0.3" if listed >= "0.3" else "10.1.0.2")
    assert {call.config["cniVersion"] for call in scripted.calls()} == {listed}
    given = ["prevResult" in call.config for call in scripted.calls() if call.command == "DEL"]
    assert given == [listed >= "0.4"] * 2


def test_R31_a_plugin_of_an_older_version_is_asked_in_it(minirt: Command, scripted: Scripted, working: Way) -> None:
    minirt.network("odd", {"type": "one"}, {"type": "two"}, cniVersions=["0.4.0"])
    scripted.write("two", ADD=[REFUSED, says({"ips": [{"address": "10.1.0.3/24"}]})], DEL=[REFUSED, Answer()])
    assert working() == "10.1.0.3"
    spoken = [f"{call.plugin} {call.command} {call.config['cniVersion']}" for call in scripted.calls()]
    assert spoken == [
        *("one ADD 1.0.0", "two ADD 1.0.0", "two DEL 1.0.0", "one DEL 1.0.0"),
        *("one ADD 0.4.0", "two ADD 0.4.0", "two DEL 0.4.0", "one DEL 0.4.0"),
    ]


def test_R9_R10_plugins_run_where_minirt_does_and_the_containers_namespace_is_there_from_ADD_to_DEL(
    scripted: Scripted, working: Way
) -> None:
    scripted.write("two", ADD=[says(RESULT)])
    working()
    assert scripted.order() == ["one ADD", "two ADD", "two DEL", "one DEL"]
    own = os.stat("/proc/self/ns/net").st_ino
    assert {call.spaces[0] for call in scripted.calls()} == {own}
    (inside,) = {call.spaces[1] for call in scripted.calls()}
    assert inside not in (0, own)
    assert os.listdir("/run/netns") == ["box"], "what minirt has made, minirt has removed"


def test_L12_a_plugin_that_never_returns_is_killed_with_its_children(minirt: Command, scripted: Scripted) -> None:
    """`run` has no such flag: an interrupt ends it (see test_bad_input.py)."""
    scripted.write("two", ADD=[Answer(hang=60)])
    error = minirt.fails(1, "cni", "add", "odd", "/run/netns/box", "--timeout", "0.3")
    assert "within 0.3 s and was killed" in error
    assert scripted.order() == ["one ADD", "two ADD", "two DEL", "one DEL"]
    assert not any(os.path.exists(f"/proc/{pid}") for pid in scripted.hanging())
    nothing_left()
