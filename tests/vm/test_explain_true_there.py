"""The commands of accounts are true: for the kinds of links that the second kernel has."""

from __future__ import annotations

import pytest
from support.accounts import PLAIN, THERE
from support.machine import Machine
from support.typed import Accounted

pytestmark = pytest.mark.leaves("*")


@pytest.mark.parametrize("name", THERE)
def test_what_is_told_of_add_del_gc_and_of_taking_back_does_the_same_when_it_is_typed(
    machine: Machine, name: str
) -> None:
    plugins, setup, wishes = THERE[name]
    there = Accounted(machine, plugins, setup, **wishes)
    there.add()
    assert there.differs() == [], "\n".join(there.told)
    there.delete()
    assert there.differs() == [], "\n".join(there.told)
    known = there.steps
    there.add()
    last = there.steps - known
    there.collect()
    there.give_up(last)
    assert there.differs() == [], "\n".join(there.told)


def test_the_gateway_of_a_vlan_is_told_of_the_first_to_come_and_the_last_to_go(machine: Machine) -> None:
    both = Accounted(machine, [PLAIN | {"vlan": 100, "isGateway": True}])
    both.add("box")
    both.add("other")
    assert both.differs() == [], "\n".join(both.told)
    both.delete("box")
    both.delete("other")
    assert both.differs() == [], "\n".join(both.told)
