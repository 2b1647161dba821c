"""The commands of an account are true: typed into a fresh network, they give what the plugins gave; so do those of DEL.

No command is written down here: they are what the steps say of themselves while the plugins are at work.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.machine import Machine
from support.typed import Accounted

pytestmark = pytest.mark.leaves("*")

IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
BOTH = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
    "routes": [
        {"dst": "0.0.0.0/0"},
        {"dst": "::/0"},
        {"dst": "10.9.0.0/16", "mtu": 1400, "priority": 7},
        {"dst": "fd09::/64", "table": 77, "advmss": 1300},
    ],
}
STATIC = {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}
BRIDGE = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": IPAM}
PAIR = "ip link add eth9 address 02:00:00:00:00:09 type veth peer name far9 address 02:00:00:00:00:0a"
PARENT = (PAIR, "ip link set eth9 up", "ip link set far9 up")
WAY_OUT = (*PARENT, "ip addr add 192.0.2.1/24 dev eth9", "ip route add default via 192.0.2.2 dev eth9")
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
UDP = [{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"}]

CONFIGURATIONS: dict[str, tuple[list[dict[str, Any]], tuple[str, ...], dict[str, Any]]] = {
    "bridge, layer 2": ([{"type": "bridge", "bridge": "cni0"}], (), {}),
    "bridge, a gateway": ([BRIDGE], (), {}),
    "bridge, IPv4 and IPv6, masquerade": ([BRIDGE | {"ipMasq": True, "isDefaultGateway": True, "ipam": BOTH}], (), {}),
    "bridge, its own ways": (
        [BRIDGE | {"hairpinMode": True, "mtu": 1400, "portIsolation": True, "ipam": STATIC}],
        (),
        {},
    ),
    "bridge, promiscuous": ([BRIDGE | {"promiscMode": True}], (), {}),
    "bridge, spoof check": ([BRIDGE | {"macspoofchk": True}], (), {}),
    "bridge, left down": ([{"type": "bridge", "bridge": "cni0", "disableContainerInterface": True}], (), {}),
    "bridge, unused ones removed": ([BRIDGE | {"cleanupBridge": True}], (), {}),
    "ptp": ([{"type": "ptp", "ipMasq": True, "ipam": IPAM}], (), {}),
    "ptp, both families": ([{"type": "ptp", "ipam": BOTH, "mtu": 1400}], (), {}),
    "macvlan": ([{"type": "macvlan", "master": "eth9", "ipam": IPAM}], WAY_OUT, {}),
    "macvlan, another mode": ([{"type": "macvlan", "master": "eth9", "mode": "private", "mtu": 1300}], WAY_OUT, {}),
    "tap": ([{"type": "tap", "ipam": IPAM, "multiQueue": True}], (), {}),
    "host-device": ([{"type": "host-device", "device": "far9", "ipam": IPAM}], PARENT, {}),
    "loopback": ([{"type": "loopback"}], (), {}),
    "portmap": ([BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}], (), {"portMappings": PORTS}),
    "portmap, UDP at an address": (
        [BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}],
        WAY_OUT,
        {"portMappings": UDP},
    ),
    "firewall, nftables": ([BRIDGE, {"type": "firewall", "backend": "nftables"}], (), {}),
    "firewall, iptables": ([BRIDGE, {"type": "firewall", "backend": "iptables"}], (), {}),
    "firewall, isolated": (
        [BRIDGE, {"type": "firewall", "backend": "nftables", "ingressPolicy": "isolated"}],
        (),
        {},
    ),
    "tuning": (
        [
            BRIDGE,
            {
                "type": "tuning",
                "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.rp_filter": "2"},
                "mac": "c2:b0:57:49:47:f1",
                "mtu": 1454,
                "promisc": True,
                "allmulti": True,
                "txQLen": 500,
            },
        ],
        (),
        {},
    ),
    "sbr": ([BRIDGE, {"type": "sbr"}], (), {}),
    "bandwidth": (
        [
            BRIDGE,
            {
                "type": "bandwidth",
                "ingressRate": 8_000_000,
                "ingressBurst": 8_000_000,
                "egressRate": 4_000_000,
                "egressBurst": 4_000_000,
            },
        ],
        (),
        {},
    ),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_told_of_add_and_of_del_does_the_same_when_it_is_typed(machine: Machine, name: str) -> None:
    plugins, setup, wishes = CONFIGURATIONS[name]
    there = Accounted(machine, plugins, setup, **wishes)
    there.add()
    assert there.differs() == [], "\n".join(there.told)
    there.delete()
    assert there.differs() == [], "\n".join(there.told)


def test_of_two_networks_that_each_give_a_default_route(machine: Machine) -> None:
    there = Accounted(machine, [BRIDGE | {"ipam": BOTH}])
    there.add()
    ranges = [[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:2::/64"}]]
    there.add_another([BRIDGE | {"bridge": "cni1", "ipam": BOTH | {"ranges": ranges}}])
    ways = machine.ip("route", "show", "default", netns="box")
    assert [way["gateway"] for way in ways] == ["10.2.0.1", "10.1.0.1"]
    assert there.differs() == [], "\n".join(there.told)


TWO: dict[str, list[dict[str, Any]]] = {
    "bridge and masquerade": [BRIDGE | {"ipMasq": True, "ipam": BOTH}],
    "ptp and masquerade": [{"type": "ptp", "ipMasq": True, "ipam": IPAM}],
    "spoof check": [BRIDGE | {"macspoofchk": True, "cleanupBridge": True}],
    "portmap": [BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}],
    "firewall, nftables": [BRIDGE, {"type": "firewall", "backend": "nftables"}],
    "firewall, iptables": [BRIDGE, {"type": "firewall", "backend": "iptables"}],
    "firewall, isolated": [BRIDGE, {"type": "firewall", "backend": "nftables", "ingressPolicy": "isolated"}],
}


@pytest.mark.parametrize("name", TWO)
def test_what_two_share_is_told_of_the_first_to_come_and_the_last_to_go(machine: Machine, name: str) -> None:
    wishes: dict[str, Any] = {"portMappings": PORTS} if name == "portmap" else {}
    both = Accounted(machine, TWO[name], **wishes)
    both.add("box")
    both.add("other", **{"portMappings": [PORTS[0] | {"hostPort": 8081}]} if wishes else {})
    assert both.differs() == [], "\n".join(both.told)
    both.delete("box")
    assert both.differs() == [], "\n".join(both.told)
    both.delete("other")
    assert both.differs() == [], "\n".join(both.told)
