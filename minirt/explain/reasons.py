"""What a command is for: a sentence for the kinds of commands that steps describe, found by how a command begins.

Sentences say what is true of every command that they are found for; one that nothing is said of is explained by itself.
"""

from __future__ import annotations

import re

VERBS = {
    "ADD": "give the container an interface, and say what it got",
    "DEL": "take away what ADD made; works twice, and without the namespace",
    "CHECK": "see whether all is as ADD left it",
    "GC": "remove what belongs to no living container",
    "STATUS": "could ADD be served?",
}

_INSIDE = r"(?:ip netns exec \S+ |nsenter --net=\S+ )?"
_IP = rf"{_INSIDE}(?:ip(?: -n \S+)?|ip -n \S+)(?: -6)?"

# Pattern at the command's beginning -> what it is for. The first that fits counts.
_REASONS: tuple[tuple[str, str], ...] = (
    (r"ip netns add ", "a network namespace: interfaces, routes and rules of its own, kept by a name"),
    (r"ip netns delete ", "the name goes, and with the last process the namespace"),
    (rf"{_IP} link set lo up", "the loopback, which is down in a new namespace"),
    (rf"{_IP} link add .* type bridge\b", "a bridge: the switch that containers are plugged into"),
    (rf"{_IP} link add .* type veth\b", "a cable with two ends: one here, one in the container"),
    (rf"{_IP} link add .* type macvlan\b", "a second hardware address on the parent's wire"),
    (rf"{_IP} link add .* type ipvlan\b", "more addresses on the parent's wire, under its hardware address"),
    (rf"{_IP} link add .* type vlan\b", "the parent's frames of one VLAN"),
    (rf"{_IP} link add .* type vrf\b", "a routing table for the interfaces that are put into it"),
    (rf"{_IP} link add .* type ifb\b", "a device to queue what another one receives"),
    (rf"{_IP} link add .* type dummy\b", "an interface that leads nowhere"),
    (rf"{_IP} (?:tuntap|link add .* type tap)", "an interface whose other end is a program"),
    (rf"{_IP} link set .* alias ", "the owner's name on the link, by which DEL and GC find it"),
    (rf"{_IP} link set .* hairpin on", "let the bridge send back out of the port that a frame came in by"),
    (rf"{_IP} link set \S+ address ", "with arp_notify on, this tells the neighbours whose address it is"),
    (rf"{_IP} link set \S+ up", "an interface passes frames when it is up"),
    (rf"{_IP} link del ", "a veth takes its other end along, with addresses and routes"),
    (rf"{_IP} addr add ", "an address, and with it the route to its own subnet"),
    (rf"{_IP} addr del ", "the address goes, and the route to its subnet"),
    (rf"{_IP} route add (?:\S+ )*default", "where all packets go that no other route is for"),
    (rf"{_IP} route (?:add|append|replace) ", "where packets to these addresses go"),
    (rf"{_IP} rule add ", "which routing table is asked for these packets"),
    (
        rf"{_INSIDE}sysctl -w '?net.ipv[46].*forward",
        "the host passes packets on: it is a router now",
    ),
    (rf"{_INSIDE}sysctl -w '?net.ipv6.*accept_ra=0", "no routes from router advertisements on this link"),
    (rf"{_INSIDE}sysctl -w '?net.ipv6.*accept_dad=", "whether IPv6 asks first if somebody has the address already"),
    (rf"{_INSIDE}sysctl -w '?net.ipv6.*disable_ipv6=0", "IPv6 on this interface"),
    (rf"{_INSIDE}sysctl -w '?net.*_notify=1", "tell the neighbours when addresses come or change"),
    (rf"{_INSIDE}sysctl -w '?net.*keep_addr_on_down=1", "IPv6 addresses stay when the interface goes down"),
    (rf"{_INSIDE}sysctl -w '?net.*route_localnet=1", "packets to 127.0.0.1 may be sent on to the container"),
    (r"nft .*(?:add|create) table ", "the table that these rules and sets live in"),
    (r"nft .*element inet cni_masquerade", "what leaves this subnet takes the host's address"),
    (r"nft .*element inet cni_portmap", "a published port, as an element of a map"),
    (rf"{_INSIDE}tc qdisc add .* tbf ", "a queue that lets only so many bytes a second out"),
    (r"mkdir -p /sys/fs/cgroup", "a control group: what belongs to the container, as one"),
    (r"rmdir /sys/fs/cgroup", "the control group is empty now"),
    (r"echo 0 > /sys/fs/cgroup", "this process, and all it starts, belongs to the control group"),
    (r"nsenter --net=", "into the network namespace that the plugins work on"),
    (r"nsenter ", "into the namespaces of a process that is there"),
    (r"unshare ", "namespaces of its own: mounts, host name, IPC, control groups"),
    (r"hostname ", "its own name, in its own UTS namespace"),
    (r"mount --make-rslave /", "mounts from here on are not seen on the host"),
    (r"mount -t overlay", "the machine's own files below, changes in a layer that goes with the container"),
    (r"mount -t proc", "the processes of its own pid namespace"),
    (r"mount -t sysfs", "the devices of its own network namespace"),
    (r"mount -t (?:tmpfs|devpts|mqueue|cgroup)", "a file system of its own"),
    (r"mount -o bind,ro (\S+) \1", "can be read and not written"),
    (r"mount -o remount,bind,ro", "can be read and not written"),
    (r"mount -o bind,ro /dev/null ", "hidden: it reads as empty"),
    (r"mount -o ", "a path of the host, seen in the container"),
    (r"touch \S+ && mount ", "a device of the host"),
    (r"cd \S+ && pivot_root", "its tree becomes the root, and the host's is out of reach"),
    (r"setpriv ", "without the rights that no container may have"),
)

_COMPILED = tuple((re.compile(pattern), reason) for pattern, reason in _REASONS)


def of(command: str) -> str:
    """What `command` is for; empty where it speaks for itself."""
    return next((reason for pattern, reason in _COMPILED if pattern.match(command)), "")
