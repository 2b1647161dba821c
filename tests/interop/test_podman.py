"""Our plugins under podman, which calls them through libcni: its way with versions, arguments and failures.

podman never calls CHECK, STATUS or GC; it asks every plugin of every list for VERSION with each command, gives --ip and
--mac-address in CNI_ARGS, and ports as runtimeConfig.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.peers import Podman, write_list

from cni_plugins.sdk import launcher

PLUGINS = "/opt/cni/bin"
RANGES = [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]
BRIDGE: dict[str, Any] = {
    "type": "bridge",
    "bridge": "cni-pod",
    "isDefaultGateway": True,
    "ipMasq": True,
    "hairpinMode": True,
    "capabilities": {"ips": True, "mac": True},
    "ipam": {"type": "host-local", "ranges": RANGES},
}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BEHIND: list[dict[str, Any]] = [
    {"type": "firewall", "ingressPolicy": "same-bridge"},
    {"type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "512"}},
    {
        "type": "bandwidth",
        "ingressRate": 80_000_000,
        "ingressBurst": 8_000_000,
        "egressRate": 80_000_000,
        "egressBurst": 8_000_000,
    },
]
SERVE = ("box", "httpd", "-f", "-p", "80", "-h", "/etc")


@pytest.fixture
def podman(machine: Machine) -> Podman:
    launcher.write(PLUGINS)
    write_list("lab", BRIDGE, PORTMAP)
    machine.leaves("file /etc/cni/net.d/*", *leftovers.SHARED)
    return Podman(machine, [PLUGINS])


def _networks(podman: Podman, name: str) -> Any:
    return json.loads(podman("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]["lab"]


def _leases() -> set[str]:
    return {path.name for path in Path("/var/lib/cni/networks/lab").glob("*") if path.name[0] in "1f"}


def _answers(machine: Machine, url: str) -> bool:
    return machine.run("curl", "-sS", "-m2", "-o/dev/null", url, check=False).returncode == 0


def test_a_container_is_addressed_published_and_taken_down(podman: Podman, machine: Machine) -> None:
    podman("run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", *SERVE)
    network = _networks(podman, "web")
    assert (network["IPAddress"], network["Gateway"]) == ("10.77.0.2", "10.77.0.1")
    assert network["GlobalIPv6Address"] == "fd00:77::2"
    for address in ("127.0.0.1:8080", "10.77.0.1:8080", "[fd00:77::1]:8080", "10.77.0.2"):
        assert _answers(machine, f"http://{address}/hosts"), address
    fetched = podman("run", "--rm", "--network", "lab", "box", "wget", "-qO-", "http://10.77.0.2/hosts").stdout
    assert "10.77.0.2" in fetched
    podman("rm", "--force", "--time=0", "web")
    assert machine.elements() == []
    assert _leases() == set()


def test_the_whole_chain_is_served_and_taken_down(podman: Podman, machine: Machine) -> None:
    """Every plugin that a container's host end may need, in one list; a second container is still there at the end."""
    write_list("lab", BRIDGE, PORTMAP, *BEHIND)
    podman("run", "-d", "--name", "other", "--network", "lab", *SERVE)
    quiet = machine.elements()
    podman("run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", *SERVE)
    for address in ("127.0.0.1:8080", "10.77.0.1:8080", "10.77.0.3"):
        assert _answers(machine, f"http://{address}/hosts"), address
    seen = podman("exec", "web", "cat", "/sys/class/net/eth0/mtu", "/proc/sys/net/core/somaxconn").stdout
    assert seen.split() == ["1400", "512"]
    shaped = [item for item in json.loads(machine.text("tc", "-j", "qdisc", "show")) if item["kind"] == "tbf"]
    assert len(shaped) == 4  # both ways of either
    podman("rm", "--force", "--time=0", "web")
    assert machine.elements() == quiet
    podman("rm", "--force", "--time=0", "other")
    assert (machine.elements(), _leases()) == ([], set())
    assert machine.links() == {"lo", "cni-pod"}
    assert not [path for path in machine.files() if path.startswith(("/run/cni/tuning", "/run/cni/bandwidth"))]


def test_an_address_and_a_mac_that_are_asked_for_are_given(podman: Podman) -> None:
    wishes = ("--ip", "10.77.0.99", "--mac-address", "02:00:00:00:00:99")
    shown = podman("run", "--rm", "--network", "lab", *wishes, "box", "ip", "addr", "show", "eth0").stdout
    assert "inet 10.77.0.99/24" in shown and "link/ether 02:00:00:00:00:99" in shown


def test_a_container_that_is_started_again_is_attached_again(podman: Podman, machine: Machine) -> None:
    podman("run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", *SERVE)
    podman("stop", "--time=0", "web")
    assert machine.elements() == [] and _leases() == set()
    podman("start", "web")
    assert _answers(machine, "http://127.0.0.1:8080/hosts")
    podman("rm", "--force", "--time=0", "web")


def test_a_network_is_reloaded_with_the_address_it_had(podman: Podman, machine: Machine) -> None:
    """DEL, then ADD with the old addresses as `ips` without a prefix length."""
    podman("run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", *SERVE)
    before = _networks(podman, "web")["IPAddress"]
    podman("network", "reload", "web")
    assert _networks(podman, "web")["IPAddress"] == before
    assert _answers(machine, "http://127.0.0.1:8080/hosts")
    podman("rm", "--force", "--time=0", "web")


def test_a_port_that_is_taken_is_refused_and_nothing_is_left_of_the_attempt(podman: Podman, machine: Machine) -> None:
    podman("run", "-d", "--name", "web", "--network", "lab", "-p", "8080:80", *SERVE)
    before, leases = machine.elements(), _leases()
    failed = podman("run", "--rm", "--network", "lab", "-p", "8080:80", "box", "true", check=False)
    assert failed.returncode == 126
    assert "portmap" in failed.stderr and "8080" in failed.stderr
    assert (machine.elements(), _leases()) == (before, leases)
    podman("rm", "--force", "--time=0", "web")


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0"])
def test_older_lists_work_too(podman: Podman, machine: Machine, version: str) -> None:
    write_list("lab", BRIDGE, PORTMAP, version=version)
    shown = podman("run", "--rm", "--network", "lab", "-p", "8080:80", "box", "ip", "addr", "show", "eth0").stdout
    assert "inet 10.77.0.2/24" in shown and "inet6 fd00:77::2/64" in shown
    assert machine.elements() == [] and _leases() == set()
