"""Another host behind this machine, as containers and their clients meet it: a namespace with no route back to them.

world 192.0.2.2, 2001:db8::2 ── uplink 192.0.2.1, 2001:db8::1 (the machine) ── containers
"""

from __future__ import annotations

from support.machine import Machine

WORLD, WORLD6 = "192.0.2.2", "2001:db8::2"
HERE, HERE6 = "192.0.2.1", "2001:db8::1"


def add_world(machine: Machine, name: str = "world") -> str:
    """Make it, this machine being its neighbour; returns its name."""
    machine.netns(name)
    machine.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", name)
    machine.leaves("link uplink", "address * dev uplink", f"in netns {name}: *", "route * uplink")
    machine.run("ip", "-n", name, "link", "set", "lo", "up")
    for family, here, there in (("-4", f"{HERE}/24", f"{WORLD}/24"), ("-6", f"{HERE6}/64", f"{WORLD6}/64")):
        nodad = ("nodad",) if family == "-6" else ()
        machine.run("ip", family, "addr", "add", here, "dev", "uplink", *nodad)
        machine.run("ip", "-n", name, family, "addr", "add", there, "dev", "eth0", *nodad)
    machine.run("ip", "link", "set", "uplink", "up")
    machine.run("ip", "-n", name, "link", "set", "eth0", "up")
    return name
