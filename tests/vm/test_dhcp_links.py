"""dhcp on links that the host's own kernel may lack: those that share a hardware address, and those of a VLAN."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.lan import BRIDGE, Lan
from support.machine import Machine


@pytest.fixture
def lan(machine: Machine) -> Iterator[Lan]:
    lan = Lan(machine)
    machine.run("ip", "link", "add", "nic", "up", "type", "veth", "peer", "p0")
    machine.run("ip", "link", "set", "p0", "up", "master", BRIDGE)
    lan.dnsmasq()
    lan.daemon()
    yield lan
    lan.close()
    machine.run("ip", "link", "del", "nic")


def test_containers_behind_one_hardware_address_have_a_lease_each(lan: Lan) -> None:
    """Answers must be sent to all: the address that they would be sent to is the parent's."""
    conf, names = lan.conf("ipvlan", master="nic"), ("web", "db")
    given = {}
    for name in names:
        (ip,) = lan.plugins.add(conf, lan.machine.netns(name), container=name)["ips"]
        given[name] = ip["address"].partition("/")[0]
    assert lan.leases() == {given[name]: f"\0{name}/lan/eth0" for name in names}
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", given["db"])
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", "10.77.0.1")
    for name in names:
        lan.plugins.delete(conf, f"/run/netns/{name}", container=name)
    lan.leased()
