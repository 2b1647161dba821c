"""`minirt network graph` and `path` over links that not every kernel has: ipvlan, vlan, dummy."""

from __future__ import annotations

from typing import Any

import pytest
from support.command import NETWORKS, Command

SLEEP = ("host", "sleep", "600")
IPAM = {"type": "host-local", "subnet": "10.7.0.0/24"}
DRAWN: dict[str, tuple[dict[str, Any], str]] = {
    "ipvlan": ({"master": "uplink"}, "ipvlan l2 ── eth0 in web"),
    "vlan": ({"master": "uplink", "vlanId": 7}, "vlan id 7 ── eth0 in web"),
    "dummy": ({}, "dummy, leads nowhere: eth0 in web"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_links_on_links_are_drawn_with_their_parent(minirt: Command, kind: str) -> None:
    machine = minirt.machine
    machine.leaves(f"file {NETWORKS}/*")
    machine.run("ip", "link", "add", "uplink", "up", "type", "veth", "peer", "name", "wire")
    keys, line = DRAWN[kind]
    minirt.network("net", {"type": kind, "ipam": IPAM, **keys})
    minirt.ok("run", "-d", "--network", "net", "--name", "web", *SLEEP)
    text = minirt.ok("network", "graph", "net")
    (link,) = machine.ip("link", "show", "dev", "eth0", netns=minirt.inspect("web")["Id"])
    assert line in text and link["address"] in text and "10.7.0.2/24" in text, text
    assert ("uplink" in text) is (kind != "dummy"), text
    walked = minirt.ok("network", "path", "web", "10.7.0.9")
    assert ("leaves by uplink to 10.7.0.9" in walked) is (kind != "dummy"), walked
    minirt.ok("rm", "-f", "web")
    machine.run("ip", "link", "del", "uplink")
