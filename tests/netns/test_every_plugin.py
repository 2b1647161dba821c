"""What holds for every bundled plugin, asked of each with the configuration of its own example (configs/)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.pages import ALSO, EXAMPLES
from support.plugins import Plugins
from support.site import LEASES

from cni_plugins.sdk import launcher

pytestmark = pytest.mark.leaves(*FOLDERS)

IPAM = ("host-local", "static", "dhcp")
DELEGATING = ("bridge", "ptp", "macvlan", "ipvlan", "vlan", "dummy", "tap", "host-device")
SECOND_KERNEL = ("ipvlan", "vlan", "dummy")  # which this one says it lacks


def example(name: str) -> dict[str, Any]:
    """The plugin's object of its example list, as a runtime would hand it over."""
    whose = ALSO.get(name, name)
    network = json.loads((EXAMPLES / f"{whose}.conflist").read_text())
    for plugin in network["plugins"]:
        ipam = plugin.get("ipam", {})
        if whose in (plugin["type"], ipam.get("type")):
            mine = {key: value for key, value in plugin.items() if key != "capabilities"}
            return mine | {"cniVersion": "1.1.0", "name": "net", "type": name}
    raise AssertionError(f"the example of {name} has none")


@pytest.fixture
def plugins(machine: Machine, tmp_path: Path) -> Plugins:
    return Plugins(machine, tmp_path / "bin")


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
@pytest.mark.parametrize("name", launcher.NAMES)
def test_U5_U21_B3_deleting_what_is_not_there_is_no_error(plugins: Plugins, name: str, netns: str) -> None:
    for _ in range(2):
        plugins.delete(example(name), netns)


@pytest.mark.parametrize("name", launcher.NAMES)
def test_U5_P10_deleting_needs_no_configuration_that_an_add_would_take(plugins: Plugins, name: str) -> None:
    known = {"cniVersion": "1.1.0", "name": "net", "type": name}
    broken = {"mtu": 1 << 31, "master": "no such link", "device": "gone0", "vlanId": 5000, "mode": "none"}
    plugins.delete(known | broken)


@pytest.mark.parametrize("name", launcher.NAMES)
def test_B1_P18_there_is_something_to_collect_in_every_plugin(plugins: Plugins, name: str) -> None:
    """The collection of what nobody owns succeeds; of whom there is nothing, as of DEL."""
    plugins.call("GC", example(name) | {"cni.dev/valid-attachments": []}).done()


@pytest.mark.parametrize("name", DELEGATING)
def test_B1_P19_the_addresses_of_who_is_no_more_are_collected_by_way_of_every_plugin(
    plugins: Plugins, name: str
) -> None:
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24"}
    alone = {"cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": ipam}
    for container in ("alive", "stale"):
        plugins.add(alone, "/run/netns/any", container=container)
    valid = [{"containerID": "alive", "ifname": "eth0"}]
    plugins.call("GC", example(name) | {"ipam": ipam, "cni.dev/valid-attachments": valid}).done()
    left = [path.read_text().splitlines()[0] for path in (LEASES / "net").glob("10.77.*")]
    assert left == ["alive"]
    plugins.delete(alone, container="alive")


@pytest.mark.parametrize("name", DELEGATING)
def test_B2_P17_an_exhausted_range_is_told_by_way_of_every_plugin(plugins: Plugins, name: str) -> None:
    only = {"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.9", "rangeEnd": "10.77.0.9"}
    ipam = {"type": "host-local", "ranges": [[only]]}
    alone = {"cniVersion": "1.1.0", "name": "net", "type": "host-local", "ipam": ipam}
    parent = {"master": "lan0", "device": "lan0", "bridge": "cni0"}
    plugins.machine.run("ip", "link", "add", "lan0", "up", "type", "veth", "peer", "name", "lan1")
    plugins.add(alone, "/run/netns/any")
    told = plugins.call("STATUS", example(name) | parent | {"ipam": ipam}).error
    assert told["code"] in (50, 51)
    if name not in SECOND_KERNEL:
        assert "10.77.0.9" in told["msg"] + told.get("details", "")
    plugins.delete(alone)
    plugins.machine.run("ip", "link", "del", "lan0")


@pytest.mark.parametrize(
    "keys",
    [{"type": "bridge", "ipMasq": True}, {"type": "bridge", "macspoofchk": True}, {"type": "ptp", "ipMasq": True}],
)
def test_B2_P17_rules_that_no_program_could_make_are_told_before(plugins: Plugins, keys: dict[str, Any]) -> None:
    conf = {"cniVersion": "1.1.0", "name": "net", "ipam": {"type": "host-local", "subnet": "10.77.0.0/24"}} | keys
    plugins.call("STATUS", conf).done()
    nft = plugins.machine.text("sh", "-c", "command -v nft").strip()
    plugins.machine.run("mount", "--bind", "/dev/null", nft)
    told = plugins.call("STATUS", conf).error
    plugins.machine.run("umount", nft)
    assert (told["code"], told["msg"]) == (50, "the nft program is missing")


def test_B2_P17_a_delegate_that_is_nowhere_is_told(plugins: Plugins) -> None:
    told = plugins.call(
        "STATUS", {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": {"type": "none"}}
    ).error
    assert told["code"] == 50
    assert told["msg"].startswith("cannot run IPAM plugin 'none': plugin 'none' not found in ")


WAYS = [
    {"dst": "10.8.0.0/16", "gw": "10.77.0.1", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 123},
    {"dst": "10.9.0.0/16", "scope": 0, "gw": "10.77.0.1"},
]
CONNECTED: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "cni0", "isGateway": True},
    "ptp": {},
    "macvlan": {"master": "lan0"},
    "tap": {},
    "host-device": {"device": "lan0"},
}


@pytest.mark.parametrize("name", CONNECTED)
def test_B6_routes_are_as_ipam_has_them_and_the_result_has_the_mtu(plugins: Plugins, name: str) -> None:
    machine = plugins.machine
    machine.leaves("* cni0")
    machine.run("ip", "link", "add", "lan0", "up", "type", "veth", "peer", "name", "lan1")
    machine.run("ip", "link", "set", "lan1", "up")
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24", "routes": WAYS}
    conf = {"cniVersion": "1.1.0", "name": "net", "type": name, "ipam": ipam} | CONNECTED[name]
    path = machine.netns("web")
    result = plugins.add(conf, path)
    (inside,) = (item for item in result["interfaces"] if item.get("sandbox") == path)
    assert inside["mtu"] == machine.ip("link", "show", "eth0", netns="web")[0]["mtu"]
    shown = {way["dst"]: way for way in machine.ip("route", "show", "table", "all", netns="web")}
    first = shown["10.8.0.0/16"]
    assert (first["gateway"], first["metric"], first["table"]) == ("10.77.0.1", 7, "123")
    assert {"mtu": 1300, "advmss": 1200} in first["metrics"]
    assert shown["10.9.0.0/16"]["gateway"] == "10.77.0.1"
    plugins.check(conf, result, path).done()
    plugins.delete(conf, path)
    machine.run("ip", "netns", "del", "web")
    machine.run("ip", "link", "del", "lan0")


@pytest.mark.parametrize("name", CONNECTED)
def test_an_answer_that_nobody_can_read_leaves_nothing(plugins: Plugins, name: str) -> None:
    """The result cannot be written: the runtime is gone, or its disk is full. It knows nothing of what was made."""
    machine = plugins.machine
    machine.leaves("* cni0")
    machine.run("ip", "link", "add", "lan0", "up", "type", "veth", "peer", "name", "lan1")
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24"}
    conf = {"cniVersion": "1.1.0", "name": "net", "type": name, "ipam": ipam} | CONNECTED[name]
    path = machine.netns("web")
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "web", "CNI_NETNS": path, "CNI_IFNAME": "eth0"}
    program = [f"{plugins.folder}/{name}"]
    with open("/dev/full", "w", encoding="utf-8") as full:
        env |= {"CNI_PATH": plugins.folder}
        done = subprocess.run(program, env=env, input=json.dumps(conf).encode(), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert b"cannot write the answer: No space left on device" in done.stderr
    assert machine.links("web") == {"lo"}
    assert list((LEASES / "net").glob("10.77.*")) == []
    machine.run("ip", "netns", "del", "web")
    machine.run("ip", "link", "del", "lan0")


# An IPAM plugin that has another container connected to the same network before it answers.
NESTING = """#!/bin/sh
if [ "$CNI_COMMAND" = ADD ]; then
    CNI_CONTAINERID=other CNI_NETNS=/run/netns/other "$CNI_PATH/bridge" <"$CNI_PATH/other.json" >&2 || exit 1
    echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.200/24"}]}'
fi
"""


def test_B12_another_container_may_be_connected_while_an_ipam_plugin_works(plugins: Plugins) -> None:
    machine = plugins.machine
    machine.leaves("* cni0", "nft *")
    program = Path(plugins.folder, "nesting")
    program.write_text(NESTING)
    program.chmod(0o755)
    conf = {"cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": True, "ipMasq": True}
    other = conf | {"ipam": {"type": "host-local", "subnet": "10.77.0.0/24"}}
    Path(plugins.folder, "other.json").write_text(json.dumps(other))
    paths = {name: machine.netns(name) for name in ("web", "other")}
    plugins.add(conf | {"ipam": {"type": "nesting"}}, paths["web"])
    assert machine.addresses("eth0", "other") == {"10.77.0.2/24"}
    plugins.delete(conf | {"ipam": {"type": "nesting"}}, paths["web"])
    plugins.delete(other, paths["other"], container="other")
    for name in paths:
        machine.run("ip", "netns", "del", name)


@pytest.mark.parametrize("name", launcher.NAMES)
def test_a_value_of_the_wrong_type_is_told_with_its_path(plugins: Plugins, name: str) -> None:
    told = plugins.call("STATUS", example(name) | {"runtimeConfig": "none"}).error
    assert told["code"] in (7, 50)
    if told["code"] == 7:
        assert "runtimeConfig" in told["msg"]


@pytest.mark.parametrize("name", [name for name in launcher.NAMES if name not in IPAM and not name.startswith("win-")])
def test_a_slip_of_the_pen_in_a_key_is_told_with_its_path(plugins: Plugins, name: str) -> None:
    told = plugins.call("STATUS", example(name) | {"runtimeConfg": {}}).error
    assert (told["code"], told["msg"]) == (7, "runtimeConfg: unknown key")
