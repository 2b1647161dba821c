"""Published ports on a private machine. Judges: real packets, and the ruleset as the nft program shows it."""

from __future__ import annotations

from collections.abc import Iterator
from socket import SOCK_DGRAM

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import ADDRESSES, Portmap, elements, records, tcp, udp
from support.topology import A6, FAR, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B, Topology

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap() -> Portmap:
    return Portmap()


@pytest.mark.parametrize("filtered", [False, True])
def test_a_published_port_answers_wherever_the_host_is_asked(net: Topology, portmap: Portmap, filtered: bool) -> None:
    net.filter_bridge(filtered)
    portmap.ok("ADD", "a", tcp(8080, 80))
    server = net.listen("a", A, 80)
    # Who asks, what they ask, and whom the container sees.
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    assert net.connect("", server, HOST, 8080) == HOST
    assert net.connect("", server, GATEWAY, 8080) == GATEWAY
    assert net.connect("", server, "127.0.0.1", 8080) == GATEWAY
    assert net.connect("b", server, HOST, 8080) == GATEWAY
    assert net.connect("b", server, GATEWAY, 8080) == GATEWAY
    assert net.connect("a", server, HOST, 8080) == GATEWAY
    portmap.ok("DEL", "a")


@pytest.mark.parametrize("filtered", [False, True])
def test_a_published_port_answers_in_ipv6_too(net: Topology, portmap: Portmap, filtered: bool) -> None:
    net.filter_bridge(filtered)
    portmap.ok("ADD", "a", tcp(8080, 80))
    server = net.listen("a", A6, 80)
    assert net.connect("outside", server, HOST6, 8080) == OUTSIDE6
    assert net.connect("", server, HOST6, 8080) == HOST6
    assert net.connect("", server, GATEWAY6, 8080) == GATEWAY6
    assert net.connect("b", server, HOST6, 8080) == GATEWAY6
    assert net.connect("a", server, HOST6, 8080) == GATEWAY6
    portmap.ok("DEL", "a")


def test_ipv6_localhost_is_refused_at_once_so_that_clients_go_on_to_ipv4(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    server = net.listen("a", A6, 80)
    with pytest.raises(ConnectionRefusedError):
        net.connect("", server, "::1", 8080)
    portmap.ok("DEL", "a")


def test_udp_is_published(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", udp(5353, 53))
    server, server6 = net.receive("a", A, 53), net.receive("a", A6, 53)
    assert net.exchange("outside", server, HOST, 5353) == OUTSIDE
    assert net.exchange("", server, "127.0.0.1", 5353) == GATEWAY
    assert net.exchange("b", server, HOST, 5353) == GATEWAY
    assert net.exchange("outside", server6, HOST6, 5353) == OUTSIDE6
    assert net.exchange("a", server6, HOST6, 5353) == GATEWAY6
    portmap.ok("DEL", "a")


def test_traffic_in_transit_to_the_same_port_of_another_host_is_left_alone(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    elsewhere = net.listen("far", FAR, 8080)
    assert net.connect("outside", elsewhere, FAR, 8080) == OUTSIDE
    assert net.connect("b", elsewhere, FAR, 8080) == B
    direct = net.listen("b", B, 8080)
    assert net.connect("a", direct, B, 8080) == A
    portmap.ok("DEL", "a")


def test_a_port_of_one_address_answers_there_alone(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80, "127.0.0.1"), tcp(8081, 80, HOST))
    server = net.listen("a", A, 80)
    assert net.connect("", server, "127.0.0.1", 8080) == GATEWAY
    assert net.connect("outside", server, HOST, 8081) == OUTSIDE
    for netns, address, port in (("outside", HOST, 8080), ("", GATEWAY, 8080), ("", "127.0.0.1", 8081)):
        with pytest.raises(ConnectionRefusedError):
            net.connect(netns, server, address, port)
    portmap.ok("DEL", "a")


def test_an_unspecified_host_ip_is_any_address_of_its_family(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80, "0.0.0.0"), tcp(8081, 80, "::"))
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    net.connect("outside", server, HOST, 8080)
    net.connect("outside", server6, HOST6, 8081)
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", server6, HOST6, 8080)
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", server, HOST, 8081)
    portmap.ok("DEL", "a")


def test_without_snat_clients_keep_their_addresses_and_localhost_is_refused_at_once(
    net: Topology, portmap: Portmap
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), snat=False)
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    with pytest.raises(ConnectionRefusedError):
        net.connect("", server, "127.0.0.1", 8080)
    with pytest.raises(TimeoutError):  # the answer takes the short way over the bridge, and is not known there
        net.connect("b", server, HOST, 8080)
    assert net.machine.run("sysctl", "-n", "net.ipv4.conf.cni0.route_localnet").stdout == "0\n"
    portmap.ok("DEL", "a")


def test_deletion_takes_everything_back(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(5353, 53), tcp(81, 80, HOST))
    assert elements(net.machine)
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}
    assert records(net.machine) == []
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", net.listen("a", A, 80), HOST, 8080)


def test_deletion_needs_neither_result_nor_namespace_nor_mappings_and_may_be_repeated(
    net: Topology, portmap: Portmap
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    net.machine.run("ip", "netns", "del", "a")
    net.machine.netns("a")
    portmap.ok("DEL", "a", prevResult=None, backend="iptables")
    assert elements(net.machine) == {}
    portmap.ok("DEL", "a", prevResult=None)
    portmap.ok("DEL", "never-added", prevResult=None)


def test_check_passes_after_addition_and_finds_what_is_missing(net: Topology, portmap: Portmap) -> None:
    wanted = (tcp(8080, 80), udp(53, 53, HOST))
    portmap.ok("ADD", "a", *wanted)
    portmap.ok("CHECK", "a", *wanted)
    assert "record" in portmap.fails("CHECK", "b", *wanted)["details"]
    assert "8081" in portmap.fails("CHECK", "a", tcp(8081, 80))["msg"]
    assert "another value" in portmap.fails("CHECK", "a", tcp(8080, 81))["msg"]
    net.machine.run("sysctl", "-qw", "net.ipv4.conf.cni0.route_localnet=0")
    assert "route_localnet" in portmap.fails("CHECK", "a", *wanted)["msg"]
    net.machine.run("sysctl", "-qw", "net.ipv4.conf.cni0.route_localnet=1")
    for damage in ("chain inet cni_portmap postrouting", "set inet cni_portmap snat4", "map inet cni_portmap host4"):
        saved = net.machine.run("nft", "list", "ruleset").stdout
        net.machine.run("nft", "flush", *damage.split())
        assert "missing" in portmap.fails("CHECK", "a", *wanted)["msg"]
        net.machine.run("nft", "-f", "-", input=f"flush ruleset\n{saved}")
    portmap.ok("CHECK", "a", *wanted)
    portmap.ok("DEL", "a")
    portmap.fails("CHECK", "a", *wanted)


@pytest.mark.parametrize("at", ["", HOST])
def test_clients_that_sent_udp_before_the_port_was_published_are_heard(
    net: Topology, portmap: Portmap, at: str
) -> None:
    portmap.ok("ADD", "b", tcp(1, 1))  # so that there are rules, which decide about a flow's first packet
    client = net.open("outside", HOST, SOCK_DGRAM)
    client.sendto(b"ping", (HOST, 5353))  # it is for the host itself
    portmap.ok("ADD", "a", udp(5353, 53, at))
    assert net.converse(client, net.receive("a", A, 53), HOST, 5353) == OUTSIDE
    portmap.ok("DEL", "a")
    portmap.ok("DEL", "b")


def test_U11_clients_that_keep_sending_udp_reach_the_host_when_the_port_is_no_longer_published(
    net: Topology, portmap: Portmap
) -> None:
    portmap.ok("ADD", "a", udp(5353, 53), udp(5354, 54))  # of several ports, all flows are read
    clients = {HOST: net.open("outside", HOST, SOCK_DGRAM), HOST6: net.open("outside", HOST6, SOCK_DGRAM)}
    net.converse(clients[HOST], net.receive("a", A, 53), HOST, 5353)
    net.converse(clients[HOST6], net.receive("a", A6, 53), HOST6, 5353)
    portmap.ok("DEL", "a")
    for address, client in clients.items():
        net.converse(client, net.receive("", address, 5353), address, 5353)


def test_U11_clients_that_keep_sending_udp_follow_the_port_to_the_next_container(
    net: Topology, portmap: Portmap
) -> None:
    clients = {HOST: net.open("outside", HOST, SOCK_DGRAM), HOST6: net.open("outside", HOST6, SOCK_DGRAM)}
    for name in ("a", "b", "a"):
        portmap.ok("ADD", name, udp(5353, 53))
        for number, (address, client) in enumerate(clients.items()):
            server = net.receive(name, ADDRESSES[name][number], 53)
            net.converse(client, server, address, 5353)
            server.close()
        portmap.ok("DEL", name)


def test_udp_flows_in_transit_are_not_forgotten(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "b", tcp(1, 1))  # so that the kernel tracks flows at all
    far = net.receive("far", FAR, 5353)
    net.exchange("outside", far, FAR, 5353)
    portmap.ok("ADD", "a", udp(5353, 53))
    portmap.ok("DEL", "a")
    tracked = net.machine.run("conntrack", "-L", "-p", "udp", "--orig-dst", FAR).stdout
    assert f"dst={FAR}" in tracked
    portmap.ok("DEL", "b")


def test_a_thousand_ports_are_one_transaction(net: Topology, portmap: Portmap) -> None:
    many = [tcp(10000 + number, 10000 + number) for number in range(1000)]
    portmap.ok("ADD", "a", *many)
    assert len(elements(net.machine)["any4"]) == len(elements(net.machine)["any6"]) == 1000
    portmap.ok("CHECK", "a", *many)
    assert "10500/tcp is taken by container a" in portmap.fails("ADD", "b", *many[500:])["msg"]
    for verb, element, told in (
        ("delete", "tcp . 10700", "10700"),
        ("add", """tcp . 10700 comment "web a eth0" : 10.88.0.5 . 1""", "another value for any4 { tcp . 10700"),
    ):
        net.machine.run("nft", f"{verb} element inet cni_portmap any4 {{ {element} }}")
        assert told in portmap.fails("CHECK", "a", *many)["msg"]
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}


def test_the_hosts_loopback_stays_out_of_the_containers_reach(net: Topology, portmap: Portmap) -> None:
    """CVE-2020-8558: route_localnet, which published ports need, opens 127.0.0.1 to neighbours on the link."""
    portmap.ok("ADD", "a", tcp(8080, 80))
    private, trusting = net.listen("", "127.0.0.1", 9999), net.receive("", HOST, 9999)
    # A container may route as it likes, and call itself what it likes.
    for words in ("addr del 127.0.0.1/8 dev lo", f"route add 127.0.0.1 via {GATEWAY} src {B}"):
        net.machine.run("ip", "-n", "b", *words.split())
    sysctl = ("ip", "netns", "exec", "b", "sysctl", "-qw")
    net.machine.run(*sysctl, "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
    net.machine.run("ip", "-n", "b", "addr", "add", "127.0.0.9/32", "dev", "eth0")
    with pytest.raises(TimeoutError):
        net.connect("b", private, "127.0.0.1", 9999)
    liar = net.receive("b", "127.0.0.9", 9999)
    liar.sendto(b"from localhost, honestly", (HOST, 9999))
    with pytest.raises(TimeoutError):
        trusting.recvfrom(64)
    assert net.connect("", private, "127.0.0.1", 9999) == "127.0.0.1"
    portmap.ok("DEL", "a")
