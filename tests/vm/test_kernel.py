"""The second kernel has what this machine's lacks, and a test there is on a machine of its own as any other."""

from __future__ import annotations

import pytest
from support.machine import Machine

LINKS: dict[str, tuple[str, ...]] = {
    "dummy": (),
    "vlan": ("link", "eth0", "id", "5"),
    "ipvlan": ("link", "eth0"),
    "vrf": ("table", "10"),
    "bridge": ("vlan_filtering", "1"),
}


@pytest.mark.parametrize("kind", LINKS)
def test_there_are_links_of_every_kind(machine: Machine, kind: str) -> None:
    words = LINKS[kind]
    machine.run("ip", "link", "add", "eth0", "type", "veth")
    parent, rest = (words[:2], words[2:]) if words[:1] == ("link",) else ((), words)
    machine.run("ip", "link", "add", "x0", *parent, "type", kind, *rest)
    (link,) = machine.ip("link", "show", "dev", "x0")
    assert link["linkinfo"]["info_kind"] == kind
    for name in ("x0", "eth0"):
        machine.run("ip", "link", "del", name)
