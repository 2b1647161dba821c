"""The judge of accounts sees: each of these states is wrong in one thing, and it says in which."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.typed import differences, masked, typed

TABLE = """nft 'table inet t {
	set s { type ipv4_addr; elements = { 10.0.0.1, 10.0.0.2 }; }
	map m { type inet_service : ipv4_addr . inet_service; elements = { 8080 : 10.0.0.1 . 80 }; }
	chain c { type filter hook forward priority filter; policy accept; }
	chain d { type nat hook prerouting priority dstnat; }
}'"""
RULES = (
    "ct state established accept",
    "iifname v0 ip saddr 10.0.0.1 drop",
    "fib daddr type local ip daddr @s counter accept",
    "tcp dport { 22, 80 } meta mark set 5",
)
COMMANDS = (
    "ip link add b0 address 02:00:00:00:00:01 type bridge",
    "ip link add v0 address 02:00:00:00:00:02 type veth peer name v1 address 02:00:00:00:00:03 netns box",
    "ip link set v0 master b0 up",
    "ip link set v0 alias mine",
    "ip -n box link set v1 up",
    "ip link set b0 up",
    "ip link set v0 type bridge_slave hairpin on",
    "ip addr add 10.0.0.1/24 dev b0 brd +",
    "ip addr add 10.0.0.9/24 dev b0",
    "ip addr add fd00::1/64 dev b0 nodad",
    "ip route add 10.1.0.0/16 via 10.0.0.2 metric 5 mtu 1400",
    "ip route add default via 10.0.0.2",
    "ip route append default via 10.0.0.3",
    "ip -6 route add fd01::/64 via fd00::2 proto 77",
    "ip rule add from 10.0.0.7 lookup 100 protocol 109",
    "ip tuntap add dev t0 mode tap group 7",
    "tc qdisc add dev v0 root handle 1: tbf rate 1000bps burst 1600b limit 4000b",
    "tc qdisc add dev v0 ingress",
    "tc filter add dev v0 parent ffff: protocol all pref 1 u32 match u32 0 0 action mirred egress redirect dev t0",
    "sysctl -w net/ipv4/conf/v0/rp_filter=2",
    "ip netns exec box sysctl -w net/core/somaxconn=500",
    TABLE,
    *(f"nft 'add rule inet t c {rule}'" for rule in RULES),
    "nft 'add rule inet t d dnat ip to tcp dport map { 8080 : 10.0.0.1 . 80 }'",
    "iptables -A FORWARD -s 10.0.0.1 -m conntrack --ctstate DNAT -m comment --comment one -j ACCEPT",
    "ip6tables -A FORWARD -m comment --comment one -j ACCEPT",
    "mkdir -p /var/lib/cni/networks/net",
    "printf '%s\\r\\n%s' c-box eth0 > /var/lib/cni/networks/net/10.1.0.2",
    "conntrack -I -p udp -s 10.0.0.5 -d 10.0.0.6 --sport 1 --dport 53 -t 600 -u SEEN_REPLY",
)

# What is typed, what should have been, and the source that tells.
WRONG = (
    ("type veth", "mtu 1400 type veth", "links"),
    ("10.1.0.2", "10.1.0.3", "reservations"),
    ("c-box eth0", "c-box eth1", "reservations"),
    ("\\r", "", "reservations"),
    ("alias mine", "alias yours", "links"),
    ("ip -n box link set v1 up", "true", "links"),
    ("ip link set b0 up", "ip link set b0 up promisc on", "links"),
    ("hairpin on", "hairpin off", "ports"),
    ("10.0.0.1/24 dev b0 brd +", "10.0.0.1/24 dev b0", "addresses"),
    ("10.0.0.9/24 dev b0", "10.0.0.9/24 dev b0 noprefixroute", "addresses"),
    ("fd00::1/64 dev b0 nodad", "fd00::1/64 dev b0 nodad valid_lft 900 preferred_lft 800", "addresses"),
    ("metric 5", "metric 6", "routes"),
    ("metric 5", "metric 5 table 7", "routes"),
    ("metric 5", "metric 5 src 10.0.0.9", "routes"),
    ("mtu 1400", "mtu 1300", "routes"),
    ("append default", "prepend default", "routes"),
    ("proto 77", "proto 78", "routes6"),
    ("lookup 100", "lookup 101", "rules"),
    ("protocol 109", "", "rules"),
    ("group 7", "group 8", "links"),
    ("rate 1000bps", "rate 2000bps", "queues"),
    ("limit 4000b", "limit 5000b", "queues"),
    ("redirect dev t0", "redirect dev b0", "filters"),
    ("pref 1 ", "pref 2 ", "filters"),
    ("sysctl -w net/ipv4/conf/v0/rp_filter=2", "true", "sysctls"),
    ("somaxconn=500", "somaxconn=501", "sysctls"),
    ("iifname v0", "oifname v0", "nftables"),
    ("ct state established", "ct state related", "nftables"),
    ("ct state established", "ct status dnat", "nftables"),
    ("fib daddr", "fib saddr", "nftables"),
    ("{ 22, 80 }", "{ 22, 81 }", "nftables"),
    ("ip daddr @s counter accept", "counter ip daddr @s accept", "nftables"),
    ("mark set 5", "mark set 6", "nftables"),
    ("to tcp dport map { 8080 : 10.0.0.1 . 80 }", "to tcp dport map { 8080 : 10.0.0.1 . 8080 }", "nftables"),
    ("elements = { 8080 :", "elements = { 8081 :", "nftables"),
    ("10.0.0.1, 10.0.0.2 }", "10.0.0.1 }", "nftables"),
    ("type ipv4_addr; elements", "type ipv4_addr; flags interval; elements", "nftables"),
    ("hook forward", "hook output", "nftables"),
    ("policy accept", "policy drop", "nftables"),
    ("-m comment --comment one -j ACCEPT", "-m comment --comment two -j ACCEPT", "iptables"),
    ("ip6tables -A FORWARD -m comment --comment one", "ip6tables -A FORWARD -m comment --comment two", "ip6tables"),
    ("--dport 53", "--dport 54", "flows"),
)


def made(commands: Sequence[str]) -> Any:
    return masked(typed(commands, flows=True), COMMANDS)


@pytest.fixture(scope="module")
def right() -> Any:
    return made(COMMANDS)


def test_of_the_same_commands_nothing_is_reported(right: Any) -> None:
    assert differences(right, made(COMMANDS)) == []


@pytest.mark.parametrize(("old", "new", "source"), WRONG)
def test_what_is_wrong_in_one_thing_is_reported(right: Any, old: str, new: str, source: str) -> None:
    place = next(place for place, command in enumerate(COMMANDS) if old in command)
    commands = [*COMMANDS[:place], COMMANDS[place].replace(old, new), *COMMANDS[place + 1 :]]
    found = differences(right, made(commands))
    assert any(f"/{source}" in line for line in found), found


@pytest.mark.parametrize(("first", "second"), [(RULES[0], RULES[1]), (RULES[1], RULES[3])])
def test_rules_in_another_order_are_reported(right: Any, first: str, second: str) -> None:
    one, two = (COMMANDS.index(f"nft 'add rule inet t c {rule}'") for rule in (first, second))
    commands = [*COMMANDS]
    commands[one], commands[two] = commands[two], commands[one]
    assert differences(right, made(commands)) != []


def test_elements_have_no_order(right: Any) -> None:
    commands = [command.replace("10.0.0.1, 10.0.0.2", "10.0.0.2, 10.0.0.1") for command in COMMANDS]
    assert differences(right, made(commands)) == []


@pytest.mark.parametrize(
    "command", ["false", "ip link del nobody", "conntrack -D -p udp --orig-port-dst 5353", "nft nonsense"]
)
def test_a_command_that_fails_is_reported(command: str) -> None:
    with pytest.raises(AssertionError, match="FAILED"):
        typed([command])


@pytest.mark.parametrize("program", ["ip", "bridge", "tc", "nft", "conntrack"])
def test_a_witness_that_is_missing_is_reported(program: str) -> None:
    hidden = f"mount --bind /dev/null {Path(str(shutil.which(program))).resolve()}"
    with pytest.raises(AssertionError, match=program):
        typed([hidden], flows=True)
