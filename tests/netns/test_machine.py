"""The private machine itself: what the other tests rely on."""

from __future__ import annotations

import os

from support.machine import Machine


def test_a_machine_has_nothing_but_lo(machine: Machine) -> None:
    assert machine.links() == {"lo"}
    assert machine.nft() == []
    assert machine.files() == set()


def test_what_a_test_makes_stays_on_its_machine() -> None:
    before = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
    with Machine() as machine:
        machine.netns("box")
        assert os.path.exists("/run/netns/box")
        machine.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    assert (os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")) == before
    assert not os.path.exists("/run/netns/box")
