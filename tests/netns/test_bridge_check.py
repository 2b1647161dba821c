"""CHECK, GC and STATUS of the bridge plugin: whatever ADD made and somebody broke is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, LEASES, Site

pytestmark = pytest.mark.leaves(*SHARED)


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


Breaker = Callable[[Site, str], object]


def host(command: str) -> Breaker:
    return lambda site, port: site.machine.run(*command.replace("PORT", port).split())


def inside(command: str) -> Breaker:
    return lambda site, _port: site.machine.run("ip", "-n", "web", *command.split())


FAULTS: list[tuple[Breaker, str]] = [
    (inside("addr del 10.1.0.2/24 dev eth0"), "eth0 in /run/netns/web does not have the address 10.1.0.2/24"),
    (inside("addr del fd00:1::2/64 dev eth0"), "does not have the address fd00:1::2/64"),
    (inside("route del default"), "there is no route to 0.0.0.0/0 via 10.1.0.1 by eth0 in /run/netns/web"),
    (inside("route replace default via 10.1.0.9"), "there is no route to 0.0.0.0/0 via 10.1.0.1"),
    (inside("link set eth0 down"), "eth0 in /run/netns/web is down"),
    (inside("link set eth0 address 02:00:00:00:00:99"), "has the hardware address 02:00:00:00:00:99, not "),
    (inside("link del eth0"), "there is no link eth0 in /run/netns/web"),
    (host("ip link set PORT nomaster"), "eth0 is not connected to cni0"),
    (host("ip link set PORT down"), "is down"),
    (host("ip link set PORT type bridge_slave hairpin off"), "hairpin mode is off"),
    (host("ip addr del 10.1.0.1/24 dev cni0"), "cni0 does not have the address 10.1.0.1/24"),
    (host("ip link set cni0 down"), "cni0 is down"),
    (host("sysctl -qw net/ipv4/ip_forward=0"), "net/ipv4/ip_forward is 0"),
    (host("nft flush ruleset"), "nftables: "),
    (host("ip link set PORT mtu 1300"), "has the MTU 1300, not 1500"),
    (inside("route del 10.1.0.0/24"), "there is no route to 10.1.0.0/24, the subnet of 10.1.0.2, by eth0 in "),
    (inside("-6 route del fd00:1::/64"), "there is no route to fd00:1::/64, the subnet of fd00:1::2, by eth0 in "),
    (lambda _site, _port: (LEASES / "net" / "10.1.0.2").unlink(), "10.1.0.2"),
]


@pytest.mark.parametrize(("broken", "said"), FAULTS, ids=[said for _broken, said in FAULTS])
def test_P14_B5_check_names_what_is_broken(site: Site, broken: Breaker, said: str) -> None:
    conf = site.conf(IPV4, IPV6, isDefaultGateway=True, ipMasq=True, hairpinMode=True)
    site.box()
    result = site.add(conf)
    site.check(conf, result).done()
    broken(site, result["interfaces"][1]["name"])
    error = site.check(conf, result).error
    assert said in error["msg"]
    site.delete(conf)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_P15_check_passes_after_add(site: Site, version: str) -> None:
    site.box()
    for conf in (
        site.conf(version=version),
        site.conf(IPV4, version=version),
        site.conf(IPV4, IPV6, version=version, ipMasq=True, isDefaultGateway=True, promiscMode=True),
    ):
        site.check(conf, site.add(conf)).done()
        site.delete(conf)


def test_check_needs_the_previous_result_and_a_version_that_has_it(site: Site) -> None:
    site.box()
    assert site.call("CHECK", site.conf(IPV4)).error["msg"] == "prevResult is missing"
    assert site.call("CHECK", site.conf(IPV4, version="0.3.1")).error["code"] == 1


def test_check_sees_that_promiscuity_is_gone(site: Site) -> None:
    conf = site.conf(IPV4, promiscMode=True)
    site.box()
    result = site.add(conf)
    site.machine.run("ip", "link", "set", "cni0", "promisc", "off")
    assert site.check(conf, result).error["msg"] == "cni0 is not promiscuous"
    site.delete(conf)


def test_check_does_not_take_another_interfaces_addresses_for_its_own(site: Site) -> None:
    conf = site.conf(IPV4)
    site.box()
    result = site.add(conf)
    result["interfaces"].append({"name": "other0", "sandbox": "/run/netns/web"})
    result["ips"].append({"address": "10.9.0.2/24", "interface": 3})
    site.check(conf, result).done()
    site.delete(conf)


def test_P13_U22_check_accepts_a_route_that_a_later_plugin_moved_to_a_table(site: Site) -> None:
    conf = site.conf(IPV4, isDefaultGateway=True)
    site.box()
    result = site.add(conf)
    site.machine.run("ip", "-n", "web", "route", "del", "default")
    site.machine.run("ip", "-n", "web", "route", "add", "default", "via", "10.1.0.1", "dev", "eth0", "table", "100")
    site.check(conf, result).done()
    site.delete(conf)


WAY = {"dst": "10.9.0.0/16", "gw": "10.1.0.7", "table": 77, "priority": 50, "mtu": 1300, "advmss": 1200}
WORDS = "10.9.0.0/16 via 10.1.0.7 dev eth0 table 77 metric 50 advmss 1200 mtu 1300"


@pytest.mark.parametrize("said", ["table 77", "metric 50", "mtu 1300", "advmss 1200"])
def test_P14_check_looks_at_all_that_a_route_says_of_itself(site: Site, said: str) -> None:
    word, _, number = said.partition(" ")
    conf = site.conf(IPV4, ipam={"type": "host-local", "subnet": IPV4, "routes": [WAY]})
    site.box()
    result = site.add(conf)
    site.check(conf, result).done()
    for change in (f"route del {WORDS}", f"route add {WORDS}".replace(said, f"{word} {int(number) + 1}")):
        site.machine.run("ip", "-n", "web", *change.split())
        error = site.check(conf, result).error
        assert "there is no route to 10.9.0.0/16 via 10.1.0.7 by eth0" in error["msg"]
        assert error["details"] == f"it was made by: ip -n web route prepend {WORDS}"
    site.delete(conf)


@pytest.mark.parametrize("scope", ["link", "global"])
def test_P14_check_looks_at_the_scope_of_a_route(site: Site, scope: str) -> None:
    """A network without gateways: what is reached on the link itself."""
    route = {"dst": "10.9.0.0/16", "scope": 253}
    conf = site.conf(IPV4, isGateway=False, ipam={"type": "static", "addresses": [{"address": "10.1.0.2/24"}]})
    conf["ipam"]["routes"] = [route]
    site.box()
    result = site.add(conf)
    site.machine.run("ip", "-n", "web", "route", "replace", "10.9.0.0/16", "dev", "eth0", "scope", scope)
    answer = site.check(conf, result)
    assert (answer.exit == 0) is (scope == "link"), answer
    site.delete(conf)


# --- GC and STATUS --------------------------------------------------------------------------------------------------


def valid(*names: str) -> dict[str, Any]:
    return {"cni.dev/valid-attachments": [{"containerID": name, "ifname": "eth0"} for name in names]}


def test_P18_P19_gc_takes_away_what_belongs_to_nobody_alive(site: Site) -> None:
    conf = site.conf(IPV4, IPV6, ipMasq=True)
    other = site.conf("10.2.0.0/24", name="other", bridge="cni1")
    for name in ("web", "db", "dead"):
        site.box(name)
        site.add(conf, name)
    site.box("far")
    kept = site.add(other, "far")["interfaces"][1]["name"]
    site.machine.run("ip", "netns", "del", "dead")
    site.plugins.call("GC", conf | valid("web")).done()
    assert len(site.ports() - {kept}) == 1
    assert kept in site.ports()
    assert site.machine.links("web") == {"lo", "eth0"}
    assert site.machine.links("db") == {"lo"}
    assert site.leases() == {"10.1.0.2", "fd00:1::2"}
    assert site.leases("other") == {"10.2.0.2"}
    assert site.machine.elements() != []
    site.plugins.call("GC", conf | valid()).done()
    assert (site.ports(), site.leases(), site.machine.elements()) == ({kept}, set(), [])
    site.delete(other, "far")


def test_gc_without_a_list_disconnects_nobody(site: Site) -> None:
    conf = site.conf(IPV4)
    site.box()
    site.add(conf)
    assert "cni.dev/valid-attachments is missing" in site.plugins.call("GC", conf).error["msg"]
    assert len(site.ports()) == 1
    site.delete(conf)


def test_P16_P17_status_is_the_ipams_and_the_configurations(site: Site) -> None:
    full = site.conf(IPV4, ipam={"type": "host-local", "subnet": IPV4, "rangeEnd": "10.1.0.2"})
    site.plugins.call("STATUS", full).done()
    site.box()
    site.add(full)
    assert site.plugins.call("STATUS", full).error["code"] == 50
    assert site.plugins.call("STATUS", site.conf(IPV4, vlan=-7)).error["code"] == 7
    assert site.plugins.call("STATUS", site.conf(bridge="lo")).error["code"] == 50
    site.delete(full)
