"""Chained plugins that are killed in the middle of ADD, at every system call that changes something: DEL undoes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import killed
from support.machine import Machine
from support.plugins import Plugins

BOX = "/run/netns/box"
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": BOX}],
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}],
}
TUNING = {"type": "tuning", "mtu": 1400, "promisc": True, "sysctl": {"net.core.somaxconn": "512"}}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 8000, "ingressBurst": 24000, "egressRate": 8000, "egressBurst": 24000}
SBR = {"type": "sbr"}


# Those that sbr moves; they go with the interface and not with DEL.
ROUTES = ("-n box route replace 10.9.0.0/24 dev eth0", "-n box route replace default via 10.9.0.1 dev eth0")


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    for words in (
        "link add host0 up type veth peer name eth0 netns box",
        "-n box link set eth0 up",
        "-n box addr add 10.9.0.2/24 dev eth0",
        *ROUTES,
    ):
        machine.run("ip", *words.split())
    machine.leaves("directory /run/*")
    yield machine
    machine.run("ip", "link", "del", "host0")
    machine.run("ip", "netns", "del", "box")


def state(machine: Machine) -> list[Any]:
    """Of host and container, all but the routes that sbr moves, which go with the interface."""
    links = [
        (link["ifname"], link["mtu"], "PROMISC" in link["flags"]) for link in machine.ip("link", "show", netns="box")
    ]
    files = {path for path in machine.files() if "/plugins/" not in path and "/netns/" not in path}
    sysctl = machine.text("ip", "netns", "exec", "box", "cat", "/proc/sys/net/core/somaxconn")
    rules = machine.ip("rule", "show", netns="box")
    return [machine.links(), links, files, sysctl, rules, machine.text("tc", "qdisc", "show", "dev", "host0")]


@pytest.mark.parametrize("keys", [TUNING, BANDWIDTH, SBR], ids=lambda keys: keys["type"])
def test_delete_undoes_an_add_that_was_killed_at_any_point(box: Machine, tmp_path: Any, keys: dict[str, Any]) -> None:
    plugins = Plugins(box, tmp_path / "plugins")
    conf = {"cniVersion": "1.0.0", "name": "net", "prevResult": PREVIOUS} | keys
    before, places = state(box), list[str]()
    for place in killed.adds(plugins, conf, BOX):
        plugins.delete({"cniVersion": "1.0.0", "name": "net", "type": keys["type"]}, BOX)
        assert state(box) == before, f"killed at {place}"
        for words in ROUTES:
            box.run("ip", *words.split())
        places.append(place)
    assert len(places) > len(killed.CALLS) + 2
