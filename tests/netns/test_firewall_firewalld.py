"""The firewall plugin beside the real firewalld: it is asked over the bus, and its own program is the judge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.firewall import C, Firewall, Firewalld, TwoBridges, guards, records
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import GO, Plugins
from support.portmap import Portmap, tcp
from support.sides import reference_fails
from support.topology import A6, HOST, OUTSIDE, A

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS, "file /run/plugins/*", "file /run/dbus/*", "in netns *")
OURS = {f"{A}/32", f"{A6}/128"}
CONF = {"version": "1.0.0"}


@pytest.fixture
def firewalld(machine: Machine) -> Iterator[Firewalld]:
    with Firewalld(machine) as running:
        yield running


@pytest.fixture
def firewall(machine: Machine) -> Firewall:
    return Firewall(machine)


@pytest.mark.parametrize("keys", [{}, {"backend": "firewalld"}, {"firewalldZone": "internal"}], ids=str)
def test_addresses_are_sources_of_a_zone(
    firewalld: Firewalld, side: Plugins, machine: Machine, keys: dict[str, str]
) -> None:
    """Also when nothing but its running says that it is to be asked."""
    machine.netns("a")
    firewall, zone = Firewall(machine, side), keys.get("firewalldZone", "trusted")
    for _again in range(2):
        result = firewall.add("a", **CONF, **keys)
        assert {"dns": {}} | result == firewall.result("a", "1.0.0")
        assert firewalld.sources(zone) == OURS
    firewall.check("a", **CONF, **keys).done()
    for _again in range(2):
        firewall.delete("a", **CONF, **keys)
        assert firewalld.sources(zone) == set()


@reference_fails("does not notice that a reload of firewalld has cut containers off", "p#512")
def test_U13_check_notices_what_a_reload_took_away(firewalld: Firewalld, side: Plugins, machine: Machine) -> None:
    machine.netns("a")
    firewall = Firewall(machine, side)
    firewall.add("a", **CONF)
    firewalld.cmd("--reload")
    assert firewalld.sources() == set()
    assert firewall.check("a", **CONF).exit == 1
    firewall.add("a", **CONF)
    assert firewalld.sources() == OURS
    firewall.delete("a", **CONF)


@reference_fails("removes nothing without a previous result, and removes the address of whoever has it by then")
def test_a_late_del_goes_by_what_the_container_had(firewalld: Firewalld, side: Plugins, machine: Machine) -> None:
    for name in ("a", "b"):
        machine.netns(name)
    firewall = Firewall(machine, side)
    firewall.add("a", **CONF)
    inherited = firewall.result("a", "1.0.0")
    inherited["interfaces"][2]["sandbox"] = "/run/netns/b"
    firewall.add("b", **CONF, prevResult=inherited)
    firewall.delete("a", **CONF)
    assert firewalld.sources() == OURS
    firewall.delete("b", **CONF, prevResult=None)
    assert firewalld.sources() == set()


@pytest.mark.parametrize("first", ["ours", "go"])
def test_either_takes_down_what_the_other_has_put_up(firewalld: Firewalld, machine: Machine, first: str) -> None:
    machine.netns("a")
    both = {"ours": Firewall(machine), "go": Firewall(machine, Plugins(machine, GO))}
    both.pop(first).add("a", **CONF)
    assert firewalld.sources() == OURS
    (other,) = both.values()
    other.check("a", **CONF)
    other.delete("a", **CONF)
    assert firewalld.sources() == set()
    Firewall(machine).gc().done()


def test_what_firewalld_rejects_is_let_through(machine: Machine) -> None:
    with TwoBridges(machine) as net, Firewalld(machine) as firewalld:
        firewall, portmap = Firewall(machine), Portmap()
        firewalld.cmd("--zone=external", "--add-interface=wan0")
        outside, server = net.listen("outside", OUTSIDE, 80), net.listen("a", A, 80)
        with pytest.raises(OSError, match="No route to host"):
            net.connect("a", outside, OUTSIDE, 80)
        portmap.ok("ADD", "a", tcp(8080, 80))
        for name in ("a", "c"):
            firewall.add(name, ingressPolicy="same-bridge")
        assert net.connect("a", outside, OUTSIDE, 80) in (A, HOST)  # zone external masquerades
        assert net.connect("outside", server, HOST, 8080) == OUTSIDE
        assert net.connect("c", server, HOST, 8080) == C
        assert net.cut_off("a", C)
        firewalld.cmd("--reload")
        assert guards(machine)["guarded"] == ["cni0", "cni1"]  # a table of our own
        portmap.ok("DEL", "a")
        for name in ("a", "c"):
            firewall.delete(name, prevResult=None)
        assert (records(machine), guards(machine)) == ([], {})


def test_a_zone_that_is_none_and_one_that_has_the_address_are_told_from_each_other(
    firewalld: Firewalld, firewall: Firewall, machine: Machine
) -> None:
    error = firewall.call("ADD", "a", netns=machine.netns("a"), firewalldZone="nowhere").error
    assert (error["code"], error["msg"]) == (7, "firewalld: INVALID_ZONE: nowhere")
    assert "--get-zones" in error["details"]
    firewalld.cmd("--zone=drop", f"--add-source={A6}/128")
    error = firewall.call("ADD", "a").error
    assert error["code"] == 100
    assert error["msg"].startswith("firewalld: ZONE_CONFLICT: ")
    assert firewalld.sources() == set()
    assert firewalld.sources("drop") == {f"{A6}/128"}
    assert records(machine) == []


def test_B1_B2_B3_gc_and_a_firewalld_that_is_gone(firewalld: Firewalld, firewall: Firewall, machine: Machine) -> None:
    for name in ("a", "b"):
        machine.netns(name)
        firewall.add(name)
    firewall.status().done()
    firewall.gc("b").done()
    assert not firewalld.sources() & OURS
    firewalld.stop()
    error = firewall.status(backend="firewalld").error
    assert (error["code"], error["msg"]) == (50, "firewalld does not run")
    started = time.monotonic()
    firewall.delete("b", prevResult=None)
    assert time.monotonic() - started < 2
    assert records(machine) == []


def test_without_busctl_the_bus_is_spoken_to_by_dbus_send(
    firewalld: Firewalld, firewall: Firewall, machine: Machine
) -> None:
    machine.netns("a")
    Path("/run/nothing").touch()
    machine.run("mount", "--bind", "/run/nothing", "/usr/bin/busctl")
    try:
        firewall.add("a")
        firewall.add("a")
        firewall.check("a").done()
        assert set(firewalld.cmd("--zone=trusted", "--list-sources").split()) == OURS
        error = firewall.call("ADD", "a", firewalldZone="nowhere").error
        assert (error["code"], error["msg"]) == (7, "firewalld: INVALID_ZONE: nowhere")
        firewall.delete("a")
        assert set(firewalld.cmd("--zone=trusted", "--list-sources").split()) == set()
    finally:
        machine.run("umount", "/usr/bin/busctl")
        Path("/run/nothing").unlink()
