"""Our plugins under containerd: `ctr run --cni` calls ADD from the process that asks, and DEL with an empty CNI_NETNS.

When DEL comes, the task is dead and its namespace gone: the plugins find what they made by their own records.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.peers import Containerd, containerd, write_list

from cni_plugins.sdk import launcher

PLUGINS = "/run/plugins"
BRIDGE: dict[str, Any] = {
    "type": "bridge",
    "bridge": "cni-ctr",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/24"}], [{"subnet": "fd00:78::/64"}]]},
}


@pytest.fixture
def ctr(machine: Machine) -> Iterator[Containerd]:
    launcher.write(PLUGINS)
    write_list("net", BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}})
    machine.leaves(f"file {PLUGINS}/*", "file /etc/cni/net.d/*", *leftovers.SHARED)
    with containerd(machine, PLUGINS) as running:
        yield running


def _leases() -> set[str]:
    return {path.name for path in Path("/var/lib/cni/networks/net").glob("*") if path.name[0] in "1f"}


def test_a_container_is_attached_and_nothing_is_left_when_it_ends(ctr: Containerd, machine: Machine) -> None:
    shown = ctr.run("one", "/bin/ip", "addr").stdout
    assert "inet 10.78.0.2/24" in shown and "inet6 fd00:78::2/64" in shown
    assert "127.0.0.1/8" in shown
    assert machine.elements() == [] and _leases() == set()
    assert machine.links() == {"lo", "cni-ctr"}


def test_the_whole_chain_is_gone_when_the_container_is(ctr: Containerd, machine: Machine) -> None:
    """DEL is told no namespace: what the plugins behind the first have made is found without."""
    rates = {f"{way}{what}": 80_000_000 for way in ("ingress", "egress") for what in ("Rate", "Burst")}
    behind: list[dict[str, Any]] = [
        {"type": "firewall"},
        {"type": "tuning", "mtu": 1400},
        {"type": "bandwidth"} | rates,
    ]
    write_list("net", BRIDGE, {"type": "portmap", "capabilities": {"portMappings": True}}, *behind)
    shown = ctr.run("one", "/bin/ip", "addr").stdout
    assert "mtu 1400" in shown and "inet 10.78.0.2/24" in shown
    assert (machine.elements(), _leases(), machine.links()) == ([], set(), {"lo", "cni-ctr"})
    assert not [path for path in machine.files() if path.startswith("/run/cni/tuning")]


def test_containers_reach_each_other_by_both_families(ctr: Containerd, machine: Machine) -> None:
    ctr.start("one", "/bin/sleep", "600")
    for address in ("10.78.0.2", "fd00:78::2"):
        assert "1 packets received" in ctr.run("two", "/bin/ping", "-c1", "-W2", address).stdout
    ctr.kill("one")
    # ctr calls no DEL for a container that was left running; what it leaks is its own fault, and named here.
    machine.leaves("nft element *", "file /var/lib/cni/*", "file /run/cni/*", "link veth*", "netns *")
