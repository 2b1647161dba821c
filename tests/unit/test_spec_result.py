"""Results of every version: what goes in comes out again, as far as each version has words for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec import versions
from cni_plugins.spec.convert import decode, encode
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import Address, Cidr, parse_address, parse_cidr
from cni_plugins.spec.jsontext import dumps, loads
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Dns, Interface, Ip, Result, Route

OLD = ("0.1.0", "0.2.0")
VERSIONED = ("0.3.0", "0.3.1", "0.4.0")
NEW = ("1.0.0", "1.1.0")

words = st.text(max_size=8)
numbers = st.integers(0, 2**32 - 1)
addresses = st.ip_addresses().map(lambda ip: Address(ip.version, int(ip)))
cidrs = addresses.flatmap(
    lambda address: st.integers(0, 32 if address.family == 4 else 128).map(lambda n: Cidr(address, n))
)
interfaces = st.builds(Interface, words, words, numbers, words, words, words)
routes = st.builds(
    Route,
    cidrs.map(lambda cidr: cidr.network),
    st.none() | addresses,
    numbers,
    numbers,
    numbers,
    st.none() | numbers,
    st.none() | st.integers(0, 255),
)
lists_of_words = st.lists(words, max_size=3).map(tuple)
dns = st.builds(Dns, lists_of_words, words, lists_of_words, lists_of_words)


@st.composite
def results(draw: st.DrawFn) -> Result:
    links = tuple(draw(st.lists(interfaces, max_size=3)))
    indexes = st.none() | st.integers(0, len(links) - 1) if links else st.none()
    ips = draw(st.lists(st.builds(Ip, cidrs, st.none() | addresses, indexes), max_size=4))
    return Result(links, tuple(ips), tuple(draw(st.lists(routes, max_size=3))), draw(dns))


def _bare(result: Result) -> Result:
    """What 0.3.0 to 0.4.0 have no words for left out."""
    return replace(result, interfaces=tuple(Interface(i.name, i.mac, 0, i.sandbox) for i in result.interfaces))


def _oldest(result: Result) -> Result:
    """What 0.1.0 and 0.2.0 can hold: the first address of each family, and routes of the families that have one."""
    first = [next((ip for ip in result.ips if ip.address.family == family), None) for family in (4, 6)]
    kept = [replace(ip, interface=None) for ip in first if ip]
    routes = [Route(r.dst, r.gw) for ip in kept for r in result.routes if r.dst.family == ip.address.family]
    return Result((), tuple(kept), tuple(routes), result.dns)


PROJECTION = dict.fromkeys(NEW, lambda result: result) | dict.fromkeys(VERSIONED, _bare) | dict.fromkeys(OLD, _oldest)


def through(result: Result, version: str) -> Result:
    """Out to text and back."""
    return decode(loads(dumps(encode(result, version))))


@pytest.mark.parametrize("version", versions.ALL)
@given(result=results())
def test_a_result_survives_every_version_as_far_as_it_has_words(version: str, result: Result) -> None:
    if version in OLD and not result.ips and (result.interfaces or result.routes):
        with pytest.raises(CniError) as caught:
            encode(result, version)
        assert (caught.value.code, caught.value.msg) == (1, "cannot convert: no valid IP addresses")
        return
    assert through(result, version) == PROJECTION[version](result)


@pytest.mark.parametrize("version", versions.ALL)
@given(result=results())
def test_converting_down_at_once_or_by_steps_is_the_same(version: str, result: Result) -> None:
    for between in versions.ALL[versions.ALL.index(version) :]:
        if result.ips:
            assert encode(through(result, between), version) == encode(result, version)


@pytest.mark.parametrize("version", versions.ALL)
@given(result=results())
def test_nothing_empty_is_written(version: str, result: Result) -> None:
    """Go leaves empty strings, lists and zeroes away; `dns` alone stands empty, before 1.0.0."""
    if version in OLD and not result.ips:
        return
    document = encode(result, version)
    assert document.pop("cniVersion") == version
    bare = document.pop("dns", {"nothing": 1})
    assert bare if version in NEW else True
    assert ("dns" not in encode(result, version)) is (version in NEW and not result.dns)
    assert _empty(document) == []


def _empty(value: Any, path: str = "") -> list[str]:
    """Paths of what says nothing: `interface` and `table` 0 say something, an interface's name is always there."""
    if isinstance(value, dict):
        return [bad for key, item in value.items() for bad in _empty(item, f"{path}.{key}")]
    if isinstance(value, list):
        if not value:
            return [path]
        return [bad for index, item in enumerate(value) for bad in _empty(item, f"{path}[{index}]")]
    says = path.endswith((".name", ".interface", ".table", ".scope"))
    return [] if value or says else [path]


FULL = Result(
    (
        Interface("br0", "aa:aa:aa:aa:aa:aa"),
        Interface("eth0", "bb:bb:bb:bb:bb:bb", 1400, "/run/netns/x", "/sock", "0000:00"),
    ),
    (
        Ip(parse_cidr("10.1.0.5/16"), parse_address("10.1.0.1"), 1),
        Ip(parse_cidr("2001:db8::5/64"), parse_address("2001:db8::1"), 0),
        Ip(parse_cidr("10.2.0.5/16")),
    ),
    (
        Route(parse_cidr("0.0.0.0/0"), parse_address("10.1.0.1"), 1300, 1200, 5, 0, 253),
        Route(parse_cidr("2001:db8:1::/48")),
        Route(parse_cidr("10.9.0.0/16")),
    ),
    Dns(("9.9.9.9",), "local", ("a", "b"), ("ndots:2",)),
)

DNS = {"nameservers": ["9.9.9.9"], "domain": "local", "search": ["a", "b"], "options": ["ndots:2"]}
ROUTES = [
    {"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300, "advmss": 1200, "priority": 5, "table": 0, "scope": 253},
    {"dst": "2001:db8:1::/48"},
    {"dst": "10.9.0.0/16"},
]
IPS = [
    {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
    {"address": "2001:db8::5/64", "gateway": "2001:db8::1", "interface": 0},
    {"address": "10.2.0.5/16"},
]


def test_the_shape_of_1_1_0() -> None:
    assert encode(FULL, "1.1.0") == {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br0", "mac": "aa:aa:aa:aa:aa:aa"},
            {
                "name": "eth0",
                "mac": "bb:bb:bb:bb:bb:bb",
                "mtu": 1400,
                "sandbox": "/run/netns/x",
                "socketPath": "/sock",
                "pciID": "0000:00",
            },
        ],
        "ips": IPS,
        "routes": ROUTES,
        "dns": DNS,
    }


def test_the_shape_of_0_4_0() -> None:
    document = encode(FULL, "0.4.0")
    assert [ip.pop("version") for ip in document["ips"]] == ["4", "6", "4"]
    assert document == {
        "cniVersion": "0.4.0",
        "interfaces": [
            {"name": "br0", "mac": "aa:aa:aa:aa:aa:aa"},
            {"name": "eth0", "mac": "bb:bb:bb:bb:bb:bb", "sandbox": "/run/netns/x"},
        ],
        "ips": IPS,
        "routes": ROUTES,
        "dns": DNS,
    }


def test_the_shape_of_0_2_0() -> None:
    assert encode(FULL, "0.2.0") == {
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.1.0.5/16",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16"}],
        },
        "ip6": {"ip": "2001:db8::5/64", "gateway": "2001:db8::1", "routes": [{"dst": "2001:db8:1::/48"}]},
        "dns": DNS,
    }


def test_an_empty_result_is_an_answer_from_0_3_0_on() -> None:
    assert encode(Result(), "1.0.0") == {"cniVersion": "1.0.0"}
    assert encode(Result(), "0.4.0") == {"cniVersion": "0.4.0", "dns": {}}


def test_no_interface_can_be_said_in_three_ways() -> None:
    for ip in (
        {"address": "10.0.0.1/8"},
        {"address": "10.0.0.1/8", "interface": -1},
        {"address": "10.0.0.1/8", "interface": None},
    ):
        assert decode({"cniVersion": "1.0.0", "ips": [ip]}).ips[0].interface is None


def test_a_result_without_a_version_is_of_the_one_that_was_asked_for() -> None:
    assert decode({"ip4": {"ip": "10.0.0.1/8"}}, "0.2.0").ips == (Ip(parse_cidr("10.0.0.1/8")),)
    assert decode({"cniVersion": "", "ips": [{"address": "10.0.0.1/8"}]}).ips == (Ip(parse_cidr("10.0.0.1/8")),)


@pytest.mark.parametrize("version", ["0.5.0", "1.1", "2.0.0", "x"])
def test_versions_that_nobody_knows_are_refused_both_ways(version: str) -> None:
    for attempt in (lambda: decode({"cniVersion": version}), lambda: encode(FULL, version)):
        with pytest.raises(CniError) as caught:
            attempt()
        assert caught.value.code == 1
        assert repr(version) in caught.value.msg


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"interfaces": {}}, "result.interfaces: expected a list"),
        ({"interfaces": [7]}, "result.interfaces[0]: expected an object"),
        ({"interfaces": [{"name": 7}]}, "result.interfaces[0].name: expected a string"),
        ({"ips": [{}]}, "result.ips[0].address: expected an address"),
        ({"ips": [{"address": "10.0.0.1"}]}, "result.ips[0].address: '10.0.0.1' has no prefix length"),
        ({"ips": [{"address": "10.0.0.1/8", "gateway": "x"}]}, "result.ips[0].gateway: 'x' is not an IP address"),
        ({"ips": [{"address": "10.0.0.1/8", "interface": 1}]}, "result.ips[0].interface: there is no interface 1"),
        ({"routes": [{"dst": ""}]}, "result.routes[0].dst: expected a destination"),
        ({"routes": [{"dst": "::/0", "mtu": -1}]}, "result.routes[0].mtu: expected an integer from 0"),
        ({"routes": [{"dst": "::/0", "scope": 256}]}, "result.routes[0].scope: expected an integer from 0 to 255"),
        ({"dns": {"search": [1]}}, "result.dns.search[0]: expected a string, got 1"),
    ],
)
def test_what_is_wrong_with_a_result_is_named_by_its_path(document: dict[str, Any], where: str) -> None:
    with pytest.raises(CniError) as caught:
        decode({"cniVersion": "1.1.0"} | document)
    assert caught.value.code == 7
    assert caught.value.msg.startswith(where)


@given(results())
def test_the_text_of_a_result_is_json_for_everybody(result: Result) -> None:
    document = encode(result, "1.1.0")
    assert json.loads(dumps(document)) == document
