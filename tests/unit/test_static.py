"""static: which of the places that may speak of addresses counts, and what is wrong with what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_plugins.sdk.main import Outcome, dispatch
from cni_plugins.static import PLUGIN

BOTH = {
    "addresses": [
        {"address": "10.1.0.2/24", "gateway": "10.1.0.1"},
        {"address": "fd00:1::2/64", "gateway": "fd00:1::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "0.0.0.0/0", "gw": "10.1.0.254"}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.1.0.1"], "domain": "example.org", "search": ["example.org"], "options": ["ndots:2"]},
}
V4 = {"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}


def answer(command: str, ipam: Any = V4, cni_args: str = "", version: str = "1.1.0", **keys: Any) -> Outcome:
    conf = {"cniVersion": version, "name": "net", "type": "bridge", "ipam": ipam and {"type": "static", **ipam}} | keys
    env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "web", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/none"}
    return dispatch(PLUGIN, env | {"CNI_PATH": "/bin", "CNI_ARGS": cni_args}, lambda: json.dumps(conf).encode())


def given(**call: Any) -> dict[str, Any]:
    outcome = answer("ADD", **call)
    assert outcome.exit == 0, outcome
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def ips(**call: Any) -> list[tuple[str, str]]:
    return [(ip["address"], ip.get("gateway", "")) for ip in given(**call).get("ips", [])]


def refused(command: str = "ADD", **call: Any) -> tuple[int, str]:
    document = json.loads(answer(command, **call).stdout)
    return document["code"], document["msg"]


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_what_is_configured_is_given_as_it_stands(version: str) -> None:
    result = given(ipam=BOTH, version=version)
    assert [(ip["address"], ip["gateway"]) for ip in result["ips"]] == [
        ("10.1.0.2/24", "10.1.0.1"),
        ("fd00:1::2/64", "fd00:1::1"),
    ]
    assert (result["routes"], result["dns"]) == (BOTH["routes"], BOTH["dns"])
    assert "interfaces" not in result


def test_the_oldest_versions_have_one_address_a_family() -> None:
    assert given(ipam=V4, version="0.2.0")["ip4"] == {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"}
    two = {"addresses": [{"address": "10.1.0.2/24"}, {"address": "10.2.0.2/24"}]}
    text = "CNI version 0.2.0 does not support more than 1 address per family"
    assert refused(ipam=two, version="0.2.0") == (7, text)
    assert refused(ipam=V4, cni_args="IP=10.9.0.2/24", version="0.1.0")[1].startswith("CNI version 0.1.0 does not")


def test_cni_args_add_addresses_and_give_gateways_to_those_of_their_subnet_that_have_none() -> None:
    args = "IP=10.9.0.2/24, fd00:9::2/64;GATEWAY=10.9.0.254,fd00:9::1,10.1.0.77,192.0.2.1"
    assert ips(cni_args=args) == [
        ("10.1.0.2/24", "10.1.0.1"),
        ("10.9.0.2/24", "10.9.0.254"),
        ("fd00:9::2/64", "fd00:9::1"),
    ]
    bare = {"addresses": [{"address": "10.1.0.2/24"}]}
    assert ips(ipam=bare, cni_args=args)[0] == ("10.1.0.2/24", "10.1.0.77")
    assert ips(ipam={"addresses": []}, cni_args="IP=10.9.0.2/24") == [("10.9.0.2/24", "")]


def test_the_strongest_place_counts_alone() -> None:
    args, weaker = "IP=10.9.0.2/24;GATEWAY=10.9.0.1", {"args": {"cni": {"ips": ["10.8.0.2/24", "fd00:8::2/64"]}}}
    assert ips(cni_args=args, **weaker) == [("10.8.0.2/24", ""), ("fd00:8::2/64", "")]
    strongest = weaker | {"runtimeConfig": {"ips": ["10.7.0.2/24"]}}
    assert ips(cni_args=args, **strongest) == [("10.7.0.2/24", "")]
    nothing_asked: dict[str, Any] = weaker | {"runtimeConfig": {"ips": []}}
    assert ips(cni_args=args, **nothing_asked) == [("10.8.0.2/24", ""), ("fd00:8::2/64", "")]


def test_nothing_configured_is_nothing_given() -> None:
    assert given(ipam={}) == {"cniVersion": "1.1.0"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"ipam": None}, "ipam: missing"),
        ({"ipam": None, "cni_args": "IP=10.1.0.2/24"}, "ipam: missing"),
        ({"ipam": None, "runtimeConfig": {"ips": ["10.1.0.2/24"]}}, "ipam: missing"),
        (
            {"ipam": {"addresses": [{"address": "10.1.0.2"}]}},
            "ipam.addresses[0].address: '10.1.0.2' has no prefix length (expected ADDRESS/LENGTH)",
        ),
        (
            {"ipam": {"addresses": [{"address": "10.1.0.2/24"}, {}]}},
            "ipam.addresses[1].address: expected an address with its prefix length, got nothing",
        ),
        (
            {"ipam": {"addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1/24"}]}},
            "ipam.addresses[0].gateway: '10.1.0.1/24' is not an IP address",
        ),
        ({"ipam": {"addresses": "10.1.0.2/24"}}, 'ipam.addresses: expected a list, got "10.1.0.2/24"'),
        ({"ipam": {"routes": [{"dst": "10.0.0.0"}]}}, "ipam.routes[0].dst: '10.0.0.0' has no prefix length"),
        ({"cni_args": "IP=10.1.0.3"}, "IP in CNI_ARGS: '10.1.0.3' has no prefix length"),
        ({"cni_args": "IP=10.1.0.3/24,"}, "IP in CNI_ARGS: '' has no prefix length"),
        ({"cni_args": "GATEWAY=10.1.0.256"}, "GATEWAY in CNI_ARGS: '10.1.0.256' is not an IP address"),
        (
            {"runtimeConfig": {"ips": ["10.1.0.3/33"]}},
            "runtimeConfig.ips[0]: '10.1.0.3/33' has no valid prefix",
        ),
        ({"args": {"cni": {"ips": ["nine"]}}}, "args.cni.ips[0]: 'nine' has no prefix length"),
        ({"runtimeConfig": {"ips": [7]}}, "runtimeConfig.ips[0]: expected a string, got 7"),
        ({"ipam": {"addreses": []}}, "ipam.addreses: unknown key"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_what_is_wrong_is_named_with_its_place(command: str, call: dict[str, Any], said: str) -> None:
    if command == "STATUS" and set(call) == {"cni_args"}:
        return  # it is asked of no attachment
    code, msg = refused(command, **call)
    assert (code, said in msg) == (7, True), msg


@pytest.mark.parametrize("ipam", [V4, None, {"addresses": 7}])
def test_P9_P10_del_and_gc_succeed_whatever_the_configuration(ipam: Any) -> None:
    for command in ("DEL", "GC"):
        assert answer(command, ipam=ipam) == Outcome(0)


def test_P14_check_misses_what_is_not_in_the_result() -> None:
    result = given(ipam=BOTH)
    assert answer("CHECK", ipam=BOTH, prevResult=result) == Outcome(0)
    assert refused("CHECK", ipam=BOTH) == (7, "prevResult is missing")
    more = given(ipam=V4)
    assert refused("CHECK", ipam=BOTH, prevResult=more) == (
        100,
        "prevResult.ips does not have the address fd00:1::2/64",
    )
    result["ips"][0]["gateway"] = "10.1.0.9"
    text = "prevResult.ips: 10.1.0.2/24 has the gateway 10.1.0.9, not 10.1.0.1"
    assert refused("CHECK", ipam=BOTH, prevResult=result) == (100, text)
    # What was asked for is asked for again.
    asked: dict[str, Any] = {"runtimeConfig": {"ips": ["10.7.0.2/24"]}}
    assert answer("CHECK", prevResult=given(**asked), **asked) == Outcome(0)


def test_P16_status_is_ready_when_the_configuration_is_good() -> None:
    assert answer("STATUS", ipam=BOTH) == Outcome(0)
