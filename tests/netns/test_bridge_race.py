"""ADD moment by moment: what it saw is no longer so when it acts, and what it says comes when others can hear it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from support.machine import Machine

from cni_plugins import bridge
from cni_plugins.bridge import Config, Found
from cni_plugins.sdk import bridges
from cni_plugins.sdk.hostends import Ends
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtnl import Link
from cni_plugins.spec.config import View
from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.result import Ip, Result
from cni_plugins.spec.steps import Plan

pytestmark = pytest.mark.leaves("directory /run/cni*")  # where the locks lie

ETH_P_ALL = 0x0003
NEIGHBOUR_ADVERTISEMENT = b"\x88"  # RFC 4861, 4.4


@pytest.fixture
def ends(machine: Machine) -> Iterator[Ends]:
    with Namespace() as host, Namespace(machine.netns("web")) as inside:
        yield Ends(host, "veth0a1b2c3d", "02:00:00:00:00:01", "cni net web eth0", inside, "eth0", "02:00:00:00:00:02")
    machine.run("ip", "netns", "del", "web")


def seen_at_first(monkeypatch: pytest.MonkeyPatch, stale: Found) -> None:
    """The first look at the bridge gives `stale`; later ones see what is there."""
    look, looks = bridge._found, [stale]
    monkeypatch.setattr(bridge, "_found", lambda *args: looks.pop() if looks else look(*args))


def test_a_bridge_that_another_made_meanwhile_is_joined_and_stays(
    machine: Machine, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    seen_at_first(monkeypatch, Found())
    plan = Plan()
    found = bridge._connect(plan, Config(), ends)
    assert found.bridge is not None
    assert machine.ip("link", "show", ends.port)[0]["master"] == "cni0"
    assert plan.undo() == []
    assert machine.links() == {"lo", "cni0"}
    machine.run("ip", "link", "del", "cni0")


def test_a_bridge_that_anothers_failure_took_away_is_made_again(
    machine: Machine, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_at_first(monkeypatch, Found(Link(7, "cni0", "bridge", flags=1)))
    plan = Plan()
    bridge._connect(plan, Config(), ends)
    assert machine.ip("link", "show", ends.port)[0]["master"] == "cni0"
    assert plan.undo() == []
    assert machine.links() == {"lo"}


def test_a_name_that_is_taken_is_no_race(machine: Machine, ends: Ends) -> None:
    machine.run("ip", "link", "add", ends.port, "type", "bridge")
    plan = Plan()
    with pytest.raises(OSError, match="File exists"):
        bridge._connect(plan, Config(), ends)
    assert plan.undo() == []
    assert machine.links() == {"lo", ends.port}
    machine.run("ip", "link", "del", ends.port)


def test_a_new_owner_is_announced_when_its_port_forwards(machine: Machine, ends: Ends) -> None:
    """What the kernel sends when the link is raised is often lost: the bridge drops it while the port is disabled."""
    config = Config(layer3=True)
    plan = Plan()
    bridge._connect(plan, config, ends)
    given = Result(ips=(Ip(parse_cidr("10.1.0.2/24")), Ip(parse_cidr("fd00:1::2/64"))))
    plan.do(*bridge.after(config, ends, Found(), given))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.bind(("cni0", 0))
        wire.settimeout(2)
        request = Request("ADD", "web", ends.inside.path, "eth0", {}, (), View({}), "1.1.0", "net", None, b"", {})
        bridge._result(request, config, ends, given)
        heard: set[bytes] = set()
        while len(heard) < 2:
            frame = wire.recv(2000)
            if frame[28:32] == frame[38:42] == bytes([10, 1, 0, 2]):  # ARP: sender and target
                heard.add(frame[12:14])
            if frame[22:38] == frame[62:78] and frame[54:55] == NEIGHBOUR_ADVERTISEMENT:
                heard.add(frame[12:14])
    assert plan.undo() == []
    assert machine.links() == {"lo"}


def test_a_bridge_is_not_taken_back_while_another_gets_its_port(machine: Machine) -> None:
    """Between the look at its ports and the deletion nobody comes in: whoever connects holds the bridge's lock."""
    with Namespace() as host:
        made = bridges.AddOwnBridge(host, "cni0", "02:00:00:00:00:07")
        made.apply()
        with bridges.lock("cni0"):
            child = os.fork()
            if not child:
                made.undo()
                os._exit(0)
            for words in ("link add v0 master cni0 type veth", "link set v0 up"):
                machine.run("ip", *words.split())
        os.waitpid(child, 0)
    assert machine.links() >= {"cni0", "v0"}
    for name in ("cni0", "v0"):
        machine.run("ip", "link", "del", name)
