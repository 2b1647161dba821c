"""Whole chains of many containers at once, each with two interfaces: bridge, tuning, portmap, firewall and bandwidth,
one behind the other as a runtime calls them. What is connected is right, and what is left at the end is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, Site

pytestmark = pytest.mark.leaves(*SHARED)

NAMES = ("one", "two", "three", "four")
IFNAMES = ("eth0", "eth1")


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    for name in NAMES:
        made.box(name)
    yield made
    made.close()


def port(name: str, ifname: str) -> int:
    return 8000 + 10 * NAMES.index(name) + IFNAMES.index(ifname)


def chain(site: Site, name: str, ifname: str) -> list[dict[str, Any]]:
    bridge = site.conf(IPV4, IPV6, ipMasq=True, macspoofchk=True, isDefaultGateway=ifname == "eth0")
    ports = [{"hostPort": port(name, ifname), "containerPort": 80, "protocol": "tcp"}]
    limits = {f"{way}{what}": 8_000_000 for way in ("ingress", "egress") for what in ("Rate", "Burst")}
    behind = (
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
        {"type": "portmap", "runtimeConfig": {"portMappings": ports}},
        {"type": "firewall", "backend": "nftables", "ingressPolicy": "same-bridge"},
        {"type": "bandwidth", **limits},
    )
    return [bridge, *({"cniVersion": "1.1.0", "name": "net"} | plugin for plugin in behind)]


def connect(site: Site, name: str, ifname: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for conf in chain(site, name, ifname):
        result = site.add(conf | ({"prevResult": result} if result else {}), name, ifname=ifname)
    return result


def disconnect(site: Site, name: str, ifname: str) -> None:
    for conf in reversed(chain(site, name, ifname)):
        site.plugins.delete(conf, "", container=name, ifname=ifname)


def everybody(work: Any, site: Site, ifnames: tuple[str, ...] = IFNAMES) -> list[Any]:
    """`work` for each container at once, and for its interfaces in turn, as a runtime does (R12)."""
    with ThreadPoolExecutor(len(NAMES)) as pool:
        found = pool.map(lambda name: [work(site, name, ifname) for ifname in ifnames], NAMES)
        return [item for each in found for item in each]


def state(site: Site) -> list[Any]:
    links = {link for link in site.machine.links() if link.startswith(("veth", "bwp"))}
    return [links, site.leases(), site.machine.elements()]


def test_B8_P3_many_with_two_interfaces_each_come_and_go_at_once(site: Site) -> None:
    results = everybody(connect, site)
    addresses = [ip["address"] for result in results for ip in result["ips"]]
    assert len({*addresses}) == len(addresses) == 4 * len(NAMES)
    links, leases, _elements = state(site)
    assert (len(links), len(leases)) == (4 * len(NAMES), 4 * len(NAMES))  # a port and an ifb for each
    given = dict(zip(((name, ifname) for name in NAMES for ifname in IFNAMES), results, strict=True))
    for (name, ifname), result in given.items():
        for conf in chain(site, name, ifname):
            site.check(conf, result, name, ifname=ifname).done()
    everybody(disconnect, site, IFNAMES[1:])
    for asking, name in zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True):
        site.serve(name, given[name, "eth0"]["ips"][0]["address"].partition("/")[0], 80)
        assert site.reaches(asking, "10.1.0.1", port(name, "eth0")).startswith("10.1.0.")
        assert site.reaches(asking, "10.1.0.1", port(name, "eth1")) == "refused"
    everybody(disconnect, site, IFNAMES[:1])
    assert state(site) == [set(), set(), []]


def test_B1_P18_gc_takes_of_whole_chains_what_belongs_to_nobody(site: Site) -> None:
    """Of many, one is remembered: each plugin keeps that one's, and no other's."""
    everybody(connect, site, IFNAMES[:1])
    valid = {"cni.dev/valid-attachments": [{"containerID": "two", "ifname": "eth0"}]}
    for conf in chain(site, "two", "eth0"):
        site.plugins.call("GC", conf | valid).done()
    links, leases, _elements = state(site)
    assert (len(links), len(leases)) == (2, 2)
    site.serve("two", next(address for address in leases if ":" not in address), 80)
    assert site.reaches("", "10.1.0.1", port("two", "eth0")).startswith("10.1.0.")
    assert site.reaches("", "10.1.0.1", port("one", "eth0")) == "refused"
    disconnect(site, "two", "eth0")
    assert state(site) == [set(), set(), []]
