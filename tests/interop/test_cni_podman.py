"""`minirt cni` beside podman: its containers without a network are given one, and its own attachments, which libcni
keeps in the cache, are checked, kept by GC, and torn down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.command import Command
from support.peers import Podman, write_list

from cni_plugins.sdk import launcher

PLUGINS = "/opt/cni/bin"
RANGES = [[{"subnet": "10.77.0.0/24"}]]
BRIDGE: dict[str, Any] = {
    "type": "bridge",
    "bridge": "cni-pod",
    "isGateway": True,
    "ipam": {"type": "host-local", "ranges": RANGES},
}
RESULTS = Path("/var/lib/cni/results")


@pytest.fixture
def podman(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Podman:
    launcher.write(PLUGINS)
    write_list("lab", BRIDGE, version="1.0.0")
    minirt.machine.leaves("file /etc/cni/net.d/*", "link cni-*", "address * dev cni-*", *leftovers.SHARED)
    podman = Podman(minirt.machine, [PLUGINS])
    _, env = podman.argv()
    for name in ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"):  # the podman that minirt asks is the same one
        monkeypatch.setenv(name, env[name])
    return podman


def _leases() -> list[str]:
    return sorted(path.name for path in Path("/var/lib/cni/networks/lab").glob("10.*"))


def test_a_container_that_podman_started_without_a_network_gets_one(podman: Podman, minirt: Command) -> None:
    identifier = podman("run", "-d", "--name", "web", "--network", "none", "box", "sleep", "600").stdout.strip()
    minirt.ok("cni", "add", "lab", "--podman", "web")
    assert [path.name for path in RESULTS.iterdir()] == [f"lab-{identifier}-eth0"]
    assert "inet 10.77.0.2/24" in podman("exec", "web", "ip", "addr", "show", "eth0").stdout
    minirt.ok("cni", "gc", "lab")
    minirt.ok("cni", "check", "lab", "--podman", "web")
    minirt.ok("cni", "del", "lab", "--podman", "web")
    assert "eth0" not in podman("exec", "web", "ip", "addr").stdout and _leases() == []
    minirt.ok("cni", "add", "lab", "--podman", "web")
    podman("rm", "--force", "--time=0", "web")
    minirt.ok("cni", "gc", "lab")
    assert list(RESULTS.iterdir()) == [] and _leases() == []


def test_what_podman_attached_through_libcni_minirt_understands(podman: Podman, minirt: Command) -> None:
    podman("run", "-d", "--name", "web", "--network", "lab", "box", "sleep", "600")
    (path,) = RESULTS.iterdir()
    assert json.loads(path.read_text())["kind"] == "cniCacheV1", "written by libcni"
    minirt.ok("cni", "gc", "lab")
    minirt.ok("cni", "check", "lab", "--podman", "web")
    assert "is attached already" in minirt.fails(1, "cni", "add", "lab", "--podman", "web")
    done = minirt("cni", "del", "lab", "--podman", "web")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(RESULTS.iterdir()) == [] and _leases() == []
    podman("rm", "--force", "--time=0", "web")
