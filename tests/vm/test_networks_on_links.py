"""Networks made by `minirt network create` whose driver is ipvlan or vlan, with containers in them."""

from __future__ import annotations

import json

import pytest
from support.command import NETWORKS, Command

SLEEP = ("host", "sleep", "600")
PING = ("ping", "-c", "1", "-W", "2", "10.7.0.1")


@pytest.mark.parametrize("driver", ["ipvlan", "vlan"])
def test_a_container_reaches_the_network_of_the_parent(minirt: Command, driver: str) -> None:
    machine = minirt.machine
    machine.leaves(f"file {NETWORKS}/*")
    machine.netns("lan")
    machine.run("ip", "link", "add", "uplink", "up", "type", "veth", "peer", "name", "eth0", "netns", "lan")
    machine.run("ip", "-n", "lan", "link", "add", "eth0.7", "link", "eth0", "type", "vlan", "id", "7")
    end = "eth0" if driver == "ipvlan" else "eth0.7"
    machine.run("ip", "-n", "lan", "addr", "add", "10.7.0.1/24", "dev", end)
    for link in ("eth0", "eth0.7"):
        machine.run("ip", "-n", "lan", "link", "set", link, "up")
    options = ("-o", "parent=uplink", *(("-o", "mode=l2") if driver == "ipvlan" else ("-o", "vlan=7")))
    minirt.ok("network", "create", "-d", driver, *options, "--subnet", "10.7.0.0/24", "--gateway", "10.7.0.1", "net")
    minirt.ok("run", "-d", "--network", "net", "--name", "web", "--ip", "10.7.0.77", *SLEEP)
    minirt.ok("exec", "web", *PING)
    assert minirt.address("web") == "10.7.0.77"
    (kind,) = {item["type"] for item in json.loads((NETWORKS / "zz-net.conflist").read_text())["plugins"]}
    assert kind == driver
    if driver == "vlan":  # of which there is one
        error = minirt.fails(125, "run", "--rm", "--network", "net", *SLEEP)
        assert "may have this vlan of uplink" in error
    minirt.ok("rm", "-f", "web")
    machine.run("ip", "link", "del", "uplink")
