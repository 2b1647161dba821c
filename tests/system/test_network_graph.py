"""`minirt network graph`: what is drawn is what `ip -j` shows, whoever's plugins made it, in every format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import drawings
from support.command import PROGRAM, Command, bridge
from support.drawings import Svg
from support.machine import Machine
from support.plugins import GO
from support.world import add_world

SLEEP = ("host", "sleep", "600")
PAGE = Path(PROGRAM).parents[2] / "docs" / "pictures" / "graph.svg"  # README's
FORMATS = ("text", "mermaid", "dot", "svg")


@pytest.fixture
def world(machine: Machine) -> Iterator[Machine]:
    """A machine with an uplink, and a default route through it."""
    add_world(machine)
    machine.leaves("link *", "address *", "route *", "file /etc/cni/*", "directory /etc/cni/*", "nft *", "directory *")
    machine.run("ip", "route", "add", "default", "via", "192.0.2.2")
    yield machine


def facts(minirt: Command, *containers: str) -> set[str]:
    """Names, MACs and addresses of containers' links and of the host's ends, as `ip -j` tells them."""
    machine, found = minirt.machine, set()
    here = {link["ifindex"]: link for link in machine.ip("addr", "show")}
    for name in containers:
        netns = Path(minirt.inspect(name)["NetworkSettings"]["SandboxKey"]).name
        for link in machine.ip("addr", "show", netns=netns):
            if link["ifname"] == "lo":
                continue
            found |= _said(link)
            if link.get("linkinfo", {}).get("info_kind") == "veth":
                end = here[link["link_index"]]
                found |= _said(end)
                if "master" in end:
                    found |= _said(next(item for item in here.values() if item["ifname"] == end["master"]))
        found |= {f"default via {route['gateway']}" for route in machine.ip("route", "show", "default", netns=netns)}
    return found


def _said(link: dict[str, Any]) -> set[str]:
    kept = (item for item in link["addr_info"] if item["scope"] != "link")
    return {link["ifname"], link["address"], *(f"{item['local']}/{item['prefixlen']}" for item in kept)}


def drawn(minirt: Command, *words: str) -> dict[str, str]:
    return {form: minirt.ok("network", "graph", *words, "--format", form) for form in FORMATS}


def missing(drawings: dict[str, str], wanted: set[str]) -> set[tuple[str, str]]:
    return {(form, fact) for form, text in drawings.items() for fact in wanted if fact not in text}


@pytest.mark.usefixtures("world")
def test_every_format_has_what_the_kernel_has(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", *SLEEP)
    minirt.ok("run", "-d", "--name", "db", *SLEEP)
    pictures = drawn(minirt)
    wanted = facts(minirt, "web", "db") | {"192.0.2.1/24", "default via 192.0.2.2 dev uplink", "10.143.0.0/20"}
    published = {"8080/tcp → web 10.143.0.2:80", "127.0.0.1:5353/udp → web 10.143.0.2:53"}
    assert missing({form: pictures[form] for form in FORMATS}, wanted) == set()
    assert missing({"text": pictures["text"]}, {f"published: {port}" for port in published}) == set()
    assert published <= set(Svg(pictures["svg"]).words)
    assert Svg(pictures["svg"]).faults() == []
    assert max(map(len, pictures["text"].splitlines())) <= 100
    minirt.ok("rm", "-f", "web", "db")
    assert "web" not in minirt.ok("network", "graph")


@pytest.mark.usefixtures("world")
def test_wires_are_drawn_as_the_kernel_has_them(minirt: Command) -> None:
    """dot's and mermaid's edges of veth pairs, compared with IFLA_LINK."""
    for name in ("web", "db"):
        minirt.ok("run", "-d", "--name", name, *SLEEP)
    ends = {link["ifindex"]: link["ifname"] for link in minirt.machine.ip("link", "show")}
    pairs = set()
    for name in ("web", "db"):
        record = minirt.inspect(name)
        (link,) = minirt.machine.ip("link", "show", "dev", "eth0", netns=record["Id"])
        pairs.add((ends[link["link_index"]], f"c_{record['Id']}"))
    edges = drawings.dot(minirt.ok("network", "graph", "--format", "dot"))
    assert {(tail_port.removeprefix("port_"), head) for _tail, tail_port, head, _port in edges if tail_port} == pairs
    _nodes, lines = drawings.mermaid(minirt.ok("network", "graph", "--format", "mermaid"))
    assert {(label.partition(" = ")[0], head) for _tail, label, head in lines if " = " in label} == pairs
    minirt.ok("rm", "-f", "web", "db")


@pytest.mark.usefixtures("world")
def test_networks_of_other_peoples_plugins_are_drawn(minirt: Command) -> None:
    """The Go bridge, ptp, macvlan and host-device, with their masquerade and ports in iptables' tables."""
    machine = minirt.machine
    machine.run("ip", "link", "add", "spare0", "type", "vxlan", "id", "5", "dstport", "4789")
    device = {
        "type": "host-device",
        "device": "spare0",
        "ipam": {"type": "static", "addresses": [{"address": "10.9.0.9/24"}]},
    }
    ipam = {"type": "host-local", "subnet": "192.0.2.0/24", "rangeStart": "192.0.2.100"}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    minirt.network("gobridge", bridge("cni-go", "10.20.0.0/24", ipMasq=True, isDefaultGateway=True), ports)
    minirt.network("goptp", {"type": "ptp", "ipMasq": True, "ipam": {"type": "host-local", "subnet": "10.21.0.0/24"}})
    minirt.network("gomacvlan", {"type": "macvlan", "master": "uplink", "ipam": ipam})
    minirt.network("godevice", device)
    env = {"CNI_PATH": GO, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    names = ("gobridge", "goptp", "gomacvlan", "godevice")
    for name in names:
        port = ("-p", "9090:80") if name == "gobridge" else ()
        minirt.ok("run", "-d", "--name", f"at-{name}", "--network", name, *port, *SLEEP, env=env)
    pictures = drawn(minirt)
    assert missing(pictures, facts(minirt, *(f"at-{name}" for name in names))) == set()
    assert Svg(pictures["svg"]).faults() == []
    text = pictures["text"]
    for line in (
        "masquerade: 10.20.0.0/24",
        "masquerade: 10.21.0.0/24",
        "published: 9090/tcp → at-gobridge 10.20.0.2:80\n",
        "macvlan bridge ── eth0 in at-gomacvlan",
        "a link of the host, lent: eth0 in at-godevice",
        "══ eth0 in at-goptp",
    ):
        assert line in text, line
    alone = minirt.ok("network", "graph", "gomacvlan")
    assert "at-gomacvlan" in alone and "at-gobridge" not in alone and "masquerade" not in alone
    minirt.ok("rm", "-f", *(f"at-{name}" for name in names), env=env)


def test_what_is_asked_for_and_not_there_is_told(minirt: Command) -> None:
    """After `nft flush ruleset` nothing is published or masqueraded any more, whatever the records say."""
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:81:81", *SLEEP)
    (six,) = (ip for ip in minirt.machine.addresses("eth0", Path(sandbox(minirt, "web")).name) if ip.startswith("fd"))
    asked = ["masquerade: 10.143.0.0/20", "masquerade: fd6d:696e:6972:7400::/64"]
    asked += ["published: 8080/tcp → web 10.143.0.2:80", f"published: 8080/tcp → web [{six.partition('/')[0]}]:80"]
    asked += ["published: 127.0.0.1:81/tcp → web 10.143.0.2:81"]
    before = minirt.ok("network", "graph")
    assert "no default route" in before and "asked for" not in before
    assert sorted(told_of(before)) == sorted(asked)
    minirt.machine.run("nft", "flush", "ruleset")
    lost = [f"{line}  (asked for, but no rule of nftables does it)" for line in asked]
    assert sorted(told_of(minirt.ok("network", "graph"))) == sorted(lost)
    for form, text in drawn(minirt).items():
        assert form == "text" or text.count("not in nftables") >= len(asked), form
    minirt.ok("network", "reload", "web")
    minirt.machine.run("nft", "delete", "element", "inet", "cni_portmap", "any6", "{ tcp . 8080 }")
    assert [line for line in told_of(minirt.ok("network", "graph")) if "asked for" in line] == [lost[3]]
    minirt.ok("rm", "-f", "web")


def test_a_masquerade_that_is_lost_is_told_of_those_alone_who_asked_for_it(minirt: Command) -> None:
    """Nothing is published; and the networks of others, and an internal one, lose nothing."""
    minirt.machine.leaves("link *", "address *", "directory /etc/cni*")
    minirt.ok("network", "create", "blue", "--subnet", "10.60.0.0/24")
    minirt.ok("network", "create", "quiet", "--internal", "--subnet", "10.61.0.0/24")
    minirt.ok("run", "-d", "--name", "a", "--network", "blue", "--network", "quiet", *SLEEP)
    netns = minirt.machine.netns("box")
    minirt.ok("cni", "add", "blue", netns)
    minirt.machine.run("nft", "flush", "ruleset")
    lost = "masquerade: 10.60.0.0/24  (asked for, but no rule of nftables does it)"
    assert told_of(minirt.ok("network", "graph")) == told_of(minirt.ok("network", "graph", "blue")) == [lost]
    assert told_of(minirt.ok("network", "graph", "quiet")) == []
    minirt.ok("network", "reload", "a")
    kept = ["masquerade: 10.60.0.0/24"]
    assert told_of(minirt.ok("network", "graph")) == kept
    minirt.ok("cni", "del", "blue", netns)
    minirt.ok("rm", "-f", "a")
    minirt.ok("network", "rm", "blue", "quiet")


def told_of(text: str) -> list[str]:
    """What is told of masquerade and published ports."""
    lines = re.sub(r"\n[│ ]+", " ", text).replace("\n", " ").split("─ ")
    return [line.rstrip("├└│ ") for line in lines if line.startswith(("masquerade: ", "published: "))]


def sandbox(minirt: Command, name: str) -> str:
    return str(minirt.inspect(name)["NetworkSettings"]["SandboxKey"])


def test_one_network_is_drawn_alone_and_guests_are_noted(minirt: Command) -> None:
    minirt.machine.leaves("link cni-*", "address * dev cni-*")
    minirt.network("lab", bridge("cni-lab", "10.20.0.0/24"))
    minirt.network("other", bridge("cni-other", "10.30.0.0/24"))
    minirt.ok("run", "-d", "--name", "web", "--network", "lab", "--network", "other", *SLEEP)
    minirt.ok("run", "-d", "--name", "guest", "--network", "container:web", *SLEEP)
    minirt.ok("run", "-d", "--name", "lonely", "--network", "none", *SLEEP)
    lab = minirt.ok("network", "graph", "lab")
    assert "eth0 in web" in lab and "10.20.0.2/24" in lab
    assert "cni-other" not in lab and "eth1 in" not in lab and "10.30.0." not in lab and "lonely" not in lab
    everything = minirt.ok("network", "graph")
    assert "eth1 in web" in everything and "no network but lo" in everything
    assert "note: guest is in the network of web" in everything
    assert "no network 'nosuch'" in minirt.fails(1, "network", "graph", "nosuch")
    assert "invalid format 'png'" in minirt.fails(1, "network", "graph", "--format", "png")
    minirt.ok("rm", "-f", "web", "guest", "lonely")


def test_a_namespace_that_is_no_container_of_minirts_is_drawn_as_well(minirt: Command) -> None:
    """Attached by `minirt cni add`, as any runtime might have done."""
    path = minirt.machine.netns("lab")
    minirt.ok("cni", "add", "minirt", path)
    text = minirt.ok("network", "graph", "minirt")
    assert "eth0 in lab (cnitool-" in text and "10.143.0.2/20" in text
    minirt.ok("cni", "del", "minirt", path)


PUBLISHING = """table inet t {
    set ports { type inet_service; elements = { 70 comment "one", 71 } }
    map m { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
        elements = { 192.0.2.1 . udp . 72 comment "two" : 10.143.0.2 . 53 } }
    chain pre { type nat hook prerouting priority dstnat
        tcp dport 80 dnat ip to 10.143.0.2:8000 comment "web"
        tcp dport { 81, 82 } counter dnat ip to 10.143.0.2:80
        tcp dport @ports dnat ip to 10.143.0.2:80
        dnat ip addr . port to tcp dport map { 83 : 10.143.0.2 . 80, 84 : 10.9.9.9 . 80 }
        tcp dport 85-89 dnat ip to tcp dport map { 86 : 10.143.0.2, 99 : 10.143.0.2 }
        dnat ip addr . port to ip daddr . meta l4proto . th dport map @m
        ip daddr { 192.0.2.1, 192.0.2.9 } udp dport 53 dnat ip to 10.143.0.2
        meta l4proto { tcp, udp } th dport 54 dnat ip to 10.143.0.2:53
        tcp dport 8000-8010 dnat ip to 10.143.0.2 comment "dnat to 10.143.0.3:1"
        tcp dport 90 dnat ip6 to [fd6d:696e:6972:7400::2]:80 comment "six"
        tcp dport 91 redirect to :80
    }
}
"""
MULTIPORT = "-t nat -A PREROUTING -p tcp -m multiport --dports 92,94:95 -j DNAT --to-destination 10.143.0.2:80"
PUBLISHED = """80/tcp 8000, 81/tcp 80, 82/tcp 80, 70/tcp 80, 71/tcp 80, 83/tcp 80, 86/tcp 86, 192.0.2.1:72/udp 53,
192.0.2.1:53/udp 53, 192.0.2.9:53/udp 53, 54/tcp 53, 54/udp 53, 8000-8010/tcp 8000-8010, 92/tcp 80, 94-95/tcp 80"""


def test_every_rule_that_publishes_a_port_is_drawn(minirt: Command) -> None:
    """Of nft and of iptables, with comments, sets, ranges and maps."""
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    minirt.machine.run("nft", "-f", "-", input=PUBLISHING)
    minirt.machine.run("iptables-nft", *MULTIPORT.split())
    minirt.machine.leaves("nft *")
    told = re.findall("published: (.*)", minirt.ok("network", "graph"))
    wanted = [item.split() for item in PUBLISHED.split(",")]
    assert sorted(told) == sorted(
        ["90/tcp → web [fd6d:696e:6972:7400::2]:80"] + [f"{outer} → web 10.143.0.2:{inner}" for outer, inner in wanted]
    )
    minirt.ok("rm", "-f", "web")


def test_a_port_is_missed_on_the_network_that_was_asked_for_it_whatever_its_interface(minirt: Command) -> None:
    """The first network that can publish is asked: here the second, by an interface that has a name of its own."""
    minirt.machine.leaves("link cni-*", "address * dev cni-*", "nft *")
    minirt.network("plain", bridge("cni-plain", "10.20.0.0/24"))
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    minirt.network("open", bridge("cni-open", "10.30.0.0/24"), ports)
    where = ("--network", "plain", "--network", "open:ifname=lan0")
    minirt.ok("run", "-d", "--name", "web", *where, "-p", "8080:80", "-p", "127.0.0.1:81:81", *SLEEP)
    minirt.machine.run("nft", "flush", "ruleset")
    minirt.machine.run("nft", "table ip t { chain c { tcp dport 8080 dnat to 10.30.0.2:80; }; }")
    lost = "published: 127.0.0.1:81/tcp → web 10.30.0.2:81  (asked for, but no rule of nftables does it)"
    told = minirt.ok("network", "graph", "open")
    assert lost in told and "published: 8080/tcp → web 10.30.0.2:80\n" in told
    assert "published" not in minirt.ok("network", "graph", "plain")
    minirt.ok("rm", "-f", "web")


EVIL, SHOWN = "e\x1b[2J\udc9bl", r"e\x1b[2J\udc9bl"


def test_names_that_a_terminal_would_obey_are_shown_and_not_obeyed(minirt: Command) -> None:
    """The kernel takes them for links, in the host and in containers, where whoever runs them may choose."""
    machine = minirt.machine
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    netns = minirt.inspect("web")["Id"]
    machine.run("ip", "link", "add", EVIL, "type", "bridge")
    for words in (("down",), ("name", EVIL), ("up",)):
        machine.run("ip", "-n", netns, "link", "set", EVIL if words == ("up",) else "eth0", *words)
    rule = "ip daddr 10.143.0.1 accept comment"
    machine.run("nft", f'table inet t {{ chain c {{ type filter hook input priority 0; {rule} "{EVIL[:-2]}"; }}; }}')
    told = {form: minirt.ok("network", "graph", "--format", form) for form in FORMATS}
    told["path"] = minirt.ok("network", "path", "web", "10.143.0.1")
    for form, text in told.items():
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text), form
        assert form == "path" or text.count(SHOWN) >= 2, form
    assert f"dev {SHOWN}" in told["path"] and r'comment "e\x1b[2J"' in told["path"]
    drawings.dot(told["dot"])
    assert Svg(told["svg"]).faults() == []
    machine.run("ip", "link", "del", EVIL)
    machine.run("nft", "delete", "table", "inet", "t")
    minirt.ok("rm", "-f", "web")


@pytest.mark.usefixtures("world")
def test_the_picture_in_the_readme_is_what_is_drawn_of_its_commands(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", *SLEEP)
    minirt.ok("run", "-d", "--name", "db", *SLEEP)
    draw = f"hostname lab; exec {PROGRAM} network graph --format svg"
    drawn = minirt.machine.run("unshare", "--uts", "sh", "-c", draw).stdout
    minirt.ok("rm", "-f", "web", "db")
    if not PAGE.exists() or _without_chance(PAGE.read_text(encoding="utf-8")) != _without_chance(drawn):
        PAGE.write_text(drawn, encoding="utf-8")
        pytest.fail(f"{PAGE} was stale, and has been drawn anew", pytrace=False)


def _without_chance(text: str) -> str:
    """A picture without ids, hardware addresses and names of veth pairs, which are others each time."""
    seen: dict[str, str] = {}
    chance = r"[0-9a-f]{64}|[0-9a-f]{12}|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|veth[0-9a-f]{8}"
    return re.sub(chance, lambda found: seen.setdefault(found[0], f"({len(seen)})"), text)
