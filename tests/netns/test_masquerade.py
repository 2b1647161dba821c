"""Masquerade on a private machine. Judges: whom a server outside sees, and the ruleset as the nft program shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import SOCK_DGRAM
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.topology import A6, B6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, B, Topology

from cni_plugins.sdk import masquerade
from cni_plugins.sdk.masquerade import AddMasquerade, RemoveMasquerade
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.records import Owner
from cni_plugins.spec.errors import INVALID_CONFIG, CniError
from cni_plugins.spec.ip import Cidr, parse_network
from cni_plugins.spec.steps import Plan

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)

BOTH = ("10.88.0.0/24", "fd00:88::/64")


@pytest.fixture
def nftables(machine: Machine) -> Iterator[Nftables]:  # noqa: ARG001  # it is the machine's
    with Nftables() as opened:
        yield opened


def cidrs(*subnets: str) -> tuple[Cidr, ...]:
    return tuple(map(parse_network, subnets))


def add(nftables: Nftables, container: str, *subnets: str, network: str = "web", ifname: str = "eth0") -> None:
    AddMasquerade(nftables, network, container, ifname, cidrs(*subnets)).apply()


def remove(nftables: Nftables, container: str, network: str = "web", ifname: str = "eth0") -> None:
    RemoveMasquerade(nftables, network, container, ifname).apply()


def check(nftables: Nftables, container: str, *subnets: str, network: str = "web", ifname: str = "eth0") -> None:
    masquerade.check(nftables, network, container, ifname, cidrs(*subnets))


def subnets(machine: Machine) -> dict[str, list[str]]:
    """The subnets in every set that has any; a pair counts once where both are the same."""
    found: dict[str, list[str]] = {}
    for item in machine.nft():
        for element in item.get("set", {}).get("elem", []):
            found.setdefault(item["set"]["name"], []).append(_words(element))
    return {name: sorted(words) for name, words in found.items()}


def _words(element: Any) -> str:
    if isinstance(element, str):
        return element
    if "concat" in element:
        (word,) = {_words(part) for part in element["concat"]}
        return word
    return f"{element['prefix']['addr']}/{element['prefix']['len']}"


def held(*wanted: str) -> dict[str, list[str]]:
    """What `subnets` says when exactly these are masqueraded."""
    found: dict[str, list[str]] = {}
    for subnet in sorted(wanted):
        for name in ("subnets", "inside"):
            found.setdefault(f"{name}{6 if ':' in subnet else 4}", []).append(subnet)
    return found


def records(machine: Machine) -> set[str]:
    return {path for path in machine.files() if path.startswith("/run/cni/")}


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


def test_what_leaves_the_subnet_bears_the_hosts_address_and_nothing_else_does(
    net: Topology, nftables: Nftables
) -> None:
    server, server6 = net.listen("outside", OUTSIDE, 80), net.listen("outside", OUTSIDE6, 80)
    assert net.connect("a", server, OUTSIDE, 80) == A
    add(nftables, "a", *BOTH)
    assert net.connect("a", server, OUTSIDE, 80) == HOST
    assert net.connect("a", server6, OUTSIDE6, 80) == HOST6
    # Within the subnet: over the bridge, and through the host's own rules.
    net.filter_bridge(True)
    assert net.connect("a", net.listen("b", B, 80), B, 80) == A
    assert net.connect("a", net.listen("b", B6, 80), B6, 80) == A6
    # The other direction, and the host's own.
    assert net.connect("outside", net.listen("a", A, 80), A, 80) == OUTSIDE
    assert net.connect("", server, OUTSIDE, 80) == HOST
    remove(nftables, "a")
    assert net.connect("a", server, OUTSIDE, 80) == A
    assert net.connect("a", server6, OUTSIDE6, 80) == A6


@pytest.mark.parametrize(("group", "source"), [("239.1.2.3", A), ("ff15::123", A6)])
def test_multicast_keeps_its_source(net: Topology, nftables: Nftables, group: str, source: str) -> None:
    """A rule of the judge's own, behind ours, counts what still bears the container's address."""
    add(nftables, "a", *BOTH)
    family = "ip6" if ":" in group else "ip"
    net.machine.run(
        "nft",
        "add table inet cni_judge;"
        "add chain inet cni_judge out { type filter hook postrouting priority 300; };"
        f"add rule inet cni_judge out {family} saddr {source} {family} daddr {group} counter",
    )
    sender = net.open("a", group, SOCK_DGRAM)
    net.filter_bridge(True)
    sender.sendto(b"hello", (group, 5000))
    counters = [part["counter"]["packets"] for item in net.machine.nft() for part in _parts(item) if "counter" in part]
    assert sum(counters) > 0
    remove(nftables, "a")


def _parts(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in item.get("rule", {}).get("expr", []) if isinstance(part, dict)]


def test_a_subnet_is_there_from_its_first_attachment_to_its_last(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "c1", *BOTH)
    add(nftables, "c2", *BOTH)
    add(nftables, "c2", *BOTH, ifname="eth1")
    assert subnets(machine) == held(*BOTH)
    for container, ifname in (("c1", "eth0"), ("c2", "eth1"), ("c1", "eth0")):
        remove(nftables, container, ifname=ifname)
        assert subnets(machine) == held(*BOTH)
    check(nftables, "c2", *BOTH)
    remove(nftables, "c2")
    assert subnets(machine) == {}
    assert records(machine) == set()
    remove(nftables, "c2")
    remove(nftables, "never", network="heard-of")


def test_networks_may_share_a_subnet(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "c1", *BOTH)
    add(nftables, "c1", *BOTH, network="other", ifname="eth1")
    add(nftables, "c3", "10.99.0.0/16", network="other")
    remove(nftables, "c1")
    assert subnets(machine) == held(*BOTH, "10.99.0.0/16")
    remove(nftables, "c1", network="other", ifname="eth1")
    assert subnets(machine) == held("10.99.0.0/16")
    remove(nftables, "c3", network="other")
    assert subnets(machine) == {}


@pytest.mark.parametrize("subnet", ["10.88.0.0/16", "10.88.0.0/25", "10.88.0.128/25", "10.0.0.0/8", "fd00::/16"])
def test_a_subnet_that_overlaps_another_networks_is_refused_and_nothing_of_it_stays(
    machine: Machine, nftables: Nftables, subnet: str
) -> None:
    add(nftables, "c1", *BOTH)
    before, files = subnets(machine), records(machine)
    with pytest.raises(CniError) as caught:
        add(nftables, "c2", "192.168.7.0/24", subnet, network="other")
    assert caught.value.code == INVALID_CONFIG
    other = BOTH[":" in subnet]
    assert caught.value.msg == f"subnet {subnet} of network other overlaps {other} of network web"
    assert caught.value.details
    assert (subnets(machine), records(machine)) == (before, files)
    remove(nftables, "c2", network="other")
    assert (subnets(machine), records(machine)) == (before, files)
    remove(nftables, "c1")


def test_neighbouring_and_single_addresses_are_subnets_like_others(machine: Machine, nftables: Nftables) -> None:
    wanted = ("10.88.0.0/25", "10.88.0.128/25", "10.88.1.0/31")
    add(nftables, "c1", *wanted)
    add(nftables, "c2", "10.99.0.1/32", "fd00::1/128")
    assert subnets(machine)["subnets4"] == [*wanted, "10.99.0.1"]
    assert subnets(machine)["inside6"] == ["fd00::1"]
    check(nftables, "c2", "10.99.0.1/32", "fd00::1/128")
    remove(nftables, "c1")
    remove(nftables, "c2")
    assert subnets(machine) == {}


def test_an_addition_repairs_what_was_flushed(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "c1", *BOTH)
    add(nftables, "o1", "10.99.0.0/16", network="other")
    machine.run("nft", "flush", "set", "inet", "cni_masquerade", "subnets4")
    add(nftables, "c2", *BOTH)
    assert subnets(machine)["subnets4"] == ["10.88.0.0/24"]
    # With the table gone, everybody's come back.
    machine.run("nft", "flush", "ruleset")
    add(nftables, "c3", *BOTH)
    assert subnets(machine) == held(*BOTH, "10.99.0.0/16")
    machine.run("nft", "flush", "ruleset")
    for container in ("c1", "c2", "c3"):
        remove(nftables, container)
    remove(nftables, "o1", network="other")
    assert records(machine) == set()
    assert machine.nft() == []


def test_what_began_to_use_the_same_addresses_since_a_flush_is_left_alone(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "c1", *BOTH)
    for name in held(*BOTH):
        machine.run("nft", "flush", "set", "inet", "cni_masquerade", name)
    add(nftables, "c2", "10.88.0.0/25", network="other")
    remove(nftables, "c1")
    assert subnets(machine) == held("10.88.0.0/25")
    remove(nftables, "c2", network="other")


def test_check_finds_what_is_missing(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "c1", *BOTH)
    check(nftables, "c1", *BOTH)
    with pytest.raises(CniError, match="c2 eth0 does not masquerade"):
        check(nftables, "c2", *BOTH)
    with pytest.raises(CniError, match=r"does not masquerade 10\.99\.0\.0/16"):
        check(nftables, "c1", *BOTH, "10.99.0.0/16")
    for damage in ("chain inet cni_masquerade postrouting", "set inet cni_masquerade inside6"):
        saved = machine.run("nft", "list", "ruleset").stdout
        machine.run("nft", "flush", *damage.split())
        with pytest.raises(CniError, match="missing"):
            check(nftables, "c1", *BOTH)
        machine.run("nft", "-f", "-", input=f"flush ruleset\n{saved}")
    machine.run("nft", "flush", "ruleset")
    with pytest.raises(CniError, match="missing"):
        check(nftables, "c1", *BOTH)
    remove(nftables, "c1")


def test_collection_keeps_what_valid_attachments_and_other_networks_use(machine: Machine, nftables: Nftables) -> None:
    add(nftables, "alive", "10.1.0.0/16")
    add(nftables, "dead", "10.1.0.0/16")
    add(nftables, "dead", "10.2.0.0/16", ifname="eth1")
    add(nftables, "dead", "10.3.0.0/16", network="other")
    masquerade.collect(nftables, "web", {Owner("alive", "eth0")})
    assert subnets(machine) == held("10.1.0.0/16", "10.3.0.0/16")
    check(nftables, "alive", "10.1.0.0/16")
    masquerade.collect(nftables, "web", set())
    masquerade.collect(nftables, "other", set())
    masquerade.collect(nftables, "unheard-of", set())
    assert subnets(machine) == {}
    assert records(machine) == set()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"subnets": ["nonsense"]}'])
def test_a_record_that_tells_nothing_does_not_keep_the_subnet(machine: Machine, nftables: Nftables, text: str) -> None:
    add(nftables, "c1", *BOTH)
    add(nftables, "c2", "10.99.0.0/16")
    Path("/run/cni/masquerade/web/c1:eth0").write_text(text)
    remove(nftables, "c1")
    assert subnets(machine) == held("10.99.0.0/16")
    remove(nftables, "c2")
    assert records(machine) == set()


def test_a_deletion_that_was_interrupted_is_completed_by_the_next(
    machine: Machine, nftables: Nftables, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(nftables, "c1", *BOTH)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Nftables, "commit", dies)
        remove(nftables, "c1")
    remove(nftables, "c1")
    assert subnets(machine) == {}
    assert records(machine) == set()


def test_as_steps_they_tell_what_they_do_and_take_it_back(machine: Machine, nftables: Nftables) -> None:
    step = AddMasquerade(nftables, "web", "c1", "eth0", cidrs("10.88.0.0/24"))
    assert step == AddMasquerade(Nftables(), "web", "c1", "eth0", cidrs("10.88.0.0/24"))
    elements = (
        "nft 'add element inet cni_masquerade subnets4 { 10.88.0.0/24 }'\n"
        "nft 'add element inet cni_masquerade inside4 { 10.88.0.0/24 . 10.88.0.0/24 }'"
    )
    first = step.describe()
    assert first.startswith("nft 'create table inet cni_masquerade\n") and first.endswith(f"\n{elements}")
    plan = Plan()
    plan.do(step)
    typed = machine.run("nft", "list", "table", "inet", "cni_masquerade").stdout
    assert plan.undo() == []
    assert subnets(machine) == {}
    assert step.describe() == elements, "the table is there now"
    machine.run("nft", "flush", "ruleset")
    machine.run("sh", "-c", first)
    assert machine.run("nft", "list", "table", "inet", "cni_masquerade").stdout == typed
    machine.run("nft", "flush", "ruleset")


RACER = """
import sys
from tests.netns.test_masquerade import BOTH, add, check, remove
from cni_plugins.sdk.nfnl import Nftables
container = sys.argv[1]
sys.stdin.read()
for _ in range(8):
    with Nftables() as nftables:
        add(nftables, container, *BOTH)
        check(nftables, container, *BOTH)
        remove(nftables, container)
"""


def test_of_attachments_that_come_and_go_at_once_each_is_masqueraded_while_it_is_there(machine: Machine) -> None:
    search = os.pathsep.join(path for path in sys.path if path)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, f"c{number}"], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": search}
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    assert [racer.wait(60) for racer in racers] == [0] * 4
    assert subnets(machine) == {}
    assert records(machine) == set()
