"""A plugin's dispatch: which answer and which code, for whatever environment and standard input there may be.

The names of the tests carry the requirement they prove, as `reference` lists number them: S for the Go skeleton's
behaviour, P for the specification's demands on a plugin.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from cni_plugins.sdk.main import Outcome, Plugin, Request, dispatch
from cni_plugins.spec import versions
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.result import Interface, Ip, Result

ATTACHMENT = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/none", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
ALL_COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
RESULT = Result((Interface("eth0", sandbox="/ns"),), (Ip(parse_cidr("10.0.0.5/24"), interface=0),))


class Recorder:
    """A plugin that remembers what it was asked, and fails with what it is told to."""

    def __init__(self, result: Result = RESULT, error: BaseException | None = None, **options: Any) -> None:
        self.requests: list[Request] = []
        self.result = result
        self.error = error
        handlers = {"gc": self.other, "status": self.other} | options
        self.plugin = Plugin("recorder", add=self.add, delete=self.other, check=self.other, **handlers)

    def add(self, request: Request) -> Result:
        self.other(request)
        return self.result

    def other(self, request: Request) -> None:
        self.requests.append(request)
        if self.error is not None:
            raise self.error

    def call(self, command: str, config: Any = None, env: Mapping[str, str] | None = None, **more: str) -> Outcome:
        config = {"cniVersion": "1.1.0", "name": "net", "type": "recorder"} if config is None else config
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        environ = (ATTACHMENT if env is None else dict(env)) | {"CNI_COMMAND": command} | more
        return dispatch(self.plugin, environ, lambda: text)


def error_of(outcome: Outcome) -> dict[str, Any]:
    assert outcome.exit == 1
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def config(version: str, **more: Any) -> dict[str, Any]:
    return {"cniVersion": version, "name": "net", "type": "recorder"} | more


# --- environment: table 1.3 -------------------------------------------------------------------------------------------

REQUIRED = {
    "ADD": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    "DEL": ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
    "CHECK": ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    "GC": ["CNI_PATH"],
    "STATUS": ["CNI_PATH"],
    "VERSION": [],
}


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_all_missing_variables_are_named_at_once(command: str) -> None:
    recorder = Recorder()
    outcome = recorder.call(command, env={})
    if not REQUIRED[command]:
        assert outcome.exit == 0
    else:
        error = error_of(outcome)
        assert error["code"] == 4
        assert error["msg"] == f"required env variables [{','.join(REQUIRED[command])}] missing"
    assert recorder.requests == []


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_what_a_command_does_not_need_may_be_missing(command: str) -> None:
    recorder = Recorder()
    env = {name: ATTACHMENT[name] for name in REQUIRED[command]}
    assert recorder.call(command, env=env).exit == 0
    assert len(recorder.requests) == 1


def test_an_invalid_value_is_reported_before_what_is_missing_behind_it() -> None:
    error = error_of(Recorder().call("ADD", env={"CNI_CONTAINERID": "../up"}))
    assert (error["code"], error["msg"]) == (4, "invalid container ID '../up'")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_CONTAINERID", "a\u00e9"),
        ("CNI_IFNAME", "sixteencharacter"),
        ("CNI_IFNAME", "\u00e9" * 8),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a\u00a0b"),
    ],
)
def test_P8_identifiers_are_validated(name: str, value: str) -> None:
    recorder = Recorder()
    error = error_of(recorder.call("ADD", env=ATTACHMENT | {name: value}))
    assert error["code"] == 4
    assert repr(value) in error["msg"]
    assert recorder.requests == []


def test_P4_a_handler_gets_exactly_what_was_given() -> None:
    recorder = Recorder()
    text = b'{ "cniVersion":"1.0.0","name":"net", "extra": [1] }'
    recorder.call("ADD", text, CNI_ARGS="IP=1.2.3.4;K8S_POD=x", CNI_PATH="/a:/b:", OTHER="kept")
    (request,) = recorder.requests
    assert (request.command, request.container_id, request.netns) == ("ADD", "c1", "/run/netns/none")
    assert (request.ifname, request.network, request.version) == ("eth0", "net", "1.0.0")
    assert request.args == {"IP": "1.2.3.4", "K8S_POD": "x"}
    assert request.path == ("/a", "/b")
    assert request.stdin == text
    assert request.env["OTHER"] == "kept"
    assert request.conf.document["extra"] == [1]
    assert request.prev_result is None


@pytest.mark.parametrize("args", ["IP", "IP=1=2", "IP=1;", ";", "=;x"])
def test_a_malformed_pair_of_arguments_is_an_error_but_not_for_del(args: str) -> None:
    recorder = Recorder()
    error = error_of(recorder.call("ADD", CNI_ARGS=args))
    assert error["code"] == 999
    assert error["msg"].startswith("ARGS: invalid pair")
    assert recorder.requests == []
    assert recorder.call("DEL", CNI_ARGS=args).exit == 0


# --- order and codes: S1 to S5, S9 ------------------------------------------------------------------------------------


def test_S1_unreadable_standard_input_is_an_io_failure() -> None:
    def unreadable() -> bytes:
        raise OSError(5, "Input/output error")

    error = error_of(dispatch(Recorder().plugin, ATTACHMENT | {"CNI_COMMAND": "ADD"}, unreadable))
    assert error == {"code": 5, "msg": "error reading from stdin: Input/output error"}


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"\xff\xfe"])
def test_S1_input_that_is_no_json_object_cannot_be_decoded(text: bytes) -> None:
    assert error_of(Recorder().call("ADD", text))["code"] == 6


@pytest.mark.parametrize("name", [None, "", "../x", "a b", 7])
def test_S1_the_network_name_must_be_valid(name: object) -> None:
    assert error_of(Recorder().call("ADD", {"cniVersion": "1.1.0", "name": name}))["code"] == 7


def test_S1_every_step_comes_before_the_next() -> None:
    """A call that is wrong in every way is told of the first; put right, of the next."""
    recorder = Recorder(versions=("1.0.0",))
    env = {"CNI_COMMAND": "CHECK"}
    bad = b"{"
    assert error_of(recorder.call("CHECK", bad, env=env))["code"] == 4
    assert error_of(recorder.call("CHECK", bad))["code"] == 6
    assert error_of(recorder.call("CHECK", {"cniVersion": "0.3.1"}))["code"] == 7
    assert error_of(recorder.call("NONSENSE", {"cniVersion": "bad", "name": "net"}))["code"] == 4
    assert error_of(recorder.call("CHECK", config("bad")))["code"] == 6
    assert "does not allow CHECK" in error_of(recorder.call("CHECK", config("0.3.1")))["msg"]
    error = error_of(recorder.call("CHECK", config("1.0.0", prevResult={"cniVersion": "1.0.0", "ips": 1})))
    assert (error["code"], error["msg"][:11]) == (7, "prevResult:")
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("command", "version", "allowed"),
    [
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
        ("ADD", "0.1.0", True),
        ("DEL", "0.1.0", True),
    ],
)
def test_S2_a_verb_needs_a_configuration_that_has_it(command: str, version: str, allowed: bool) -> None:
    recorder = Recorder()
    outcome = recorder.call(command, config(version))
    if allowed:
        assert outcome.exit == 0
        assert len(recorder.requests) == 1
    else:
        error = error_of(outcome)
        assert (error["code"], error["msg"]) == (1, f"config version does not allow {command}")
        assert recorder.requests == []


def test_S2_a_verb_needs_a_plugin_that_is_new_enough() -> None:
    recorder = Recorder(versions=("0.4.0", "1.0.0"))
    error = error_of(recorder.call("STATUS", config("1.1.0")))
    assert (error["code"], error["msg"]) == (1, "plugin version does not allow STATUS")


@pytest.mark.parametrize("version", ["1.2.0", "1.1", "0.5.0", "9.0.0"])
def test_S3_P2_the_version_must_be_literally_one_that_the_plugin_speaks(version: str) -> None:
    recorder = Recorder()
    error = error_of(recorder.call("ADD", config(version)))
    assert (error["code"], error["msg"]) == (1, "incompatible CNI versions")
    assert repr(version) in error["details"]
    assert all(spoken in error["details"] for spoken in versions.ALL)
    assert recorder.requests == []


def test_S3_a_configuration_without_a_version_is_one_of_the_first() -> None:
    assert json.loads(Recorder().call("ADD", {"name": "net"}).stdout)["cniVersion"] == "0.1.0"
    assert error_of(Recorder(versions=("1.0.0",)).call("ADD", {"name": "net"}))["code"] == 1


@pytest.mark.parametrize("version", ["one", "1.0.0.0", "1..0", "v1.0.0", "1.0.0-rc1"])
def test_S4_a_version_that_is_none_cannot_be_decoded(version: str) -> None:
    assert error_of(Recorder().call("CHECK", config(version)))["code"] == 6


def test_P1_S5_an_error_with_a_code_is_passed_on_as_it_is() -> None:
    outcome = Recorder(error=CniError(11, "come back", "soon")).call("ADD")
    assert error_of(outcome) == {"cniVersion": "1.1.0", "code": 11, "msg": "come back", "details": "soon"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("boom"), "RuntimeError: boom"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(0), "SystemExit: 0"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x: No such file or directory"),
        (OSError(22, "Invalid argument"), "Invalid argument"),
        (OSError("plain words"), "plain words"),
    ],
)
def test_S5_any_other_failure_is_internal_and_no_traceback_is_printed(error: BaseException, text: str) -> None:
    outcome = Recorder(error=error).call("ADD")
    assert (error_of(outcome)["code"], error_of(outcome)["msg"]) == (999, text)
    assert outcome.stderr == b""


def test_S5_a_failure_of_the_kernel_keeps_its_own_words() -> None:
    class Refused(OSError):
        def __str__(self) -> str:
            return "Invalid argument (mtu greater than device maximum)"

    assert error_of(Recorder(error=Refused(22, "Invalid argument")).call("ADD"))["msg"].endswith("device maximum)")


def test_a_traceback_goes_to_standard_error_for_those_who_ask() -> None:
    outcome = Recorder(error=RuntimeError("boom")).call("ADD", CNI_DEBUG="1")
    assert b"Traceback (most recent call last)" in outcome.stderr
    assert error_of(outcome)["code"] == 999


def test_what_could_not_be_undone_is_part_of_the_error() -> None:
    for error in (CniError(7, "no", "why"), RuntimeError("no")):
        error.add_note("not undone: the link")
        assert "not undone: the link" in error_of(Recorder(error=error).call("ADD"))["details"]


def test_S9_an_unknown_command_is_named() -> None:
    error = error_of(Recorder().call("FLY"))
    assert (error["code"], error["msg"]) == (4, "unknown CNI_COMMAND: FLY")
    assert error_of(Recorder().call("FLY", b"{"))["code"] == 6, "but standard input is looked at first"


def test_S10_keys_match_whatever_their_case() -> None:
    recorder = Recorder()
    assert recorder.call("ADD", {"CNIVersion": "1.0.0", "NAME": "net"}).exit == 0
    assert recorder.requests[0].version == "1.0.0"


# --- answers: S7, S8, P20 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", versions.ALL)
def test_P2_S8_a_result_is_printed_in_the_version_asked_for_with_four_spaces(version: str) -> None:
    outcome = Recorder().call("ADD", config(version))
    document = json.loads(outcome.stdout)
    assert outcome.exit == 0
    assert document["cniVersion"] == version
    assert outcome.stdout.decode() == json.dumps(document, indent=4)
    address = document["ip4"]["ip"] if version < "0.3" else document["ips"][0]["address"]
    assert address == "10.0.0.5/24"


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_P12_the_other_verbs_print_nothing(command: str) -> None:
    assert Recorder().call(command) == Outcome(0)


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_S7_a_plugin_without_the_handler_succeeds_after_the_version_check(command: str) -> None:
    recorder = Recorder(gc=None, status=None)
    assert recorder.call(command) == Outcome(0)
    assert error_of(recorder.call(command, config("1.0.0")))["code"] == 1


def test_P20_version_needs_nothing_and_reads_nothing() -> None:
    def never() -> bytes:
        raise AssertionError("standard input was read")

    outcome = dispatch(Recorder(versions=("0.4.0", "1.0.0")).plugin, {"CNI_COMMAND": "VERSION"}, never)
    assert outcome.exit == 0
    assert outcome.stdout.endswith(b"\n") and outcome.stdout.count(b"\n") == 1
    assert json.loads(outcome.stdout) == {"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}


def test_without_a_command_it_says_what_it_is_on_standard_error() -> None:
    def never() -> bytes:
        raise AssertionError("standard input was read")

    outcome = dispatch(Recorder(about="a recorder of calls").plugin, {}, never)
    assert (outcome.exit, outcome.stdout) == (0, b"")
    assert outcome.stderr.decode().splitlines() == [
        "a recorder of calls",
        f"CNI protocol versions supported: {', '.join(versions.ALL)}",
    ]


# --- prevResult, and results that do not fit --------------------------------------------------------------------------


def test_the_previous_result_is_converted_whatever_its_version() -> None:
    recorder = Recorder()
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.5/24"}}
    recorder.call("ADD", config("1.0.0", prevResult=old))
    unversioned = {"ips": [{"version": "4", "address": "10.0.0.5/24"}]}
    recorder.call("ADD", config("0.4.0", prevResult=unversioned))
    assert [request.prev_result for request in recorder.requests] == [Result(ips=(Ip(parse_cidr("10.0.0.5/24")),))] * 2


def test_P11_del_does_without_a_previous_result_that_is_broken(capfd: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    assert recorder.call("DEL", config("1.0.0", prevResult={"cniVersion": "7.0.0"})).exit == 0
    assert recorder.requests[0].prev_result is None
    assert "prevResult" in capfd.readouterr().err


def test_an_add_whose_result_the_version_cannot_hold_is_taken_back() -> None:
    recorder = Recorder(result=Result((Interface("eth0"),)))
    error = error_of(recorder.call("ADD", config("0.2.0")))
    assert (error["code"], error["msg"]) == (1, "cannot convert: no valid IP addresses")
    assert [request.command for request in recorder.requests] == ["ADD", "DEL"]


# --- the guard: S6, before the handler --------------------------------------------------------------------------------

OURS = "/proc/self/ns/net"


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_S6_a_namespace_that_is_our_own_is_refused_before_anything_is_done(command: str) -> None:
    recorder = Recorder()
    error = error_of(recorder.call(command, CNI_NETNS=OURS))
    assert (error["code"], error["msg"]) == (8, "plugin's netns and netns from CNI_NETNS should not be the same")
    assert recorder.requests == []


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "True"])
def test_S6_the_guard_can_be_switched_off(value: str) -> None:
    assert Recorder().call("ADD", CNI_NETNS=OURS, CNI_NETNS_OVERRIDE=value).exit == 0


@pytest.mark.parametrize("value", ["0", "false", "yes"])
def test_S6_other_values_do_not_switch_the_guard_off(value: str) -> None:
    assert error_of(Recorder().call("ADD", CNI_NETNS=OURS, CNI_NETNS_OVERRIDE=value))["code"] == 8


@pytest.mark.parametrize("netns", ["/run/netns/none", "/etc/hostname", "/proc/self/ns/mnt"])
def test_S6_what_is_no_namespace_of_ours_is_left_to_the_handler(netns: str) -> None:
    assert os.path.exists(netns) or netns.endswith("none")
    assert Recorder().call("ADD", CNI_NETNS=netns).exit == 0
