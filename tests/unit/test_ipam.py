"""Delegation to an IPAM plugin: what it is given, how its answers and failures come back, what is undone."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.scripted import Answer, Scripted, fails, says

from cni_plugins.sdk import ipam, launcher
from cni_plugins.sdk.main import Request
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Dns, Ip, Result, Route
from cni_plugins.spec.steps import Plan, Step

GIVEN = {
    "cniVersion": "1.0.0",
    "ips": [{"address": "10.0.0.5/24", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"domain": "local"},
}
RESULT = Result(ips=(Ip(parse_cidr("10.0.0.5/24")),), routes=(Route(parse_cidr("0.0.0.0/0")),), dns=Dns(domain="local"))


@pytest.fixture
def plugins(tmp_path: Path) -> Scripted:
    return Scripted(tmp_path)


def request(plugins: Scripted | str, command: str = "ADD", ipam_type: str = "pool", **env: str) -> Request:
    """A call of a plugin that delegates to `ipam_type`, as the dispatch would hand it over."""
    folder = plugins if isinstance(plugins, str) else str(plugins.folder)
    conf: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "mine": [1], "ipam": {}}
    if ipam_type:
        conf["ipam"] = {"type": ipam_type, "ranges": [[{"subnet": "10.0.0.0/24"}]]}
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/ns",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": f"/nowhere:{folder}",
        "CNI_ARGS": "K=V",
        "ANYTHING": "else",
    }
    return Request(
        command=command,
        container_id="c1",
        netns="/ns",
        ifname="eth0",
        args={"K": "V"},
        path=("/nowhere", folder),
        conf=View(conf),
        version="1.0.0",
        network="net",
        prev_result=None,
        stdin=json.dumps(conf).encode(),
        env=variables | env,
    )


def started(asked: Request) -> ipam.Lease:
    lease = ipam.Lease(asked)
    lease.apply()
    return lease


class Fails(Step):
    """A step of the plugin's own that does not work out."""

    def describe(self) -> str:
        return "fail"

    def apply(self) -> None:
        raise RuntimeError("the link could not be made")


def refused(lease: ipam.Lease) -> CniError:
    with pytest.raises(CniError) as caught, Plan() as plan:
        plan.do(lease)
        lease.result()
    return caught.value


def test_P21_the_delegate_gets_the_whole_environment_and_configuration(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[says(GIVEN)])
    asked = request(plugins, CNI_NFNL_FD="9")
    lease = started(asked)
    assert lease.result() == RESULT
    (call,) = plugins.calls()
    expected = {key: value for key, value in asked.env.items() if key != "CNI_NFNL_FD"}
    assert {key: value for key, value in call.env.items() if key != "LC_CTYPE"} == expected
    assert call.stdin == asked.stdin


@pytest.mark.parametrize("interfaces", [[{"name": "not its business"}], [], None])
def test_P24_a_delegate_has_no_interfaces_whatever_it_says(plugins: Scripted, interfaces: Any) -> None:
    plugins.write("pool", ADD=[says(GIVEN | {"interfaces": interfaces})])
    assert started(request(plugins)).result() == RESULT


def test_it_stays_in_the_process_group_of_who_asked(plugins: Scripted) -> None:
    """Whoever kills the plugin's group kills its delegate."""
    plugins.write("pool", ADD=[says(GIVEN)])
    started(request(plugins)).result()
    assert not plugins.calls()[0].leads_group


def test_P21_its_log_goes_to_our_standard_error(plugins: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    plugins.write("pool", ADD=[says(GIVEN, stderr=b"thinking\n")])
    started(request(plugins)).result()
    assert capfd.readouterr() == ("", "thinking\n")


def test_add_runs_beside_what_comes_next(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[says(GIVEN, hang=0.3)])
    began = time.monotonic()
    lease = started(request(plugins))
    assert time.monotonic() - began < 0.2
    lease.result()
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_P22_the_other_verbs_are_passed_on_and_their_errors_back(plugins: Scripted, command: str) -> None:
    plugins.write("pool", **{command: [Answer(), fails(50, "full", "quite")]})
    ipam.delegate(request(plugins, command))
    with pytest.raises(CniError) as caught:
        ipam.delegate(request(plugins, command))
    assert (caught.value.code, caught.value.msg, caught.value.details) == (50, "full", "quite")
    assert plugins.order() == [f"pool {command}"] * 2


def test_begun_early_a_verb_reports_when_it_is_waited_for(plugins: Scripted) -> None:
    plugins.write("pool", DEL=[fails(11, "later", hang=0.2)])
    began = time.monotonic()
    wait = ipam.begin(request(plugins, "DEL"))
    missing = ipam.begin(request(plugins, "DEL", ipam_type="nowhere-to-be-found"))
    assert time.monotonic() - began < 0.15
    with pytest.raises(CniError, match="later"):
        wait()
    with pytest.raises(CniError, match="not found"):
        missing()


def test_without_a_delegate_nothing_is_delegated(plugins: Scripted) -> None:
    asked = request(plugins, ipam_type="")
    assert not ipam.wanted(asked)
    for command in ("DEL", "CHECK", "GC", "STATUS"):
        ipam.delegate(asked, command)
    with pytest.raises(CniError) as caught:
        started(asked)
    assert (caught.value.code, caught.value.msg) == (7, "ipam.type: missing")


@pytest.mark.parametrize(
    ("stated", "said"),
    [({"typ": "host-local"}, "ipam.typ: unknown key"), ({"subnet": "10.0.0.0/24"}, "ipam.type: missing")],
)
def test_a_delegate_that_is_meant_and_not_named_is_missed_but_by_del(
    plugins: Scripted, stated: dict[str, str], said: str
) -> None:
    asked = request(plugins, ipam_type="")
    asked.conf.document["ipam"] = stated
    with pytest.raises(CniError) as told:
        ipam.wanted(asked)
    assert (told.value.code, told.value.msg) == (7, said)
    assert not ipam.wanted(replace(asked, command="DEL"))


def test_P23_a_delegate_that_fails_is_asked_to_del(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[fails(101, "no addresses")])
    error = refused(ipam.Lease(request(plugins)))
    assert (error.code, error.msg) == (101, "no addresses")
    assert plugins.order() == ["pool ADD", "pool DEL"]
    assert [call.env["CNI_COMMAND"] for call in plugins.calls()] == ["ADD", "DEL"]


def test_when_the_plugin_itself_fails_the_address_is_given_back_after_add_has_ended(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[says(GIVEN, hang=0.3)])
    with pytest.raises(RuntimeError, match="link"), Plan() as plan:
        plan.do(ipam.Lease(request(plugins)), Fails())
    assert plugins.order() == ["pool ADD", "pool DEL"]


def test_an_address_that_cannot_be_given_back_is_noted(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[says(GIVEN)], DEL=[fails(5, "the disk is gone")])
    with pytest.raises(RuntimeError) as caught, Plan() as plan:
        plan.do(ipam.Lease(request(plugins)), Fails())
    (note,) = caught.value.__notes__
    assert note.startswith("not undone: the disk is gone")
    assert "CNI_COMMAND=ADD" in note


def test_a_lease_that_worked_is_kept(plugins: Scripted) -> None:
    plugins.write("pool", ADD=[says(GIVEN)])
    lease = ipam.Lease(request(plugins))
    with Plan() as plan:
        plan.do(lease)
        assert lease.result() == RESULT
    assert plugins.order() == ["pool ADD"]


@pytest.mark.parametrize(
    ("answer", "code", "says_what"),
    [
        (Answer(b"garbage"), 6, "the answer of IPAM plugin 'pool': line 1 column 1"),
        (says({"cniVersion": "1.0.0", "ips": [{"address": "x"}]}), 7, "result.ips[0].address: 'x'"),
        (says({"cniVersion": "7.0.0"}), 1, "result of version '7.0.0' is not supported"),
        (Answer(b"garbage", exit=2), 999, "IPAM plugin 'pool' exited with 2: garbage"),
        (Answer(b"", b"only a log\n", exit=3), 999, "IPAM plugin 'pool' exited with 3: only a log"),
        (Answer(exit=1), 999, "IPAM plugin 'pool' exited with 1: it said nothing"),
        (Answer(signal=int(signal.SIGKILL)), 999, "IPAM plugin 'pool' was ended by signal 9: it said nothing"),
    ],
)
def test_whatever_a_delegate_does_there_is_a_sentence_and_a_del(
    plugins: Scripted, answer: Answer, code: int, says_what: str
) -> None:
    plugins.write("pool", ADD=[answer])
    error = refused(ipam.Lease(request(plugins)))
    assert error.code == code
    assert str(error).startswith(says_what)
    assert plugins.order() == ["pool ADD", "pool DEL"]


def test_silence_of_a_delegate_that_succeeded_is_an_empty_result(plugins: Scripted) -> None:
    plugins.write("pool")
    assert started(request(plugins)).result() == Result()


def test_a_delegate_that_is_nowhere_is_named_with_the_folders(plugins: Scripted) -> None:
    error = refused(ipam.Lease(request(plugins, ipam_type="nowhere-to-be-found")))
    assert error.msg == (
        "cannot run IPAM plugin 'nowhere-to-be-found': plugin 'nowhere-to-be-found' not found in "
        f"/nowhere, {plugins.folder}"
    )


def test_a_plugin_is_not_its_own_delegate(plugins: Scripted) -> None:
    """Nor when it is the delegate of another, whose configuration it gets: it would go on for ever."""
    for asked in (request(plugins, ipam_type="bridge"), replace(request(plugins), plugin="pool")):
        error = refused(ipam.Lease(asked))
        assert error.code == 7 and "ipam.type: " in error.msg and "host-local" in error.details
        ipam.delegate(asked, "DEL")
        with pytest.raises(CniError, match="the plugin that asks"):
            ipam.delegate(asked, "STATUS")
    assert plugins.calls() == []


def test_a_delegate_cannot_be_outside_of_the_folders(plugins: Scripted) -> None:
    assert refused(ipam.Lease(request(plugins, ipam_type="../bin/sh"))).code == 7


@pytest.mark.parametrize("plain", ["", "1"])
def test_our_own_delegate_is_forked_or_executed_with_the_same_result(tmp_path: Path, plain: str) -> None:
    launcher.write(str(tmp_path / "bin"))
    asked = request(str(tmp_path / "bin"), ipam_type="static", CNI_PLAIN_EXEC=plain)
    conf = asked.conf.document | {"ipam": {"type": "static", "addresses": [{"address": "10.0.0.2/24"}]}}
    asked = replace(asked, conf=View(conf), stdin=json.dumps(conf).encode())
    assert started(asked).result().ips[0].address == parse_cidr("10.0.0.2/24")
    ipam.delegate(asked, "DEL")


def test_a_lease_says_what_a_person_would_type(plugins: Scripted) -> None:
    assert ipam.Lease(request(plugins)).describe() == (
        "CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/ns CNI_IFNAME=eth0 "
        f"CNI_PATH=/nowhere:{plugins.folder} pool < the configuration"
    )


class Link(Step):
    """A step that says in the same record as the delegate when it is made and taken away."""

    def __init__(self, plugins: Scripted) -> None:
        self._plugins = plugins
        self.calls_before: list[int] = []

    def describe(self) -> str:
        return "ip link add"

    def apply(self) -> None:
        self.calls_before.append(len(self._plugins.order()))

    def undo(self) -> None:
        self.calls_before.append(len(self._plugins.order()))


def test_a_dhcp_client_is_started_when_the_link_is_there_and_undone_before_it_goes(plugins: Scripted) -> None:
    plugins.write("dhcp", ADD=[says(GIVEN)])
    lease, link = ipam.Lease(request(plugins, ipam_type="dhcp")), Link(plugins)
    with pytest.raises(RuntimeError), Plan() as plan:
        plan.do(lease, link)
        assert lease.result(plan) == RESULT
        plan.do(Fails())
    assert plugins.order() == ["dhcp ADD", "dhcp DEL"]
    assert link.calls_before == [0, 2]


def test_a_dhcp_client_that_was_not_started_has_nothing_to_give_back(plugins: Scripted) -> None:
    plugins.write("dhcp")
    with pytest.raises(RuntimeError), Plan() as plan:
        plan.do(ipam.Lease(request(plugins, ipam_type="dhcp")), Fails())
    assert plugins.order() == []


def test_a_dhcp_client_has_given_its_address_back_before_the_link_is_deleted(plugins: Scripted) -> None:
    plugins.write("dhcp", DEL=[fails(11, "later")])
    wait = ipam.begin(request(plugins, "DEL", ipam_type="dhcp"))
    assert plugins.order() == ["dhcp DEL"]
    with pytest.raises(CniError, match="later"):
        wait()
