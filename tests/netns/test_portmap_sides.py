"""What published ports do, asked of both: our portmap, and the reference as Debian packages it. Judged by packets."""

from __future__ import annotations

from collections.abc import Iterator
from socket import SOCK_DGRAM
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import Answer, Plugins
from support.portmap import ADDRESSES, Portmap, marked, nat, tcp, udp
from support.sides import reference_fails
from support.topology import A6, FAR, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B, Topology

# The reference's chains are made once, too; who is published in them is asked with packets.
pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, "nft * ip* nat*", "file /run/xtables.lock")


class Caller:
    """Calls a side's portmap as a runtime does; `name` is container and namespace."""

    def __init__(self, side: Plugins) -> None:
        self._side = side
        self._results = Portmap()

    def __call__(self, command: str, name: str, *mappings: dict[str, Any], ifname: str = "eth0", **keys: Any) -> Answer:
        conf: dict[str, Any] = {"cniVersion": "1.0.0", "name": "web", "type": "portmap"}
        conf["prevResult"] = self._results.result(name, ifname) | {"cniVersion": "1.0.0"}
        if mappings:
            conf["runtimeConfig"] = {"portMappings": mappings}
        conf |= keys
        conf = {key: value for key, value in conf.items() if value is not None}
        return self._side.call(command, conf, f"/run/netns/{name}", container=name, ifname=ifname)

    def add(self, name: str, *mappings: dict[str, Any], **keys: Any) -> None:
        assert self("ADD", name, *mappings, **keys).result

    def delete(self, name: str, *mappings: dict[str, Any], **keys: Any) -> None:
        self("DEL", name, *mappings, **keys).done()


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap(side: Plugins) -> Caller:
    return Caller(side)


def test_a_published_port_answers_the_world_the_host_the_neighbours_and_itself(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    assert net.connect("", server, "127.0.0.1", 8080) == GATEWAY
    assert net.connect("b", server, HOST, 8080) == GATEWAY
    assert net.connect("a", server, HOST, 8080) == GATEWAY
    assert net.connect("outside", server6, HOST6, 8080) == OUTSIDE6
    assert net.connect("a", server6, HOST6, 8080) == GATEWAY6
    portmap.delete("a", tcp(8080, 80))
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", server, HOST, 8080)


def test_a_port_of_one_address_is_published_there_alone(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8081, 80, HOST))
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8081) == OUTSIDE
    with pytest.raises(ConnectionRefusedError):
        net.connect("b", server, GATEWAY, 8081)
    portmap.delete("a", tcp(8081, 80, HOST))


def test_what_is_for_another_host_goes_on(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    assert net.connect("outside", net.listen("far", FAR, 8080), FAR, 8080) == OUTSIDE
    portmap.delete("a", tcp(8080, 80))


def test_without_snat_clients_keep_their_addresses(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80), snat=False)
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    with pytest.raises(TimeoutError):
        net.connect("b", server, HOST, 8080)
    portmap.delete("a", tcp(8080, 80), snat=False)


def test_conditions_of_iptables(net: Topology, portmap: Caller) -> None:
    keys = {"conditionsV4": ["!", "-s", "10.88.0.0/24"], "conditionsV6": ["-s", "2001:db8:2::/64"]}
    portmap.add("a", tcp(8080, 80), **keys)
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    assert net.connect("outside", server6, HOST6, 8080) == OUTSIDE6
    for listener, address in ((server, HOST), (server6, HOST6)):
        with pytest.raises(ConnectionRefusedError):
            net.connect("b", listener, address, 8080)
    portmap.delete("a", tcp(8080, 80), **keys)


def test_the_mark_of_a_bit(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80), markMasqBit=5)
    net.listen("a", A, 80)
    assert marked(net, "b", HOST) == marked(net, "", "127.0.0.1") == 1 << 5
    assert marked(net, "outside", HOST) == 0
    portmap.delete("a", tcp(8080, 80))


def test_the_mark_of_a_chain_of_others(net: Topology, portmap: Caller) -> None:
    keys = {"externalSetMarkChain": "KUBE-MARK-MASQ", "prevResult": _of_ipv4(net)}
    nat(net, "iptables", "-N KUBE-MARK-MASQ")
    nat(net, "iptables", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000")
    portmap.add("a", tcp(8080, 80), **keys)
    server = net.listen("a", A, 80)
    assert marked(net, "b", HOST) == 0x4000
    nat(net, "iptables", "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE")
    assert net.connect("a", server, HOST, 8080) == GATEWAY
    portmap.delete("a", tcp(8080, 80), **keys)


def _of_ipv4(_net: Topology) -> dict[str, Any]:
    result = Portmap().result("a")
    return result | {"cniVersion": "1.0.0", "ips": result["ips"][:1]}


@reference_fails("does not know masqAll before its version 1.6")
def test_masqAll_shows_every_client_as_the_host(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80), masqAll=True)
    assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == GATEWAY
    portmap.delete("a", tcp(8080, 80), masqAll=True)


def test_clients_that_sent_udp_before_are_heard(net: Topology, portmap: Caller) -> None:
    portmap.add("b", tcp(1, 1))  # so that there are rules, which decide about a flow's first packet
    client = net.open("outside", HOST, SOCK_DGRAM)
    client.sendto(b"ping", (HOST, 5353))
    portmap.add("a", udp(5353, 53))
    assert net.converse(client, net.receive("a", A, 53), HOST, 5353) == OUTSIDE
    portmap.delete("a", udp(5353, 53))
    portmap.delete("b", tcp(1, 1))


@reference_fails("leaves the flows of UDP clients that keep sending on their way to nobody", "p#1190")
def test_clients_that_keep_sending_udp_reach_the_host_again(net: Topology, portmap: Caller) -> None:
    portmap.add("a", udp(5353, 53))
    client = net.open("outside", HOST, SOCK_DGRAM)
    net.converse(client, net.receive("a", A, 53), HOST, 5353)
    portmap.delete("a", udp(5353, 53))
    net.converse(client, net.receive("", HOST, 5353), HOST, 5353)


@reference_fails("publishes the port for both; one of them is never reached", "p#752")
@pytest.mark.usefixtures("net")
def test_a_port_that_a_container_has_is_refused_to_another(portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    answer = portmap("ADD", "b", tcp(8080, 80))
    portmap.delete("b", tcp(8080, 80))
    portmap.delete("a", tcp(8080, 80))
    assert "8080" in answer.error["msg"]


@reference_fails("looks for the rules of each family in the tables of both, and finds every published port broken")
@pytest.mark.usefixtures("net")
def test_what_was_published_is_found_by_CHECK(portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    answer = portmap("CHECK", "a", tcp(8080, 80))
    portmap.delete("a", tcp(8080, 80))
    answer.done()


@reference_fails("goes by the mappings of the request, and leaves the port of a container that is gone")
def test_DEL_needs_no_mappings_no_result_and_no_namespace(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    net.machine.run("ip", "netns", "del", "a")
    net.machine.netns("a")
    for _ in range(2):
        portmap.delete("a", prevResult=None)
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", net.listen("b", B, 80), HOST, 8080)


@reference_fails("has one chain for all interfaces of a container, and takes it away with the first of them")
def test_B8_two_interfaces_of_one_container_publish_ports_of_their_own(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    ips = [{"address": f"{address}/{length}"} for address, length in zip(ADDRESSES["b"], (24, 64), strict=True)]
    second: dict[str, Any] = {"ifname": "eth1", "prevResult": {"cniVersion": "1.0.0", "ips": ips}}
    portmap.add("a", tcp(8081, 80), **second)
    portmap.delete("a", tcp(8081, 80), **second)
    assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == OUTSIDE
    portmap.delete("a", tcp(8080, 80))


@reference_fails("opens 127.0.0.1 of the host to its containers, and leaves closing it to others", "CVE-2020-8558")
def test_the_hosts_loopback_stays_its_own(net: Topology, portmap: Caller) -> None:
    portmap.add("a", tcp(8080, 80))
    private = net.listen("", "127.0.0.1", 9999)
    for words in ("addr del 127.0.0.1/8 dev lo", f"route add 127.0.0.1 via {GATEWAY} src {B}"):
        net.machine.run("ip", "-n", "b", *words.split())
    sysctl = ("ip", "netns", "exec", "b", "sysctl", "-qw")
    net.machine.run(*sysctl, "net.ipv4.conf.all.route_localnet=1", "net.ipv4.conf.eth0.route_localnet=1")
    with pytest.raises(TimeoutError):
        net.connect("b", private, "127.0.0.1", 9999)
    portmap.delete("a", tcp(8080, 80))
