"""minirt with Debian's Go plugins and nothing of ours: each through ADD, CHECK and DEL, seen by ip, tc and iptables.

They are the reference plugins 1.1.1 (containernetworking-plugins), which speak versions up to 1.0.0. Where one of them
gets something wrong, the test says so, so that nobody looks for the fault in minirt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cnilab import cached, leases
from support.command import Command, eventually
from support.peers import GO_PLUGINS

GATEWAY, ADDRESS = "10.50.0.1", "10.50.0.2"
LOCAL = {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}]]}
STATIC = {"type": "static", "addresses": [{"address": "10.50.0.2/24", "gateway": GATEWAY}]}
BRIDGE: dict[str, Any] = {"type": "bridge", "bridge": "cni-lab", "isGateway": True, "ipam": LOCAL}

# What they leave on purpose: the bridge, and chains that are made once.
FURNITURE = (
    *("link cni-lab", "address * dev cni-lab", "file /run/xtables.lock"),
    *("nft table ip* filter", "nft chain ip* filter *", "nft table ip* nat", "nft chain ip* nat *"),
    *("nft rule ip* filter *", "nft rule ip* nat *"),
)


class Lab:
    """The network `lab` and the namespace `box`, which is attached to it, checked and detached."""

    def __init__(self, minirt: Command) -> None:
        self.minirt = minirt
        self.machine = minirt.machine
        self.netns = self.machine.netns("box")
        self.machine.leaves(*FURNITURE)

    def add(self, *plugins: dict[str, Any], **capability_args: Any) -> dict[str, Any]:
        self.minirt.network("lab", *plugins)
        args = ("--cap-args", json.dumps(capability_args)) if capability_args else ()
        result: dict[str, Any] = json.loads(self.minirt.ok("cni", "add", "lab", self.netns, *args))
        return result

    def check(self) -> None:
        assert self.minirt.ok("cni", "check", "lab", self.netns) == ""

    def finds(self) -> str:
        """What a CHECK that fails says."""
        return self.minirt.fails(1, "cni", "check", "lab", self.netns)

    def delete(self) -> None:
        """DEL, and nothing of the attachment is anywhere."""
        assert self.minirt.ok("cni", "del", "lab", self.netns) == ""
        assert self.machine.links("box") == {"lo"}
        assert leases() == [] and cached() == []
        assert self.rules(ADDRESS) == []

    def rules(self, word: str = "") -> list[str]:
        """The rules of iptables in which a word stands."""
        lines = self.machine.run("iptables-save").stdout.splitlines()
        return [line for line in lines if line.startswith("-A") and word in line]

    def inside(self, *argv: str) -> str:
        return self.machine.run("ip", "netns", "exec", "box", *argv).stdout.strip()

    def pings(self, address: str) -> None:
        # IPv6 addresses of the host are tentative for a second: the Go plugins wait for the container's own alone.
        ping = ("ip", "netns", "exec", "box", "ping", "-c1", "-W1")
        eventually(lambda: self.machine.run(*ping, address, check=False).returncode == 0)


@pytest.fixture
def lab(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("CNI_PATH", GO_PLUGINS)
    return Lab(minirt)


# --- main ---


def test_bridge_and_host_local(lab: Lab) -> None:
    result = lab.add(BRIDGE | {"isDefaultGateway": True, "ipMasq": True, "hairpinMode": True, "mtu": 1400})
    bridge, veth, eth0 = (interface["name"] for interface in result["interfaces"])
    assert (bridge, eth0, result["ips"][0]["address"]) == ("cni-lab", "eth0", f"{ADDRESS}/24")
    (port,) = lab.machine.ip("link", "show", veth)
    assert (port["master"], port["mtu"]) == ("cni-lab", 1400)
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert lab.machine.addresses("eth0", "box") == {f"{ADDRESS}/24"}
    assert lab.machine.addresses("cni-lab") == {f"{GATEWAY}/24"}
    assert any("MASQUERADE" in line for line in lab.rules("lab"))
    assert leases() == [ADDRESS]
    lab.pings(GATEWAY)
    lab.check()
    lab.machine.ip("link", "set", veth, "nomaster")
    assert "'bridge' failed on CHECK" in lab.finds()
    lab.delete()
    assert lab.rules("MASQUERADE") == [] and lab.machine.links() == {"lo", "cni-lab"}


def test_ptp_in_both_families(lab: Lab) -> None:
    ranges = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    lab.add({"type": "ptp", "ipMasq": True, "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}})
    assert lab.machine.addresses("eth0", "box") == {f"{ADDRESS}/24", "fd50::2/64"}
    (way,) = lab.machine.ip("route", "get", ADDRESS)
    assert way["dev"] in lab.machine.links() - {"lo"}
    for gateway in (GATEWAY, "fd50::1"):
        lab.pings(gateway)
    lab.check()
    lab.inside("ip", "route", "del", "default")
    assert "'ptp' failed on CHECK" in lab.finds()
    lab.delete()
    assert lab.machine.links() == {"lo"} and lab.rules("MASQUERADE") == []


def test_macvlan(lab: Lab) -> None:
    lab.machine.leaves("link parent", "in netns far: *")
    lab.machine.netns("far")
    lab.machine.ip("link", "add", "parent", "up", "type", "veth", "peer", "name", "eth0", "netns", "far")
    lab.machine.run("ip", "-n", "far", "link", "set", "eth0", "up")
    lab.machine.run("ip", "-n", "far", "addr", "add", "10.50.0.99/24", "dev", "eth0")
    lab.add({"type": "macvlan", "master": "parent", "mode": "bridge", "mtu": 1400, "ipam": LOCAL})
    (link,) = lab.machine.ip("link", "show", "eth0", netns="box")
    assert link["linkinfo"]["info_kind"] == "macvlan" and link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert link["mtu"] == 1400 and lab.machine.addresses("eth0", "box") == {f"{ADDRESS}/24"}
    lab.pings("10.50.0.99")
    lab.check()
    lab.inside("ip", "addr", "flush", "dev", "eth0")
    assert "'macvlan' failed on CHECK" in lab.finds()
    lab.delete()


# --- ipam ---


def test_host_local_gives_what_is_asked_for_and_refuses_what_is_taken(lab: Lab) -> None:
    ranges = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]
    asking = BRIDGE | {"capabilities": {"ips": True}, "ipam": {"type": "host-local", "ranges": ranges}}
    lab.add(asking, ips=["10.50.0.70", "fd50::70"])
    assert lab.machine.addresses("eth0", "box") == {"10.50.0.70/24", "fd50::70/64"}
    assert leases() == ["10.50.0.70"]
    lab.check()
    other = lab.machine.netns("other")
    wish = ("--cap-args", json.dumps({"ips": ["10.50.0.70"]}))
    assert "not available" in lab.minirt.fails(1, "cni", "add", "lab", other, *wish)
    assert leases() == ["10.50.0.70"] and lab.machine.links("other") == {"lo"}
    Path("/var/lib/cni/networks/lab/10.50.0.70").unlink()
    Path("/var/lib/cni/networks/lab/fd50::70").unlink()
    assert "host-local: Failed to find address" in lab.finds()
    lab.delete()


def test_static(lab: Lab) -> None:
    routes = [{"dst": "203.0.113.0/24", "gw": "10.50.0.254"}]
    lab.add(BRIDGE | {"ipam": STATIC | {"routes": routes}})
    assert lab.machine.addresses("eth0", "box") == {f"{ADDRESS}/24"}
    assert "via 10.50.0.254" in lab.inside("ip", "route", "show", "203.0.113.0/24")
    lab.check()
    lab.delete()


# --- meta ---


def test_portmap(lab: Lab) -> None:
    mappings = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    lab.add(BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}, portMappings=mappings)
    assert any(line.endswith("--dport 8080 -j DNAT --to-destination 10.50.0.2:80") for line in lab.rules("DNAT"))
    # Its CHECK of 1.1.1 looks for IPv4's rules in the tables of IPv6, too.
    assert "'portmap' failed on CHECK" in lab.finds()
    lab.delete()
    assert lab.rules("CNI-DN-") == []


def test_portmap_that_has_nothing_to_publish(lab: Lab) -> None:
    lab.add(BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}})
    assert lab.rules() == []
    lab.check()
    lab.delete()


def test_firewall(lab: Lab) -> None:
    lab.add(BRIDGE, {"type": "firewall", "backend": "iptables"})
    accepted = [f"-d {ADDRESS}/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", f"-s {ADDRESS}/32 -j ACCEPT"]
    assert lab.rules(ADDRESS) == [f"-A CNI-FORWARD {rule}" for rule in accepted]
    lab.check()
    lab.machine.run("iptables", "-D", "CNI-FORWARD", *accepted[1].split())
    assert "'firewall' failed on CHECK" in lab.finds()
    lab.delete()


def test_tuning(lab: Lab) -> None:
    tuning = {"type": "tuning", "mtu": 1400, "promisc": True, "mac": "02:00:00:00:00:07"}
    lab.add(BRIDGE, tuning | {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}})
    (link,) = lab.machine.ip("link", "show", "eth0", netns="box")
    assert (link["mtu"], link["promiscuity"], link["address"]) == (1400, 1, "02:00:00:00:00:07")
    assert lab.inside("cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter") == "1"
    lab.check()
    lab.inside("ip", "link", "set", "eth0", "mtu", "1300")
    assert "'tuning' failed on CHECK" in lab.finds()
    lab.delete()


def test_tuning_of_the_interface_whatever_its_name(lab: Lab) -> None:
    lab.add(BRIDGE, {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}})
    assert lab.inside("cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter") == "1"
    # Its CHECK of 1.1.1 does not put the name in.
    assert "open /proc/sys/net/ipv4/conf/IFNAME/arp_filter" in lab.finds()
    lab.delete()


def test_bandwidth(lab: Lab) -> None:
    rates = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 4_000_000, "egressBurst": 400_000}
    result = lab.add(BRIDGE, {"type": "bandwidth", "capabilities": {"bandwidth": True}}, bandwidth=rates)
    _, veth, _, ifb = (interface["name"] for interface in result["interfaces"])
    shapers = {item["dev"]: item for item in json.loads(lab.machine.text("tc", "-j", "qdisc")) if item["kind"] == "tbf"}
    assert {name: item["options"]["rate"] for name, item in shapers.items()} == {veth: 1_000_000, ifb: 500_000}
    assert {name: item["options"]["burst"] for name, item in shapers.items()} == {veth: 100_000, ifb: 50_000}
    lab.pings(GATEWAY)
    lab.check()
    slower = ("tbf", "rate", "1mbit", "burst", "50kb", "latency", "25ms")
    lab.machine.run("tc", "qdisc", "change", "dev", ifb, "root", *slower)
    assert "'bandwidth' failed on CHECK" in lab.finds()
    lab.delete()
    assert lab.machine.links() == {"lo", "cni-lab"}


def test_sbr(lab: Lab) -> None:
    lab.add(BRIDGE | {"ipam": STATIC | {"routes": [{"dst": "203.0.113.0/24"}]}}, {"type": "sbr"})
    rules = json.loads(lab.inside("ip", "-j", "rule"))
    assert {rule["table"] for rule in rules if rule["src"] == ADDRESS} == {"100"}
    routes = lab.machine.ip("route", "show", "table", "100", netns="box")
    found = {way["dst"]: way.get("gateway") for way in routes}
    assert found == {"default": GATEWAY, "203.0.113.0/24": GATEWAY, "10.50.0.0/24": None}
    assert lab.inside("ip", "route") == ""
    lab.inside("ping", "-c1", "-W2", "-I", ADDRESS, GATEWAY)
    # It took the routes out of the main table, where the bridge plugin's CHECK looks for them.
    assert "'bridge' failed on CHECK" in lab.finds()
    lab.delete()


def test_a_route_whose_gateway_the_plugin_chose(lab: Lab) -> None:
    lab.add(BRIDGE | {"ipam": LOCAL | {"routes": [{"dst": "203.0.113.0/24"}]}})
    assert f"via {GATEWAY}" in lab.inside("ip", "route", "show", "203.0.113.0/24")
    # Its CHECK looks for one without a gateway (containernetworking/plugins#886).
    assert "Expected Route" in lab.finds()
    lab.delete()
