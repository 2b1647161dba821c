"""Containers of minirt on lists that Debian's Go plugins (1.1.1) carry out alone, from `run` to `rm`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.cnilab import cached, leases
from support.command import Command, serving
from support.machine import Machine
from support.peers import GO_PLUGINS

# What the Go plugins leave on purpose: the bridge, and chains that are made once.
LEAVES = (
    *("link cni-lab", "address * dev cni-lab", "file /run/xtables.lock"),
    *("nft table ip* filter", "nft chain ip* filter *", "nft table ip* nat", "nft chain ip* nat *"),
    *("nft rule ip* filter *", "nft rule ip* nat *"),
)
RANGES = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]
IPAM = {"type": "host-local", "ranges": RANGES}
BRIDGE: dict[str, Any] = {
    "type": "bridge",
    "bridge": "cni-lab",
    "isDefaultGateway": True,
    "ipMasq": True,
    "hairpinMode": True,
    "ipam": IPAM,
}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
FIREWALL = {"type": "firewall", "backend": "iptables"}
TUNING = {"type": "tuning", "mtu": 1400}
SERVE = ("host", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")


@pytest.fixture
def go(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("CNI_PATH", GO_PLUGINS)
    minirt.machine.leaves(*LEAVES)
    return minirt


@pytest.fixture
def outside(go: Command) -> str:
    """Another host, on a link of its own; its name. Ours is 192.0.2.1 there, it has the way to no container."""
    machine = go.machine
    machine.leaves("link wan", "address * dev wan", "in netns outside: *")
    machine.netns("outside")
    machine.ip("link", "add", "wan", "up", "type", "veth", "peer", "name", "eth0", "netns", "outside")
    machine.ip("addr", "add", "192.0.2.1/24", "dev", "wan")
    machine.ip("addr", "add", "192.0.2.2/24", "dev", "eth0", netns="outside")
    machine.ip("link", "set", "eth0", "up", netns="outside")
    return "outside"


def rules(machine: Machine, *words: str) -> list[str]:
    """The rules of both families in which one of the words stands."""
    text = machine.text("iptables-save") + machine.text("ip6tables-save")
    return [line for line in text.splitlines() if line.startswith("-A") and any(word in line for word in words)]


def test_a_published_port_is_served_through_a_chain_of_five(go: Command, outside: str) -> None:
    rates = {"ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 40_000_000, "egressBurst": 4_000_000}
    go.network("lab", BRIDGE, PORTMAP, FIREWALL, TUNING, {"type": "bandwidth"} | rates)
    go.ok("run", "-d", "--name", "web", "-p", "8080:80", *SERVE)
    hostname = go.ok("exec", "web", "hostname") + "\n"
    assert serving(go.machine, "http://10.50.0.2/hostname") == hostname
    assert serving(go.machine, "http://127.0.0.1:8080/hostname") == hostname
    assert serving(go.machine, "http://192.0.2.1:8080/hostname", netns=outside) == hostname
    go.machine.run("iptables", "-P", "FORWARD", "DROP")  # as docker leaves it
    go.ok("exec", "web", "ping", "-c1", "-W2", "192.0.2.2")  # the firewall plugin opens the way out and for answers
    go.machine.run("iptables", "-P", "FORWARD", "ACCEPT")
    assert "mtu 1400" in go.ok("exec", "web", "ip", "link", "show", "eth0")
    shapers = [item for item in json.loads(go.machine.text("tc", "-j", "qdisc")) if item["kind"] == "tbf"]
    assert sorted(item["options"]["rate"] for item in shapers) == [5_000_000, 10_000_000]
    assert len(rules(go.machine, "! -d 224.0.0.0/4", "! -d ff00::/8")) == 2, "masquerade in both families"
    go.ok("stop", "-t0", "web")
    assert go.machine.links() == {"lo", "wan", "cni-lab"} and leases() == [] and cached() == []
    assert rules(go.machine, "10.50.0.2", "fd50::2", "8080", "CNI-DN-") == []
    done = go.machine.run("ip", "netns", "exec", outside, "curl", "-sS", "192.0.2.1:8080", check=False)
    assert done.returncode == 7, "connection refused"
    go.ok("start", "web")
    assert serving(go.machine, "http://192.0.2.1:8080/hostname", netns=outside) == hostname
    go.ok("rm", "-f", "web")
    assert rules(go.machine, "10.50.0.2", "10.50.0.3", "8080", "CNI-DN-") == [] and leases() == []


@pytest.mark.usefixtures("outside")
def test_a_container_on_three_kinds_of_networks(go: Command) -> None:
    """Its way to `outside` is the one of the network that the packets come from: sbr."""
    parent = {"type": "macvlan", "master": "wan"}
    static = {"type": "static", "addresses": [{"address": "192.0.2.50/24", "gateway": "192.0.2.2"}]}
    go.network("lab", BRIDGE)
    go.network("pair", {"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.60.0.0/24"}})
    go.network("lan", parent | {"ipam": static}, {"type": "sbr"})
    nets = [word for name in ("lab", "pair", "lan") for word in ("--network", name)]
    go.ok("run", "-d", "--name", "web", *nets, "host", "sleep", "600")
    shown = json.loads(go.ok("exec", "web", "ip", "-j", "-4", "addr"))
    found = {link["ifname"]: link["addr_info"][0]["local"] for link in shown}
    assert found == {"lo": "127.0.0.1", "eth0": "10.50.0.2", "eth1": "10.60.0.2", "eth2": "192.0.2.50"}
    (way,) = json.loads(go.ok("exec", "web", "ip", "-j", "route", "get", "203.0.113.9", "from", "192.0.2.50"))
    assert (way["gateway"], way["dev"]) == ("192.0.2.2", "eth2")
    for word in ("10.50.0.1", "10.60.0.1"):
        go.ok("exec", "web", "ping", "-c1", "-W2", word)
    go.ok("exec", "web", "ping", "-c1", "-W2", "-I", "192.0.2.50", "192.0.2.2")
    go.ok("rm", "-f", "web")
    assert go.machine.links() == {"lo", "wan", "cni-lab"} and cached() == []
    assert leases() == [] and leases("pair") == [] and rules(go.machine, "10.50.0.2", "10.60.0.2") == []
