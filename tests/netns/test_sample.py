"""The template for plugins of one's own works as it stands; `ip -j` is the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.machine import Machine

from cni_plugins.sample import PLUGIN, Config, steps
from cni_plugins.sdk import launcher
from cni_plugins.sdk.main import dispatch
from cni_plugins.sdk.netns import Namespace
from cni_plugins.spec import versions

BOX = "/run/netns/box"
BEFORE = {"interfaces": [{"name": "veth0"}, {"name": "eth0", "sandbox": BOX}], "ips": [{"address": "10.1.0.2/24"}]}


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    machine.run("ip", "-n", "box", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    yield machine
    machine.run("ip", "netns", "del", "box")


def call(command: str, netns: str = BOX, version: str = "1.1.0", before: object = BEFORE, **keys: Any) -> Any:
    """The exit code, and what was printed."""
    conf = {"cniVersion": version, "name": "net", "type": "sample", "prevResult": before} | keys
    env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": netns, "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    outcome = dispatch(PLUGIN, env, lambda: json.dumps(conf).encode())
    return outcome.exit, json.loads(outcome.stdout) if outcome.stdout else None


def mtu(machine: Machine) -> int:
    found: int = machine.ip("link", "show", "eth0", netns="box")[0]["mtu"]
    return found


def test_P5_P7_the_interface_gets_its_mtu_and_the_result_says_so(box: Machine) -> None:
    interfaces = [{"name": "veth0"}, {"name": "eth0", "mtu": 1400, "sandbox": BOX}]
    assert call("ADD", mtu=1400) == (0, {"cniVersion": "1.1.0"} | BEFORE | {"interfaces": interfaces})
    assert mtu(box) == 1400


@pytest.mark.parametrize("version", [version for version in versions.ALL if versions.allows(version, "CHECK")])
def test_P14_P15_check_passes_after_add_and_sees_another_mtu(box: Machine, version: str) -> None:
    before = BEFORE | {"cniVersion": "1.0.0"}
    code, result = call("ADD", version=version, before=before, mtu=1400)
    assert code == 0 and call("CHECK", version=version, before=result, mtu=1400) == (0, None)
    box.run("ip", "-n", "box", "link", "set", "eth0", "mtu", "1300")
    code, error = call("CHECK", version=version, before=result, mtu=1400)
    assert (code, error["code"], error["msg"]) == (1, 100, f"eth0 in {BOX} has the MTU 1300, not 1400")


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", BOX])
def test_P9_P10_P11_delete_bears_whatever_is_missing(box: Machine, netns: str) -> None:
    for _ in range(2):
        assert call("DEL", netns, before=None) == (0, None)
    assert mtu(box) == 1500


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "mtu is missing"),
        ({"mtu": "1400"}, 'mtu: expected an integer, got "1400"'),
        ({"mtu": 9}, "mtu: expected an integer from 68 to 65535, got 9"),
        ({"mtu": 1400, "before": None}, "prevResult is missing"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(box: Machine, keys: dict[str, Any], said: str) -> None:
    code, error = call("ADD", **keys)
    assert (code, error["code"], error["msg"]) == (1, 7, said)
    assert mtu(box) == 1500
    assert call("STATUS", mtu=1400) == (0, None)


def test_a_step_says_what_a_person_would_type() -> None:
    assert [step.describe() for step in steps(Namespace(BOX), "eth0", Config(1400))] == [
        "ip -n box link set eth0 mtu 1400"
    ]


def test_a_template_is_not_installed() -> None:
    assert "sample" not in launcher.NAMES
