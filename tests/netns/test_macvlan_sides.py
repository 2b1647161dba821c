"""The macvlan plugin, ours and the reference's, by the same tests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails
from support.single import Wired, faults
from support.site import IPV4, IPV6

pytestmark = pytest.mark.leaves(*FOLDERS, "file /var/lib/cni/*")

NOTHING: list[object] = [[({"lo"}, set())], set(), []]


@pytest.fixture
def site(machine: Machine, side: Plugins) -> Iterator[Wired]:
    made = Wired(machine, side)
    made.wire()
    yield made
    made.close()


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_P5_P7_an_attachment_is_what_the_result_says(site: Wired, version: str) -> None:
    site.neighbour()
    site.box()
    conf = site.conf_of("macvlan", IPV4, IPV6, version=version)
    result = site.add(conf)
    (end,) = result["interfaces"]
    link = site.link("eth0", "web")
    assert (end["name"], end["mac"], end["sandbox"]) == ("eth0", link["address"], "/run/netns/web")
    assert {ip["address"] for ip in result["ips"]} == site.machine.addresses("eth0", "web")
    assert site.reaches("web", "10.1.0.1") == "refused"
    assert site.reaches("web", "fd00:1::1") == "refused"
    if version != "0.3.1":
        site.check(conf, result).done()
    site.delete(conf)
    assert (site.machine.links("web"), site.leases()) == ({"lo"}, set())


@reference_fails("leaves the link of an ADD that IPAM fails", "p#29, p#560")
def test_U20_an_add_that_ipam_fails_leaves_nothing(site: Wired) -> None:
    site.box()
    keys, said = faults("macvlan")["no address left"]
    error = site.call("ADD", site.conf_of("macvlan", IPV4, version="1.0.0") | keys).error
    assert said in error["msg"]
    assert site.state("web") == NOTHING


def test_P9_P10_delete_works_twice_and_when_the_namespace_is_gone(site: Wired) -> None:
    site.box("gone")
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    site.add(conf, "gone")
    site.machine.run("ip", "netns", "del", "gone")
    for _ in range(2):
        site.delete(conf, "gone")
        assert site.leases() == set()


@reference_fails("leaves a link whose namespace outlives the runtime's memory of it")
def test_P9_delete_without_a_namespace_finds_what_is_there(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    site.add(conf)
    site.plugins.delete(conf, container="web")
    assert (site.machine.links("web"), site.leases()) == ({"lo"}, set())


@reference_fails("needs the parent for DEL, and keeps the address", "p#953")
def test_P9_U21_delete_does_not_look_at_the_parent(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    site.add(conf)
    site.machine.run("ip", "link", "del", "eth0")
    site.delete(conf)
    assert (site.machine.links("web"), site.leases()) == ({"lo"}, set())


@reference_fails("gives a random hardware address each time", "p#250")
def test_U17_the_hardware_address_is_the_same_when_a_container_comes_back(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    first = site.add(conf)["interfaces"]
    site.delete(conf)
    again = site.add(conf)["interfaces"]
    site.delete(conf)
    assert [(end["name"], end["mac"]) for end in again] == [(end["name"], end["mac"]) for end in first]


@reference_fails("drops what IPAM said of DNS")
def test_dns_is_ipams_where_there_is_no_own_one(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    site.machine.run("sh", "-c", "echo nameserver 192.0.2.53 >/etc/cni/resolv.conf")
    conf["ipam"]["resolvConf"] = "/etc/cni/resolv.conf"
    result = site.add(conf)
    site.delete(conf)
    site.machine.run("rm", "/etc/cni/resolv.conf")
    assert result["dns"] == {"nameservers": ["192.0.2.53"]}


def test_U15_the_neighbours_are_told_at_once_whose_the_address_is(site: Wired) -> None:
    site.neighbour()
    stale = ("lladdr", "02:42:00:00:00:09", "nud", "stale", "dev", "eth0")
    site.machine.run("ip", "-n", "lan", "neigh", "replace", "10.1.0.2", *stale)
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    mac = site.add(conf)["interfaces"][0]["mac"]
    (entry,) = json.loads(site.machine.text("ip", "-n", "lan", "-j", "neigh", "show", "10.1.0.2"))
    assert entry["lladdr"] == mac
    site.delete(conf)


def test_the_mtu_is_at_most_the_parents(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0", mtu=1300)
    site.add(conf)
    assert site.link("eth0", "web")["mtu"] == 1300
    site.delete(conf)
    assert site.call("ADD", conf | {"mtu": 1501}).exit == 1


def test_the_master_may_be_the_default_routes_link(site: Wired) -> None:
    site.machine.run("ip", "route", "add", "default", "dev", "eth0")
    site.box()
    conf = site.conf_of("macvlan", IPV4, version="1.0.0")
    del conf["master"]
    site.add(conf)
    assert site.link("eth0", "web")["link_index"] == site.link("eth0")["ifindex"]
    site.delete(conf)
    site.machine.run("ip", "route", "del", "default")
