"""What a new network must keep clear of: the host's links, addresses and routes, judged by `ip`."""

from __future__ import annotations

import ipaddress

import pytest
from support.machine import Machine

from cni_plugins.spec.ip import parse_network
from minirt.netadmin import hostnet, subnets


@pytest.fixture(autouse=True)
def network(machine: Machine) -> None:
    machine.leaves("link *", "address *", "route *", "rule *", "in netns *")
    for line in (
        "link add br0 type bridge",
        "link set br0 up",
        "addr add 10.1.0.1/24 dev br0",
        "addr add fd00:1::1/64 dev br0 nodad",
        "addr add 10.5.0.1 peer 10.5.0.2/32 dev br0",
        "route add 0.0.0.0/1 via 10.1.0.2",
        "route add default via 10.1.0.2",
        "route add 10.9.0.0/16 via 10.1.0.2 table 77",
        "route add 10.10.0.0/16 nexthop via 10.1.0.3 nexthop via 10.1.0.4",
        "route add blackhole 10.77.0.0/16",
        "-6 route add fd00:9::/48 via fd00:1::2",
    ):
        machine.run("ip", *line.split())


def test_links_have_their_kinds(machine: Machine) -> None:
    assert hostnet.look().links == {
        link["ifname"]: link.get("linkinfo", {}).get("info_kind", "") for link in machine.ip("link")
    }


def test_addresses_are_those_that_ip_shows(machine: Machine) -> None:
    shown = {
        (link["ifname"], str(ipaddress.ip_interface(f"{item.get('address') or item['local']}/{item['prefixlen']}")))
        for link in machine.ip("addr")
        for item in link["addr_info"]
        if item["scope"] != "link"
    }
    assert {(claim.link, str(claim.cidr)) for claim in hostnet.look().addresses} == shown
    assert ("br0", "10.5.0.2/32") in shown


def test_routes_are_those_that_packets_take() -> None:
    """Of every table; not those that lead to this host itself, or nowhere. A default route has no destination."""
    routes = {str(claim.cidr): claim.link for claim in hostnet.look().routes}
    assert {cidr: link for cidr, link in routes.items() if link} == {
        "0.0.0.0/1": "br0",
        "10.1.0.0/24": "br0",
        "10.5.0.2/32": "br0",
        "10.9.0.0/16": "br0",
        "fd00:1::/64": "br0",
        "fd00:9::/48": "br0",
    }
    assert routes.keys() - {"10.10.0.0/16"} == {cidr for cidr, link in routes.items() if link}


@pytest.mark.parametrize("taken", ["10.1.0.128/25", "10.5.0.0/24", "10.9.8.0/24", "10.10.0.0/24", "fd00:9:0:7::/64"])
def test_a_subnet_in_any_of_them_is_not_free(taken: str) -> None:
    host = hostnet.look()
    found = subnets.collision([parse_network(taken)], (*host.addresses, *host.routes))
    assert found is not None and str(found[0]) == taken
