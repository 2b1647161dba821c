"""An ADD of bridge, ptp, portmap or firewall that is killed in the middle, wherever that is: DEL leaves nothing of it,
without result and without the namespace's path. For tuning, bandwidth and sbr see test_chained_killed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import killed
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import Plugins

pytestmark = pytest.mark.leaves(*FOLDERS, *TABLES)

BOX = "/run/netns/box"
IPAM = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}, {"address": "fd00:1::2/64"}]}
PORTS = [{"hostPort": 8080, "containerPort": 80}, {"hostPort": 53, "containerPort": 53, "protocol": "udp"}]
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "cni9"}, {"name": "host0"}, {"name": "net0", "sandbox": BOX}],
    "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 2}],
}
WHOLE = {"bridge": "cni0", "isGateway": True, "ipMasq": True, "macspoofchk": True, "cleanupBridge": True, "ipam": IPAM}
CONDITIONS = ["ip", "saddr", "192.0.2.0/24"]
WISHES: dict[str, dict[str, Any]] = {
    "bridge": WHOLE,
    "ptp": {"ipMasq": True, "ipam": IPAM},
    "portmap": {"runtimeConfig": {"portMappings": PORTS}, "conditionsV4": CONDITIONS, "prevResult": PREVIOUS},
    "firewall": {"ingressPolicy": "isolated", "backend": "nftables", "prevResult": PREVIOUS},
}
IFNAMES = {"portmap": "net0", "firewall": "net0"}  # behind an interface that is there


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    for words in (
        "link add cni9 up type bridge",
        "addr add 10.9.0.1/24 dev cni9",
        "link add host0 up master cni9 type veth peer name net0 netns box",
        "-n box link set net0 up",
        "-n box addr add 10.9.0.2/24 dev net0",
    ):
        machine.run("ip", *words.split())
    yield machine
    machine.run("ip", "netns", "del", "box")
    machine.run("ip", "link", "del", "cni9")


def state(machine: Machine) -> list[Any]:
    """What an attachment has: links, elements, chains of terms, files. What is written once stays."""
    chains = {item["chain"]["name"] for item in machine.nft() if "chain" in item}
    files = {path for path in machine.files() if "/plugins/" not in path and "/netns/" not in path}
    terms = {name for name in chains if name.startswith("terms_")}
    return [machine.links(), machine.links("box"), machine.elements(), terms, files]


@pytest.mark.parametrize("name", WISHES)
def test_B3_delete_undoes_an_add_that_was_killed_at_any_point(box: Machine, tmp_path: Path, name: str) -> None:
    plugins = Plugins(box, tmp_path / "plugins")
    ifname = IFNAMES.get(name, "eth0")
    bare = {"cniVersion": "1.0.0", "name": "net", "type": name, "bridge": "cni0", "cleanupBridge": True}
    before, places = state(box), list[str]()
    for place in killed.adds(plugins, bare | WISHES[name], BOX, ifname):
        plugins.delete(bare, "" if len(places) % 2 else BOX, ifname=ifname)
        assert state(box) == before, f"killed at {place}"
        places.append(place)
    assert len(places) > 2 * len(killed.CALLS)
