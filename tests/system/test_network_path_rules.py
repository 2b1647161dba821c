"""`minirt network path` beside rules that others wrote: what it foretells, a ping or a connection finds."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from support.command import Command, eventually
from support.machine import Machine
from support.world import WORLD, WORLD6, add_world

SLEEP = ("host", "sleep", "600")
FORWARD = "type filter hook forward priority 0;"


@pytest.fixture
def world(machine: Machine) -> None:
    """A machine with an uplink, at whose other end somebody answers."""
    add_world(machine)
    machine.leaves("link *", "address *", "route *", "nft *", "directory *")


def path(minirt: Command, *words: str) -> str:
    """The walk, its wrapped lines made whole."""
    return " ".join(minirt.ok("network", "path", *words).split())


# A table's family, its base chain, rules behind the name of their chain, where a ping goes to, and whether it comes.
RULES = [
    ("inet", FORWARD, ["c counter ip daddr 203.0.113.9 drop"], WORLD, True),
    ("inet", FORWARD, [f"c counter ip daddr {WORLD} drop"], WORLD, False),
    ("inet", f"{FORWARD} policy drop;", ["c goto d", "c accept", "d counter"], WORLD, False),
    ("inet", f"{FORWARD} policy drop;", ["c jump d", "c accept", "d counter"], WORLD, True),
    ("inet", f"{FORWARD} policy drop;", ["c return", "c accept"], WORLD, False),
    ("inet", FORWARD, ["c meta mark set 0x7", "c meta mark 0x7 drop"], WORLD, False),
    ("netdev", "type filter hook ingress device minirt0 priority 0;", [f"c ip daddr {WORLD} drop"], WORLD, False),
    ("netdev", "type filter hook ingress devices = { lo, minirt0 } priority 0;", ["c drop"], WORLD, False),
    ("netdev", "type filter hook ingress device lo priority 0;", ["c drop"], WORLD, True),
    ("bridge", FORWARD, ["c ip daddr 10.143.0.3 drop"], "10.143.0.3", False),
    ("bridge", FORWARD, ["c drop"], WORLD, True),
    ("bridge", "type filter hook input priority 0;", ["c ether type ip ip daddr 10.143.0.1 drop"], "10.143.0.1", False),
]


@pytest.mark.usefixtures("world")
def test_rules_of_every_sort_are_foretold_as_a_ping_finds_them(minirt: Command) -> None:
    machine = minirt.machine
    for name in ("web", "db"):
        minirt.ok("run", "-d", "--name", name, *SLEEP)
    netns = minirt.inspect("web")["Id"]
    for family, base, rules, target, through in RULES:
        script = f"add table {family} t; add chain {family} t c {{ {base} }}; add chain {family} t d;"
        machine.run("nft", script + "".join(f"add rule {family} t {rule};" for rule in rules))
        told = path(minirt, "web", target)
        pinged = machine.run("ip", "netns", "exec", netns, "ping", "-c1", "-W1", "-q", target, check=False)
        assert (pinged.returncode == 0) is through, (family, base, rules)
        assert ("dropped: at" not in told) is through, told
        assert through or f"{family} t" in told, told
        machine.run("nft", "delete", "table", family, "t")
    minirt.ok("rm", "-f", "web", "db")


@pytest.mark.usefixtures("world")
def test_what_may_match_is_told_as_that_and_the_ending_says_so(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for rules in (["c limit rate 1/second drop"], ["c meta length > 50 jump d", "d drop"]):
        script = f"add table inet t; add chain inet t c {{ {FORWARD} }}; add chain inet t d;"
        minirt.machine.run("nft", script + "".join(f"add rule inet t {rule};" for rule in rules))
        told = path(minirt, "web", WORLD)
        assert "perhaps: inet t" in told and "leaves the host by uplink" in told
        assert "(unless a rule marked 'perhaps' decides otherwise)" in told
        minirt.machine.run("nft", "delete", "table", "inet", "t")
    assert "perhaps" not in path(minirt, "web", WORLD)
    minirt.ok("rm", "-f", "web")


@pytest.mark.parametrize("writer", ["nft", "iptables"])
@pytest.mark.usefixtures("world")
def test_a_redirect_ends_at_the_host_itself(minirt: Command, writer: str) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    if writer == "nft":
        base = "type nat hook prerouting priority -100;"
        minirt.machine.run(
            "nft", f"add table ip t; add chain ip t c {{ {base} }}; add rule ip t c tcp dport 99 redirect to :22"
        )
    else:
        words = "-t nat -I PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 22"
        minirt.machine.run("iptables-nft", *words.split())
    told = path(minirt, "web", f"{WORLD}:99")
    assert "now tcp 10.143.0.2 → 10.143.0.1:22" in told
    assert "delivered: to the host itself, 10.143.0.1" in told
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world")
def test_ranges_of_ports_that_iptables_wrote_are_understood(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    words = "-I FORWARD -p tcp -m multiport --dports 70:90,99 -j DROP"
    minirt.machine.run("iptables-nft", *words.split())
    for port, through in ((69, True), (70, False), (85, False), (90, False), (91, True), (99, False)):
        assert ("dropped: at forward" not in path(minirt, "web", f"{WORLD}:{port}")) is through, port
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world")
def test_an_address_of_many_is_told_as_that_and_a_guest_walks_as_its_host(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    minirt.ok("run", "-d", "--name", "guest", "--network", "container:web", *SLEEP)
    assert "224.0.0.1 is a multicast address" in path(minirt, "web", "224.0.0.1")
    assert "10.143.15.255 is a broadcast address" in path(minirt, "web", "10.143.15.255")
    assert "leaves the host by uplink" in path(minirt, "guest", WORLD)
    assert "delivered: to the host" not in path(minirt, "host", "guest")
    minirt.ok("rm", "-f", "guest", "web")


# Routes and rules of routing that forbid the way from web to 198.51.100.0/24, and in what words that is told.
FORBIDDEN = [
    ("route add blackhole 198.51.100.0/24", "has a route or rule for 198.51.100.7 that is a blackhole"),
    ("route add unreachable 198.51.100.0/24", "has a route or rule for 198.51.100.7 that is unreachable"),
    ("route add prohibit 198.51.100.0/24", "has a route or rule for 198.51.100.7 that is prohibited"),
    ("rule add from 10.143.0.2 prohibit", "has a route or rule for 198.51.100.7 that is prohibited"),
    ("rule add from 10.143.0.2 blackhole", "or a rule makes a blackhole of it"),
    ("rule add from 10.143.0.2 unreachable", "no route to 198.51.100.7 for what comes from 10.143.0.2"),
]


@pytest.mark.usefixtures("world")
def test_routes_that_lead_nowhere_and_rules_of_routing_are_told(minirt: Command) -> None:
    machine = minirt.machine
    machine.run("ip", "route", "add", "default", "via", WORLD)
    machine.run("ip", "-n", "world", "addr", "add", "198.51.100.7/32", "dev", "eth0")
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    ping = ("ip", "netns", "exec", minirt.inspect("web")["Id"], "ping", "-c1", "-W1", "-q", "198.51.100.7")
    assert machine.run(*ping, check=False).returncode == 0
    for words, said in FORBIDDEN:
        machine.run("ip", *words.split())
        told = path(minirt, "web", "198.51.100.7")
        assert machine.run(*ping, check=False).returncode == 1
        assert "lost: the host" in told and said in told, told
        machine.run("ip", *words.replace(" add ", " del ").split())
    machine.run("ip", "route", "add", "blackhole", "198.51.100.0/24")
    assert "icmp ? → 198.51.100.7" in path(minirt, "host", "198.51.100.7")
    machine.run("ip", "rule", "add", "from", "10.143.0.2", "table", "77")
    machine.run("ip", "route", "add", "table", "77", "default", "via", WORLD)
    assert machine.run(*ping, check=False).returncode == 0
    assert f"route 198.51.100.7 via {WORLD} dev uplink table 77" in path(minirt, "web", "198.51.100.7")
    machine.run("ip", "rule", "del", "from", "10.143.0.2", "table", "77")
    minirt.ok("rm", "-f", "web")


# --- translations ---

# Says to whoever connects whom it takes them for, and where it was reached.
ECHO = """
import socket, sys, threading
def serve(listener):
    while True:
        c, peer = listener.accept()
        c.sendall(" ".join(map(str, (peer[0], *c.getsockname()[:2]))).encode())
        c.close()
for port in sys.argv[1:]:
    threading.Thread(target=serve, args=(socket.create_server(("", int(port))),)).start()
"""
ASK = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 3).recv(99).decode())"
PACKET = re.compile(r"(?:^|now +)tcp (\S+) → (\S+):(\d+)$", re.MULTILINE)
FAR = "203.0.113.5"  # nobody's: only a translation makes a way there end


@pytest.fixture
def servers(machine: Machine) -> Iterator[None]:
    """At each end of the uplink one, at ports 80, 83 and 8080."""
    machine.run("ip", "route", "add", "default", "via", WORLD)
    machine.run("ip", "addr", "add", "192.0.2.7/24", "dev", "uplink")
    command = ("python3", "-c", ECHO, "80", "83", "8080")
    started = [subprocess.Popen(command), subprocess.Popen(("ip", "netns", "exec", "world", *command))]
    yield
    for server in started:
        server.kill()
        server.wait()


TRANSLATIONS = [
    (['pre tcp dport { 81, 82 } dnat to 192.0.2.2:80 comment "web"'], f"{FAR}:82"),
    (["pre dnat to tcp dport map { 83 : 192.0.2.2 }"], f"{FAR}:83"),
    (["pre dnat ip addr . port to tcp dport map { 84 : 192.0.2.2 . 80 }"], f"{FAR}:84"),
    (['pre tcp dport 85 redirect to :8080 comment "own"'], f"{FAR}:85"),
    (["pre tcp dport 85-90 counter redirect to :80"], f"{FAR}:86"),
    (['pre tcp dport 86 dnat to :80 comment "a port alone"'], "192.0.2.2:86"),
    (["pre tcp dport 87 dnat to 192.0.2.2 : tcp dport map { 87 : 8080 }"], f"{FAR}:87"),
    (["pre tcp dport vmap { 88 : jump other }", "other meta l4proto tcp dnat to 192.0.2.2:80"], f"{FAR}:88"),
    (
        ['pre meta mark set 5 comment "meta mark set 0x7"', "pre tcp dport 89 mark 5 dnat to 192.0.2.2:80"],
        f"{FAR}:89",
    ),
    (
        ["pre meta mark set meta mark | 0x20", "pre tcp dport 90 mark & 0x20 == 0x20 dnat to 192.0.2.2:80"],
        f"{FAR}:90",
    ),
    (['post ip saddr 10.143.0.0/20 snat to 192.0.2.7 comment "y"'], "192.0.2.2:80"),
    (["post ip saddr 10.143.0.0/20 ip protocol tcp snat to 192.0.2.7:2000-3000"], "192.0.2.2:80"),
    (["post ip saddr 10.143.0.0/20 ip protocol tcp masquerade to :2000-3000 random"], "192.0.2.2:80"),
    (["post snat to ip saddr map { 10.143.0.0/20 : 192.0.2.7 }"], "192.0.2.2:80"),
    (['post ip saddr 10.143.0.0/20 masquerade comment "snat to 192.0.2.7"'], "192.0.2.2:80"),
]
CHAINS = {
    "pre": "type nat hook prerouting priority -100;",
    "post": "type nat hook postrouting priority 90;",
}


@pytest.mark.usefixtures("world", "servers")
def test_translations_are_foretold_as_a_server_finds_them(minirt: Command) -> None:
    """With comments, sets and maps, which are all beside the point."""
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for rules, destination in TRANSLATIONS:
        script = "add table ip t; add chain ip t other;"
        script += "".join(f"add chain ip t {name} {{ {base} }};" for name, base in CHAINS.items())
        minirt.machine.run("nft", script + "".join(f"add rule ip t {rule};" for rule in rules))
        told = minirt.ok("network", "path", "web", destination)
        assert list(PACKET.findall(told)[-1]) == asked(minirt, destination), f"{rules}\n{told}"
        minirt.machine.run("nft", "delete", "table", "ip", "t")
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world", "servers")
def test_a_masquerade_takes_an_address_of_the_link_where_it_stands(minirt: Command) -> None:
    """Not the source that the route names, and in a container one of its own."""
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    minirt.machine.run("ip", "route", "add", f"{WORLD}/32", "dev", "uplink", "src", "192.0.2.7")
    told = minirt.ok("network", "path", "web", f"{WORLD}:80")
    assert list(PACKET.findall(told)[-1]) == asked(minirt, f"{WORLD}:80") == ["192.0.2.1", WORLD, "80"]
    own = "table ip t { chain c { type nat hook postrouting priority 0; masquerade; }; }"
    minirt.machine.run("ip", "netns", "exec", minirt.inspect("web")["Id"], "nft", own)
    told = minirt.ok("network", "path", "web", f"{WORLD}:80")
    assert [source for source, _to, _port in PACKET.findall(told)] == ["10.143.0.2", "10.143.0.2", "192.0.2.1"]
    minirt.ok("rm", "-f", "web")


def asked(minirt: Command, destination: str) -> list[str]:
    """What a server says of whoever asks from within web."""
    inside = ("ip", "netns", "exec", minirt.inspect("web")["Id"])
    command = (*inside, "python3", "-c", ASK, *destination.split(":"))
    words: list[str] = eventually(lambda: minirt.machine.run(*command, check=False).stdout.split())
    return words


@pytest.mark.usefixtures("world", "servers")
def test_translations_that_iptables_wrote_are_foretold_as_well(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for words, destination in (
        ("-p tcp -m multiport --dports 81,90:95 -m comment --comment x -j DNAT --to-destination 192.0.2.2:80", "92"),
        ("-p tcp --dport 82 -m comment --comment redirect -j REDIRECT --to-ports 8080", "82"),
        ("-p tcp --dport 83 -j DNAT --to-destination 192.0.2.2", "83"),
    ):
        minirt.machine.run("iptables-nft", "-t", "nat", "-A", "PREROUTING", *words.split())
        told = minirt.ok("network", "path", "web", f"{FAR}:{destination}")
        assert list(PACKET.findall(told)[-1]) == asked(minirt, f"{FAR}:{destination}"), f"{words}\n{told}"
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world")
def test_a_translation_of_one_family_is_none_of_the_others(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for chain in ("pre", "post"):
        minirt.machine.run("nft", f"add table inet t; add chain inet t {chain} {{ {CHAINS[chain]} }};")
    minirt.machine.run("nft", "add rule inet t pre tcp dport 80 dnat ip to 192.0.2.7:8080")
    minirt.machine.run("nft", "add rule inet t post tcp dport 80 snat ip to 192.0.2.7")
    told = minirt.ok("network", "path", "web", f"[{WORLD6}]:80")
    assert "leaves the host by uplink" in told and "192.0.2.7" not in told, told
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world")
def test_what_nobody_can_foretell_of_a_translation_is_told_as_that(minirt: Command) -> None:
    minirt.machine.run("ip", "route", "add", "default", "via", WORLD)
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for rules in (
        ["pre tcp dport 81 dnat to 192.0.2.2-192.0.2.9"],
        ["pre dnat to numgen inc mod 2 map { 0 : 192.0.2.2, 1 : 192.0.2.3 }"],
        ["pre meta mark set ct mark", "pre meta mark 7 drop"],
        ["pre numgen inc mod 2 vmap { 0 : jump other, 1 : accept }", "other drop"],
    ):
        script = f"add table ip t; add chain ip t other; add chain ip t pre {{ {CHAINS['pre']} }};"
        minirt.machine.run("nft", script + "".join(f"add rule ip t {rule};" for rule in rules))
        told = path(minirt, "web", f"{FAR}:81")
        assert "perhaps: ip t pre" in told and "(unless a rule marked 'perhaps' decides otherwise)" in told, told
        minirt.machine.run("nft", "delete", "table", "ip", "t")
    minirt.ok("rm", "-f", "web")
