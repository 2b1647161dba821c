"""dhcp, asked of both sides: each plugin with its own daemon, before the same server.

The plugins are called as a main plugin calls them, for a link that the test has made.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lan import BRIDGE, SIDE_SOCKET, Lan, until
from support.plugins import Plugins
from support.sides import reference_fails

ROUTES = ("3,10.77.0.1", "33,192.168.9.0,10.77.0.1")
CLASSLESS = ("3,10.77.0.1", "121,192.168.5.0/24,10.77.0.2,0.0.0.0/0,10.77.0.3")


@pytest.fixture
def lan(side: Plugins) -> Iterator[Lan]:
    lan = Lan(side.machine, side)
    yield lan
    lan.close()


def box(lan: Lan, name: str = "web", *links: str) -> str:
    """A container with links to the network, over which frames pass: the reference asks again after 2 seconds."""
    path = lan.machine.netns(name)
    for link in links or ("eth0",):
        ends = (f"{name}-{link}", "master", BRIDGE, "up", "type", "veth", "peer", link, "netns", name)
        lan.machine.run("ip", "link", "add", *ends)
        lan.machine.run("ip", "-n", name, "link", "set", link, "up")
        wait_passing(lan, f"{name}-{link}")
    return path


def wait_passing(lan: Lan, link: str) -> None:
    def port() -> dict[str, Any]:
        (found,) = lan.machine.ip("link", "show", link)
        data: dict[str, Any] = found["linkinfo"]["info_slave_data"]
        return data

    until(lambda: port()["state"] == "forwarding", f"frames pass over {link}")


def conf(lan: Lan, **ipam: Any) -> dict[str, Any]:
    return lan.conf("dhcp", {"daemonSocketPath": SIDE_SOCKET, **ipam}, cniVersion="1.0.0")


def address(result: dict[str, Any]) -> str:
    (ip,) = result["ips"]
    return str(ip["address"]).partition("/")[0]


def clear(lan: Lan) -> None:
    """Take the links away, when all that was asked has been answered."""
    for name in lan.machine.links() - {"lo", BRIDGE}:
        lan.machine.run("ip", "link", "del", name)


def test_add_gets_a_lease_and_del_gives_it_back(lan: Lan) -> None:
    lan.dnsmasq(options=ROUTES)
    lan.side_daemon()
    netns = box(lan)
    result = lan.plugins.add(conf(lan, request=[{"option": "33"}]), netns)
    given = address(result)
    assert lan.leases() == {given: "\0web/lan/eth0"}
    assert (result["ips"][0]["address"], result["ips"][0]["gateway"]) == (f"{given}/24", "10.77.0.1")
    assert [(way["dst"], way["gw"]) for way in result["routes"]] == [
        ("192.168.9.0/24", "10.77.0.1"),
        ("0.0.0.0/0", "10.77.0.1"),
    ]
    lan.plugins.delete(conf(lan), netns)
    lan.leased()
    lan.plugins.delete(conf(lan), netns)
    clear(lan)


def test_classless_routes_count_before_all_others(lan: Lan) -> None:
    lan.dnsmasq(options=CLASSLESS)
    lan.side_daemon()
    netns = box(lan)
    result = lan.plugins.add(conf(lan, request=[{"option": "121"}]), netns)
    ways = [(way["dst"], way["gw"]) for way in result["routes"]]
    assert ways == [("192.168.5.0/24", "10.77.0.2"), ("0.0.0.0/0", "10.77.0.3")]
    lan.plugins.delete(conf(lan), netns)
    clear(lan)


@reference_fails("drops the name servers and domains that the DHCP server gives")
def test_the_servers_dns_is_in_the_result(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    netns = box(lan)
    wishes = {"request": [{"option": number} for number in ("6", "15", "119")]}
    result = lan.plugins.add(conf(lan, **wishes), netns)
    assert result["dns"] == {"nameservers": ["10.77.0.1"], "domain": "lan.test", "search": ["lan.test", "corp.test"]}
    lan.plugins.delete(conf(lan), netns)
    clear(lan)


def test_three_are_taken_down_at_once(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    names = ("one", "two", "three")
    paths = {name: box(lan, name) for name in names}
    given = {address(lan.plugins.add(conf(lan), paths[name], container=name)) for name in names}
    assert len(given) == 3
    for process in [lan.plugins.start("DEL", conf(lan), paths[name], container=name) for name in names]:
        lan.plugins.finish(process).done()
    lan.leased()
    clear(lan)


def test_B8_two_interfaces_of_one_container_have_a_lease_each(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    netns = box(lan, "web", "eth0", "eth1")
    first, second = (address(lan.plugins.add(conf(lan), netns, ifname=name)) for name in ("eth0", "eth1"))
    assert first != second
    lan.plugins.delete(conf(lan), netns, ifname="eth0")
    lan.leased(second)
    lan.plugins.delete(conf(lan), netns, ifname="eth1")
    lan.leased()
    clear(lan)


@reference_fails("gives the same lease to whoever adds the attachment once more")
def test_B4_add_twice_is_an_error_that_changes_nothing(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    netns = box(lan)
    given = address(lan.plugins.add(conf(lan), netns))
    again = lan.plugins.call("ADD", conf(lan), netns)
    lan.leased(given)
    lan.plugins.delete(conf(lan), netns)
    clear(lan)
    assert "already" in again.error["msg"]


@reference_fails("forgets all leases when the daemon ends, and never renews them", "p#235, p#767")
def test_U18_a_lease_outlives_the_daemon(lan: Lan) -> None:
    lan.dnsmasq(soon=True)
    daemon = lan.side_daemon()
    netns = box(lan)
    given = address(lan.plugins.add(conf(lan), netns))
    lan.machine.run("ip", "-n", "web", "addr", "add", f"{given}/24", "dev", "eth0")  # as the main plugin does
    so_far = lan.count("DHCPACK")
    lan.end(daemon)
    Path(SIDE_SOCKET).unlink(missing_ok=True)
    lan.side_daemon()
    until(lambda: lan.count("DHCPACK") > so_far, "the lease is renewed", 5)
    lan.plugins.delete(conf(lan), netns)
    lan.leased()
    clear(lan)


@reference_fails("fails DEL without its daemon, so that the container cannot be removed", "p#440")
def test_U18_del_does_without_the_daemon(lan: Lan) -> None:
    lan.dnsmasq()
    daemon = lan.side_daemon()
    netns = box(lan)
    lan.plugins.add(conf(lan), netns)
    lan.end(daemon)
    lan.plugins.delete(conf(lan), netns)
    lan.leased()
    clear(lan)


@reference_fails("does not start where a daemon that was killed has left its socket")
def test_a_socket_left_behind_is_replaced(lan: Lan) -> None:
    lan.end(lan.side_daemon(), signal.SIGKILL)
    assert os.path.exists(SIDE_SOCKET)
    lan.side_daemon()


@reference_fails("has CHECK get a lease where there is none")
def test_check_acquires_nothing(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    netns = box(lan)
    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.77.0.20/24"}]}
    answer = lan.plugins.check(conf(lan), result, netns)
    clear(lan)
    assert answer.exit == 1
    assert lan.leases() == {}


@reference_fails("keeps the namespace of a container that has gone, with its links, as long as the daemon runs")
def test_a_namespace_is_not_kept_alive(lan: Lan) -> None:
    lan.dnsmasq()
    lan.side_daemon()
    netns = box(lan)
    lan.plugins.add(conf(lan), netns)
    lan.machine.run("ip", "netns", "del", "web")
    until(lambda: lan.machine.links() == {"lo", BRIDGE}, "the links go with their namespace", 3)
    lan.plugins.delete(conf(lan), netns)
