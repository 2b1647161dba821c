"""Configurations whose accounts are typed: `HERE` on this machine's kernel, `THERE` on the second one, which has links
of every kind. A test says that there is one for every plugin that changes something.
"""

from __future__ import annotations

from typing import Any

Configuration = tuple[list[dict[str, Any]], tuple[str, ...], dict[str, Any]]
"""The plugins of a list, what is typed before it is used, and what is wished for (capability arguments)."""

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
NOTES = "/var/lib/cni/networks"
STATIC = {"type": "static", "addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}
PLAIN = {"type": "bridge", "bridge": "cni0", "ipam": IPAM}
BRIDGE = PLAIN | {"isGateway": True}
PAIR = "ip link add eth9 address 02:00:00:00:00:09 type veth peer name far9 address 02:00:00:00:00:0a"
PARENT = (PAIR, "ip link set eth9 up", "ip link set far9 up")
WAY_OUT = (*PARENT, "ip addr add 192.0.2.1/24 dev eth9", "ip route add default via 192.0.2.2 dev eth9")
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
# To the published port, to another host's, to another port; and two that the container answers, or another.
FLOWS = (
    "conntrack -I -p udp -s 192.0.2.9 -d 192.0.2.1 --sport 1 --dport 5353 -t 900 2>/dev/null",
    "conntrack -I -p udp -s 192.0.2.9 -d 192.0.2.8 --sport 2 --dport 5353 -t 900 2>/dev/null",
    "conntrack -I -p udp -s 192.0.2.9 -d 192.0.2.1 --sport 3 --dport 5354 -t 900 2>/dev/null",
    "conntrack -I -p udp -s 192.0.2.9 -d 192.0.2.3 --sport 4 --dport 5353 -r 10.1.0.5 -q 192.0.2.9 "
    "--reply-port-src 53 --reply-port-dst 4 -t 900 2>/dev/null",
    "conntrack -I -p udp -s 192.0.2.9 -d 192.0.2.3 --sport 5 --dport 5353 -r 10.1.0.6 -q 192.0.2.9 "
    "--reply-port-src 53 --reply-port-dst 5 -t 900 2>/dev/null",
)
UDP = [{"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"}]

HERE: dict[str, Configuration] = {
    "bridge, layer 2": ([{"type": "bridge", "bridge": "cni0"}], (), {}),
    "bridge, a gateway": ([BRIDGE], (), {}),
    "bridge, IPv4 and IPv6, masquerade": ([BRIDGE | {"ipMasq": True, "isDefaultGateway": True, "ipam": BOTH}], (), {}),
    "bridge, its own ways": (
        [BRIDGE | {"hairpinMode": True, "mtu": 1400, "portIsolation": True, "ipam": STATIC}],
        (),
        {},
    ),
    "bridge, duplicate addresses are looked for": ([BRIDGE | {"enabledad": True, "ipam": BOTH}], (), {}),
    "bridge, promiscuous": ([BRIDGE | {"promiscMode": True}], (), {}),
    "bridge, spoof check": ([BRIDGE | {"macspoofchk": True}], (), {}),
    "bridge, notes at an odd place": ([BRIDGE | {"ipam": BOTH | {"dataDir": f"{NOTES}/o'brien & $co"}}], (), {}),
    "bridge, notes with a past": (  # torn by a full disk; in an old format, of somebody who has gone
        [BRIDGE],
        (f"mkdir -p {NOTES}/net", f": > {NOTES}/net/10.1.0.77", f"printf gone > {NOTES}/net/10.1.0.99"),
        {},
    ),
    "bridge, left down": ([{"type": "bridge", "bridge": "cni0", "disableContainerInterface": True}], (), {}),
    "bridge, unused ones removed": ([BRIDGE | {"cleanupBridge": True}], (), {}),
    "ptp": ([{"type": "ptp", "ipMasq": True, "ipam": IPAM}], (), {}),
    "ptp, both families": ([{"type": "ptp", "ipam": BOTH, "mtu": 1400}], (), {}),
    "macvlan": ([{"type": "macvlan", "master": "eth9", "ipam": IPAM}], WAY_OUT, {}),
    "macvlan, another mode": ([{"type": "macvlan", "master": "eth9", "mode": "private", "mtu": 1300}], WAY_OUT, {}),
    "tap on a bridge": (
        [{"type": "tap", "bridge": "b9", "mtu": 1400, "owner": 7, "group": 8}],
        ("ip -n box link add b9 address 02:00:00:00:00:0b type bridge",),
        {},
    ),
    "tap": ([{"type": "tap", "ipam": IPAM, "multiQueue": True}], (), {}),
    "host-device": ([{"type": "host-device", "device": "far9", "ipam": IPAM}], PARENT, {}),
    "loopback": ([{"type": "loopback"}], (), {}),
    "portmap": ([BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}], (), {"portMappings": PORTS}),
    "portmap, UDP at an address": (
        [BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}],
        WAY_OUT,
        {"portMappings": UDP},
    ),
    "portmap, UDP with flows from before": (
        [BRIDGE | {"ipam": STATIC}, {"type": "portmap", "capabilities": {"portMappings": True}}],
        (*WAY_OUT, *FLOWS),
        {"portMappings": UDP},
    ),
    "portmap, conditions and a mark": (
        [
            BRIDGE | {"ipam": BOTH},
            {
                "type": "portmap",
                "capabilities": {"portMappings": True},
                "conditionsV4": ["-s", "192.0.2.0/24"],
                "markMasqBit": 12,
                "masqAll": True,
            },
        ],
        (),
        {"portMappings": PORTS},
    ),
    "firewall, nftables": ([BRIDGE, {"type": "firewall", "backend": "nftables"}], (), {}),
    "firewall, iptables": ([BRIDGE, {"type": "firewall", "backend": "iptables"}], (), {}),
    "firewall, iptables, isolated": (
        [BRIDGE, {"type": "firewall", "backend": "iptables", "ingressPolicy": "isolated"}],
        (),
        {},
    ),
    "firewall, same bridge": (
        [BRIDGE, {"type": "firewall", "backend": "nftables", "ingressPolicy": "same-bridge"}],
        (),
        {},
    ),
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
    "sbr, both families, with hints": ([BRIDGE | {"ipam": BOTH}, {"type": "sbr", "addSourceHints": True}], (), {}),
    "sbr, somebody else's table": ([BRIDGE, {"type": "sbr", "table": 77}], (), {}),
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

THERE: dict[str, Configuration] = {
    "dummy": ([{"type": "dummy", "ipam": IPAM}], (), {}),
    "vlan": ([{"type": "vlan", "master": "eth9", "vlanId": 5, "ipam": IPAM}], PARENT, {}),
    "ipvlan": ([{"type": "ipvlan", "master": "eth9", "mode": "l3", "ipam": IPAM}], PARENT, {}),
    "vrf": ([PLAIN, {"type": "vrf", "vrfname": "blue"}], (), {}),
    "bridge, a VLAN": ([PLAIN | {"vlan": 100}], (), {}),
    "bridge, a VLAN and its gateway": ([PLAIN | {"vlan": 100, "isGateway": True}], (), {}),
    "bridge, a trunk": ([PLAIN | {"vlanTrunk": [{"minID": 100, "maxID": 103}, {"id": 200}]}], (), {}),
}
