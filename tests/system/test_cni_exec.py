"""`minirt cni exec`: one plugin by hand, as tutorials teach it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cnilab import cached, laboratory, leases, scripted_plugins
from support.command import Command
from support.scripted import Answer, Scripted, fails, says

CONF = Path("/run/conf.json")
BRIDGE: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "hand",
    "type": "bridge",
    "bridge": "cni-hand",
    "capabilities": {"ips": True},
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.60.0.0/24"}]]},
}
PLAIN: dict[str, Any] = {"cniVersion": "1.0.0", "name": "hand", "type": "odd"}


@pytest.fixture
def box(minirt: Command) -> str:
    minirt.machine.leaves(f"file {CONF}")
    return laboratory(minirt)


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


def conf(document: object) -> tuple[str, str]:
    CONF.write_text(document if isinstance(document, str) else json.dumps(document))
    return "--conf", str(CONF)


# --- as tutorials have it ---


@pytest.mark.parametrize("program", ["bridge", "/usr/lib/cni/bridge"])
def test_a_bridge_is_added_and_deleted_by_hand(minirt: Command, box: str, program: str) -> None:
    given = conf(BRIDGE)
    result = json.loads(minirt.ok("cni", "exec", program, "add", "web", box, *given))
    assert minirt.machine.addresses("eth0", "box") == {"10.60.0.2/24"} == {result["ips"][0]["address"]}
    assert Path("/var/lib/cni/networks/hand/10.60.0.2").read_bytes() == b"web\r\neth0"
    assert cached() == [], "nothing is remembered"
    assert minirt.ok("cni", "exec", program, "check", "web", box, *conf(BRIDGE | {"prevResult": result})) == ""
    error = minirt.fails(1, "cni", "exec", program, "add", "web", box, *given)
    assert "plugin 'bridge' failed on ADD" in error
    assert minirt.machine.addresses("eth0", "box") == {"10.60.0.2/24"}
    assert minirt.ok("cni", "exec", program, "del", "web", box, *given) == ""
    assert minirt.machine.links("box") == {"lo"} and leases("hand") == []


def test_a_configuration_comes_on_standard_input_too_and_interfaces_and_wishes_by_flags(
    minirt: Command, box: str
) -> None:
    words = ("cni", "exec", "bridge", "add", "web", box, "--conf", "-", "-i", "net1")
    minirt.ok(*words, "--cap-args", '{"ips": ["10.60.0.60"]}', input=json.dumps(BRIDGE))
    assert minirt.machine.addresses("net1", "box") == {"10.60.0.60/24"}
    minirt.ok("cni", "exec", "bridge", "DEL", "web", "-i", "net1", "--conf=-", input=json.dumps(BRIDGE))
    assert leases("hand") == [], "without a namespace, what lies elsewhere is released"
    assert minirt.machine.links("box") == {"lo"}


def test_an_ipam_plugin_takes_the_configuration_of_who_delegates_to_it(minirt: Command, box: str) -> None:
    listed = conf({"cniVersion": "1.0.0", "name": "hand", "plugins": [PLAIN, BRIDGE]})
    shown = json.loads(minirt.ok("cni", "exec", "host-local", "add", "web", box, *listed))
    assert shown["ips"] == [{"address": "10.60.0.2/24", "gateway": "10.60.0.1"}]
    minirt.ok("cni", "exec", "host-local", "del", "web", *listed)
    assert leases("hand") == []


def test_an_ipam_plugin_that_fails_is_named_and_not_who_delegates_to_it(minirt: Command, box: str) -> None:
    one = {"subnet": "10.60.0.0/24", "rangeStart": "10.60.0.2", "rangeEnd": "10.60.0.2"}
    given = conf(BRIDGE | {"ipam": {"type": "host-local", "ranges": [[one]]}})
    minirt.ok("cni", "exec", "host-local", "add", "web", box, *given)
    assert "plugin 'host-local' failed on ADD" in minirt.fails(1, "cni", "exec", "host-local", "add", "db", box, *given)
    assert "runtime → host-local" in minirt.fails(1, "cni", "exec", "--explain", "host-local", "add", "db", box, *given)
    minirt.ok("cni", "exec", "host-local", "del", "web", *given)


def test_gc_takes_who_is_alive_from_flags_or_the_configuration_and_never_guesses(minirt: Command, box: str) -> None:
    document = BRIDGE | {"cniVersion": "1.1.0"}
    for name in ("a", "b", "c"):
        minirt.ok("cni", "exec", "host-local", "add", name, box, *conf(document))
    assert "who is?" in minirt.fails(1, "cni", "exec", "host-local", "gc", *conf(document))
    minirt.ok("cni", "exec", "host-local", "gc", "--valid", "a", "--valid", "c:eth0", *conf(document))
    assert leases("hand") == ["10.60.0.2", "10.60.0.4"]
    alive = [{"containerID": "a", "ifname": "eth0"}]
    minirt.ok("cni", "exec", "host-local", "gc", *conf(document | {"cni.dev/valid-attachments": alive}))
    assert leases("hand") == ["10.60.0.2"]
    minirt.ok("cni", "exec", "bridge", "status", *conf(document))
    minirt.ok("cni", "exec", "host-local", "gc", *conf(document | {"cni.dev/valid-attachments": []}))
    assert leases("hand") == []


def test_version_needs_no_configuration(minirt: Command) -> None:
    assert "1.1.0" in json.loads(minirt.ok("cni", "exec", "bridge", "version"))["supportedVersions"]
    raw = minirt.ok("cni", "exec", "/usr/lib/cni/vrf", "version", "--raw")
    assert json.loads(raw)["supportedVersions"] == ["0.3.1", "0.4.0", "1.0.0"]


# --- what the plugin gets, and what it gives ---


def test_the_plugin_gets_what_a_runtime_would_give_it(minirt: Command, box: str, scripted: Scripted) -> None:
    scripted.write("odd", ADD=[says({"cniVersion": "1.0.0", "extra": 1})])
    before = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}
    document = PLAIN | {"mine": 2**60, "capabilities": {"mac": True}, "prevResult": before}
    wishes = ("--args", "A=1;B=2", "--cap-args", '{"mac": "02:00:00:00:00:01"}')
    shown = minirt.ok("cni", "exec", "odd", "add", "web", box, *conf(document), *wishes)
    assert json.loads(shown) == {"cniVersion": "1.0.0", "extra": 1}
    (call,) = scripted.calls()
    assert call.config == PLAIN | {
        "mine": 2**60,
        "prevResult": before,
        "runtimeConfig": {"mac": "02:00:00:00:00:01"},
    }
    names = ("COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH")
    assert [call.env[f"CNI_{name}"] for name in names] == ["ADD", "web", box, "eth0", "A=1;B=2", str(scripted.folder)]


def test_raw_output_and_exit_codes_are_the_plugins_own(minirt: Command, box: str, scripted: Scripted) -> None:
    answers = [fails(7, "no", exit=3, stderr=b"log\n"), says(b"garbage\n"), Answer(signal=9), Answer(hang=60)]
    scripted.write("odd", ADD=answers)
    words = ("cni", "exec", "odd", "add", "web", box, *conf(PLAIN), "--raw", "--timeout", "0.5")
    first, second, third = (minirt(*words) for _ in range(3))
    assert (first.returncode, first.stdout, first.stderr) == (3, '{"code": 7, "msg": "no"}', "log\n")
    assert (second.returncode, second.stdout) == (0, "garbage\n")
    assert third.returncode == 137
    assert "was killed" in minirt.fails(1, *words)


def test_without_raw_a_failure_is_told_in_our_words(minirt: Command, box: str, scripted: Scripted) -> None:
    scripted.write(
        "odd", ADD=[fails(7, "no", "way", stderr=b"log\n"), says(b"garbage")], DEL=[Answer(stderr=b"note\n")]
    )
    words = ("cni", "exec", "odd", "add", "web", box, *conf(PLAIN))
    assert "network 'hand': plugin 'odd' failed on ADD (code 7): no: way: log" in minirt.fails(1, *words)
    assert "not JSON" in minirt.fails(1, *words)
    done = minirt("cni", "exec", "odd", "del", "web", box, *conf(PLAIN))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "note\n")


# --- what is refused ---


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in PLAIN.items() if name != key}


@pytest.mark.parametrize(
    ("words", "document", "says"),
    [
        (("odd", "add", "web", "{box}"), without("name"), "no 'name'"),
        (("odd", "add", "web", "{box}"), without("cniVersion"), "no 'cniVersion'"),
        (("odd", "add", "web", "{box}"), without("type"), "neither 'type' nor 'plugins'"),
        (("odd", "add", "web", "{box}"), PLAIN | {"name": "a b"}, "invalid network name 'a b'"),
        (("odd", "add", "web", "{box}"), PLAIN | {"cniVersion": "one"}, "invalid version 'one'"),
        (("odd", "add", "web", "{box}"), PLAIN | {"cniVersion": 1}, "cniVersion: expected a string"),
        (("odd", "add", "web", "{box}"), PLAIN | {"type": "other"}, "the configuration is for other, not 'odd'"),
        (("odd", "add", "web", "{box}"), without("type") | {"plugins": [BRIDGE]}, "the list has bridge, host-local"),
        (("odd", "add", "web", "{box}"), without("type") | {"plugins": [PLAIN, PLAIN]}, "stands in the list 2 times"),
        (("odd", "add", "web", "{box}"), '{\n "a": 1,\nb}', f"{CONF}:3:1: malformed JSON"),
        (("odd", "add", "web", "{box}"), "[]", "expected a JSON object"),
        (("odd", "add", "a b", "{box}"), PLAIN, "invalid container ID 'a b'"),
        (("odd", "add", "web", "{box}", "-i", "a/b"), PLAIN, "invalid interface name 'a/b'"),
        (("odd", "add", "web"), PLAIN, "ADD needs CONTAINER-ID and NETNS"),
        (("odd", "del"), PLAIN, "DEL needs CONTAINER-ID"),
        (("odd", "add", "web", "/run/none"), PLAIN, "no network namespace at '/run/none'"),
        (("odd", "add", "web", "/proc/self/ns/net"), PLAIN, "minirt runs in"),
        (("odd", "del", "web", "/proc/self/ns/net"), PLAIN, "minirt runs in"),
        (("odd", "connect", "web", "{box}"), PLAIN, "no command 'connect'"),
        (("none", "add", "web", "{box}"), PLAIN | {"type": "none"}, "plugin 'none' not found in /run/scripted/plugins"),
        (("./odd", "add", "web", "{box}"), PLAIN, "no program './odd'"),
        (("odd", "gc"), PLAIN | {"cni.dev/valid-attachments": {}}, "cni.dev/valid-attachments: expected a list"),
        (("odd", "add", "web", "{box}", "--cap-args", '{"dns": {}}'), PLAIN, "does not take dns"),
        (("odd", "add", "web", "{box}", "--args", "A"), PLAIN, "invalid CNI_ARGS pair 'A'"),
    ],
)
def test_bad_input_is_told_before_the_plugin_runs(
    minirt: Command, box: str, scripted: Scripted, words: tuple[str, ...], document: object, says: str
) -> None:
    scripted.write("odd")
    error = minirt.fails(1, "cni", "exec", *(word.replace("{box}", box) for word in words), *conf(document))
    assert says in error
    assert scripted.calls() == []


def test_a_configuration_that_is_not_there_or_not_given_is_said(minirt: Command, box: str, scripted: Scripted) -> None:
    scripted.write("odd")
    assert "ADD needs a configuration" in minirt.fails(1, "cni", "exec", "odd", "add", "web", box)
    assert "no file '/none'" in minirt.fails(1, "cni", "exec", "odd", "add", "web", box, "--conf", "/none")
    assert "cannot read it" in minirt.fails(1, "cni", "exec", "odd", "add", "web", box, "--conf", "/run")
