"""The macvlan plugin as a program: its own keys, and packets between containers and the network of their parent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.single import Wired, site
from support.site import IPV4, IPV6

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)

MAC = "02:42:00:00:00:%02x"


def data(site: Wired, name: str = "web") -> dict[str, Any]:
    """What `ip -d` says of the container's link."""
    found: dict[str, Any] = site.link("eth0", name)["linkinfo"]["info_data"]
    return found


def test_containers_reach_each_other_and_the_network_but_not_the_host(site: Wired) -> None:
    site.neighbour()
    site.machine.run("ip", "addr", "add", "10.1.0.200/24", "dev", "eth0")
    conf = site.conf_of("macvlan", IPV4, IPV6)
    for name in ("web", "db"):
        site.box(name)
        site.add(conf, name)
    site.serve("db", "10.1.0.3")
    site.serve("lan", "fd00:1::1")
    assert site.reaches("web", "10.1.0.3", 8080) == "10.1.0.2"
    assert site.reaches("web", "fd00:1::3") == "refused"
    assert site.reaches("web", "fd00:1::1", 8080) == "fd00:1::2"
    assert site.reaches("lan", "10.1.0.2") == "refused"
    assert "timed out" in site.reaches("web", "10.1.0.200")
    for name in ("web", "db"):
        site.delete(conf, name)
    site.machine.run("ip", "addr", "del", "10.1.0.200/24", "dev", "eth0")


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_the_mode_says_who_reaches_whom(site: Wired, mode: str) -> None:
    """private keeps containers apart; vepa leaves it to the switch, which is none that sends back here."""
    site.neighbour()
    conf = site.conf_of("macvlan", IPV4, mode=mode)
    for name in ("web", "db"):
        site.box(name)
        result = site.add(conf, name)
        assert data(site, name)["mode"] == mode
    assert site.pings("web", "10.1.0.1")
    assert (site.reaches("web", "10.1.0.3") == "refused") == (mode == "bridge")
    assert "not of type macvlan mode" in site.check(conf | {"mode": "passthru"}, result, "db").error["msg"]
    for name in ("web", "db"):
        site.delete(conf, name)


def test_passthru_has_its_parents_address_and_the_parent_to_itself(site: Wired) -> None:
    conf = site.conf_of("macvlan", IPV4, mode="passthru")
    for name in ("web", "db"):
        site.box(name)
    parents = site.link("eth0")["address"]
    assert site.add(conf)["interfaces"][0]["mac"] == parents
    error = site.call("ADD", conf, "db").error
    assert "mode passthru has to itself" in error["details"]
    site.delete(conf)
    # Asked for another, it gives it to the parent as well, until it goes.
    result = site.add(conf | {"mac": MAC % 1})
    assert {result["interfaces"][0]["mac"], site.link("eth0")["address"]} == {MAC % 1}
    assert site.link("eth0", "web")["address"] == MAC % 1
    site.delete(conf)
    assert site.link("eth0")["address"] == parents


def test_the_master_is_the_default_routes_link_unless_it_is_named(site: Wired) -> None:
    conf = site.conf_of("macvlan", IPV4)
    del conf["master"]
    site.box()
    error = site.call("ADD", conf).error
    assert error["msg"] == "master is not given, and there is no default route on this host that would lead to one"
    assert site.plugins.call("STATUS", conf).error["code"] == 50
    run = site.machine.run
    run("ip", "link", "add", "wan0", "up", "type", "veth", "peer", "name", "wan1")
    run("ip", "link", "set", "wan1", "up")
    for way in (("eth0", "metric", "200"), ("wan0", "metric", "100")):
        run("ip", "route", "add", "default", "dev", *way)
    result = site.add(conf)
    assert site.link("eth0", "web")["link_index"] == site.link("wan0")["ifindex"]
    # A default route that moves is no fault of the container's.
    run("ip", "route", "del", "default", "dev", "wan0")
    site.check(conf, result).done()
    site.delete(conf)
    run("ip", "route", "del", "default", "dev", "eth0")
    run("ip", "-6", "route", "add", "default", "dev", "wan1", "metric", "50")
    site.add(conf)
    assert site.link("eth0", "web")["link_index"] == site.link("wan1")["ifindex"]
    site.delete(conf)
    run("ip", "link", "del", "wan0")


def test_the_master_may_be_in_the_container(site: Wired) -> None:
    site.box()
    run = site.machine.run
    run("ip", "-n", "web", "link", "add", "up0", "up", "type", "veth", "peer", "name", "up1")
    run("ip", "-n", "web", "link", "set", "up1", "up")
    run("ip", "-n", "web", "route", "add", "default", "dev", "up0")
    for keys in ({"master": "up1"}, {"master": ""}):
        conf = site.conf_of("macvlan", IPV4, linkInContainer=True) | keys
        result = site.add(conf)
        at = site.link("eth0", "web")
        assert at["link"] == (keys["master"] or "up0")
        assert "link_netnsid" not in at
        site.check(conf, result).done()
        site.plugins.call("STATUS", conf | {"master": "nobody-knows"}).done()
        site.delete(conf)
    error = site.call("ADD", conf | {"master": "up2"}).error
    assert error["msg"] == "master: there is no link up2 in /run/netns/web"
    run("ip", "-n", "web", "link", "del", "up0")


def test_a_network_without_ipam_is_layer_2(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan")
    result = site.add(conf)
    assert "ips" not in result
    assert "UP" in site.link("eth0", "web")["flags"]
    assert site.machine.addresses("eth0", "web") == set()
    site.check(conf, result).done()
    site.delete(conf)
    error = site.call("ADD", conf | {"cniVersion": "0.2.0"}).error
    assert error["msg"] == "cannot convert: no valid IP addresses"
    assert site.state("web") == [[({"lo"}, set())], set(), []]


def test_a_hardware_address_is_taken_from_the_strongest_of_its_places(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4)
    places: list[tuple[dict[str, Any], str]] = [
        ({"mac": MAC % 1}, ""),
        ({}, f"IgnoreUnknown=1;MAC={MAC % 2}"),
        ({"args": {"cni": {"mac": MAC % 3}}}, ""),
        ({"runtimeConfig": {"mac": MAC % 4}}, ""),
    ]
    args = ""
    for number, (keys, words) in enumerate(places, 1):
        conf |= keys
        args = words or args
        assert site.add(conf, args=args)["interfaces"][0]["mac"] == MAC % number
        assert site.link("eth0", "web")["address"] == MAC % number
        site.delete(conf)


def test_the_mtu_is_the_parents_or_less(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "link", "set", "eth0", "mtu", "1450")
    for mtu, given in ((0, 1450), (1300, 1300), (1450, 1450)):
        conf = site.conf_of("macvlan", IPV4, mtu=mtu)
        assert site.add(conf)["interfaces"][0]["mtu"] == site.link("eth0", "web")["mtu"] == given
        site.delete(conf)
    for wrong in (1451, -1, "1400"):
        error = site.call("ADD", site.conf_of("macvlan", IPV4, mtu=wrong)).error
        assert (error["code"], error["msg"][:5]) == (7, "mtu: ")


def test_check_finds_a_link_that_somebody_has_put_in_the_place_of_ours(site: Wired) -> None:
    """Of the same kind and address, but on another parent; and, where the result says no MTU, another MTU."""
    site.box()
    run = site.machine.run
    run("ip", "link", "add", "wan0", "up", "type", "veth", "peer", "name", "wan1")
    conf = site.conf_of("macvlan", IPV4, version="0.4.0", mtu=1400)
    result = site.add(conf)
    mac = result["interfaces"][0]["mac"]
    for parent, mtu, said in (("wan0", 1400, "does not stand on eth0"), ("eth0", 1300, "has the MTU 1300, not 1400")):
        run("ip", "-n", "web", "link", "del", "eth0")
        words = ("link", parent, "netns", "web", "address", mac, "mtu", str(mtu), "type", "macvlan", "mode", "bridge")
        run("ip", "link", "add", "eth0", *words)
        run("ip", "-n", "web", "addr", "add", "10.1.0.2/24", "dev", "eth0")
        run("ip", "-n", "web", "link", "set", "eth0", "up")
        assert said in site.check(conf, result).error["msg"]
    site.delete(conf)  # it has no owner's name on it, and is of our kind: the runtime means this one
    assert site.state("web") == [[({"lo"}, set())], set(), []]
    run("ip", "link", "del", "wan0")


def test_the_queue_of_broadcasts_is_as_long_as_is_asked_for(site: Wired) -> None:
    site.box()
    conf = site.conf_of("macvlan", IPV4, bcqueuelen=2222)
    result = site.add(conf)
    assert data(site)["bcqueuelen"] == 2222
    site.check(conf, result).done()
    site.delete(conf)


def test_U15_the_neighbours_are_told_at_once_whose_the_addresses_are(site: Wired) -> None:
    """Who remembers an earlier owner of the address would else try that one for 10 seconds and more (pain 15)."""
    site.neighbour()
    stale = ("lladdr", MAC % 9, "nud", "stale", "dev", "eth0")
    for address in ("10.1.0.2", "fd00:1::2"):
        site.machine.run("ip", "-n", "lan", "neigh", "replace", address, *stale)
    site.box()
    conf = site.conf_of("macvlan", IPV4, IPV6)
    mac = site.add(conf)["interfaces"][0]["mac"]
    shown = json.loads(site.machine.text("ip", "-n", "lan", "-j", "neigh", "show"))
    known = {entry["dst"]: entry["lladdr"] for entry in shown if not entry["dst"].startswith("fe80")}
    assert known == {"10.1.0.2": mac, "fd00:1::2": mac}
    site.delete(conf)


def test_a_parent_that_serves_a_bridge_is_refused_with_a_reason(site: Wired) -> None:
    site.box()
    site.machine.run("ip", "link", "add", "br0", "type", "bridge")
    site.machine.run("ip", "link", "set", "eth0", "master", "br0")
    error = site.call("ADD", site.conf_of("macvlan", IPV4)).error
    assert error["msg"].startswith("ip link add eth0 link eth0 address ")
    assert "eth0 is a port of a bridge" in error["details"]
    assert site.state("web") == [[({"lo"}, set())], set(), []]
    site.machine.run("ip", "link", "del", "br0")
