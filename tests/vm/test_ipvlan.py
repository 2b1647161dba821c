"""The ipvlan plugin as a program: its own keys, its place in a chain, and packets to containers and the network."""

from __future__ import annotations

from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.single import Wired, site
from support.site import IPV4, IPV6

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)


def test_containers_reach_each_other_and_the_network_behind_one_hardware_address(site: Wired) -> None:
    site.neighbour()
    conf = site.conf_of("ipvlan", IPV4, IPV6)
    stale = ("lladdr", "02:42:00:00:00:09", "nud", "stale", "dev", "eth0")
    for address in ("10.1.0.2", "fd00:1::2"):  # which the neighbour remembers of somebody else
        site.machine.run("ip", "-n", "lan", "neigh", "replace", address, *stale)
    for name in ("web", "db"):
        site.box(name)
        (end,) = site.add(conf, name)["interfaces"]
        assert end["mac"] == site.link("eth0")["address"]
    for address in ("10.1.0.2", "fd00:1::2"):
        (known,) = site.machine.ip("neigh", "show", address, netns="lan")
        assert known["lladdr"] == site.link("eth0")["address"]
    site.serve("lan", "10.1.0.1")
    assert site.reaches("web", "10.1.0.3") == "refused"
    assert site.reaches("web", "fd00:1::3") == "refused"
    assert site.reaches("web", "10.1.0.1", 8080) == "10.1.0.2"
    assert site.reaches("lan", "fd00:1::2") == "refused"
    for name in ("web", "db"):
        site.delete(conf, name)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_in_the_modes_of_layer_3_nobody_is_asked_for_a_hardware_address(site: Wired, mode: str) -> None:
    site.neighbour()
    conf = site.conf_of("ipvlan", IPV4, mode=mode)
    result = {}
    for name in ("web", "db"):
        site.box(name)
        result[name] = site.add(conf, name)
        assert site.link("eth0", name)["linkinfo"]["info_data"]["mode"] == mode
    site.check(conf, result["web"]).done()
    assert "is not of type ipvlan mode l2" in site.check(conf | {"mode": "l2"}, result["web"]).error["msg"]
    assert site.reaches("web", "10.1.0.3") == "refused"
    assert not site.pings("lan", "10.1.0.2")
    host = site.link("eth0")["address"]
    site.machine.run("ip", "-n", "lan", "neigh", "replace", "10.1.0.2", "lladdr", host, "dev", "eth0")
    assert site.pings("lan", "10.1.0.2")
    for name in ("web", "db"):
        site.delete(conf, name)


def test_chained_it_stands_on_the_link_before_and_takes_its_addresses(site: Wired) -> None:
    site.neighbour()
    site.box()
    conf = site.conf_of("ipvlan")
    del conf["master"]
    before: dict[str, Any] = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": site.link("eth0")["address"]}],
        "ips": [{"address": "10.1.0.7/24", "gateway": "10.1.0.1", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"domain": "lan.test"},
    }
    result = site.add(conf | {"prevResult": before})
    (end,) = result["interfaces"]
    assert (end["name"], end["sandbox"]) == ("eth0", "/run/netns/web")
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.7/24"]
    assert result["dns"] == {"domain": "lan.test"}
    assert site.pings("web", "10.1.0.1")
    site.check(conf, result).done()
    site.machine.run("ip", "-n", "web", "addr", "del", "10.1.0.7/24", "dev", "eth0")
    assert site.check(conf, result).exit == 1
    site.delete(conf | {"prevResult": before})
    # An IPAM plugin of its own goes before, and two interfaces are one too many to choose from.
    own = conf | {"ipam": site.conf_of("ipvlan", IPV4)["ipam"]}
    assert [ip["address"] for ip in site.add(own | {"prevResult": before})["ips"]] == ["10.1.0.2/24"]
    site.delete(own)
    before["interfaces"].append({"name": "eth1"})
    error = site.call("ADD", conf | {"prevResult": before}).error
    assert error["msg"] == "master is not given, and the plugin before has 2 interfaces, not one to stand on"
    site.plugins.call("STATUS", conf).done()


def test_the_master_is_the_default_routes_link_unless_it_is_named(site: Wired) -> None:
    site.box()
    conf = site.conf_of("ipvlan", IPV4)
    del conf["master"]
    assert "there is no default route" in site.call("ADD", conf).error["msg"]
    site.machine.run("ip", "route", "add", "default", "dev", "eth0")
    site.add(conf)
    assert site.link("eth0", "web")["link_index"] == site.link("eth0")["ifindex"]
    site.machine.run("ip", "route", "del", "default")
    site.delete(conf)
    assert site.state("web") == [[({"lo"}, set())], set(), []]


def test_the_master_may_be_in_the_container(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "-n", "web", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    conf = site.conf_of("ipvlan", IPV4, linkInContainer=True, master="up0")
    result = site.add(conf)
    assert site.link("eth0", "web")["link"] == "up0"
    site.check(conf, result).done()
    site.delete(conf)
    site.machine.run("ip", "-n", "web", "link", "del", "up0")
