"""Whole chains under minirt: each plugin finds its own work in order whatever those behind it have changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, bridge

MAC = "02:00:00:00:00:07"
TUNING = {
    "type": "tuning",
    "mac": MAC,
    "mtu": 1400,
    "promisc": True,
    "sysctl": {"net.ipv4.tcp_rmem": "4096 87380 99999"},
}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000}
BANDWIDTH |= {"egressRate": 8_000_000, "egressBurst": 800_000}
SBR = {"type": "sbr"}


def chain(minirt: Command, *plugins: dict[str, Any], version: str = "1.0.0") -> str:
    """The network `lab`, and a namespace for it."""
    first = bridge("cni-lab", "10.50.0.0/24", isDefaultGateway=True, ipMasq=True)
    minirt.network("lab", first, *plugins, cniVersion=version)
    minirt.machine.leaves("link cni-lab", "address * dev cni-lab")
    return minirt.machine.netns("box")


def forget_results() -> None:
    for path in Path("/var/lib/cni/results").iterdir():
        path.unlink()


def left(minirt: Command) -> list[object]:
    """What an attachment has on the host."""
    links = [name for name in minirt.machine.links() if name.startswith(("veth", "bwp"))]
    return [*links, *Path("/run/cni/tuning").iterdir(), *minirt.machine.elements()]


@pytest.mark.parametrize(
    "plugins",
    [(TUNING,), (BANDWIDTH,), (SBR,), (TUNING, BANDWIDTH, SBR), (SBR, BANDWIDTH, TUNING)],
    ids=lambda plugins: "+".join(plugin["type"] for plugin in plugins),
)
def test_U22_check_of_a_chain_passes_whatever_later_plugins_changed(minirt: Command, plugins: Any) -> None:
    box = chain(minirt, *plugins)
    result = json.loads(minirt.ok("cni", "add", "lab", box))
    assert result["interfaces"][2]["mac"] == minirt.machine.ip("link", "show", "eth0", netns="box")[0]["address"]
    assert minirt.ok("cni", "check", "lab", box) == ""
    minirt.ok("cni", "del", "lab", box)
    assert minirt.machine.links("box") == {"lo"}


@pytest.mark.parametrize("gone", ["namespace", "cache", "link"])
def test_U5_a_chain_is_taken_down_whatever_is_missing(minirt: Command, gone: str) -> None:
    box = chain(minirt, TUNING, BANDWIDTH, SBR)
    result = json.loads(minirt.ok("cni", "add", "lab", box))
    if gone == "namespace":
        minirt.machine.run("ip", "netns", "del", "box")
    elif gone == "link":
        minirt.machine.run("ip", "link", "del", result["interfaces"][1]["name"])
    else:
        forget_results()
    minirt.ok("cni", "del", "lab", box)
    assert left(minirt) == []


def test_gc_takes_down_what_chained_plugins_made_for_who_is_no_more(minirt: Command) -> None:
    box = chain(minirt, TUNING, BANDWIDTH, SBR, version="1.1.0")
    minirt.ok("cni", "add", "lab", box)
    minirt.machine.run("ip", "netns", "del", "box")
    forget_results()
    minirt.ok("cni", "gc", "lab")
    assert left(minirt) == []
