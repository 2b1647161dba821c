"""The private machine itself: what the other tests rely on. Its leak check must see what a user would."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import pytest
from support import cgroups, leftovers, orphans
from support.machine import Machine

RULESET = """
table inet cni_ports {
    map ports {
        type inet_service : ipv4_addr . inet_service
        elements = { 8080 comment "net/box:eth0" : 10.1.0.2 . 80 }
    }
    set sources { type ipv4_addr; elements = { 10.9.9.9 } }
    chain input { type filter hook input priority 0; tcp dport 7 accept; }
}
"""


def test_a_machine_has_nothing_but_lo(machine: Machine) -> None:
    assert machine.links() == {"lo"}
    assert machine.nft() == []
    assert machine.files() == set()
    assert machine.leftovers() == []


def test_what_a_test_makes_stays_on_its_machine() -> None:
    before = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
    with Machine() as machine:
        machine.netns("box")
        assert os.path.exists("/run/netns/box")
        machine.ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    assert (os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")) == before
    assert not os.path.exists("/run/netns/box")


def _veth_into_a_box(machine: Machine) -> None:
    machine.netns("box")
    machine.ip("link", "add", "v0", "type", "veth", "peer", "name", "eth0", "netns", "box")
    machine.ip("addr", "add", "10.1.0.2/24", "dev", "eth0", netns="box")
    machine.run("ip", "netns", "exec", "box", "ip", "link", "set", "lo", "up")


def _address_route_and_rule(machine: Machine) -> None:
    machine.ip("addr", "add", "10.5.0.1/24", "dev", "lo")
    machine.ip("addr", "add", "fd00:5::1/64", "dev", "lo")
    machine.ip("route", "add", "10.6.0.0/16", "via", "10.5.0.9")
    machine.ip("route", "add", "10.7.0.0/16", "dev", "lo", "table", "77")
    machine.ip("rule", "add", "from", "10.8.0.0/24", "lookup", "77", "priority", "50")
    machine.ip("-6", "rule", "add", "from", "fd00:8::/64", "lookup", "77", "priority", "60")


def _tables(machine: Machine) -> None:
    machine.run("nft", "-f", "-", input=RULESET)


def _files(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/run/cni/bridge/net", "/var/lib/cni/networks/net")
    machine.run("touch", "/var/lib/cni/networks/net/10.1.0.2")


def _mount(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "none", "/mnt")


def _cgroups(machine: Machine) -> None:
    machine.run("mkdir", "-p", *(f"{root}/minirt/box" for root in cgroups.hierarchies()[:1]))


def _pin(machine: Machine) -> None:
    machine.run("ip", "netns", "add", "forgotten")


CGROUP = f"{cgroups.hierarchies()[0]}/".removeprefix(f"{cgroups.MOUNT}/")

LEAKS: dict[Callable[[Machine], None], list[str]] = {
    _veth_into_a_box: ["in netns box: address 10.1.0.2/24 dev eth0", "in netns box: link eth0", "link v0"],
    _address_route_and_rule: [
        "address 10.5.0.1/24 dev lo",
        "address fd00:5::1/64 dev lo",
        "route 10.6.0.0/16 via 10.5.0.9 dev lo",
        "route 10.7.0.0/16 dev lo table 77",
        "rule 50 from 10.8.0.0",
        "rule 60 from fd00:8::",
    ],
    _tables: [
        "nft chain inet cni_ports input",
        "nft element inet cni_ports ports 8080 10.1.0.2 80",
        "nft element inet cni_ports sources 10.9.9.9",
        "nft rule inet cni_ports input",
        "nft table inet cni_ports",
    ],
    _files: ["directory /run/cni/bridge/net", "file /var/lib/cni/networks/net/10.1.0.2"],
    _mount: ["mount /mnt"],
    _cgroups: [f"cgroup {CGROUP}minirt", f"cgroup {CGROUP}minirt/box"],
    _pin: ["netns forgotten"],
}


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__.strip("_"))
def test_a_leak_is_seen(leak: Callable[[Machine], None]) -> None:
    with Machine() as machine:
        machine.patience = 0.0
        leak(machine)
        assert machine.leftovers() == LEAKS[leak]


def test_what_is_declared_may_stay_and_nothing_else(machine: Machine) -> None:
    machine.patience = 0.0
    _tables(machine)
    machine.leaves(*leftovers.TABLES)
    assert machine.leftovers() == [
        "nft element inet cni_ports ports 8080 10.1.0.2 80",
        "nft element inet cni_ports sources 10.9.9.9",
    ]
    machine.run("nft", "flush", "set", "inet", "cni_ports", "sources")
    machine.run("nft", "flush", "map", "inet", "cni_ports", "ports")


def test_a_process_that_outlives_its_parent_is_seen_and_ended(machine: Machine) -> None:
    machine.patience = 0.0
    machine.run("sh", "-c", "setsid sleep 61 >/dev/null 2>&1 &")
    (line,) = machine.leftovers()
    assert line.startswith("process ") and line.endswith(" sleep 61")
    _wait_until(lambda: machine.leftovers() == [])


def test_an_orphan_that_ends_is_reaped_at_once() -> None:
    pid = int(subprocess.run(["sh", "-c", "sleep 0.05 >&- & echo $!"], stdout=subprocess.PIPE, check=True).stdout)
    _wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert pid not in orphans.processes()


def test_what_ends_by_itself_in_a_moment_is_not_left_over(machine: Machine) -> None:
    machine.run("sh", "-c", "sleep 0.3 >/dev/null 2>&1 &")


def _wait_until(happens: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
