"""Whom published ports answer, and as whom: conditions, masqAll, marks. Judges: real packets, and the nft program."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import Portmap, elements, marked, nat, records, tcp, udp
from support.topology import A6, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B, Topology

from cni_plugins.portmap import steps
from cni_plugins.sdk import publish
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.ports import NEEDED, Mapping, Publication, Target
from cni_plugins.sdk.terms import Terms
from cni_plugins.spec.ip import parse_address, parse_cidr

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)

EVERYWHERE = (("outside", HOST), ("", "127.0.0.1"), ("b", HOST), ("a", HOST))


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap() -> Portmap:
    return Portmap()


def chains(machine: Machine) -> list[str]:
    """Those of terms."""
    found = [item["chain"]["name"] for item in machine.nft() if "chain" in item]
    return [name for name in found if name.startswith("terms_")]


# --- masqAll ---


def test_with_masqAll_every_client_is_seen_as_the_host(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), masqAll=True)
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    for netns, address in EVERYWHERE:
        assert net.connect(netns, server, address, 8080) == GATEWAY
    for netns in ("outside", "", "b", "a"):
        assert net.connect(netns, server6, HOST6, 8080) in (GATEWAY6, HOST6)
    assert net.connect("outside", server6, HOST6, 8080) == GATEWAY6
    assert net.connect("outside", server, A, 80) == OUTSIDE, "who needs no port of the host is nobody's business"
    portmap.ok("CHECK", "a", tcp(8080, 80), masqAll=True)
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}


def test_masqAll_without_snat_is_nothing(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), masqAll=True, snat=False)
    assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "a")


# --- conditions ---


@pytest.mark.parametrize(
    "keys",
    [
        {"conditionsV4": ["ip", "saddr", OUTSIDE], "conditionsV6": [f"ip6 saddr {OUTSIDE6}"]},
        {"conditionsV4": ["-s", f"{OUTSIDE}/32"], "conditionsV6": ["-s", f"{OUTSIDE6}"]},
        {"conditionsV4": ["-i", "wan+"], "conditionsV6": ['iifname "wan*"']},
        {
            "conditionsV4": ["!", "-s", "10.88.0.0/16,127.0.0.0/8,192.0.2.1"],
            "conditionsV6": ["!", "-s", "fd00:88::/64"],
        },
        {"conditionsV4": ["-m", "addrtype", "!", "--src-type", "LOCAL", "!", "-s", "10.88.0.0/24"], "conditionsV6": []},
    ],
)
def test_ports_are_published_to_those_who_meet_the_conditions(
    net: Topology, portmap: Portmap, keys: dict[str, Any]
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), tcp(8081, 80, HOST), **keys)
    portmap.ok("CHECK", "a", tcp(8080, 80), tcp(8081, 80, HOST), **keys)
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    for port in (8080, 8081):
        assert net.connect("outside", server, HOST, port) == OUTSIDE
        for netns, address in (("b", HOST), ("", HOST)):
            with pytest.raises(ConnectionRefusedError):
                net.connect(netns, server, address, port)
    assert net.connect("outside", server6, HOST6, 8080) == OUTSIDE6
    if keys["conditionsV6"]:
        with pytest.raises(ConnectionRefusedError):
            net.connect("b", server6, HOST6, 8080)
    else:
        assert net.connect("b", server6, HOST6, 8080) == GATEWAY6
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {} and chains(net.machine) == [] and records(net.machine) == []


def test_conditions_are_those_of_their_own_container(net: Topology, portmap: Portmap) -> None:
    """The reference plugin's nftables backend gives everybody the last one's."""
    portmap.ok("ADD", "a", tcp(8080, 80), conditionsV4=["ip saddr 10.88.0.0/24"])
    portmap.ok("ADD", "b", tcp(8081, 80), conditionsV4=["ip saddr 192.0.2.0/24"])
    server, other = net.listen("a", A, 80), net.listen("b", B, 80)
    assert net.connect("b", server, HOST, 8080) == GATEWAY
    assert net.connect("outside", other, HOST, 8081) == OUTSIDE
    for netns, port in (("outside", 8080), ("a", 8081)):
        with pytest.raises(ConnectionRefusedError):
            net.connect(netns, server, HOST, port)
    assert len(chains(net.machine)) == 2
    portmap.ok("DEL", "a")
    assert net.connect("outside", other, HOST, 8081) == OUTSIDE
    portmap.ok("DEL", "b")
    assert chains(net.machine) == []


def test_the_same_conditions_are_one_chain_and_a_port_still_belongs_to_one(net: Topology, portmap: Portmap) -> None:
    keys = {"conditionsV4": ["ip saddr 192.0.2.0/24"], "conditionsV6": ["ip6 saddr 2001:db8:2::/64"]}
    portmap.ok("ADD", "a", tcp(8080, 80), **keys)
    portmap.ok("ADD", "b", tcp(8081, 80), **keys)
    assert len(chains(net.machine)) == 2, "one a family"
    assert "taken by container a" in portmap.fails("ADD", "b", tcp(8080, 80), ifname="eth1", **keys)["msg"]
    assert "taken by container a" in portmap.fails("ADD", "b", tcp(8080, 80), ifname="eth1")["msg"]
    portmap.ok("DEL", "a")
    assert net.connect("outside", net.listen("b", B, 80), HOST, 8081) == OUTSIDE
    assert len(chains(net.machine)) == 2
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": []})
    assert elements(net.machine) == {} and chains(net.machine) == []


def test_conditions_stay_with_the_interface_that_serves(net: Topology, portmap: Portmap) -> None:
    keys = {"conditionsV4": ["ip saddr 192.0.2.0/24"]}
    portmap.ok("ADD", "a", tcp(8080, 80), **keys)
    portmap.ok("ADD", "a", tcp(8080, 80), ifname="eth1", prevResult=portmap.result("b", "eth1"), **keys)
    portmap.ok("DEL", "a", ifname="eth1")
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    with pytest.raises(ConnectionRefusedError):
        net.connect("b", server, HOST, 8080)
    portmap.ok("DEL", "a")


def test_after_a_flush_conditions_come_back_with_everybodys_ports(net: Topology, portmap: Portmap) -> None:
    keys = {"conditionsV4": ["-s", "192.0.2.0/24"]}
    portmap.ok("ADD", "a", tcp(8080, 80), **keys)
    before = net.machine.text("nft", "list", "ruleset")
    for other in (tcp(8081, 80), None):
        net.machine.run("nft", "flush", "ruleset")
        assert "missing" in portmap.fails("CHECK", "a", tcp(8080, 80), **keys)["msg"]
        if other:
            portmap.ok("ADD", "b", other)
        else:
            portmap.ok("ADD", "b", tcp(8081, 80), conditionsV4=["ip ttl 64"])
        server = net.listen("a", A, 80)
        assert net.connect("outside", server, HOST, 8080) == OUTSIDE
        with pytest.raises(ConnectionRefusedError):
            net.connect("b", server, HOST, 8080)
        server.close()
        portmap.ok("CHECK", "a", tcp(8080, 80), **keys)
        portmap.ok("DEL", "b")
    assert net.machine.text("nft", "list", "ruleset") == before
    net.machine.run("nft", "flush", "chain", "inet", "cni_portmap", chains(net.machine)[0])
    assert "missing" in portmap.fails("CHECK", "a", tcp(8080, 80), **keys)["msg"]
    portmap.ok("DEL", "a")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["ip saddr 10.0.0.0/99"], 7, "conditionsV4: nft refuses 'ip saddr 10.0.0.0/99'"),
        (["ip saddr 10.0.0.1; add table inet x"], 7, "conditionsV4: expected one match"),
        (["ip saddr 10.0.0.1 }"], 7, "conditionsV4: expected one match"),
        (["drop"], 7, "conditionsV4: nft refuses 'drop'"),
        (["-m", "set", "--match-set", "friends", "src"], 2, "conditionsV4: cannot translate '-m set'"),
        (["-s", "fd00::/8"], 7, "conditionsV4: -s 'fd00::/8': fd00::/8 is of the other family"),
        (["!", "--dport", "http"], 7, "conditionsV4: --dport 'http'"),
        ([80], 7, "conditionsV4[0]: expected a string"),
    ],
)
def test_conditions_that_make_no_sense_are_refused(
    net: Topology, portmap: Portmap, words: list[Any], code: int, told: str
) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), conditionsV4=words)
    assert error["code"] == code and told in error["msg"]
    assert elements(net.machine) == {} and records(net.machine) == [] and chains(net.machine) == []


# --- marks ---


def test_markMasqBit_is_set_on_what_will_be_masqueraded(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), tcp(8081, 80, HOST), markMasqBit=5)
    net.listen("a", A, 80)
    net.listen("a", A6, 80)
    for netns, address in (("", "127.0.0.1"), ("b", HOST), ("a", HOST), ("b", HOST6)):
        assert marked(net, netns, address) == 1 << 5
    assert marked(net, "b", HOST, 8081) == 1 << 5
    assert marked(net, "outside", HOST) == marked(net, "outside", HOST6) == 0
    assert net.connect("b", net.listen("b", B, 1) and net.listen("a", A, 81), A, 81) == B
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {} and chains(net.machine) == []


def test_markMasqBit_goes_with_masqAll_and_conditions(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), markMasqBit=31, masqAll=True, conditionsV4=["-s", "192.0.2.0/24"])
    assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == GATEWAY
    assert marked(net, "outside", HOST) == 1 << 31
    portmap.ok("DEL", "a")


@pytest.mark.leaves("nft * ip* nat*", "file /run/xtables.lock")
def test_externalSetMarkChain_gives_its_mark_and_leaves_the_masquerade_to_who_waits_for_it(
    net: Topology, portmap: Portmap
) -> None:
    for program in ("iptables", "ip6tables"):
        nat(net, program, "-N KUBE-MARK-MASQ")
        nat(net, program, "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000")
    portmap.ok("ADD", "a", tcp(8080, 80), externalSetMarkChain="KUBE-MARK-MASQ")
    server = net.listen("a", A, 80)
    assert marked(net, "b", HOST) == marked(net, "", "127.0.0.1") == 0x4000
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    with pytest.raises(TimeoutError):
        net.connect("a", server, HOST, 8080)
    nat(net, "iptables", "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE")
    for netns, address in (("a", HOST), ("b", HOST), ("", "127.0.0.1")):
        assert net.connect(netns, server, address, 8080) == GATEWAY
    portmap.ok("CHECK", "a", tcp(8080, 80), externalSetMarkChain="KUBE-MARK-MASQ")
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {} and chains(net.machine) == []


@pytest.mark.leaves("nft * ip* nat*", "file /run/xtables.lock")
def test_a_mark_chain_that_is_missing_or_does_more_than_mark_is_told(net: Topology, portmap: Portmap) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), externalSetMarkChain="NOWHERE")
    assert (error["code"], error["msg"]) == (50, "externalSetMarkChain: iptables has no chain NOWHERE in table nat")
    nat(net, "iptables", "-N ODD")
    nat(net, "iptables", "-A ODD -s 10.0.0.0/8 -j MARK --set-mark 1")
    error = portmap.fails("ADD", "a", tcp(8080, 80), externalSetMarkChain="ODD")
    assert error["code"] == 2 and "a rule of ODD does more than mark" in error["msg"]
    error = portmap.fails("ADD", "a", tcp(8080, 80), externalSetMarkChain="ODD", markMasqBit=3)
    assert error["code"] == 7 and "markMasqBit: expected nothing" in error["msg"]
    assert records(net.machine) == []


# --- what no record tells ---


@pytest.mark.parametrize("damage", ["", "{", '{"targets": 7}', "[]"])
def test_a_damaged_record_leaves_nothing_for_ever(net: Topology, portmap: Portmap, damage: str) -> None:
    keys = {"conditionsV4": ["-s", "192.0.2.0/24"], "masqAll": True}
    portmap.ok("ADD", "b", tcp(9090, 80))
    before, files = elements(net.machine), net.machine.files()
    portmap.ok("ADD", "a", tcp(8080, 80), udp(53, 53), tcp(81, 80, HOST), **keys)
    client, server = net.open("outside", HOST), net.receive("a", A, 53)
    del client
    net.exchange("outside", server, HOST, 53)
    (path,) = [name for name in net.machine.files() if name.endswith("/web/a:eth0") and "/." not in name]
    with open(path, "w", encoding="utf-8") as file:
        file.write(damage)
    portmap.ok("DEL", "a")
    assert elements(net.machine) == before and net.machine.files() == files and chains(net.machine) == []
    assert "dport=53" not in net.machine.text("conntrack", "-L", "-p", "udp", "--reply-src", A)
    portmap.ok("DEL", "b")
    assert elements(net.machine) == {}


@pytest.mark.leaves("nft element inet cni_portmap inside*")  # a subnet is nobody's: whoever comes next in it takes over
def test_gc_finds_what_no_record_tells_of(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(53, 53, HOST))
    portmap.ok("ADD", "b", tcp(9090, 80))
    portmap.ok("ADD", "b", tcp(9091, 80), network="other", ifname="eth1", prevResult=portmap.result("b", "eth1"))
    net.machine.run("rm", "-rf", "/run/cni/portmap")
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}]})
    comments = {item[0]["elem"]["comment"] for item in elements(net.machine)["any4"]}
    assert comments == {"web b eth0", "other b eth1"}
    for network in ("web", "other"):
        portmap.ok("GC", "", network=network, **{"cni.dev/valid-attachments": []})
    assert set(elements(net.machine)) <= {"inside4", "inside6"}


# --- what is done, in words ---


def test_what_publishing_says_of_itself_can_be_typed(net: Topology) -> None:
    targets = (Target(parse_cidr(f"{A}/24"), "cni0"), Target(parse_cidr(f"{A6}/64"), "cni0"))
    mappings = (Mapping("tcp", 8080, 80), Mapping("udp", 53, 53, parse_address(HOST)), Mapping("sctp", 9, 9))
    terms = (Terms(4, 'ip saddr 192.0.2.0/24 iifname "wan*"', 0xFFFFFFDF, 0x20, ("10.88.0.0/24", "127.0.0.0/8")),)
    wanted = Publication("web", "a", "eth0", mappings, targets, NEEDED, terms)
    with Namespace() as host, Nftables() as nftables:
        doing = steps(wanted, nftables, host)
        for step in doing:
            step.apply()
        done = net.machine.text("nft", "list", "ruleset")
        for step in reversed(doing):
            step.undo()
        assert elements(net.machine) == {}
        net.machine.run("nft", "flush", "ruleset")
        for step in doing:
            words = step.describe()  # conntrack's exit code says whether there were any flows
            net.machine.run("bash", "-ec", words, check=not words.startswith("conntrack"))
        assert sorted(net.machine.text("nft", "list", "ruleset").splitlines()) == sorted(done.splitlines())
        publish.Publish(nftables, wanted).apply()
        undoing = publish.Unpublish(nftables, "web", wanted.owner)
        net.machine.run("bash", "-ec", undoing.describe().partition("; conntrack")[0])
        assert elements(net.machine) == {} and chains(net.machine) == []
        undoing.apply()
        assert undoing.describe() == "" and records(net.machine) == []
