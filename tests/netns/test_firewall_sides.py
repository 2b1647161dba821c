"""What the firewall plugin is for, asked of ours and of the reference's: backend iptables, which both have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.firewall import C6, PROGRAMS, C, Firewall, TwoBridges, mentioning, records, rules
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import Plugins
from support.portmap import Portmap, tcp
from support.sides import reference_fails
from support.topology import A6, HOST, OUTSIDE, OUTSIDE6, A, B

IPTABLES = ("nft table ip* filter", "nft chain ip* filter *", "nft rule ip* filter *")
pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, *IPTABLES)
CONF = {"backend": "iptables", "version": "1.0.0"}


@pytest.fixture
def net(machine: Machine) -> Iterator[TwoBridges]:
    with TwoBridges(machine) as topology:
        topology.drop_forwarded()
        yield topology


@pytest.fixture
def firewall(machine: Machine, side: Plugins) -> Firewall:
    machine.leaves("in netns *")
    return Firewall(machine, side)


def test_what_a_host_drops_is_let_through_for_containers(net: TwoBridges, firewall: Firewall) -> None:
    server, server6 = net.listen("outside", OUTSIDE, 80), net.listen("outside", OUTSIDE6, 80)
    with pytest.raises(TimeoutError):
        net.connect("a", server, OUTSIDE, 80)
    assert {"dns": {}} | firewall.add("a", **CONF) == firewall.result("a", "1.0.0")
    assert net.connect("a", server, OUTSIDE, 80) == A
    assert net.connect("a", server6, OUTSIDE6, 80) == A6
    with pytest.raises(TimeoutError):
        net.connect("b", server, OUTSIDE, 80)
    firewall.delete("a", **CONF)
    with pytest.raises(TimeoutError):
        net.connect("a", server, OUTSIDE, 80)


def test_the_administrators_chain_has_the_first_word(net: TwoBridges, firewall: Firewall, machine: Machine) -> None:
    firewall.add("a", **CONF, iptablesAdminChainName="SITE")
    assert net.reaches("a", OUTSIDE)
    machine.run("iptables", "-A", "SITE", "-s", A, "-j", "DROP")
    assert net.cut_off("a", OUTSIDE)
    firewall.delete("a", **CONF)
    assert len(rules(machine, "SITE")) == 1


def test_same_bridge_keeps_other_bridges_out(net: TwoBridges, firewall: Firewall) -> None:
    for name in ("a", "b", "c"):
        firewall.add(name, **CONF, ingressPolicy="same-bridge")
    assert net.reaches("a", B)
    assert net.reaches("c", OUTSIDE)
    assert net.cut_off("a", C)
    assert net.cut_off("c", A)
    assert net.cut_off("a", C6)
    for name in ("a", "b", "c"):
        firewall.delete(name, **CONF, ingressPolicy="same-bridge")


@reference_fails("keeps the rules of a bridge for ever")
def test_the_rules_of_a_bridge_go_with_its_last_attachment(firewall: Firewall, machine: Machine) -> None:
    for name in ("a", "b"):
        machine.netns(name)
        firewall.add(name, **CONF, ingressPolicy="same-bridge")
    for name in ("a", "b"):
        firewall.delete(name, **CONF, ingressPolicy="same-bridge")
    assert [line for program in PROGRAMS for line in rules(machine, program=program) if "cni0" in line] == []


@reference_fails("leaves published ports shut where FORWARD drops")
def test_a_published_port_is_reached_where_forward_drops(net: TwoBridges, firewall: Firewall) -> None:
    portmap = Portmap()
    portmap.ok("ADD", "a", tcp(8080, 80))
    firewall.add("a", **CONF)
    try:
        assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == OUTSIDE
    finally:
        firewall.delete("a", **CONF)
        portmap.ok("DEL", "a")


@reference_fails("drops what goes from a guarded bridge to a published port of another", "p#708")
def test_a_published_port_is_reached_from_another_guarded_bridge(
    net: TwoBridges, firewall: Firewall, machine: Machine
) -> None:
    for program in PROGRAMS:
        machine.run(program, "-P", "FORWARD", "ACCEPT")
    portmap = Portmap()
    portmap.ok("ADD", "a", tcp(8080, 80))
    for name in ("a", "c"):
        firewall.add(name, **CONF, ingressPolicy="same-bridge")
    try:
        assert net.connect("c", net.listen("a", A, 80), HOST, 8080) == C
    finally:
        for name in ("a", "c"):
            firewall.delete(name, **CONF, ingressPolicy="same-bridge")
        portmap.ok("DEL", "a")


def test_P14_add_again_changes_nothing_and_check_finds_all(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    firewall.add("a", **CONF)
    before = [rules(machine, program=program) for program in PROGRAMS]
    firewall.add("a", **CONF)
    assert [rules(machine, program=program) for program in PROGRAMS] == before
    firewall.check("a", **CONF).done()
    machine.run("iptables", "-D", "CNI-FORWARD", "-s", A, "-j", "ACCEPT")
    assert firewall.check("a", **CONF).exit == 1
    firewall.delete("a", **CONF)


@reference_fails("makes the chains that it misses")
def test_check_changes_nothing(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    firewall.add("a", **CONF)
    for program in PROGRAMS:
        machine.run(program, "-F")
        machine.run(program, "-X")
    assert firewall.check("a", **CONF).exit == 1
    listed = [line for program in PROGRAMS for line in machine.text(program, "-S").splitlines()]
    assert [line for line in listed if line.startswith("-N")] == []
    firewall.delete("a", **CONF)


@reference_fails("removes nothing without a previous result")
def test_P11_del_needs_no_previous_result(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    firewall.add("a", **CONF)
    firewall.delete("a", **CONF, prevResult=None, netns="")
    assert (mentioning(machine, "a"), records(machine)) == ([], [])


@reference_fails("removes the rules of whoever has the address by then")
def test_a_late_del_leaves_the_rules_of_who_has_the_address_now(firewall: Firewall, machine: Machine) -> None:
    for name in ("a", "b"):
        machine.netns(name)
    firewall.add("a", **CONF)
    inherited = firewall.result("a", "1.0.0")
    inherited["interfaces"][2]["sandbox"] = "/run/netns/b"
    firewall.add("b", **CONF, prevResult=inherited)
    for _again in range(2):  # the second time there is no record of it
        firewall.delete("a", **CONF)
        firewall.check("b", **CONF, prevResult=inherited).done()
    firewall.delete("b", **CONF, prevResult=None)
    assert (mentioning(machine, "a"), records(machine)) == ([], [])


def test_P9_P10_U3_del_succeeds_twice_and_without_the_namespace(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    firewall.add("a", **CONF)
    for netns in ("/run/netns/a", "", "/run/netns/gone"):
        firewall.delete("a", **CONF, netns=netns)
    assert mentioning(machine, "a") == []


@reference_fails("takes the first interface for a bridge, whatever it is")
def test_a_policy_without_a_link_of_the_host_is_refused(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    result = firewall.result("a", "1.0.0")
    result["interfaces"] = result["interfaces"][2:]
    for ip in result["ips"]:
        ip["interface"] = 0
    answer = firewall.call("ADD", "a", **CONF, ingressPolicy="same-bridge", prevResult=result)
    assert answer.error["msg"] == "prevResult names no interface of the host"


@reference_fails("uses another backend than was asked for, and says nothing")
def test_a_backend_that_nobody_has_is_refused(firewall: Firewall, machine: Machine) -> None:
    machine.netns("a")
    assert firewall.call("ADD", "a", version="1.0.0", backend="pf").exit == 1
