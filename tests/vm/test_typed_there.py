"""The judge of accounts sees what is wrong with the kinds of links that the second kernel has."""

from __future__ import annotations

import pytest
from support.typed import differences, masked, typed

COMMANDS = (
    "ip link add b0 address 02:00:00:00:00:01 type bridge vlan_filtering 1",
    "ip link add v0 type veth peer name v1",
    "ip link set v0 master b0",
    "bridge vlan add dev v0 vid 5 pvid untagged",
    "ip link add link v1 name l0 type vlan id 5",
    "ip link add link v1 name i0 type ipvlan mode l3",
    "ip link add f0 type vrf table 5",
    "ip link add d0 type dummy",
    "ip link set d0 master f0",
)
WRONG = (
    ("filtering 1", "filtering 0", "links"),
    ("vid 5 pvid untagged", "vid 6 pvid untagged", "vlans"),
    ("vid 5 pvid untagged", "vid 5 untagged", "vlans"),
    ("vlan id 5", "vlan id 6", "links"),
    ("mode l3", "mode l2", "links"),
    ("table 5", "table 6", "links"),
    ("d0 master f0", "d0 up", "links"),
)


def test_what_is_wrong_in_one_thing_is_reported() -> None:
    right = masked(typed(COMMANDS), COMMANDS)
    assert differences(right, masked(typed(COMMANDS), COMMANDS)) == []
    unseen = []
    for old, new, source in WRONG:
        place = next(place for place, command in enumerate(COMMANDS) if old in command)
        commands = [*COMMANDS[:place], COMMANDS[place].replace(old, new), *COMMANDS[place + 1 :]]
        found = differences(right, masked(typed(commands), COMMANDS))
        unseen += [] if any(f"/{source}" in line for line in found) else [f"{old} → {new}: {found}"]
    assert unseen == []


@pytest.mark.parametrize("command", ["false", "ip link add l0 type vlan id 5"])
def test_a_command_that_fails_is_reported(command: str) -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        typed([command])
