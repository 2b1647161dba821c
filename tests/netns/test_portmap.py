"""The portmap plugin on a private machine. Judges: real packets, and the ruleset as the nft program shows it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from socket import SOCK_DGRAM
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.topology import A6, B6, FAR, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B, Topology

from cni_plugins.portmap import PLUGIN
from cni_plugins.sdk.main import Outcome, dispatch

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)

ADDRESSES = {"a": (A, A6), "b": (B, B6)}


class Portmap:
    """Calls the plugin as a runtime does; `name` is container and namespace."""

    def __call__(
        self, command: str, name: str, *mappings: dict[str, Any], ifname: str = "eth0", **keys: Any
    ) -> Outcome:
        conf: dict[str, Any] = {"cniVersion": "1.1.0", "name": "web", "type": "portmap"}
        conf["prevResult"] = self.result(name, ifname)
        if mappings:
            conf["runtimeConfig"] = {"portMappings": mappings}
        conf |= {"name" if key == "network" else key: value for key, value in keys.items()}
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": name,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/opt/cni/bin",
        }
        text = json.dumps({key: value for key, value in conf.items() if value is not None})
        return dispatch(PLUGIN, env, text.encode)

    def result(self, name: str, ifname: str = "eth0") -> dict[str, Any]:
        addresses = zip(ADDRESSES.get(name, ()), (24, 64), strict=False)
        return {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "cni0"}, {"name": ifname, "sandbox": f"/run/netns/{name}"}],
            "ips": [{"address": f"{address}/{length}", "interface": 1} for address, length in addresses],
        }

    def ok(self, command: str, name: str, *mappings: dict[str, Any], **keys: Any) -> Any:
        outcome = self(command, name, *mappings, **keys)
        assert outcome.exit == 0, outcome.stdout.decode()
        return json.loads(outcome.stdout) if outcome.stdout else None

    def fails(self, command: str, name: str, *mappings: dict[str, Any], **keys: Any) -> Any:
        outcome = self(command, name, *mappings, **keys)
        assert outcome.exit == 1, outcome.stdout.decode()
        return json.loads(outcome.stdout)


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap() -> Portmap:
    return Portmap()


def tcp(host_port: int, container_port: int, host_ip: str = "") -> dict[str, Any]:
    return {"hostPort": host_port, "containerPort": container_port, "protocol": "tcp", "hostIP": host_ip}


def udp(host_port: int, container_port: int, host_ip: str = "") -> dict[str, Any]:
    return tcp(host_port, container_port, host_ip) | {"protocol": "udp"}


def elements(machine: Machine) -> dict[str, list[Any]]:
    """Those of every set and map that has any, by its name."""
    sets = [body for item in machine.nft() for kind, body in item.items() if kind in ("set", "map")]
    return {body["name"]: body["elem"] for body in sets if body.get("elem")}


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
    assert not [path for path in net.machine.files() if path.startswith("/run/cni")]
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


@pytest.mark.usefixtures("net")
def test_the_result_is_passed_on(portmap: Portmap) -> None:
    assert portmap.ok("ADD", "a", tcp(8080, 80)) == portmap.result("a")
    portmap.ok("DEL", "a")


def test_nothing_is_done_without_mappings(net: Topology, portmap: Portmap) -> None:
    assert portmap.ok("ADD", "a") == portmap.result("a")
    portmap.ok("CHECK", "a")
    portmap.ok("DEL", "a")
    assert net.machine.nft() == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (tcp(80, 1), tcp(80, 2), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1), tcp(80, 1), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST), tcp(80, 1, HOST), f"host port 80/tcp of {HOST} is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST6), tcp(80, 1, HOST6), f"host port 80/tcp of {HOST6} is taken by container a"),
        (tcp(80, 1), tcp(80, 1, HOST), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST), tcp(80, 1), "host port 80/tcp is taken by container a (network web, eth0) at one of"),
    ],
)
def test_a_host_port_belongs_to_one_container(
    net: Topology, portmap: Portmap, first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    portmap.ok("ADD", "a", first)
    before, files = elements(net.machine), net.machine.files()
    error = portmap.fails("ADD", "b", tcp(4444, 4), second, udp(4444, 4))
    assert error["code"] == 100
    assert words in error["msg"]
    assert elements(net.machine) == before
    assert net.machine.files() == files
    portmap.ok("DEL", "b")
    assert elements(net.machine) == before
    portmap.ok("DEL", "a")
    portmap.ok("ADD", "b", second)
    portmap.ok("DEL", "b")


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (tcp(80, 1), udp(80, 1)),
        (tcp(80, 1, "0.0.0.0"), tcp(80, 1, "::")),
        (tcp(80, 1, HOST), tcp(80, 1, GATEWAY)),
        (tcp(80, 1, HOST), tcp(80, 1, HOST6)),
    ],
)
def test_ports_that_differ_in_protocol_family_or_address_do_not_collide(
    portmap: Portmap, first: dict[str, Any], second: dict[str, Any]
) -> None:
    portmap.ok("ADD", "a", first)
    portmap.ok("ADD", "b", second)
    portmap.ok("DEL", "a")
    portmap.ok("CHECK", "b", second)
    portmap.ok("DEL", "b")


def test_the_interfaces_of_one_container_may_be_given_the_same_ports(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    portmap.ok("ADD", "a", tcp(8080, 80), ifname="eth1", network="second", prevResult=portmap.result("b", "eth1"))
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE  # the first one serves
    portmap.ok("DEL", "a", ifname="eth1", network="second")
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "a")


def test_an_addition_without_its_deletion_is_replaced(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), tcp(8081, 81))
    portmap.ok("ADD", "a", tcp(8080, 8000))
    net.connect("outside", net.listen("a", A, 8000), HOST, 8080)
    portmap.ok("ADD", "b", tcp(8081, 81))
    portmap.ok("DEL", "a")
    portmap.ok("DEL", "b")
    assert elements(net.machine) == {}


def test_what_somebody_else_put_in_its_place_survives_deletion(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    for name in ("any4", "any6"):
        net.machine.run("nft", "flush", "map", "inet", "cni_portmap", name)
    portmap.ok("ADD", "b", tcp(8080, 80))
    portmap.ok("DEL", "a")
    server = net.listen("b", B, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "b")


def test_an_address_that_comes_to_another_container_leaves_its_old_owner_nothing(
    net: Topology, portmap: Portmap, machine: Machine
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    # a is never deleted, and IPAM gives its address to b.
    portmap.ok("ADD", "b", tcp(9090, 80), prevResult=portmap.result("a") | {"interfaces": []} | _plain(A, A6))
    server = net.listen("a", A, 80)
    portmap.ok("DEL", "a")
    assert net.connect("a", server, HOST, 9090) == GATEWAY  # still masqueraded
    portmap.ok("DEL", "b")
    assert elements(machine) == {}


def _plain(*addresses: str) -> dict[str, Any]:
    return {"ips": [{"address": f"{item}/{64 if ':' in item else 24}"} for item in addresses]}


@pytest.mark.usefixtures("net")
def test_elements_say_whose_they_are(portmap: Portmap, machine: Machine) -> None:
    long = "c" * 64
    portmap.ok("ADD", "a", tcp(8080, 80, "0.0.0.0"))
    portmap.ok("ADD", long, tcp(8081, 80, "0.0.0.0"), prevResult=portmap.result("a", "eth7"), ifname="eth7")
    portmap.ok("ADD", long * 2, tcp(8082, 80, "0.0.0.0"), prevResult=_plain(A))
    found = {item[0]["elem"]["val"]["concat"][1]: item[0]["elem"]["comment"] for item in elements(machine)["any4"]}
    assert found[8080] == "web a eth0"
    assert len(found[8082]) < 128
    # What nft lists, nft can read back.
    text = machine.run("nft", "list", "ruleset").stdout
    machine.run("nft", "-f", "-", input=f"flush ruleset\n{text}")
    assert machine.run("nft", "list", "ruleset").stdout == text
    for name in ("a", long * 2):
        portmap.ok("DEL", name)
    portmap.ok("DEL", long, ifname="eth7")


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


def test_after_a_flush_the_next_addition_puts_everybodys_ports_back(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(53, 53))
    before = elements(net.machine)
    net.machine.run("nft", "flush", "ruleset")
    portmap.ok("DEL", "b")
    assert "taken by container a" in portmap.fails("ADD", "b", tcp(8080, 80))["msg"]
    assert elements(net.machine) == before
    assert net.connect("b", net.listen("a", A, 80), HOST, 8080) == GATEWAY
    net.machine.run("nft", "flush", "ruleset")
    portmap.ok("DEL", "a")
    assert net.machine.nft() == []


def test_gc_keeps_the_valid_attachments_of_the_network_and_all_of_others(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    portmap.ok("ADD", "b", tcp(8081, 80))
    portmap.ok("ADD", "b", tcp(8082, 80, HOST), network="other", ifname="eth1", prevResult=portmap.result("b", "eth1"))
    alive = [{"containerID": "b", "ifname": "eth0"}]
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": alive})
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", net.listen("a", A, 80), HOST, 8080)
    server = net.listen("b", B, 80)
    net.connect("outside", server, HOST, 8081)
    net.connect("outside", server, HOST, 8082)
    assert portmap.fails("GC", "")["code"] == 7
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": []})
    portmap.ok("GC", "", network="other", **{"cni.dev/valid-attachments": []})
    assert elements(net.machine) == {}


def test_clients_that_sent_udp_before_the_port_was_published_are_heard(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "b", tcp(1, 1))  # so that there are rules, which decide about a flow's first packet
    client = net.open("outside", HOST, SOCK_DGRAM)
    client.sendto(b"ping", (HOST, 5353))  # it is for the host itself
    portmap.ok("ADD", "a", udp(5353, 53))
    assert net.converse(client, net.receive("a", A, 53), HOST, 5353) == OUTSIDE
    portmap.ok("DEL", "a")
    portmap.ok("DEL", "b")


def test_clients_that_keep_sending_udp_reach_the_host_when_the_port_is_no_longer_published(
    net: Topology, portmap: Portmap
) -> None:
    portmap.ok("ADD", "a", udp(5353, 53), udp(5354, 54))  # of several ports, all flows are read
    clients = {HOST: net.open("outside", HOST, SOCK_DGRAM), HOST6: net.open("outside", HOST6, SOCK_DGRAM)}
    net.converse(clients[HOST], net.receive("a", A, 53), HOST, 5353)
    net.converse(clients[HOST6], net.receive("a", A6, 53), HOST6, 5353)
    portmap.ok("DEL", "a")
    for address, client in clients.items():
        net.converse(client, net.receive("", address, 5353), address, 5353)


def test_clients_that_keep_sending_udp_follow_the_port_to_the_next_container(net: Topology, portmap: Portmap) -> None:
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


def test_ports_are_published_for_a_container_without_ipv6(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), prevResult=_plain(A))
    assert set(elements(net.machine)) == {"any4", "snat4", "inside4"}
    portmap.ok("DEL", "a")


@pytest.mark.usefixtures("net")
def test_a_mapping_that_leads_nowhere_is_said(portmap: Portmap) -> None:
    outcome = portmap("ADD", "a", tcp(8080, 80, "::"), prevResult=_plain(A))
    assert outcome.exit == 0
    portmap.ok("DEL", "a")


def test_a_thousand_ports_are_one_transaction(net: Topology, portmap: Portmap) -> None:
    many = [tcp(10000 + number, 10000 + number) for number in range(1000)]
    portmap.ok("ADD", "a", *many)
    assert len(elements(net.machine)["any4"]) == len(elements(net.machine)["any6"]) == 1000
    portmap.ok("CHECK", "a", *many)
    portmap.fails("ADD", "b", *many)
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"backend": "iptables"}, 2, 'backend: "iptables"'),
        ({"backend": "ipset"}, 7, "backend"),
        ({"masqAll": True}, 2, "masqAll: true"),
        ({"markMasqBit": 13}, 2, "markMasqBit: 13"),
        ({"externalSetMarkChain": "KUBE-MARK-MASQ"}, 2, 'externalSetMarkChain: "KUBE-MARK-MASQ"'),
        ({"conditionsV4": ["-s", "10.0.0.0/8"]}, 2, "conditionsV4"),
        ({"conditionsV6": ["!", "-d"]}, 2, "conditionsV6"),
        ({"snat": "yes"}, 7, "snat: expected true or false"),
        ({"prevResult": None}, 7, "prevResult is missing"),
    ],
)
def test_keys_that_are_not_served_are_refused_by_name(
    machine: Machine, portmap: Portmap, keys: dict[str, Any], code: int, words: str
) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), **keys)
    assert error["code"] == code
    assert words in error["msg"]
    assert machine.nft() == []


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"hostPort": 0, "containerPort": 80}, "runtimeConfig.portMappings[1].hostPort: expected an integer from 1"),
        ({"hostPort": 65536, "containerPort": 80}, "runtimeConfig.portMappings[1].hostPort"),
        (
            {"hostPort": "80", "containerPort": 80},
            'runtimeConfig.portMappings[1].hostPort: expected an integer, got "80"',
        ),
        ({"hostPort": 80}, "runtimeConfig.portMappings[1].containerPort: expected a port, got nothing"),
        (
            tcp(80, 80) | {"protocol": "icmp"},
            'runtimeConfig.portMappings[1].protocol: expected tcp or udp or sctp, got "icmp"',
        ),
        (tcp(80, 80, "localhost"), "runtimeConfig.portMappings[1].hostIP: 'localhost' is not an IP address"),
        (tcp(80, 80, "::1"), "runtimeConfig.portMappings[1].hostIP: expected another address"),
        (
            tcp(8080, 81),
            "runtimeConfig.portMappings[1].hostPort: expected each once, but host port 8080/tcp stands twice",
        ),
    ],
)
def test_mappings_that_make_no_sense_are_refused_with_their_path(
    machine: Machine, portmap: Portmap, mapping: dict[str, Any], words: str
) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), mapping)
    assert error["code"] == 7
    assert words in error["msg"]
    assert machine.nft() == []


def test_localhost_alone_without_snat_is_refused(machine: Machine, portmap: Portmap) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80, "127.0.0.1"), snat=False)
    assert "without snat" in error["msg"]
    assert machine.nft() == []


@pytest.mark.usefixtures("net")
def test_the_same_mapping_twice_counts_once(portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), tcp(8080, 80), tcp(8080, 80) | {"protocol": "TCP"})
    portmap.ok("DEL", "a")
