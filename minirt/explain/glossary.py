"""What commands are for, and what shows what they did: a sentence and a look for each kind that steps describe.

Sentences say what is true of every command that they are found for; one that nothing is said of is explained by itself.
A look is what a person types in another terminal, before the step and after it. No regular expressions here: to compile
them would cost a run more than all else that is told.
"""

from __future__ import annotations

from cni_plugins.spec.names import unfinished

VERBS = {
    "ADD": "give the container an interface, and say what it got",
    "DEL": "take away what ADD made; works twice, and without the namespace",
    "CHECK": "see whether all is as ADD left it",
    "GC": "remove what belongs to no living container",
    "STATUS": "could ADD be served?",
}
# Of those that a plugin calls for its addresses.
DELEGATES = {
    "ADD": "choose its addresses: that is the IPAM plugin's part, which keeps account of them",
    "DEL": "its addresses are free again",
    "CHECK": "are the addresses still its own?",
    "GC": "free the addresses that no living container has",
    "STATUS": "are there addresses left?",
}
AFTER_FAILURE = "ADD has failed: all that were called are told to take back what they did, the last one first"
_NAMES, _PORT, _ADDRESSES = "ip netns; lsns -t net", "bridge -d link show dev {dev}", "ip addr show dev {dev}"
_CHILD = "ip -n {netns} -d link show dev {dev}"
_ROUTER = "the host passes packets on: it is a router"

# By the first word of a command: how it goes on, what it must hold ($ is its end), what it is for, and a look, empty
# for that of its word. The first that fits counts. `ip` and the like are meant in whatever namespace and family.
# In a look, {dev} is the link that the command is about, {netns} where it goes, {key} what is set, {table} the family
# and name of a table of nftables, {path} the last word, {pid} the process that changes itself.
_KINDS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "ip": (
        ("netns add ", "", "a network namespace: interfaces, routes and rules of its own, kept by a name", _NAMES),
        ("netns delete ", "", "the name goes, and with the last process the namespace", _NAMES),
        ("link set lo up", "", "the loopback, which is down in a new namespace", ""),
        ("link add ", " type bridge", "a bridge: the switch that containers are plugged into", ""),
        ("link add ", " type veth", "a cable with two ends", ""),
        ("link add ", " type macvlan", "a second hardware address on the parent's wire", _CHILD),
        ("link add ", " type ipvlan", "more addresses on the parent's wire, under its hardware address", _CHILD),
        ("link add ", " type vlan", "the parent's frames of one VLAN", _CHILD),
        ("link add ", " type vrf", "a routing table for the interfaces that are put into it", ""),
        ("link add ", " type ifb", "a device to queue what another one receives", ""),
        ("link add ", " type dummy", "an interface that leads nowhere", ""),
        ("tuntap ", "", "an interface whose other end is a program", ""),
        ("link set ", " netns ", "into another namespace, where it loses its addresses", _NAMES),
        ("link set ", " alias ''", "the name that it was lent under is taken off", ""),
        ("link set ", " alias ", "the owner's name on the link, by which DEL and GC find it", ""),
        ("link set ", " hairpin on", "let the bridge send back out of the port that a frame came in by", _PORT),
        ("link set ", " isolated on", "frames do not pass between isolated ports", _PORT),
        ("link set ", " vlan_filtering 1", "the bridge goes by VLANs, too", ""),
        ("link set ", " promisc on", "it takes all frames, whoever they are for", ""),
        ("link set ", " allmulticast on", "it takes all multicast frames", ""),
        ("link set ", " txqueuelen ", "how many packets may wait to be sent", ""),
        ("link set ", " address ", "its hardware address; with arp_notify the kernel tells the neighbours of it", ""),
        ("link set ", " nomaster", "out of the bridge or the routing domain that it belongs to", ""),
        ("link set ", " master ", "a port of a bridge, or a member of a routing domain", ""),
        ("link set ", " mtu ", "the longest packet that it sends", ""),
        ("link set ", " up", "an interface passes frames when it is up", ""),
        ("link del veth", "", "a veth takes its other end along, with addresses and routes", ""),
        ("link del ", "", "the link goes, with its addresses and routes", ""),
        ("addr ", " noprefixroute", "an address, without a route to its subnet", _ADDRESSES),
        ("addr add ", "/32 ", "an address alone, without a subnet", _ADDRESSES),
        ("addr add ", "/128 ", "an address alone, without a subnet", _ADDRESSES),
        ("addr del ", "", "the address goes, and the route to its subnet", _ADDRESSES),
        ("addr ", "", "an address, and with it the route to its own subnet", _ADDRESSES),
        ("route del ", "", "the route goes", "ip route show table all; ip -6 route"),
        ("route ", " default", "where all packets go that no other route is for", "ip route; ip -6 route"),
        ("route ", "", "where packets to these addresses go", "ip route show table all; ip -6 route"),
        ("rule del ", "", "the rule goes", "ip rule; ip -6 rule"),
        ("rule ", "", "which routing table is asked for these packets", "ip rule; ip -6 rule"),
    ),
    "bridge": (("vlan ", "", "which VLANs pass by this port", "bridge vlan show dev {dev}"),),
    "until": (("", "state UP", "a port of a bridge passes frames a moment after it is up", ""),),
    "while": (("", "tentative", "IPv6 asks whether somebody has the address; the answer is waited for", ""),),
    "sysctl": (
        ("-w net/ipv4/ip_forward=1", "", _ROUTER, ""),
        ("-w net/ipv6/conf/all/forwarding=1", "", _ROUTER, ""),
        ("-w ", "/forwarding=0", "what comes in by this interface is not passed on", ""),
        ("-w ", "/forwarding=1", "what comes in by this interface is passed on", ""),
        ("-w ", "/accept_ra=0", "no routes from router advertisements on this link", ""),
        ("-w ", "/accept_dad=0", "IPv6 takes an address without asking whether somebody has it", ""),
        ("-w ", "/accept_dad=1", "IPv6 asks whether somebody has an address before it takes it", ""),
        ("-w ", "/disable_ipv6=0", "IPv6 on this interface", ""),
        ("-w ", "_notify=1", "tell the neighbours when addresses come or change", ""),
        ("-w ", "/keep_addr_on_down=1", "IPv6 addresses stay when the interface goes down", ""),
        ("-w ", "/route_localnet=1", "packets to 127.0.0.1 may be sent on to the container", ""),
    ),
    "nft": (
        ("'create table inet cni_masquerade", "", "rules, written once: what leaves takes the host's address", ""),
        ("'create table inet cni_portmap", "", "rules, written once: what comes to a published port is led on", ""),
        ("'create table inet cni_firewall", "", "rules, written once: what may pass between links", ""),
        ("'create table bridge cni_spoofing", "", "rules, written once: frames of a false sender are dropped", ""),
        ("'delete element inet cni_masquerade", "", "nobody is left on this subnet: it is masqueraded no more", ""),
        ("'delete element inet cni_portmap", "", "published no more: whoever wants the port may have it", ""),
        ("", "element inet cni_masquerade subnets", "what leaves this subnet takes the host's address", ""),
        ("", "element inet cni_masquerade inside", "but not what stays inside of it", ""),
        ("", "element inet cni_portmap snat", "who comes from inside, or from the host, is answered by way of it", ""),
        ("", "element inet cni_portmap inside", "what counts as inside: the container's own subnet", ""),
        ("", "element inet cni_portmap masq_all", "who comes by a published port takes the host's address", ""),
        ("", "element inet cni_portmap not_by_loopback", "this port is not to be reached at 127.0.0.1", ""),
        ("", "element inet cni_portmap terms", "the terms on which the port is published", ""),
        ("", "element inet cni_portmap host_terms", "the terms on which the port is published", ""),
        ("", "element inet cni_portmap", "a published port: what comes to it goes on to the container", ""),
        ("", "inet cni_portmap terms_", "terms of publishing: who is served, and what is marked", ""),
        ("", "element inet cni_firewall guarded", "nothing passes between guarded links", ""),
        ("", "element inet cni_firewall inside", "but containers of this link may talk to each other", ""),
        ("", "element inet cni_firewall closed", "nor do containers of this link talk to each other", ""),
        ("'delete element bridge cni_spoofing", "", "the port is checked no more", ""),
        ("", "element bridge cni_spoofing guarded", "frames that come in by this port are checked", ""),
        ("", "element bridge cni_spoofing allowed", "the one hardware address that they may come from", ""),
    ),
    "iptables": (("", "", "the host's firewall is iptables: its rules let the container's packets pass", ""),),
    "ip6tables": (("", "", "the host's firewall is iptables: its rules let the container's packets pass", ""),),
    "firewall-cmd": (("", " --add-source=", "firewalld lets pass what comes from this address", ""),),
    "conntrack": (("-D ", "", "clients that send already are looked up in the rules again", ""),),
    "tc": (
        ("qdisc add dev bwp", " tbf ", "so many bytes a second may the container send", ""),
        ("qdisc add ", " tbf ", "so many bytes a second may the container receive", ""),
        ("qdisc add ", " ingress", "a hook for what the link receives: what the container sends", ""),
        ("filter add ", " redirect ", "what it receives goes by way of the other device", ""),
        ("qdisc del ", "", "the queue goes", ""),
    ),
    "mkdir": (
        ("-p /sys/fs/cgroup", "", "a control group: what belongs to the container, as one", ""),
        ("-p ", " mount -o ", "a path of the host, seen in the container", "findmnt --task {pid}"),
        ("-p ", " && cd ", "its working directory, made where it is missing", ""),
        ("-p /run/minirt/stage", "", "a place to put the container's root together", "findmnt --task {pid}"),
        ("-p ", "", "the folder of the network's addresses: a file for each that is taken", ""),
    ),
    "printf": (
        ("", "/last_reserved_ip.", "the address given last: the next one is looked for behind it", ""),
        ("'%s\\r\\n%s' ", "", "the address is taken: its file says by which container and interface", ""),
    ),
    "rm": (("", "", "no file, no reservation: the address is free", ""),),
    "rmdir": (("/sys/fs/cgroup", "", "the control group is empty now", ""),),
    "echo": (("0 > /sys/fs/cgroup", "", "this process, and all it starts, belongs to the control group", ""),),
    "nsenter": (
        ("--target ", " --pid", "into the container's pid namespace: what it starts is born there", ""),
        ("--target ", "", "into the other namespaces of that process", ""),
        ("--net=", "", "into its network namespace", ""),
    ),
    "unshare": (
        ("--pid --fork", "", "process 1 of a new pid namespace; this is how it prepares itself", ""),
        ("", "", "namespaces of its own: mounts, host name, IPC, control groups", ""),
    ),
    "hostname": (("", "", "its host name, in a UTS namespace of its own", ""),),
    "mount": (
        ("--make-rslave /", "", "mounts from here on are not seen on the host", ""),
        ("-t overlay", "", "the machine's own files below, changes in a layer that goes with the container", ""),
        ("-t proc", "", "the processes of its own pid namespace", ""),
        ("-t sysfs", "", "the devices of the network namespace that it is in", ""),
        ("-t tmpfs --mkdir -o ro tmpfs ", "", "hidden: it is empty", ""),
        ("-t ", "", "a file system of its own", ""),
        ("-o bind,ro /dev/null ", "", "hidden: it reads as empty", ""),
        ("-o bind,ro,", "", "can be read and not written", ""),
        ("-o remount,bind,ro", "", "can be read and not written", ""),
        ("-o ", "/run/minirt/stage/root$", "the image: what the container sees as its root", ""),
        ("-o ", "", "a path of the host, seen in the container", ""),
    ),
    "touch": (("", " mount ", "a device of the host", ""),),
    "cd": (("", "pivot_root", "its tree becomes the root, and the host's is out of reach", ""),),
    "chown": (("", " /dev/std", "its user's own, so that they can be opened again by name", ""),),
    "setpriv": (("", "", "as its user, without the rights that no container may have", ""),),
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
    "chown": "ls -lL /proc/{pid}/fd",
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
    end = f"{plain}$"
    for kind in _KINDS.get(word, ()):
        if rest.startswith(kind[0]) and kind[1] in end:
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
        netns = _after("netns", words)
        template = template.replace("{netns}", netns) if netns else template.replace(" -n {netns}", "")
        return template.replace("{dev}", _after("dev", words) or (words[3:4] or [""])[0])
    if "{key}" in template:
        key = words[-1].partition("=")[0]
        return template.replace("{key}", f"{key}'" if key.startswith("'") else key)
    if "{table}" in template:
        place = next((number for number, word in enumerate(words) if word.strip("'") in _NFT_OBJECTS), -1)
        table = " ".join(words[place + 1 : place + 3]).strip("'") if place >= 0 else ""
        return template.replace("{table}", table) if table else "nft list ruleset"
    return template.replace("{path}", _last(words)) if "{path}" in template else template


def _last(words: list[str]) -> str:
    """The last word as a shell sees it, quotes and all."""
    last = ""
    for word in words:
        last = f"{last} {word}" if unfinished(last) else word
    return last


def _after(mark: str, words: list[str]) -> str:
    return words[words.index(mark) + 1] if mark in words[:-1] else ""
