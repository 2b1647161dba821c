"""What `minirt cni` was used on: a laboratory of one network and one namespace, and what it left there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from support.command import Command, bridge
from support.scripted import Scripted

RESULTS = Path("/var/lib/cni/results")
RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}


def laboratory(minirt: Command) -> str:
    """The network `lab`, and the namespace `box`, whose path it gives."""
    minirt.machine.leaves("link cni-*", "address * dev cni-*", "directory /etc/cni/net.d")
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"))
    return minirt.machine.netns("box")


def scripted_plugins(minirt: Command) -> Scripted:
    """Plugins that do what the test says, alone in CNI_PATH; the caller puts the environment back."""
    folder = Path("/run/scripted")
    folder.mkdir()
    minirt.machine.leaves("file /run/scripted/*", "directory /run/scripted/*")
    plugins = Scripted(folder)
    os.environ["CNI_PATH"] = str(plugins.folder)
    return plugins


def leases(network: str = "lab") -> list[str]:
    """The addresses that host-local has given away."""
    return sorted(path.name for path in Path(f"/var/lib/cni/networks/{network}").glob("1*"))


def cached() -> list[str]:
    """The attachments that are remembered."""
    return sorted(path.name for path in RESULTS.iterdir()) if RESULTS.exists() else []


def identity(netns: str) -> str:
    """cnitool's id for the namespace at a path."""
    return f"cnitool-{hashlib.sha512(netns.encode()).hexdigest()[:20]}"
