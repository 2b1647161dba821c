"""`minirt network path`: what it foretells is what a packet meets. Judges are nftables' own trace of a real packet, the
counters of rules, servers that see where somebody comes from, and whether anything arrives at all."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.command import PROGRAM, Command, bridge, eventually
from support.machine import Machine
from support.plugins import GO
from support.world import add_world

SLEEP = ("host", "sleep", "600")
# Says to whoever connects where they come from.
ECHO = (
    "import socket; s = socket.create_server(('::', 80), family=socket.AF_INET6, dualstack_ipv6=True)\n"
    "while True:\n    c, a = s.accept(); c.sendall(a[0].removeprefix('::ffff:').encode()); c.close()"
)
ASK = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print(s.recv(99).decode())"
PING = ("busybox", "ping", "-c1", "-W1")
TRACING = """table inet judge {
    chain p { type filter hook prerouting priority -350
        tcp dport { 80, 8080, 9090 } meta nftrace set 1
    }
    chain o { type filter hook output priority -350
        tcp dport { 80, 8080, 9090 } meta nftrace set 1
    }
}
"""
TRACED = re.compile(r"trace id (\w+) (\w+ [\w-]+ [\w-]+) rule (.*) \(verdict (?:accept|drop)\)")
RULE = re.compile(
    r"(?:prerouting|input|forward|output|postrouting) +(?:\(br_netfilter\) )?((?:inet|ip|ip6) [\w-]+ [\w-]+): (.*)"
)
ANSWERS = re.compile(r"established|ip saddr 10.20.0.2 accept")  # rules that the server's answers meet
ENV = {"CNI_PATH": GO, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture(autouse=True)
def world(machine: Machine) -> str:
    """Another host behind this one's uplink, and a default route there."""
    name = add_world(machine)
    machine.leaves("link *", "address *", "route *", "nft *", "file /etc/cni/*", "directory *")
    machine.run("ip", "route", "add", "default", "via", "192.0.2.2")
    return name


def path(minirt: Command, *words: str) -> str:
    """What is told; what was wrapped stands in one line again."""
    text = minirt.ok("network", "path", *words)
    assert max(map(len, text.splitlines())) <= 100
    return re.sub(r"\n {15,}(?! |its element)", " ", text)


def foretold(text: str) -> set[tuple[str, str]]:
    """The rules that are said to decide something: (place, rule)."""
    return {(place, " ".join(rule.split())) for place, rule in RULE.findall(text)}


@contextmanager
def traced(machine: Machine, tmp_path: Path) -> Iterator[Callable[[], set[tuple[str, str]]]]:
    """nftables' own account of packets to a server: the rules that decided something."""
    machine.run("nft", "-f", "-", input=TRACING)
    log = tmp_path / "trace"
    with open(log, "w") as file:
        monitor = subprocess.Popen(["nft", "monitor", "trace"], stdout=file)

    def met() -> set[tuple[str, str]]:
        rows = TRACED.findall(log.read_text())
        return {(place, " ".join(rule.split())) for _id, place, rule in rows if "judge" not in place}

    try:
        eventually(lambda: _listens(monitor.pid))
        yield met
    finally:
        monitor.kill()
        monitor.wait()
        machine.run("nft", "delete", "table", "inet", "judge")


def _listens(pid: int) -> bool:
    """Whether nft has joined the group of nftables' traces."""
    with open("/proc/net/netlink") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    return any(row[1] == "12" and row[2] == str(pid) and int(row[3], 16) for row in rows)


def asked(minirt: Command, start: str, address: str, port: str) -> str:
    """What a server answers to `start`: the address that it sees."""
    inside = () if start == "host" else ("ip", "netns", "exec", minirt.inspect(start)["Id"])
    command = (*inside, "python3", "-c", ASK, address, port)
    found: str = eventually(lambda: minirt.machine.run(*command, check=False).stdout.strip())
    return found


def now(text: str) -> str:
    """The source of the packet as it arrives."""
    return [*re.finditer(r"(?:now +|^)tcp (\S+) →", text, re.MULTILINE)][-1][1]


WAYS = [
    ("db", "web:80", "10.143.0.2", "80"),
    ("db", "10.143.0.1:8080", "10.143.0.1", "8080"),
    ("db", "192.0.2.1:8080/tcp", "192.0.2.1", "8080"),
    ("db", "[2001:db8::1]:8080", "2001:db8::1", "8080"),
    ("web", "192.0.2.1:8080", "192.0.2.1", "8080"),
    ("host", "127.0.0.1:8080", "127.0.0.1", "8080"),
    ("host", "web:80", "10.143.0.2", "80"),
    ("host", "[fd6d:696e:6972:7400::2]:80", "fd6d:696e:6972:7400::2", "80"),
]


def test_the_rules_that_are_foretold_are_those_of_nftables_own_trace(minirt: Command, tmp_path: Path) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "host", "python3", "-c", ECHO)
    minirt.ok("run", "-d", "--name", "db", *SLEEP)
    for number, (start, destination, address, port) in enumerate(WAYS):
        text = path(minirt, start, destination)
        assert "delivered: to web" in text, text
        (tmp_path / str(number)).mkdir()
        with traced(minirt.machine, tmp_path / str(number)) as met:
            assert asked(minirt, start, address, port) == now(text), text
            wanted = foretold(text)
            assert _settled(met, wanted) == wanted, text
    minirt.ok("rm", "-f", "web", "db")


def _settled(met: Callable[[], set[tuple[str, str]]], wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What was met, as soon as that is what is wanted; whatever it is after a while."""
    deadline = time.monotonic() + 3
    while met() != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return met()


def test_a_way_out_is_told_with_route_port_and_masquerade(minirt: Command, world: str) -> None:
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    (link,) = machine.ip("link", "show", "dev", "eth0", netns=minirt.inspect("web")["Id"])
    port = next(item["ifname"] for item in machine.ip("link", "show") if item["ifindex"] == link["link_index"])
    text = path(minirt, "web", "192.0.2.2")
    for line in (
        "icmp 10.143.0.2 → 192.0.2.2\n",
        "192.0.2.2 via 10.143.0.1 dev eth0 src 10.143.0.2",
        f"in by {port}\n",
        "out by minirt0 itself",
        "192.0.2.2 dev uplink\n",
        "its element 10.143.0.0/20",
        "icmp 192.0.2.1 → 192.0.2.2\n",
        "leaves the host by uplink to 192.0.2.2",
        "The answer comes back to 10.143.0.2 from 192.0.2.2",
    ):
        assert line in text, text
    machine.run("ip", "netns", "exec", minirt.inspect("web")["Id"], *PING, "192.0.2.2")
    mac = machine.ip("link", "show", "dev", "minirt0")[0]["address"]
    assert f"to {mac}\n" in path(minirt, "web", "192.0.2.2")  # the ping has taught web its gateway's MAC
    assert world
    minirt.ok("rm", "-f", "web")


def test_rules_of_iptables_that_other_plugins_wrote_are_foretold_too(minirt: Command) -> None:
    """Their counters say which of them a packet met."""
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    minirt.network(
        "go", bridge("cni-go", "10.20.0.0/24", ipMasq=True, isDefaultGateway=True), ports, {"type": "firewall"}
    )
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", "-p", "9090:80", "host", "python3", "-c", ECHO, env=ENV)
    minirt.ok("run", "-d", "--name", "db", *SLEEP, env=ENV)
    for start, destination, address, port in (
        ("db", "192.0.2.1:9090", "192.0.2.1", "9090"),
        ("host", "192.0.2.1:9090", "192.0.2.1", "9090"),
        ("db", "web:80", "10.20.0.2", "80"),
    ):
        text = path(minirt, start, destination)
        assert "delivered: to web" in text, text
        before = _counted(machine)
        asked(minirt, start, address, port)
        met = {rule for rule, packets in _counted(machine).items() if packets > before[rule]}
        wanted = {_bare(place, rule) for place, rule in foretold(text) if "perhaps" not in rule}
        assert wanted <= met, text
        deciding = {
            rule for rule in met if re.search(r"accept|masquerade|dnat|drop", rule) and not ANSWERS.search(rule)
        }
        assert deciding <= wanted, text
    minirt.ok("rm", "-f", "web", "db", env=ENV)


def _bare(place: str, rule: str) -> str:
    return re.sub(r" counter packets \d+ bytes \d+", "", f"{place}: {rule}")


def _counted(machine: Machine) -> dict[str, int]:
    """Packets of every rule with a counter, by place and text."""
    found: dict[str, int] = {}
    table = chain = ""
    for line in machine.text("nft", "list", "ruleset").splitlines():
        words = line.split()
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif "counter packets" in line:
            packets = int(words[words.index("packets") + 1])
            found[_bare(f"{table} {chain}", " ".join(words))] = packets
    return found


def test_what_is_dropped_or_lost_is_told_with_the_place(minirt: Command) -> None:
    """Each time a ping agrees."""
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    netns = minirt.inspect("web")["Id"]

    def pings() -> bool:
        return machine.run("ip", "netns", "exec", netns, *PING, "192.0.2.2", check=False).returncode == 0

    assert "leaves the host by uplink" in path(minirt, "web", "192.0.2.2") and pings()
    rules = "table inet wall { chain way { type filter hook forward priority 0; ip daddr 192.0.2.2 counter drop; }; }"
    machine.run("nft", rules)
    text = path(minirt, "web", "192.0.2.2")
    assert "dropped: at forward of host" in text and "inet wall way" in text and not pings()
    assert "leaves the host" in path(minirt, "web", "192.0.2.3")
    machine.run("nft", "flush chain inet wall way; add chain inet wall way { policy drop; }")
    assert "the policy of inet wall way" in path(minirt, "web", "192.0.2.2") and not pings()
    machine.run("nft", "delete", "table", "inet", "wall")
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    assert "does not forward IPv4" in path(minirt, "web", "192.0.2.2") and not pings()
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    machine.run("ip", "route", "add", "unreachable", "203.0.113.0/24")
    assert "lost: the host" in path(minirt, "web", "203.0.113.9")
    assert "nobody on minirt0 is known to have 10.143.0.99" in path(minirt, "web", "10.143.0.99")
    machine.run("ip", "-n", netns, "route", "del", "default")
    assert "web has no route to 192.0.2.2" in path(minirt, "web", "192.0.2.2") and not pings()
    minirt.ok("rm", "-f", "web")


def test_macvlan_goes_past_the_host_and_ptp_through_it(minirt: Command) -> None:
    ipam = {"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100"}
    minirt.network("lan", {"type": "macvlan", "master": "uplink", "ipam": ipam})
    point = {"type": "host-local", "subnet": "10.66.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    minirt.network("wire", {"type": "ptp", "ipMasq": True, "ipam": point})
    for name, network in (("one", "lan"), ("two", "lan"), ("end", "wire"), ("also", "wire")):
        minirt.ok("run", "-d", "--name", name, "--network", network, *SLEEP)
    ways = {
        ("one", "two"): "delivered: to two",
        ("one", "192.0.2.2"): "leaves by uplink to 192.0.2.2",
        ("one", "192.0.2.1"): "lost: a macvlan link and its parent uplink do not reach each other",
        ("end", "also"): "delivered: to also",
        ("end", "192.0.2.2"): "leaves the host by uplink",
        ("host", "end"): "delivered: to end",
    }
    for (start, to), ending in ways.items():
        text = path(minirt, start, to)
        assert ending in text, text
        address = to if to[0].isdigit() else text.splitlines()[0].rpartition(" ")[2]
        inside = () if start == "host" else ("ip", "netns", "exec", minirt.inspect(start)["Id"])
        reached = minirt.machine.run(*inside, *PING, address, check=False).returncode == 0
        assert reached is not ending.startswith("lost"), (start, to)
    minirt.ok("rm", "-f", "one", "two", "end", "also")


@pytest.mark.parametrize("wrong", ["", "web:", "web:0", "web:99999", "web:80/icmp", "[::1", "10.1.1.1/tcp", ":80"])
def test_a_destination_that_is_none_is_refused(minirt: Command, wrong: str) -> None:
    assert "invalid destination" in minirt.fails(1, "network", "path", "host", wrong)


def test_who_is_not_there_is_told(minirt: Command) -> None:
    assert "no container 'nobody'" in minirt.fails(1, "network", "path", "nobody", "192.0.2.2")
    assert "neither an address nor a container" in minirt.fails(1, "network", "path", "host", "example.net")


def test_packets_are_counted_where_they_pass(minirt: Command) -> None:
    """Three pings: three out and three back at each hook; and no table is left over, even when minirt is killed."""
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    netns = minirt.inspect("web")["Id"]
    counting = minirt.start("network", "path", "web", "192.0.2.2", "--counters", stdout=subprocess.PIPE)
    assert counting.stdout
    lines: list[str] = []
    while not any("0/0" in line for line in lines):
        lines.append(counting.stdout.readline())
        assert lines[-1]
    machine.run("ip", "netns", "exec", netns, "busybox", "ping", "-c3", "-i0.1", "-W1", "192.0.2.2")
    while "3/3" not in lines[-1] or "2/" in lines[-1] or "/2" in lines[-1]:
        lines.append(counting.stdout.readline())
        assert lines[-1]
    text = "".join(lines)
    for point in ("web output", "web input", "prerouting", "forward", "postrouting"):
        assert re.search(rf"\[\d\] .*{point}\n", text), text
    assert lines[-1].split()[1:] == ["3/0", "0/3", "3/3", "3/3", "3/3"]
    counting.kill()
    counting.wait()
    eventually(lambda: "minirt_path" not in machine.text("nft", "list", "tables"))
    eventually(lambda: not machine.text("ip", "netns", "exec", netns, "nft", "list", "tables"))
    minirt.ok("rm", "-f", "web")


def test_counting_ends_by_itself_or_at_ctrl_c_and_rules_tell_what_they_counted(minirt: Command) -> None:
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "host", "python3", "-c", ECHO)
    machine.run(
        "nft", "table inet wall { chain way { type filter hook output priority 0; tcp dport 80 counter accept; }; }"
    )
    counting = minirt.start("network", "path", "host", "192.0.2.1:8080", "--counters", stdout=subprocess.PIPE)
    assert counting.stdout
    while "0/0" not in counting.stdout.readline():
        pass
    assert asked(minirt, "host", "192.0.2.1", "8080")
    counting.send_signal(signal.SIGINT)
    told = counting.communicate(timeout=10)[0]
    assert counting.returncode == 0
    assert re.search(r"\+[1-9]\d*  inet wall way\n", told), told
    ended = minirt.ok("network", "path", "host", "192.0.2.1:8080", "--counters", "--seconds", "0")
    assert "packets out/back" in ended
    assert "minirt_path" not in machine.text("nft", "list", "tables")
    machine.run("nft", "delete", "table", "inet", "wall")
    assert "--seconds" in minirt.fails(1, "network", "path", "web", "192.0.2.2", "--seconds", "3")
    minirt.ok("rm", "-f", "web")


def test_walls_between_containers_are_foretold(minirt: Command) -> None:
    """ingressPolicy, isolated ports and MAC spoofing: whatever is foretold, a ping agrees."""
    for name, third in (("isolated", 80), ("same-bridge", 81), ("open", 82)):
        plugin = bridge(f"cni-{third}", f"10.{third}.0.0/24", isDefaultGateway=True, macspoofchk=True)
        minirt.network(name, plugin, {"type": "firewall", "backend": "nftables", "ingressPolicy": name})
        for end in ("a", "b"):
            minirt.ok("run", "-d", "--name", f"{name}-{end}", "--network", name, *SLEEP)
    reached: dict[tuple[str, str], bool] = {}
    names = [f"{name}-{end}" for name in ("isolated", "same-bridge", "open") for end in ("a", "b")]

    def asks(start: str, to: str) -> str:
        text = path(minirt, start, to)
        address = text.splitlines()[0].rpartition(" ")[2]
        inside = ("ip", "netns", "exec", minirt.inspect(start)["Id"])
        reached[start, to] = minirt.machine.run(*inside, *PING, address, check=False).returncode == 0
        assert reached[start, to] is ("delivered" in text), text
        return text

    for to in names[1:]:
        asks(names[0], to)
    asks("same-bridge-a", "same-bridge-b")
    asks("open-a", "open-b")
    assert set(reached.values()) == {True, False}
    assert re.search("prerouting +no rule of bridge cni_spoofing matches: it passes", path(minirt, "open-a", "open-b"))
    netns = minirt.inspect("open-a")["Id"]
    minirt.machine.run("ip", "-n", netns, "link", "set", "eth0", "address", "02:00:00:00:00:99")
    assert "inet" not in asks("open-a", "open-b") and "bridge cni_spoofing" in asks("open-a", "open-b")
    minirt.machine.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    assert "are isolated" in asks("isolated-a", "isolated-b")
    minirt.ok("rm", "-f", *names)


def test_the_first_translation_decides(minirt: Command, world: str) -> None:
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    late = "type nat hook postrouting priority 110; ip saddr 10.143.0.0/20 snat to 192.0.2.99;"
    early = "type nat hook postrouting priority 90; ip saddr 10.143.0.0/20 tcp dport 80 snat to 192.0.2.7;"
    server = subprocess.Popen(["ip", "netns", "exec", world, "python3", "-c", ECHO])
    try:
        machine.run("nft", f"table ip late {{ chain post {{ {late} }}; }}")
        assert asked(minirt, "web", "192.0.2.2", "80") == now(path(minirt, "web", "192.0.2.2:80")) == "192.0.2.1"
        machine.run("ip", "addr", "add", "192.0.2.7/24", "dev", "uplink")
        machine.run("nft", f"table ip early {{ chain post {{ {early} }}; }}")
        assert asked(minirt, "web", "192.0.2.2", "80") == now(path(minirt, "web", "192.0.2.2:80")) == "192.0.2.7"
    finally:
        server.kill()
        server.wait()
    minirt.ok("rm", "-f", "web")


def test_where_nft_is_missing_nothing_is_said_of_rules(minirt: Command) -> None:
    """What is there is drawn; what cannot be known is said not to be known."""
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", *SLEEP)
    hidden = ("unshare", "-m", "bash", "-c", 'mount --bind /dev/null "$(command -v nft)"; exec "$@"', "hidden")
    done = minirt.machine.run(*hidden, PROGRAM, "network", "graph")
    assert "10.143.0.2/20" in done.stdout and "note: the rules of nftables cannot be read" in done.stdout
    assert "no rule of nftables does it" not in done.stdout
    done = minirt.machine.run(*hidden, PROGRAM, "network", "path", "web", "192.0.2.2", check=False)
    assert done.returncode == 1 and "cannot be read" in done.stderr and "leaves the host" in done.stdout
    minirt.ok("rm", "-f", "web")
