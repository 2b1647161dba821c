"""Whose a published port is: conflicts, records, races, garbage. The judge is the ruleset as nft shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import Portmap, elements, plain, records, tcp, udp
from support.topology import A6, GATEWAY, HOST, HOST6, OUTSIDE, A, B, Topology

from cni_plugins.sdk import publish, subnets

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap() -> Portmap:
    return Portmap()


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (tcp(80, 1), tcp(80, 2), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1), tcp(80, 1), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST), tcp(80, 1, HOST), f"host port 80/tcp of {HOST} is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST6), tcp(80, 1, HOST6), f"host port 80/tcp of {HOST6} is taken by container a"),
        (tcp(80, 1), tcp(80, 1, HOST), "host port 80/tcp is taken by container a (network web, eth0)"),
        (tcp(80, 1, HOST), tcp(80, 1), "host port 80/tcp is taken by container a (network web, eth0) at one of"),
    ],
)
def test_a_host_port_belongs_to_one_container(
    net: Topology, portmap: Portmap, first: dict[str, Any], second: dict[str, Any], words: str
) -> None:
    portmap.ok("ADD", "a", first)
    before, files = elements(net.machine), net.machine.files()
    error = portmap.fails("ADD", "b", tcp(4444, 4), second, udp(4444, 4))
    assert error["code"] == 100
    assert words in error["msg"]
    assert elements(net.machine) == before
    assert net.machine.files() == files
    portmap.ok("DEL", "b")
    assert elements(net.machine) == before
    portmap.ok("DEL", "a")
    portmap.ok("ADD", "b", second)
    portmap.ok("DEL", "b")


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (tcp(80, 1), udp(80, 1)),
        (tcp(80, 1, "0.0.0.0"), tcp(80, 1, "::")),
        (tcp(80, 1, HOST), tcp(80, 1, GATEWAY)),
        (tcp(80, 1, HOST), tcp(80, 1, HOST6)),
    ],
)
def test_ports_that_differ_in_protocol_family_or_address_do_not_collide(
    portmap: Portmap, first: dict[str, Any], second: dict[str, Any]
) -> None:
    portmap.ok("ADD", "a", first)
    portmap.ok("ADD", "b", second)
    portmap.ok("DEL", "a")
    portmap.ok("CHECK", "b", second)
    portmap.ok("DEL", "b")


def test_the_interfaces_of_one_container_may_be_given_the_same_ports(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    portmap.ok("ADD", "a", tcp(8080, 80), ifname="eth1", network="second", prevResult=portmap.result("b", "eth1"))
    server = net.listen("a", A, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE  # the first one serves
    portmap.ok("DEL", "a", ifname="eth1", network="second")
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "a")


def test_an_addition_that_repeats_another_is_refused_and_changes_nothing(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(8081, 81))
    before, files = elements(net.machine), net.machine.files()
    for mapping in (tcp(8080, 80), tcp(9090, 8000)):
        error = portmap.fails("ADD", "a", mapping)
        assert (error["code"], error["msg"]) == (100, "container a eth0 of network web publishes ports already")
        assert (elements(net.machine), net.machine.files()) == (before, files)
    assert net.connect("outside", net.listen("a", A, 80), HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "a")
    portmap.ok("ADD", "a", tcp(9090, 8000))
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}


def test_what_somebody_else_put_in_its_place_survives_deletion(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    for name in ("any4", "any6"):
        net.machine.run("nft", "flush", "map", "inet", "cni_portmap", name)
    portmap.ok("ADD", "b", tcp(8080, 80))
    portmap.ok("DEL", "a")
    server = net.listen("b", B, 80)
    assert net.connect("outside", server, HOST, 8080) == OUTSIDE
    portmap.ok("DEL", "b")


def test_an_address_that_comes_to_another_container_leaves_its_old_owner_nothing(
    net: Topology, portmap: Portmap, machine: Machine
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    # a is never deleted, and IPAM gives its address to b.
    portmap.ok("ADD", "b", tcp(9090, 80), prevResult=portmap.result("a") | {"interfaces": []} | plain(A, A6))
    server = net.listen("a", A, 80)
    portmap.ok("DEL", "a")
    assert net.connect("a", server, HOST, 9090) == GATEWAY  # still masqueraded
    portmap.ok("DEL", "b")
    assert elements(machine) == {}


@pytest.mark.usefixtures("net")
def test_elements_say_whose_they_are(portmap: Portmap, machine: Machine) -> None:
    long = "c" * 64
    portmap.ok("ADD", "a", tcp(8080, 80, "0.0.0.0"))
    portmap.ok("ADD", long, tcp(8081, 80, "0.0.0.0"), prevResult=portmap.result("a", "eth7"), ifname="eth7")
    portmap.ok("ADD", long * 2, tcp(8082, 80, "0.0.0.0"), prevResult=plain(A))
    found = {item[0]["elem"]["val"]["concat"][1]: item[0]["elem"]["comment"] for item in elements(machine)["any4"]}
    assert found[8080] == "web a eth0"
    assert len(found[8082]) < 128
    # What nft lists, nft can read back.
    text = machine.run("nft", "list", "ruleset").stdout
    machine.run("nft", "-f", "-", input=f"flush ruleset\n{text}")
    assert machine.run("nft", "list", "ruleset").stdout == text
    for name in ("a", long * 2):
        portmap.ok("DEL", name)
    portmap.ok("DEL", long, ifname="eth7")


def test_after_a_flush_the_next_addition_puts_everybodys_ports_back(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(53, 53))
    before = elements(net.machine)
    net.machine.run("nft", "flush", "ruleset")
    portmap.ok("DEL", "b")
    assert "taken by container a" in portmap.fails("ADD", "b", tcp(8080, 80))["msg"]
    assert elements(net.machine) == before
    assert net.connect("b", net.listen("a", A, 80), HOST, 8080) == GATEWAY
    net.machine.run("nft", "flush", "ruleset")
    portmap.ok("DEL", "a")
    assert net.machine.nft() == []


def test_gc_keeps_the_valid_attachments_of_the_network_and_all_of_others(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80))
    portmap.ok("ADD", "b", tcp(8081, 80))
    portmap.ok("ADD", "b", tcp(8082, 80, HOST), network="other", ifname="eth1", prevResult=portmap.result("b", "eth1"))
    alive = [{"containerID": "b", "ifname": "eth0"}]
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": alive})
    with pytest.raises(ConnectionRefusedError):
        net.connect("outside", net.listen("a", A, 80), HOST, 8080)
    server = net.listen("b", B, 80)
    net.connect("outside", server, HOST, 8081)
    net.connect("outside", server, HOST, 8082)
    assert portmap.fails("GC", "")["code"] == 7
    portmap.ok("GC", "", **{"cni.dev/valid-attachments": []})
    portmap.ok("GC", "", network="other", **{"cni.dev/valid-attachments": []})
    assert elements(net.machine) == {}


RACER = """
import sys
from support.portmap import Portmap, tcp
command, name, *addresses = sys.argv[1:]
sys.stdin.read()
outcome = Portmap()(command, name, *(tcp(8080, 80, address) for address in addresses))
sys.exit(outcome.exit)
"""


def race(*contestants: tuple[str, ...], command: str = "ADD") -> list[int]:
    """A command for all of them at once: (container, host address…); their exit codes."""
    search = os.pathsep.join(path for path in sys.path if path)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, command, *words],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": search},
        )
        for words in contestants
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    return [racer.wait(60) for racer in racers]


def test_of_several_that_want_a_port_at_once_one_gets_it(net: Topology, portmap: Portmap) -> None:
    names = ["a", "b", "c", "d"]
    for name in names[2:]:
        net.machine.netns(name)
    for _ in range(3):
        exits = race(*((name, HOST) for name in names))
        assert sorted(exits) == [0, 1, 1, 1]
        portmap.ok("CHECK", names[exits.index(0)], tcp(8080, 80, HOST))
        for name in names:
            portmap.ok("DEL", name)
        assert elements(net.machine) == {}


def test_ten_that_go_at_once_leave_nothing_and_touch_nothing_of_others(net: Topology, portmap: Portmap) -> None:
    net.machine.leaves("nft * ip mine*")
    mine = (
        "table ip mine {\n chain pre {\n type nat hook prerouting priority 0;\n tcp dport 8080 redirect to :9\n }\n}\n"
    )
    net.machine.run("nft", "-f", "-", input=mine)
    before = net.machine.text("nft", "list", "table", "ip", "mine")
    names = [f"c{number}" for number in range(10)]
    keys = {"conditionsV4": ["ip ttl 64"]}
    for number, name in enumerate(names):
        portmap.ok("ADD", name, udp(5000 + number, 53), prevResult=plain(f"10.88.0.{100 + number}"), **keys)
    assert len(elements(net.machine)["any4"]) == 10
    assert race(*((name,) for name in names), command="DEL") == [0] * 10
    assert elements(net.machine) == {} and records(net.machine) == []
    assert net.machine.text("nft", "list", "table", "ip", "mine") == before


def test_of_one_that_wants_a_port_everywhere_and_one_at_an_address_both_never_get_it(
    net: Topology, portmap: Portmap
) -> None:
    for _ in range(5):
        assert sum(race(("a", ""), ("b", HOST))) in (1, 2)
        portmap.ok("DEL", "a")
        portmap.ok("DEL", "b")
        assert elements(net.machine) == {}
    assert records(net.machine) == []


@pytest.mark.parametrize("step", ["Nftables.commit", "AttachmentRecords.delete", "Shares.leave"])
def test_a_deletion_that_was_interrupted_is_completed_by_the_next(
    net: Topology, portmap: Portmap, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), udp(53, 53, HOST))
    owner, _, method = step.partition(".")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(getattr(publish, owner, None) or getattr(subnets, owner), method, dies)
        portmap.fails("DEL", "a")
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}
    assert records(net.machine) == []


@pytest.mark.parametrize("step", ["Shares.join", "Nftables.commit", "Nftables.lookup"])
def test_an_addition_that_fails_anywhere_leaves_nothing(
    net: Topology, portmap: Portmap, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    portmap.ok("ADD", "b", tcp(1, 1))
    before, files = elements(net.machine), net.machine.files()
    owner, _, method = step.partition(".")
    original = getattr(getattr(publish, owner), method)
    calls: list[int] = []

    def fails_once(*args: Any, **keys: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(5, "the disk is on fire")
        return original(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(getattr(publish, owner), method, fails_once)
        assert "on fire" in portmap.fails("ADD", "a", tcp(8080, 80), udp(53, 53, HOST))["msg"]
    assert elements(net.machine) == before
    assert net.machine.files() == files
    portmap.ok("DEL", "b")
