"""Routing rules as pyroute2 reads their messages, and what sbr would do, as commands; without a kernel."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg as routemsg

from cni_plugins.sbr import Config, Found, configure, steps
from cni_plugins.sdk import rules
from cni_plugins.sdk.netlink import Message, frame
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtmsg import LinkRoute
from cni_plugins.sdk.rtnl import Link
from cni_plugins.sdk.rules import Rule
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.result import Ip

BOX = Namespace("/run/netns/box")


def decoded(message: Message, judge: type = fibmsg) -> Any:
    read = judge(frame(message, 7))
    read.decode()
    assert read["header"]["length"] == len(frame(message, 7))
    assert (read["header"]["type"], read["header"]["flags"] & ~1) == (message.kind, message.flags)
    return read


@pytest.mark.parametrize(
    ("source", "family", "length", "table", "old"),
    [("10.2.0.2/32", 2, 32, 100, 100), ("fd00:2::2/128", 10, 128, 2000, 0)],
)
def test_a_rule_is_by_its_source(source: str, family: int, length: int, table: int, old: int) -> None:
    for message, kind, flags in (
        (rules.rule_add(Rule(parse_cidr(source), table)), 32, 4 | 0x400 | 0x200),
        (rules.rule_delete(Rule(parse_cidr(source), table)), 33, 4),
    ):
        read = decoded(message)
        assert (message.kind, message.flags) == (kind, flags)
        assert (read["family"], read["src_len"], read["dst_len"], read["table"]) == (family, length, 0, old)
        assert read["action"] == 1
        told = {name: read.get_attr(name) for name in ("FRA_SRC", "FRA_TABLE", "FRA_PROTOCOL")}
        assert told == {"FRA_SRC": source.partition("/")[0], "FRA_TABLE": table, "FRA_PROTOCOL": 109}


def test_questions_are_about_one_family_or_one_table() -> None:
    assert decoded(rules.rules_dump(10))["family"] == 10
    read = decoded(rules.table_dump(2, 2000), routemsg)
    assert (read["family"], read.get_attr("RTA_TABLE")) == (2, 2000)


def route(dst: str, gw: str = "", **fields: Any) -> LinkRoute:
    return LinkRoute(parse_cidr(dst), parse_address(gw) if gw else None, 3, **fields)


IPS = (
    Ip(parse_cidr("10.2.0.2/24"), parse_address("10.2.0.1")),
    Ip(parse_cidr("fd00:2::2/64"), parse_address("fd00:2::1")),
)
SUBNETS = (
    route("10.9.0.0/16", "10.2.0.1"),
    route("10.2.0.0/24", scope=253, source=parse_address("10.2.0.2"), protocol=2),
    route("fd00:2::/64", priority=256, protocol=2),
    route("fe80::/64", priority=256, protocol=2),
)


def commands(config: Config, *routes: LinkRoute) -> list[str]:
    found = Found(Link(3, "net1"), routes, (100, 101))
    return [line for step in steps(config, IPS, BOX, found) for line in step.describe().splitlines()]


def test_a_table_an_address_and_the_main_table_is_left_last() -> None:
    assert commands(Config(), *SUBNETS) == [
        "ip -n box route replace 10.2.0.0/24 dev net1 proto 2 table 100 scope 253 src 10.2.0.2",
        "ip -n box route replace 10.9.0.0/16 via 10.2.0.1 dev net1 proto 3 table 100",
        "ip -n box route replace default via 10.2.0.1 dev net1 proto 3 table 100",
        "ip -n box rule add from 10.2.0.2/32 lookup 100 protocol 109",
        "ip -n box -6 route replace fd00:2::/64 dev net1 proto 2 table 101 metric 256",
        "ip -n box -6 route replace fe80::/64 dev net1 proto 2 table 101 metric 256",
        "ip -n box -6 route replace default via fd00:2::1 dev net1 proto 3 table 101",
        "ip -n box -6 rule add from fd00:2::2/128 lookup 101 protocol 109",
        "ip -n box route del 10.9.0.0/16 via 10.2.0.1 dev net1 proto 3 table 254",
        "ip -n box route del 10.2.0.0/24 dev net1 proto 2 table 254 scope 253 src 10.2.0.2",
        "ip -n box -6 route del fd00:2::/64 dev net1 proto 2 table 254 metric 256",
    ]


def test_with_hints_what_leads_to_neighbours_stays() -> None:
    assert commands(Config(hints=True), *SUBNETS)[-2:] == [
        "ip -n box route del 10.9.0.0/16 via 10.2.0.1 dev net1 proto 3 table 254",
        "ip -n box -6 route replace fd00:2::/64 dev net1 proto 2 table 254 metric 256 src fd00:2::2",
    ]


def test_a_default_route_stands_in_a_table_once() -> None:
    there = route("0.0.0.0/0", "10.2.0.1", mtu=1400)
    assert [line for line in commands(Config(), there) if "table 100" in line] == [
        "ip -n box route replace default via 10.2.0.1 dev net1 proto 3 table 100 mtu 1400"
    ]


def test_a_gateway_that_is_named_takes_the_place_of_others() -> None:
    there = route("0.0.0.0/0", "10.2.0.1")
    found = commands(Config(gateways=(parse_address("10.2.0.254"),)), there)
    assert "ip -n box route replace default via 10.2.0.254 dev net1 proto 3 table 100" in found
    assert "ip -n box route replace default via 10.2.0.1 dev net1 proto 3 table 100" not in found


def test_a_table_that_is_named_gets_rules_and_no_routes() -> None:
    assert commands(Config(table=2000), *SUBNETS) == [
        "ip -n box rule add from 10.2.0.2/32 lookup 2000 protocol 109",
        "ip -n box -6 rule add from fd00:2::2/128 lookup 2000 protocol 109",
    ]


def test_the_keys() -> None:
    gateways = (parse_address("10.2.0.1"), parse_address("fd00::1"))
    conf = {"table": 5, "gateways": ["10.2.0.1", "fd00::1"], "addSourceHints": True}
    assert configure(View(conf)) == Config(5, gateways, True)
    assert configure(View({})) == Config()
    with pytest.raises(CniError, match="one of each family"):
        configure(View({"gateways": ["::1", "::2"]}))
