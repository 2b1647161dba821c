"""A host that changes its plugins under running containers: ADD by one side's, CHECK and DEL by the other's.

What both keep in the same place is taken over: links, addresses, reservations. Rules are not: the Go plugins have
theirs in iptables, ours in sets of nftables, so lists that make some are detached by those who attached them.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support import leftovers
from support.cnilab import cached, leases
from support.command import Command, eventually
from support.peers import GO_PLUGINS

from cni_plugins.sdk import launcher

OURS = "/run/plugins"
RANGES = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]
ROUTES = [{"dst": "203.0.113.0/24", "gw": "10.50.0.9"}]
LOCAL = {"type": "host-local", "ranges": RANGES[:1], "routes": ROUTES}
BOTH = {"type": "host-local", "ranges": RANGES, "routes": ROUTES}
BRIDGE: dict[str, Any] = {"type": "bridge", "bridge": "cni-lab", "isGateway": True}
STATIC = {"type": "static", "addresses": [{"address": "10.50.0.2/24"}]}
TUNING = {"type": "tuning", "mtu": 1400, "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}
RATES = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000}
LISTS = {
    "bridge": [BRIDGE | {"ipam": BOTH}],
    "bridge of layer 2": [{"type": "bridge", "bridge": "cni-lab"}],
    "ptp": [{"type": "ptp", "mtu": 1400, "ipam": LOCAL | {"routes": []}}],
    "macvlan": [{"type": "macvlan", "master": "parent", "ipam": LOCAL}],
    "static": [BRIDGE | {"ipam": STATIC}],
    "tuning": [BRIDGE | {"ipam": LOCAL}, TUNING],
}
SHAPED = [BRIDGE | {"ipam": LOCAL}, {"type": "bandwidth"} | RATES]


@pytest.fixture
def lab(minirt: Command) -> str:
    """The namespace that is attached."""
    launcher.write(OURS)
    minirt.machine.leaves("link cni-lab", "address * dev cni-lab", f"file {OURS}/*", *leftovers.SHARED)
    return minirt.machine.netns("box")


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize(("first", "second"), [(GO_PLUGINS, OURS), (OURS, GO_PLUGINS)], ids=["from-go", "to-go"])
def test_what_one_side_attached_the_other_checks_and_detaches(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch, kind: str, first: str, second: str
) -> None:
    if kind == "macvlan":
        minirt.machine.leaves("link parent", "link far")
        minirt.machine.ip("link", "add", "parent", "up", "type", "veth", "peer", "name", "far")
    before = minirt.machine.links()
    minirt.network("lab", *LISTS[kind])
    monkeypatch.setenv("CNI_PATH", first)
    result = json.loads(minirt.ok("cni", "add", "lab", lab))
    given = {ip["address"] for ip in result.get("ips", ())}
    assert minirt.machine.addresses("eth0", "box") == given
    monkeypatch.setenv("CNI_PATH", second)
    if given:  # the CHECK of Go's 1.1.1 asks for IPAM where there is none
        assert minirt.ok("cni", "check", "lab", lab) == ""
    minirt.ok("cni", "del", "lab", lab)
    assert minirt.machine.links("box") == {"lo"} and leases() == [] and cached() == []
    assert minirt.machine.links() - {"cni-lab"} == before
    for side in (second, first):  # what was attached first finds its own store changed by others
        monkeypatch.setenv("CNI_PATH", side)
        again = json.loads(minirt.ok("cni", "add", "lab", lab))
        now = {ip["address"] for ip in again.get("ips", ())}
        assert kind == "static" or now.isdisjoint(given), "the last one's mark is read by both"
        minirt.ok("cni", "del", "lab", lab)
        assert leases() == [] and minirt.machine.links() - {"cni-lab"} == before


def test_what_the_other_side_shapes_is_taken_down_with_its_device(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the other way round: ours has a device for each interface of a container, theirs one for all of them."""
    minirt.network("lab", *SHAPED)
    monkeypatch.setenv("CNI_PATH", GO_PLUGINS)
    minirt.ok("cni", "add", "lab", lab)
    assert len(minirt.machine.links()) == 4
    monkeypatch.setenv("CNI_PATH", OURS)
    assert minirt.ok("cni", "check", "lab", lab) == ""
    minirt.ok("cni", "del", "lab", lab)
    assert minirt.machine.links() == {"lo", "cni-lab"} and leases() == []


def test_a_container_is_gone_through_a_change_of_plugins(
    minirt: Command, lab: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    minirt.network("lab", BRIDGE | {"ipam": LOCAL})
    monkeypatch.setenv("CNI_PATH", GO_PLUGINS)
    minirt.ok("cni", "add", "lab", lab)
    minirt.machine.run("ip", "netns", "del", "box")
    monkeypatch.setenv("CNI_PATH", OURS)
    minirt.ok("cni", "gc", "lab")
    assert leases() == [] and cached() == []
    # The kernel takes a dead namespace apart in its own time; only then has Debian's pair gone.
    eventually(lambda: minirt.machine.links() == {"lo", "cni-lab"})
