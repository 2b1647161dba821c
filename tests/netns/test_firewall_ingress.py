"""Who reaches whom: ingress policies and a host that drops what it forwards, with real packets, by both backends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.firewall import C6, PROGRAMS, C, Firewall, TwoBridges, guards, records, rules
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import Portmap, tcp
from support.topology import A6, FAR, GATEWAY, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B

IPTABLES = ("nft table ip* filter", "nft chain ip* filter *", "nft rule ip* filter *CNI-FORWARD", "nft rule * FORWARD")
pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, *IPTABLES, "file /run/plugins/*")

BACKENDS = ("nftables", "iptables")
UNREACHABLE = (TimeoutError, OSError)


@pytest.fixture
def net(machine: Machine) -> Iterator[TwoBridges]:
    with TwoBridges(machine) as topology:
        yield topology


@pytest.fixture
def firewall(machine: Machine) -> Firewall:
    return Firewall(machine)


def prepare(net: TwoBridges, backend: str) -> None:
    """The host that the backend is made for: where iptables is used, FORWARD drops."""
    if backend == "iptables":
        net.drop_forwarded()


def take_down(firewall: Firewall, machine: Machine, backend: str, *names: str) -> None:
    for name in names:
        firewall.delete(name, backend=backend, prevResult=None)
    assert (records(machine), guards(machine)) == ([], {})
    left = [line for program in PROGRAMS for line in rules(machine, program=program)]
    assert [line for line in left if "10." in line or "fd00" in line or " cni" in line] == []


@pytest.mark.parametrize("filtered", [False, True], ids=["", "br_netfilter"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_same_bridge_lets_neighbours_talk_and_keeps_other_bridges_out(
    net: TwoBridges, firewall: Firewall, machine: Machine, backend: str, filtered: bool
) -> None:
    prepare(net, backend)
    net.filter_bridge(filtered)
    for name in ("a", "b", "c"):
        firewall.add(name, backend=backend, ingressPolicy="same-bridge")
    assert net.reaches("a", B)
    assert net.reaches("b", A6)
    assert net.reaches("a", OUTSIDE)
    assert net.reaches("c", OUTSIDE6)
    assert net.cut_off("a", C)
    assert net.cut_off("c", A)
    assert net.cut_off("a", C6)
    assert net.cut_off("c", A6)
    take_down(firewall, machine, backend, "a", "b", "c")


@pytest.mark.parametrize("filtered", [False, True], ids=["", "br_netfilter"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_isolated_keeps_neighbours_out_as_well(
    net: TwoBridges, firewall: Firewall, machine: Machine, backend: str, filtered: bool
) -> None:
    """Also where frames that stay on the bridge never meet a rule for IP, as on a host without br_netfilter."""
    prepare(net, backend)
    net.filter_bridge(filtered)
    for name in ("a", "b", "c"):
        firewall.add(name, backend=backend, ingressPolicy="isolated")
    assert net.cut_off("a", B)
    assert net.cut_off("b", A6)
    assert net.cut_off("a", C)
    assert net.cut_off("c", A)
    assert net.cut_off("c", A6)
    assert net.reaches("a", GATEWAY)
    assert net.reaches("b", OUTSIDE)
    assert net.reaches("a", OUTSIDE6)
    take_down(firewall, machine, backend, "a", "b", "c")


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_wires_of_their_own_containers_are_kept_from_each_other(
    net: TwoBridges, firewall: Firewall, machine: Machine, backend: str
) -> None:
    """As ptp makes them: the first link of the result is the host's end of the wire. Two hosts stand in for two."""
    prepare(net, backend)
    results = {}
    for name, link, address in (("outside", "wan0", OUTSIDE), ("far", "wan1", FAR)):
        interfaces = [{"name": link}, {"name": "eth0", "sandbox": f"/run/netns/{name}"}]
        ips = [{"address": f"{address}/24", "interface": 1}]
        results[name] = {"cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips}
    for name, result in results.items():
        firewall.add(name, backend=backend, ingressPolicy="isolated", prevResult=result)
        firewall.check(name, backend=backend, ingressPolicy="isolated", prevResult=result).done()
    firewall.add("a", backend=backend)
    assert net.cut_off("outside", FAR)
    assert net.cut_off("far", OUTSIDE)
    assert net.reaches("a", FAR)
    take_down(firewall, machine, backend, "a", *results)


@pytest.mark.parametrize("backend", BACKENDS)
def test_open_restricts_nothing(net: TwoBridges, firewall: Firewall, machine: Machine, backend: str) -> None:
    prepare(net, backend)
    for name in ("a", "c"):
        firewall.add(name, backend=backend, ingressPolicy="open")
    assert net.reaches("a", C)
    assert net.reaches("a", OUTSIDE)
    assert guards(machine) == {}
    take_down(firewall, machine, backend, "a", "c")


@pytest.mark.parametrize("filtered", [False, True], ids=["", "br_netfilter"])
@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_published_ports_are_reached_under_every_policy(
    net: TwoBridges, firewall: Firewall, machine: Machine, backend: str, policy: str, filtered: bool
) -> None:
    """They were let in by name. Where FORWARD drops, the reference plugin's rules leave them shut."""
    prepare(net, backend)
    net.filter_bridge(filtered)
    portmap = Portmap()
    portmap.ok("ADD", "a", tcp(8080, 80))
    for name in ("a", "b", "c"):
        firewall.add(name, backend=backend, ingressPolicy=policy)
    server, server6 = net.listen("a", A, 80), net.listen("a", A6, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    assert net.connect("outside", server6, HOST6, 8080) == OUTSIDE6
    assert net.connect("", server, "127.0.0.1", 8080) == GATEWAY
    assert net.connect("c", server, HOST, 8080) == C
    assert net.connect("c", server6, HOST6, 8080) == C6
    if policy == "isolated" and filtered:
        # br_netfilter hands translated packets from port to port, which isolated ports do not do.
        with pytest.raises(TimeoutError):
            net.connect("b", server, HOST, 8080)
    else:
        assert net.connect("b", server, HOST, 8080) == GATEWAY
    portmap.ok("DEL", "a")
    take_down(firewall, machine, backend, "a", "b", "c")


def test_a_port_that_is_not_published_stays_shut_where_forward_drops(
    net: TwoBridges, firewall: Firewall, machine: Machine
) -> None:
    net.drop_forwarded()
    server = net.listen("a", A, 80)
    firewall.add("a", backend="iptables")
    with pytest.raises(UNREACHABLE):
        net.connect("outside", server, A, 80)
    take_down(firewall, machine, "iptables", "a")


def test_without_the_plugin_a_host_that_drops_cuts_containers_off_and_del_does_so_again(
    net: TwoBridges, firewall: Firewall, machine: Machine
) -> None:
    net.drop_forwarded()
    server, server6 = net.listen("outside", OUTSIDE, 80), net.listen("outside", OUTSIDE6, 80)
    with pytest.raises(UNREACHABLE):
        net.connect("a", server, OUTSIDE, 80)
    firewall.add("a")  # FORWARD says that iptables is what this host runs
    assert net.connect("a", server, OUTSIDE, 80) == A
    assert net.connect("a", server6, OUTSIDE6, 80) == A6
    take_down(firewall, machine, "", "a")
    with pytest.raises(UNREACHABLE):
        net.connect("a", server, OUTSIDE, 80)


def test_a_guarded_bridge_stays_guarded_until_its_last_attachment_goes(
    net: TwoBridges, firewall: Firewall, machine: Machine
) -> None:
    for name in ("a", "b", "c"):
        firewall.add(name, backend="nftables", ingressPolicy="same-bridge")
    firewall.delete("a")
    assert net.cut_off("c", B)
    firewall.delete("b")
    assert guards(machine) == {"guarded": ["cni1"], "inside": [{"concat": ["cni1", "cni1"]}]}
    assert net.reaches("c", B)
    firewall.delete("c")
    assert guards(machine) == {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_two_policies_on_one_bridge_the_stricter_holds_as_long_as_it_is_asked_for(
    net: TwoBridges, firewall: Firewall, machine: Machine, backend: str
) -> None:
    prepare(net, backend)
    net.filter_bridge(True)
    firewall.add("a", backend=backend, ingressPolicy="same-bridge")
    firewall.add("b", backend=backend, ingressPolicy="isolated")
    firewall.add("c", backend=backend, ingressPolicy="same-bridge")
    assert net.cut_off("a", B)
    firewall.delete("b")
    assert net.reaches("a", GATEWAY)
    assert net.cut_off("c", A)
    if backend == "nftables":  # there b is let in again, for nothing drops it
        assert net.reaches("a", B)
    take_down(firewall, machine, backend, "a", "c")


def test_U13_a_flushed_ruleset_is_noticed_and_the_next_add_puts_everybody_back(
    net: TwoBridges, firewall: Firewall, machine: Machine
) -> None:
    for name in ("a", "c"):
        firewall.add(name, backend="nftables", ingressPolicy="same-bridge")
    machine.run("nft", "flush", "ruleset")
    assert "cni_firewall" in firewall.check("a", backend="nftables", ingressPolicy="same-bridge").error["msg"]
    firewall.add("b", backend="nftables", ingressPolicy="same-bridge")
    for name in ("a", "b", "c"):
        firewall.check(name, backend="nftables", ingressPolicy="same-bridge").done()
    assert net.cut_off("a", C)
    take_down(firewall, machine, "nftables", "a", "b", "c")
