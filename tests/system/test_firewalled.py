"""Whole containers behind the firewall plugin, on hosts that drop what they forward: docker and firewalld do so."""

from __future__ import annotations

import pytest
from support.command import Command, bridge, serving
from support.firewall import PROGRAMS, Firewalld, rules
from support.machine import Machine
from support.world import HERE, WORLD, add_world

SERVER = ("host", "python3", "-m", "http.server", "-d", "/usr/share/doc", "--bind", "::", "80")
PING = ("busybox", "ping", "-c1", "-W2")
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}

pytestmark = pytest.mark.leaves(
    *("link cni-*", "address * dev cni-*", "directory /etc/cni/net.d", "directory /run/*", "file /run/dbus/*"),
    *("nft table ip* filter", "nft chain ip* filter *", "nft rule ip* filter *"),
)


def walled(minirt: Command, name: str, subnet: str, policy: str = "same-bridge") -> None:
    main = bridge(f"cni-{name}", subnet, isDefaultGateway=True, ipMasq=True, hairpinMode=True)
    minirt.network(name, main, PORTMAP, {"type": "firewall", "ingressPolicy": policy}, cniVersion="1.1.0")


def drop_forwarded(machine: Machine) -> None:
    for program in PROGRAMS:
        machine.run(program, "-P", "FORWARD", "DROP")


@pytest.fixture
def outside(machine: Machine) -> str:
    return add_world(machine)


@pytest.fixture
def two_networks(minirt: Command, outside: str) -> str:
    """A server published from one network, a neighbour of it, and a stranger on another."""
    walled(minirt, "red", "10.20.0.0/24")
    walled(minirt, "blue", "10.21.0.0/24")
    return outside


def everybody(minirt: Command) -> None:
    minirt.ok("run", "-d", "--network", "red", "--name", "web", "-p", "8080:80", *SERVER)
    minirt.ok("run", "-d", "--network", "red", "--name", "neighbour", "host", "sleep", "600")
    minirt.ok("run", "-d", "--network", "blue", "--name", "stranger", "host", "sleep", "600")


def meet(minirt: Command, outside: str) -> None:
    """Who may reach whom does, and who may not does not."""
    web = minirt.address("web")
    assert "Directory listing" in serving(minirt.machine, f"http://{HERE}:8080/", outside)
    for name in ("web", "neighbour", "stranger"):
        minirt.ok("exec", name, *PING, WORLD)
        assert "Directory listing" in minirt.ok("exec", name, "curl", "-sS", "-m2", f"http://{HERE}:8080/")
    minirt.ok("exec", "neighbour", *PING, web)
    assert minirt("exec", "stranger", *PING, web).returncode == 1
    assert minirt("exec", "web", *PING, minirt.address("stranger")).returncode == 1


def test_networks_are_apart_and_ports_published_where_forward_drops(minirt: Command, two_networks: str) -> None:
    machine = minirt.machine
    drop_forwarded(machine)
    everybody(minirt)
    meet(minirt, two_networks)
    minirt.ok("rm", "-f", "web", "neighbour", "stranger")
    left = [line for program in PROGRAMS for line in rules(machine, program=program)]
    assert [line for line in left if "10.2" in line or "cni-" in line] == []


def test_U13_what_iptables_lost_comes_back_with_a_reload(minirt: Command, two_networks: str) -> None:
    drop_forwarded(minirt.machine)
    everybody(minirt)
    for program in PROGRAMS:
        minirt.machine.run(program, "-F")
    assert minirt("exec", "web", *PING, WORLD).returncode == 1
    minirt.ok("network", "reload", "--all")
    meet(minirt, two_networks)
    minirt.ok("rm", "-f", "web", "neighbour", "stranger")


def test_U13_what_firewalld_forgot_comes_back_with_a_reload(minirt: Command, two_networks: str) -> None:
    with Firewalld(minirt.machine) as firewalld:
        firewalld.cmd("--zone=external", "--add-interface=uplink")
        everybody(minirt)
        assert len(firewalld.sources()) == 3
        meet(minirt, two_networks)
        firewalld.cmd("--reload")
        assert firewalld.sources() == set()
        minirt.ok("network", "reload", "--all")
        assert len(firewalld.sources()) == 3
        minirt.ok("exec", "web", *PING, WORLD)
        minirt.ok("rm", "-f", "web", "neighbour", "stranger")
        assert firewalld.sources() == set()


def test_isolated_containers_are_reached_by_their_ports_alone(minirt: Command, outside: str) -> None:
    walled(minirt, "red", "10.20.0.0/24", "isolated")
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", *SERVER)
    minirt.ok("run", "-d", "--name", "other", "host", "sleep", "600")
    assert "Directory listing" in serving(minirt.machine, f"http://{HERE}:8080/", outside)
    minirt.ok("exec", "other", *PING, WORLD)
    assert minirt("exec", "other", *PING, minirt.address("web")).returncode == 1
    minirt.ok("rm", "-f", "web", "other")
    assert minirt.machine.elements() == []
