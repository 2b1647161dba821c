"""The plugins ipvlan and vlan, ours and the reference's, by the same tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails
from support.single import Wired, faults
from support.site import IPV4

pytestmark = [pytest.mark.leaves(*FOLDERS), pytest.mark.parametrize("kind", ["ipvlan", "vlan"])]


@pytest.fixture
def site(machine: Machine, side: Plugins) -> Iterator[Wired]:
    made = Wired(machine, side)
    made.wire()
    yield made
    made.close()


def test_an_attachment_is_what_the_result_says_and_reaches_the_neighbour(site: Wired, kind: str) -> None:
    site.machine.run("ip", "-n", "lan", "link", "add", "eth0.5", "link", "eth0", "up", "type", "vlan", "id", "5")
    site.neighbour("eth0" if kind == "ipvlan" else "eth0.5")
    site.box()
    conf = site.conf_of(kind, IPV4, version="1.0.0")
    result = site.add(conf)
    (end,) = result["interfaces"]
    assert (end["name"], end["mac"], end["sandbox"]) == ("eth0", site.link("eth0")["address"], "/run/netns/web")
    assert {ip["address"] for ip in result["ips"]} == site.machine.addresses("eth0", "web")
    assert site.pings("web", "10.1.0.1")
    site.check(conf, result).done()
    site.delete(conf)
    assert (site.machine.links("web"), site.leases()) == ({"lo"}, set())


@reference_fails("leaves the link of an ADD that IPAM fails", "p#29, p#560")
def test_U20_an_add_that_ipam_fails_leaves_nothing(site: Wired, kind: str) -> None:
    site.box()
    keys, said = faults(kind)["no address left"]
    assert said in site.call("ADD", site.conf_of(kind, IPV4, version="1.0.0") | keys).error["msg"]
    assert site.state("web") == [[({"lo"}, set())], set(), []]


@reference_fails("looks for the parent in DEL, and keeps the address when it is gone", "p#953")
def test_P9_U21_delete_does_not_look_at_the_parent(site: Wired, kind: str) -> None:
    """vlan names it; ipvlan has it from the default route, which goes with it."""
    site.machine.run("ip", "route", "add", "default", "dev", "eth0")
    site.box()
    conf = site.conf_of(kind, IPV4, version="1.0.0")
    if kind == "ipvlan":
        del conf["master"]
    site.add(conf)
    site.machine.run("ip", "link", "del", "eth0")
    site.delete(conf)
    assert (site.machine.links("web"), site.leases()) == ({"lo"}, set())
