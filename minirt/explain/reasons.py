"""What a command is for: a sentence for the kinds of commands that steps describe, found by how a command begins.

Sentences say what is true of every command that they are found for; one that nothing is said of is explained by itself.
No regular expressions here: to compile them would cost a run more than all else that is told.
"""

from __future__ import annotations

VERBS = {
    "ADD": "give the container an interface, and say what it got",
    "DEL": "take away what ADD made; works twice, and without the namespace",
    "CHECK": "see whether all is as ADD left it",
    "GC": "remove what belongs to no living container",
    "STATUS": "could ADD be served?",
}

# How a command begins, what it must hold, and what it is for. The first that fits counts. `ip` stands for ip in
# whatever namespace and family.
_REASONS: tuple[tuple[str, str, str], ...] = (
    ("ip netns add ", "", "a network namespace: interfaces, routes and rules of its own, kept by a name"),
    ("ip netns delete ", "", "the name goes, and with the last process the namespace"),
    ("ip link set lo up", "", "the loopback, which is down in a new namespace"),
    ("ip link add ", " type bridge", "a bridge: the switch that containers are plugged into"),
    ("ip link add ", " type veth", "a cable with two ends"),
    ("ip link add ", " type macvlan", "a second hardware address on the parent's wire"),
    ("ip link add ", " type ipvlan", "more addresses on the parent's wire, under its hardware address"),
    ("ip link add ", " type vlan", "the parent's frames of one VLAN"),
    ("ip link add ", " type vrf", "a routing table for the interfaces that are put into it"),
    ("ip link add ", " type ifb", "a device to queue what another one receives"),
    ("ip link add ", " type dummy", "an interface that leads nowhere"),
    ("ip tuntap ", "", "an interface whose other end is a program"),
    ("ip link set ", " netns ", "into another namespace, where it loses its addresses"),
    ("ip link set ", " alias ", "the owner's name on the link, by which DEL and GC find it"),
    ("ip link set ", " hairpin on", "let the bridge send back out of the port that a frame came in by"),
    ("ip link set ", " isolated on", "frames do not pass between isolated ports"),
    ("ip link set ", " address ", "its hardware address"),
    ("ip link set ", " up", "an interface passes frames when it is up"),
    ("ip link del ", "", "a veth takes its other end along, with addresses and routes"),
    ("ip addr add ", " noprefixroute", "an address, without a route to its subnet"),
    ("ip addr add ", "", "an address, and with it the route to its own subnet"),
    ("ip addr del ", "", "the address goes, and the route to its subnet"),
    ("ip route add ", "default", "where all packets go that no other route is for"),
    ("ip route prepend ", "default", "where all packets go that no other route is for"),
    ("ip route ", "", "where packets to these addresses go"),
    ("ip rule ", "", "which routing table is asked for these packets"),
    ("bridge vlan ", "", "which VLANs pass by this port"),
    ("sysctl -w ", "forward", "the host passes packets on: it is a router now"),
    ("sysctl -w ", "/accept_ra=0", "no routes from router advertisements on this link"),
    ("sysctl -w ", "/accept_dad=", "whether IPv6 asks first if somebody has the address already"),
    ("sysctl -w ", "/disable_ipv6=0", "IPv6 on this interface"),
    ("sysctl -w ", "_notify=1", "tell the neighbours when addresses come or change"),
    ("sysctl -w ", "/keep_addr_on_down=1", "IPv6 addresses stay when the interface goes down"),
    ("sysctl -w ", "/route_localnet=1", "packets to 127.0.0.1 may be sent on to the container"),
    ("nft 'create table ", "", "the table that these rules and sets live in"),
    ("nft ", "element inet cni_masquerade", "what leaves this subnet takes the host's address"),
    ("nft ", "element inet cni_portmap", "a published port, as an element of a map"),
    ("conntrack -D ", "", "clients that send already are looked up in the rules again"),
    ("tc qdisc add ", " tbf ", "a queue that lets only so many bytes a second out"),
    ("tc qdisc add ", " ingress", "a hook for what the link receives"),
    ("tc filter add ", " redirect ", "what it receives goes by way of the other device"),
    ("mkdir -p /sys/fs/cgroup", "", "a control group: what belongs to the container, as one"),
    ("rmdir /sys/fs/cgroup", "", "the control group is empty now"),
    ("echo 0 > /sys/fs/cgroup", "", "this process, and all it starts, belongs to the control group"),
    ("nsenter --target ", " --pid", "born where the container's processes are counted"),
    ("nsenter --target", "", "into the namespaces of a process that is there"),
    ("nsenter --net=", "", "into the network namespace that the plugins work on"),
    ("unshare --pid --fork", "", "process 1 of a pid namespace; what it is told to do, it has done beside the plugins"),
    ("unshare ", "", "namespaces of its own: mounts, host name, IPC, control groups"),
    ("hostname ", "", "its own name, in its own UTS namespace"),
    ("mount --make-rslave /", "", "mounts from here on are not seen on the host"),
    ("mount -t overlay", "", "the machine's own files below, changes in a layer that goes with the container"),
    ("mount -t proc", "", "the processes of its own pid namespace"),
    ("mount -t sysfs", "", "the devices of its own network namespace"),
    ("mount -t ", "", "a file system of its own"),
    ("mount -o bind,ro /dev/null ", "", "hidden: it reads as empty"),
    ("mount -o bind,ro,", "", "can be read and not written"),
    ("mount -o remount,bind,ro", "", "can be read and not written"),
    ("mount -o ", "", "a path of the host, seen in the container"),
    ("touch ", " mount ", "a device of the host"),
    ("cd ", "pivot_root", "its tree becomes the root, and the host's is out of reach"),
    ("setpriv ", "", "without the rights that no container may have"),
)


def of(command: str) -> str:
    """What `command` is for; empty where it speaks for itself."""
    plain = _plain(command)
    for beginning, part, reason in _REASONS:
        if plain.startswith(beginning) and part in plain:
            return reason
    return ""


def _plain(command: str) -> str:
    """Without what says in which namespace, and for which family."""
    words = command.split(" ")
    if words[:3] == ["ip", "netns", "exec"]:
        words = words[4:]
    elif words[0].startswith("nsenter") and words[1:2] and words[1].startswith("--net=") and words[2:]:
        words = words[2:]
    if words[0] in ("ip", "tc", "bridge"):
        while words[1:2] in (["-n"], ["-6"]):
            del words[1 : 3 if words[1] == "-n" else 2]
    return " ".join(words)
