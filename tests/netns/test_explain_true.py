"""The commands of an account are true: typed into a fresh network, they give what the plugins gave; so do those of DEL.

No command is written down here: they are what the steps say of themselves while the plugins are at work.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.accounts import BOTH, BRIDGE, HERE, IPAM, PORTS
from support.lan import SETUP, Lan
from support.machine import Machine
from support.typed import Accounted

pytestmark = pytest.mark.leaves("*")


@pytest.mark.parametrize("name", HERE)
def test_what_is_told_of_add_and_of_del_does_the_same_when_it_is_typed(machine: Machine, name: str) -> None:
    plugins, setup, wishes = HERE[name]
    there = Accounted(machine, plugins, setup, **wishes)
    there.add()
    assert there.differs() == [], "\n".join(there.told)
    there.delete()
    assert there.differs() == [], "\n".join(there.told)


@pytest.mark.parametrize("name", HERE)
def test_what_is_told_of_gc_and_of_taking_back_does_the_same_when_it_is_typed(machine: Machine, name: str) -> None:
    """An ADD whose last step is refused takes back all the others."""
    plugins, setup, wishes = HERE[name]
    there = Accounted(machine, plugins, setup, **wishes)
    there.add()
    there.collect()
    assert there.differs() == [], "\n".join(there.told)
    known = there.steps
    there.add()
    last = there.steps - known
    there.delete()
    there.give_up(last)
    assert there.differs() == [], "\n".join(there.told)


def test_of_addresses_from_a_dhcp_server(machine: Machine) -> None:
    """The daemon types nothing: the server gives, and what it gives is put on the link by the plugin that asked."""
    lan = Lan(machine)
    try:
        lan.dnsmasq()
        lan.daemon()
        there = Accounted(machine, [lan.conf()], there=SETUP)
        there.add()
        assert machine.addresses("eth0", "box") == {f"{address}/24" for address in lan.leases()} != set()
        assert there.differs() == [], "\n".join(there.told)
        there.delete()
        assert there.differs() == [], "\n".join(there.told)
        lan.leased()
    finally:
        lan.close()


def test_of_two_networks_that_each_give_a_default_route(machine: Machine) -> None:
    there = Accounted(machine, [BRIDGE | {"ipam": BOTH}])
    there.add()
    ranges = [[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:2::/64"}]]
    there.add_another([BRIDGE | {"bridge": "cni1", "ipam": BOTH | {"ranges": ranges}}])
    ways = machine.ip("route", "show", "default", netns="box")
    assert [way["gateway"] for way in ways] == ["10.2.0.1", "10.1.0.1"]
    assert there.differs() == [], "\n".join(there.told)


TWO: dict[str, list[dict[str, Any]]] = {
    "bridge and masquerade": [BRIDGE | {"ipMasq": True, "ipam": BOTH}],
    "ptp and masquerade": [{"type": "ptp", "ipMasq": True, "ipam": IPAM}],
    "spoof check": [BRIDGE | {"macspoofchk": True, "cleanupBridge": True}],
    "portmap": [BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}],
    "firewall, nftables": [BRIDGE, {"type": "firewall", "backend": "nftables"}],
    "firewall, iptables": [BRIDGE, {"type": "firewall", "backend": "iptables"}],
    "firewall, isolated": [BRIDGE, {"type": "firewall", "backend": "nftables", "ingressPolicy": "isolated"}],
}


@pytest.mark.parametrize("name", TWO)
def test_what_two_share_is_told_of_the_first_to_come_and_the_last_to_go(machine: Machine, name: str) -> None:
    wishes: dict[str, Any] = {"portMappings": PORTS} if name == "portmap" else {}
    both = Accounted(machine, TWO[name], **wishes)
    both.add("box")
    both.add("other", **{"portMappings": [PORTS[0] | {"hostPort": 8081}]} if wishes else {})
    assert both.differs() == [], "\n".join(both.told)
    both.delete("box")
    assert both.differs() == [], "\n".join(both.told)
    both.delete("other")
    assert both.differs() == [], "\n".join(both.told)
