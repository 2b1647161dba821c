"""Packets over the bridge: between containers, to the host, and masqueraded to what lies behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, Site

pytestmark = pytest.mark.leaves(*SHARED)

OUTSIDE = (("192.0.2.1", "192.0.2.2", 24), ("fd00:ffff::1", "fd00:ffff::2", 64))


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


@pytest.fixture
def outside(site: Site) -> Iterator[str]:
    """A host that knows nothing of the containers' subnets, on a wire to ours."""
    name = "outside"
    site.box(name)
    site.machine.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", name)
    site.machine.run("ip", "link", "set", "wire", "up")
    site.machine.run("ip", "-n", name, "link", "set", "wire", "up")
    for ours, theirs, length in OUTSIDE:
        nodad = ("nodad",) if ":" in ours else ()
        site.machine.run("ip", "addr", "add", f"{ours}/{length}", "dev", "wire", *nodad)
        site.machine.run("ip", "-n", name, "addr", "add", f"{theirs}/{length}", "dev", "wire", *nodad)
    yield name
    site.machine.run("ip", "link", "del", "wire")


def test_containers_reach_each_other_and_the_host_as_soon_as_add_returns(site: Site) -> None:
    conf = site.conf(IPV4, IPV6, ipMasq=True)
    for name in ("web", "db"):
        site.box(name)
    site.add(conf)
    site.serve("web", "10.1.0.2")
    site.serve("web", "fd00:1::2")
    site.add(conf, "db")
    assert site.reaches("db", "10.1.0.2", 8080) == "10.1.0.3"  # by its own address: inside nothing is masqueraded
    assert site.reaches("db", "fd00:1::2", 8080) == "fd00:1::3"
    assert site.reaches("db", "10.1.0.1") == "refused"
    assert site.reaches("", "10.1.0.3") == "refused"
    for name in ("web", "db"):
        site.delete(conf, name)


def test_what_leaves_the_subnet_has_the_hosts_address(site: Site, outside: str) -> None:
    conf = site.conf(IPV4, IPV6, isDefaultGateway=True, ipMasq=True)
    site.box()
    site.add(conf)
    for ours, theirs, _length in OUTSIDE:
        site.serve(outside, theirs)
        assert site.reaches("web", theirs, 8080) == ours
    site.delete(conf)


def test_without_masquerade_nobody_outside_knows_the_way_back(site: Site, outside: str) -> None:
    conf = site.conf(IPV4, isDefaultGateway=True)
    site.box()
    site.add(conf)
    site.serve(outside, OUTSIDE[0][1])
    assert "timed out" in site.reaches("web", OUTSIDE[0][1], 8080)
    site.delete(conf)


def test_U15_neighbours_learn_at_once_that_an_address_has_a_new_owner(site: Site) -> None:
    conf = site.conf(IPV4, IPV6)
    names = ("web", "db")
    for name in (*names, "friend"):
        site.box(name)
    site.add(conf, "friend")
    for name in names:
        asked = conf | {"args": {"cni": {"ips": ["10.1.0.77", "fd00:1::77"]}}}
        mac = site.add(asked, name)["interfaces"][2]["mac"]
        for place in ("", "friend"):
            for address in ("10.1.0.77", "fd00:1::77"):
                assert site.reaches(place, address) == "refused"
                device = "eth0" if place else "cni0"
                shown = site.machine.ip("neigh", "show", address, "dev", device, netns=place)
                assert [entry["lladdr"] for entry in shown] == [mac]
        site.delete(conf, name)
    site.delete(conf, "friend")
