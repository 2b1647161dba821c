"""The static plugin and the reference's: which addresses count, asked of both."""

from __future__ import annotations

from typing import Any

import pytest
from support.plugins import Plugins
from support.sides import reference_fails

V4 = {"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}
BOTH = {
    "addresses": [*V4["addresses"], {"address": "fd00:1::2/64", "gateway": "fd00:1::1"}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "0.0.0.0/0", "gw": "10.1.0.254"}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.1.0.1"], "domain": "example.org", "search": ["example.org"], "options": ["ndots:2"]},
}
NETNS = "/run/netns/none"  # an IPAM plugin does not look at it


def conf(ipam: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "static", "ipam": {"type": "static"} | ipam} | keys


def ips(side: Plugins, ipam: dict[str, Any], cni_args: str = "", **keys: Any) -> list[tuple[str, str]]:
    result = side.add(conf(ipam, **keys), NETNS, args=cni_args)
    return [(ip["address"], ip.get("gateway", "")) for ip in result.get("ips", [])]


def test_what_is_configured_is_given_as_it_stands(side: Plugins) -> None:
    result = side.add(conf(BOTH), NETNS)
    assert [(ip["address"], ip["gateway"]) for ip in result["ips"]] == [
        ("10.1.0.2/24", "10.1.0.1"),
        ("fd00:1::2/64", "fd00:1::1"),
    ]
    assert (result["routes"], result["dns"]) == (BOTH["routes"], BOTH["dns"])
    side.check(conf(BOTH), result, NETNS).done()
    side.delete(conf(BOTH), NETNS)


def test_cni_args_add_addresses_and_give_gateways_to_those_of_their_subnet_that_have_none(side: Plugins) -> None:
    args = "IgnoreUnknown=1;IP=10.9.0.2/24, fd00:9::2/64;GATEWAY=10.9.0.254,fd00:9::1,10.1.0.77"
    assert ips(side, V4, args) == [
        ("10.1.0.2/24", "10.1.0.1"),
        ("10.9.0.2/24", "10.9.0.254"),
        ("fd00:9::2/64", "fd00:9::1"),
    ]


def test_B11_the_strongest_place_counts_alone(side: Plugins) -> None:
    args = "IgnoreUnknown=1;IP=10.9.0.2/24;GATEWAY=10.9.0.1"
    weaker: dict[str, Any] = {"args": {"cni": {"ips": ["10.8.0.2/24", "fd00:8::2/64"]}}}
    assert ips(side, V4, args, **weaker) == [("10.8.0.2/24", ""), ("fd00:8::2/64", "")]
    assert ips(side, V4, args, **weaker, runtimeConfig={"ips": ["10.7.0.2/24"]}) == [("10.7.0.2/24", "")]


@pytest.mark.parametrize(
    ("ipam", "keys", "args"),
    [
        ({"addresses": [{"address": "10.1.0.2"}]}, {}, ""),
        ({"addresses": [{"address": "10.1.0.2/24", "gateway": "nine"}]}, {}, ""),
        (V4, {}, "IP=10.1.0.3"),
        (V4, {}, "GATEWAY=10.1.0.256"),
        (V4, {"runtimeConfig": {"ips": ["10.1.0.3"]}}, ""),
        (V4, {"args": {"cni": {"ips": ["10.1.0.3"]}}}, ""),
        (V4, {"ipam": None}, "IP=10.1.0.2/24"),
    ],
)
def test_what_is_no_address_with_a_prefix_length_is_refused(
    side: Plugins, ipam: dict[str, Any], keys: dict[str, Any], args: str
) -> None:
    assert side.call("ADD", conf(ipam) | keys, NETNS, args=args).exit != 0


@reference_fails("finds nothing wrong")
def test_P14_check_misses_an_address_that_the_result_has_not(side: Plugins) -> None:
    result = side.add(conf(V4), NETNS)
    assert side.check(conf(BOTH), result, NETNS).exit != 0
