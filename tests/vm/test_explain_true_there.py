"""The commands of accounts are true: for the kinds of links that the second kernel has."""

from __future__ import annotations

from typing import Any

import pytest
from support.machine import Machine
from support.typed import Accounted

pytestmark = pytest.mark.leaves("*")

IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
BRIDGE = {"type": "bridge", "bridge": "cni0", "ipam": IPAM}
PARENT = (
    "ip link add eth9 address 02:00:00:00:00:09 type veth peer name far9 address 02:00:00:00:00:0a",
    "ip link set eth9 up",
    "ip link set far9 up",
)

CONFIGURATIONS: dict[str, tuple[list[dict[str, Any]], tuple[str, ...]]] = {
    "dummy": ([{"type": "dummy", "ipam": IPAM}], ()),
    "vlan": ([{"type": "vlan", "master": "eth9", "vlanId": 5, "ipam": IPAM}], PARENT),
    "ipvlan": ([{"type": "ipvlan", "master": "eth9", "mode": "l3", "ipam": IPAM}], PARENT),
    "vrf": ([BRIDGE, {"type": "vrf", "vrfname": "blue"}], ()),
    "bridge, a VLAN": ([BRIDGE | {"vlan": 100}], ()),
    "bridge, a VLAN and its gateway": ([BRIDGE | {"vlan": 100, "isGateway": True}], ()),
    "bridge, a trunk": ([BRIDGE | {"vlanTrunk": [{"minID": 100, "maxID": 103}, {"id": 200}]}], ()),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_told_of_add_and_of_del_does_the_same_when_it_is_typed(machine: Machine, name: str) -> None:
    plugins, setup = CONFIGURATIONS[name]
    there = Accounted(machine, plugins, setup)
    there.add()
    assert there.differs() == [], "\n".join(there.told)
    there.delete()
    assert there.differs() == [], "\n".join(there.told)


def test_the_gateway_of_a_vlan_is_told_of_the_first_to_come_and_the_last_to_go(machine: Machine) -> None:
    both = Accounted(machine, [BRIDGE | {"vlan": 100, "isGateway": True}])
    both.add("box")
    both.add("other")
    assert both.differs() == [], "\n".join(both.told)
    both.delete("box")
    both.delete("other")
    assert both.differs() == [], "\n".join(both.told)
