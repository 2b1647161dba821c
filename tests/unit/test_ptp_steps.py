"""What the ptp plugin would do, as lists of steps: no kernel is touched and no root is needed."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.ptp import Config, addressed, after, before, configure
from cni_plugins.sdk.hostends import Ends
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.netns import Namespace
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.result import Dns, Ip, Result, Route
from cni_plugins.spec.steps import Step

HOST, INSIDE = Namespace(""), Namespace("/run/netns/web")
ENDS = Ends(HOST, "veth0a1b2c3d", "02:00:00:00:00:01", "cni net web eth0", INSIDE, "eth0", "02:00:00:00:00:02")


def configured(conf: dict[str, Any]) -> Config:
    conf = {"ipam": {"type": "host-local"}} | conf
    return configure(Request("ADD", "web", INSIDE.path, "eth0", {}, (), View(conf), "1.1.0", "net", None, b"", {}))


def commands(steps: list[Step]) -> list[str]:
    return [line for step in steps for line in step.describe().splitlines()]


def ip(address: str, gateway: str = "") -> Ip:
    return Ip(parse_cidr(address), parse_address(gateway) if gateway else None)


def test_every_key_is_read() -> None:
    assert configured({}) == Config()
    conf = {"ipMasq": True, "ipMasqBackend": "nftables", "mtu": 1400, "dns": {"domain": "example.org"}}
    assert configured(conf) == Config(masquerade=True, mtu=1400, dns=Dns(domain="example.org"))


@pytest.mark.parametrize(
    ("conf", "code", "said"),
    [
        ({"mtu": -1}, INVALID_CONFIG, "mtu: expected an integer from 0 to 65535, got -1"),
        ({"ipMasq": "yes"}, INVALID_CONFIG, 'ipMasq: expected true or false, got "yes"'),
        ({"ipMasqBackend": "iptables"}, UNSUPPORTED_FIELD, 'ipMasqBackend: "iptables" is not supported'),
        ({"ipMasqBackend": "pf"}, INVALID_CONFIG, 'ipMasqBackend: expected "nftables", got "pf"'),
        ({"ipam": {}}, INVALID_CONFIG, "ipam.type: missing"),
        ({"mtus": 1400}, INVALID_CONFIG, "mtus: unknown key"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(conf: dict[str, Any], code: int, said: str) -> None:
    with pytest.raises(CniError) as caught:
        configured(conf)
    assert (caught.value.code, caught.value.msg) == (code, said)


def test_the_pair_is_born_by_one_message_and_the_hosts_end_prepared_before_it_has_a_carrier() -> None:
    assert commands(before(Config(mtu=1400), ENDS)) == [
        "ip link add veth0a1b2c3d up address 02:00:00:00:00:01 mtu 1400 type veth"
        " peer name eth0 address 02:00:00:00:00:02 mtu 1400 netns web",
        "ip link set veth0a1b2c3d alias 'cni net web eth0'",
        "sysctl -w net/ipv6/conf/veth0a1b2c3d/accept_ra=0",
        "sysctl -w net/ipv6/conf/veth0a1b2c3d/accept_dad=0",
    ]


def test_both_ends_of_one_family() -> None:
    result = addressed(Result(ips=(ip("10.1.0.2/24"),), routes=(Route(parse_cidr("0.0.0.0/0")),)))
    assert commands(after(ENDS, result)) == [
        "sysctl -w net/ipv4/ip_forward=1",
        "ip netns exec web sysctl -w net/ipv4/conf/eth0/arp_notify=1",
        "ip netns exec web sysctl -w net/ipv6/conf/eth0/ndisc_notify=1",
        "ip -n web addr add 10.1.0.2/24 dev eth0 brd + noprefixroute",
        "ip -n web link set eth0 up",
        "ip -n web route prepend 10.1.0.1/32 dev eth0 src 10.1.0.2",
        "ip -n web route prepend 10.1.0.0/24 via 10.1.0.1 dev eth0 src 10.1.0.2",
        "ip -n web route prepend default via 10.1.0.1 dev eth0",
        "ip addr add 10.1.0.1/32 dev veth0a1b2c3d",
        "ip route add 10.1.0.2/32 dev veth0a1b2c3d",
    ]


def test_the_other_family_and_what_two_addresses_share() -> None:
    result = addressed(
        Result(ips=(ip("fd00::2/64", "fd00::9"), ip("fd00::3/64", "fd00::9"), ip("fd00:1::2/128", "fd00::9")))
    )
    text = commands(after(ENDS, result))
    assert "sysctl -w net/ipv6/conf/veth0a1b2c3d/disable_ipv6=0" in text
    assert [line for line in text if " addr " in line or " route " in line] == [
        "ip -n web addr add fd00::2/64 dev eth0 nodad noprefixroute",
        "ip -n web addr add fd00::3/64 dev eth0 nodad noprefixroute",
        "ip -n web addr add fd00:1::2/128 dev eth0 nodad noprefixroute",
        "ip -n web route prepend fd00::9/128 dev eth0 src fd00::2",
        "ip -n web route prepend fd00::/64 via fd00::9 dev eth0 src fd00::2",
        "ip addr add fd00::9/128 dev veth0a1b2c3d nodad",
        "ip -6 route add fd00::2/128 dev veth0a1b2c3d",
        "ip -6 route add fd00::3/128 dev veth0a1b2c3d",
        "ip -6 route add fd00:1::2/128 dev veth0a1b2c3d",
    ]


@pytest.mark.parametrize(
    ("ips", "said"),
    [
        ((), "gave no IP address"),
        ((ip("10.1.0.1/24"),), "gave 10.1.0.1 both as address and as its gateway"),
        ((ip("10.1.0.2/31"),), "gave 10.1.0.2/31 without a gateway"),
    ],
)
def test_what_ipam_gave_must_have_room_for_a_gateway(ips: tuple[Ip, ...], said: str) -> None:
    with pytest.raises(CniError, match=said) as caught:
        addressed(Result(ips=ips))
    assert caught.value.code == INTERNAL
