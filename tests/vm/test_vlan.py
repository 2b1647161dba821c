"""The vlan plugin as a program: its own keys, and frames with and without tags."""

from __future__ import annotations

import pytest
from support.leftovers import FOLDERS
from support.single import Wired, site
from support.site import IPV4

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)


@pytest.mark.parametrize("tag", [5, 6])
def test_frames_carry_the_tag_and_none_without_it_arrive(site: Wired, tag: int) -> None:
    """The neighbour has its addresses on VLAN 5, and on the bare link those that it must not be reached by."""
    link = ("link", "add", "eth0.5", "link", "eth0", "up", "type", "vlan", "id", "5")
    site.machine.run("ip", "-n", "lan", *link)
    site.neighbour("eth0.5")
    site.machine.run("ip", "-n", "lan", "addr", "add", "10.1.0.9/24", "dev", "eth0")
    site.box()
    conf = site.conf_of("vlan", IPV4, vlanId=tag)
    result = site.add(conf)
    assert site.link("eth0", "web")["linkinfo"]["info_data"]["id"] == tag
    assert (site.reaches("web", "10.1.0.1") == "refused") == (tag == 5)
    site.machine.run("ip", "-n", "lan", "link", "del", "eth0.5")
    assert not site.pings("web", "10.1.0.9")
    assert f"is not of type vlan id {tag + 1}" in site.check(conf | {"vlanId": tag + 1}, result).error["msg"]
    site.delete(conf)


def test_a_vlan_of_a_parent_is_one_containers(site: Wired) -> None:
    for name in ("web", "db"):
        site.box(name)
    conf = site.conf_of("vlan", IPV4)
    site.add(conf)
    error = site.call("ADD", conf, "db").error
    assert "another container, or the host, may have this vlan of eth0" in error["details"]
    assert site.machine.links("db") == {"lo"}
    assert site.leases() == {"10.1.0.2"}
    # When the first is gone, also without anybody having said so, there is room.
    site.plugins.call("GC", conf | {"cni.dev/valid-attachments": []}).done()
    site.add(conf, "db")
    site.delete(conf, "db")


def test_the_mtu_is_the_parents_or_less(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "link", "set", "eth0", "mtu", "1450")
    for mtu, given in ((0, 1450), (1300, 1300)):
        conf = site.conf_of("vlan", IPV4, mtu=mtu)
        assert site.add(conf)["interfaces"][0]["mtu"] == site.link("eth0", "web")["mtu"] == given
        site.delete(conf)
    for mtu in (1451, -1):
        error = site.call("ADD", site.conf_of("vlan", IPV4, mtu=mtu)).error
        assert (error["code"], error["msg"][:5]) == (7, "mtu: ")
    assert site.state("web") == [[({"lo"}, set())], set(), []]


def test_the_master_may_be_in_the_container(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "-n", "web", "link", "add", "up0", "up", "type", "veth", "peer", "name", "up1")
    conf = site.conf_of("vlan", IPV4, linkInContainer=True, master="up0")
    result = site.add(conf)
    assert site.link("eth0", "web")["link"] == "up0"
    site.check(conf, result).done()
    site.machine.run("ip", "-n", "web", "link", "del", "up0")
    site.plugins.delete(conf, container="web")
    assert site.state("web") == [[({"lo"}, set())], set(), []]


def test_a_parent_that_is_down_is_named(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "link", "set", "eth0", "down")
    conf = site.conf_of("vlan", IPV4)
    status, add = site.plugins.call("STATUS", conf).error, site.call("ADD", conf).error
    assert (status["code"], status["details"]) == (51, "eth0 is down: `ip link set eth0 up`")
    assert "Network is down" in add["msg"]
    assert add["details"] == status["details"]
    assert site.state("web") == [[({"lo"}, set())], set(), []]
