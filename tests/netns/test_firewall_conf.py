"""Which firewall the plugin speaks to, and mistakes in its configuration, told before anything is done."""

from __future__ import annotations

from typing import Any

import pytest
from support.firewall import PROGRAMS, Firewall, mentioning, records, rules
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine

IPTABLES = ("nft table ip* filter", "nft chain ip* filter *", "nft rule ip* filter *")
pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, *IPTABLES, "file /run/plugins/*", "in netns *")


@pytest.fixture
def firewall(machine: Machine) -> Firewall:
    machine.netns("a")
    return Firewall(machine)


# --- which backend ----------------------------------------------------------------------------------------------------


def chosen(firewall: Firewall, machine: Machine) -> bool:
    """Whether iptables was chosen."""
    firewall.add("a")
    found = mentioning(machine, "a")
    firewall.delete("a")
    return bool(found)


def test_a_host_without_a_firewall_needs_none_of_iptables(firewall: Firewall, machine: Machine) -> None:
    firewall.add("a")
    assert machine.nft() == []
    firewall.delete("a")
    assert machine.nft() == []


def test_iptables_is_chosen_where_it_does_something(firewall: Firewall, machine: Machine) -> None:
    machine.run("iptables", "-L")  # makes the chains, and that is all
    assert not chosen(firewall, machine)
    machine.run("iptables", "-P", "FORWARD", "DROP")
    assert chosen(firewall, machine)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rule_of_somebody_elses_is_a_sign_of_iptables(firewall: Firewall, machine: Machine, program: str) -> None:
    machine.run(program, "-A", "FORWARD", "-i", "lo", "-j", "DROP")
    assert chosen(firewall, machine)


def test_the_legacy_form_tells_of_its_tables_elsewhere(firewall: Firewall, machine: Machine) -> None:
    machine.run("iptables-legacy", "-P", "FORWARD", "DROP")
    machine.run("mount", "--bind", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi")
    try:
        assert chosen(firewall, machine)
    finally:
        machine.run("umount", "/usr/sbin/xtables-nft-multi")
        machine.leaves("file /run/xtables.lock")


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"backend": "nft"}, "backend: expected nftables or iptables or firewalld"),
        ({"ingressPolicy": "closed"}, "ingressPolicy: expected open or same-bridge or isolated"),
        ({"ingressPolicy": True}, "ingressPolicy: expected a string"),
        ({"iptablesAdminChainName": "-X"}, "iptablesAdminChainName: expected a name"),
        ({"iptablesAdminChainName": "x" * 29}, "iptablesAdminChainName: expected a name of at most 28"),
        ({"firewalldZone": "a b"}, "firewalldZone: expected a name"),
        ({"ingresPolicy": "isolated"}, "ingresPolicy: unknown key"),
        ({"prevResult": None}, "prevResult is missing"),
    ],
)
def test_mistakes_are_named_before_anything_is_done(
    firewall: Firewall, machine: Machine, keys: dict[str, Any], words: str
) -> None:
    error = firewall.call("ADD", "a", **keys).error
    assert error["code"] == 7
    assert error["msg"].startswith(words)
    assert (records(machine), machine.nft()) == ([], [])


def test_a_policy_needs_a_link_of_the_host(firewall: Firewall) -> None:
    """The reference plugin takes the first interface for a bridge, whatever it is."""
    result = firewall.result("a")
    result["interfaces"] = [{"name": "eth0", "sandbox": "/run/netns/a"}]
    for ip in result["ips"]:
        ip["interface"] = 0
    error = firewall.call("ADD", "a", ingressPolicy="isolated", prevResult=result).error
    assert (error["code"], error["msg"]) == (7, "prevResult names no interface of the host")


def test_a_container_without_addresses_has_nothing_to_be_let_through(firewall: Firewall, machine: Machine) -> None:
    result = firewall.result("a") | {"ips": []}
    firewall.add("a", backend="iptables", prevResult=result)
    firewall.check("a", backend="iptables", prevResult=result).done()
    assert [line for program in PROGRAMS for line in rules(machine, program=program)] == []
    firewall.delete("a")
