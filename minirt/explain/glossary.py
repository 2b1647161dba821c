"""What commands are for, and what shows what they did: a sentence and a look for each kind that steps describe.

Sentences say what is true of every command that they are found for; one that nothing is said of is explained by itself.
A look is what a person types in another terminal, before the step and after it. No regular expressions here: to compile
them would cost a run more than all else that is told.
"""

from __future__ import annotations

VERBS = {
    "ADD": "give the container an interface, and say what it got",
    "DEL": "take away what ADD made; works twice, and without the namespace",
    "CHECK": "see whether all is as ADD left it",
    "GC": "remove what belongs to no living container",
    "STATUS": "could ADD be served?",
}

_NAMES, _PORT, _ADDRESSES = "ip netns; lsns -t net", "bridge -d link show dev {dev}", "ip addr show dev {dev}"

# By the first word of a command: how it goes on, what it must hold, what it is for, and a look, empty for that of its
# word. The first that fits counts. `ip`, `tc` and the others are meant in whatever namespace and family. In a look,
# {dev} is the link that the command is about, {key} what is set, {table} the family and name of a table of nftables,
# {path} the last path, {pid} the process that
# changes itself.
_KINDS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "ip": (
        ("netns add ", "", "a network namespace: interfaces, routes and rules of its own, kept by a name", _NAMES),
        ("netns delete ", "", "the name goes, and with the last process the namespace", _NAMES),
        ("link set lo up", "", "the loopback, which is down in a new namespace", ""),
        ("link add ", " type bridge", "a bridge: the switch that containers are plugged into", ""),
        ("link add ", " type veth", "a cable with two ends", ""),
        ("link add ", " type macvlan", "a second hardware address on the parent's wire", ""),
        ("link add ", " type ipvlan", "more addresses on the parent's wire, under its hardware address", ""),
        ("link add ", " type vlan", "the parent's frames of one VLAN", ""),
        ("link add ", " type vrf", "a routing table for the interfaces that are put into it", ""),
        ("link add ", " type ifb", "a device to queue what another one receives", ""),
        ("link add ", " type dummy", "an interface that leads nowhere", ""),
        ("tuntap ", "", "an interface whose other end is a program", ""),
        ("link set ", " netns ", "into another namespace, where it loses its addresses", _NAMES),
        ("link set ", " alias ", "the owner's name on the link, by which DEL and GC find it", ""),
        ("link set ", " hairpin on", "let the bridge send back out of the port that a frame came in by", _PORT),
        ("link set ", " isolated on", "frames do not pass between isolated ports", _PORT),
        ("link set ", " vlan_filtering 1", "frames go by their VLAN as well as by their address", ""),
        ("link set ", " address ", "its hardware address", ""),
        ("link set ", " nomaster", "out of the bridge, or the routing domain, that it belongs to", ""),
        ("link set ", " master ", "a port of the bridge, or a member of the routing domain", ""),
        ("link set ", " up", "an interface passes frames when it is up", ""),
        ("link del ", "", "a veth takes its other end along, with addresses and routes", ""),
        ("addr add ", " noprefixroute", "an address, without a route to its subnet", _ADDRESSES),
        ("addr add ", "", "an address, and with it the route to its own subnet", _ADDRESSES),
        ("addr del ", "", "the address goes, and the route to its subnet", _ADDRESSES),
        ("addr ", "", "", _ADDRESSES),
        ("route ", " default", "where all packets go that no other route is for", "ip route; ip -6 route"),
        ("route ", "", "where packets to these addresses go", "ip route show table all; ip -6 route"),
        ("rule ", "", "which routing table is asked for these packets", "ip rule; ip -6 rule"),
    ),
    "bridge": (("vlan ", "", "which VLANs pass by this port", "bridge vlan show dev {dev}"),),
    "sysctl": (
        ("-w ", "forward", "the host passes packets on: it is a router now", ""),
        ("-w ", "/accept_ra=0", "no routes from router advertisements on this link", ""),
        ("-w ", "/accept_dad=", "whether IPv6 asks first if somebody has the address already", ""),
        ("-w ", "/disable_ipv6=0", "IPv6 on this interface", ""),
        ("-w ", "_notify=1", "tell the neighbours when addresses come or change", ""),
        ("-w ", "/keep_addr_on_down=1", "IPv6 addresses stay when the interface goes down", ""),
        ("-w ", "/route_localnet=1", "packets to 127.0.0.1 may be sent on to the container", ""),
    ),
    "nft": (
        ("'create table ", "", "the table that these rules and sets live in", ""),
        ("", "element inet cni_masquerade", "what leaves this subnet takes the host's address", ""),
        ("", "element inet cni_portmap", "a published port, as an element of a map", ""),
    ),
    "conntrack": (("-D ", "", "clients that send already are looked up in the rules again", ""),),
    "tc": (
        ("qdisc add ", " tbf ", "a queue that lets only so many bytes a second out", ""),
        ("qdisc add ", " ingress", "a hook for what the link receives", ""),
        ("filter add ", " redirect ", "what it receives goes by way of the other device", ""),
    ),
    "mkdir": (("-p /sys/fs/cgroup", "", "a control group: what belongs to the container, as one", ""),),
    "rmdir": (("/sys/fs/cgroup", "", "the control group is empty now", ""),),
    "echo": (("0 > /sys/fs/cgroup", "", "this process, and all it starts, belongs to the control group", ""),),
    "nsenter": (
        ("--target ", " --pid", "born where the container's processes are counted", ""),
        ("--target ", "", "into the namespaces of a process that is there", ""),
        ("--net=", "", "into the network namespace that the plugins work on", ""),
    ),
    "unshare": (
        ("--pid --fork", "", "process 1 of a pid namespace; what it is told to do, it has done beside the plugins", ""),
        ("", "", "namespaces of its own: mounts, host name, IPC, control groups", ""),
    ),
    "hostname": (("", "", "its own name, in its own UTS namespace", ""),),
    "mount": (
        ("--make-rslave /", "", "mounts from here on are not seen on the host", ""),
        ("-t overlay", "", "the machine's own files below, changes in a layer that goes with the container", ""),
        ("-t proc", "", "the processes of its own pid namespace", ""),
        ("-t sysfs", "", "the devices of its own network namespace", ""),
        ("-t ", "", "a file system of its own", ""),
        ("-o bind,ro /dev/null ", "", "hidden: it reads as empty", ""),
        ("-o bind,ro,", "", "can be read and not written", ""),
        ("-o remount,bind,ro", "", "can be read and not written", ""),
        ("-o ", "", "a path of the host, seen in the container", ""),
    ),
    "touch": (("", " mount ", "a device of the host", ""),),
    "cd": (("", "pivot_root", "its tree becomes the root, and the host's is out of reach", ""),),
    "setpriv": (("", "", "without the rights that no container may have", ""),),
}

# The look of a word whose kinds have none of their own.
_LOOKS = {
    "ip": "ip -d link show dev {dev}",
    "sysctl": "sysctl {key}",
    "nft": "nft list table {table}",
    "iptables": "iptables -S; iptables -t nat -S",
    "ip6tables": "ip6tables -S; ip6tables -t nat -S",
    "firewall-cmd": "firewall-cmd --list-all-zones",
    "conntrack": "conntrack -L",
    "tc": "tc qdisc show dev {dev}; tc filter show dev {dev}",
    "mkdir": "ls {path}",
    "rmdir": "ls {path}",
    "echo": "cat {path}",
    "nsenter": "lsns --task {pid}",
    "unshare": "lsns --task {pid}",
    "hostname": "nsenter --target {pid} --uts hostname",
    "mount": "findmnt --task {pid}",
    "touch": "findmnt --task {pid}",
    "ln": "nsenter --target {pid} --mount ls -l {path}",
    "cd": "findmnt --task {pid}",
    "setpriv": "grep Cap /proc/{pid}/status",
}
_NFT_OBJECTS = ("table", "chain", "rule", "set", "map", "element")


def why(command: str) -> str:
    """What `command` is for; empty where it speaks for itself."""
    return _kind(_plain(command)[1])[2]


def look(command: str, pid: int = 0) -> str:
    """The commands that show what `command` changes, in the namespace where it changes it; empty where none does.
    `pid` is the process that changes itself, or its own mounts."""
    where, plain = _plain(command)
    template = (_kind(plain)[3] or _LOOKS.get(plain.partition(" ")[0], "")).replace("{pid}", str(pid))
    return "; ".join(_inside(where, part) for part in _filled(template, plain.split()).split("; ") if part)


def _kind(plain: str) -> tuple[str, str, str, str]:
    word, _, rest = plain.partition(" ")
    for kind in _KINDS.get(word, ()):
        if rest.startswith(kind[0]) and kind[1] in plain:
            return kind
    return ("", "", "", "")


def _plain(command: str) -> tuple[str, str]:
    """In which namespace (`-n NAME`, `--net=PATH`, or nothing), and the command without that and the family."""
    words, where = command.split(" "), ""
    if words[:3] == ["ip", "netns", "exec"]:
        where, words = f"-n {words[3]}", words[4:]
    elif words[0] == "nsenter" and words[1:2] and words[1].startswith("--net=") and words[2:]:
        where, words = words[1], words[2:]
    if words[0] in ("ip", "tc", "bridge"):
        while words[1:2] in (["-n"], ["-6"]):
            if words[1] == "-n":
                where = f"-n {words[2]}"
            del words[1 : 3 if words[1] == "-n" else 2]
    return where, " ".join(words)


def _inside(where: str, command: str) -> str:
    """`command` in that namespace. lsns looks at all of them, wherever it is typed."""
    program, _, rest = command.partition(" ")
    if not where or program == "lsns":
        return command
    if where.startswith("--net="):
        return f"nsenter {where} {command}"
    return f"{program} {where} {rest}" if program in ("ip", "tc", "bridge") else f"ip netns exec {where[3:]} {command}"


def _filled(template: str, words: list[str]) -> str:
    if "{dev}" in template:
        return template.replace("{dev}", _after("dev", words) or (words[3:4] or [""])[0])
    if "{key}" in template:
        key = words[-1].partition("=")[0]
        return template.replace("{key}", f"{key}'" if key.startswith("'") else key)
    if "{table}" in template:
        place = next((number for number, word in enumerate(words) if word.strip("'") in _NFT_OBJECTS), -1)
        table = " ".join(words[place + 1 : place + 3]).strip("'") if place >= 0 else ""
        return template.replace("{table}", table) if table else "nft list ruleset"
    return template.replace("{path}", next((word for word in reversed(words) if word.startswith("/")), "."))


def _after(mark: str, words: list[str]) -> str:
    return words[words.index(mark) + 1] if mark in words[:-1] else ""
