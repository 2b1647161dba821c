"""The `minirt` command on a private machine, as a user has it: the program that set-up wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.machine import Machine

PROGRAM = os.path.join(os.path.dirname(sys.executable), "minirt")
NETWORKS = Path("/etc/cni/net.d")
CONTAINERS = Path("/var/lib/minirt/containers")

# What stays of minirt itself, once all containers are gone.
FURNITURE = (
    "directory /var/lib/minirt/*",
    "directory /run/minirt/stage",
    "directory /var/lib/cni/results",
    "file /run/minirt/cni.lock",
    "file /var/lib/cni/networks/*/lock",
    "file /var/lib/cni/networks/*/last_reserved_ip.*",
    "directory /run/cni*",
    "nft table * cni_*",
    "nft chain * cni_*",
    "nft rule * cni_*",
)
BRIDGE = ("link minirt0", "address * dev minirt0")


class Command:
    """`minirt` on `machine`. Calling it runs a command line and gives the finished process, whatever its exit code."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._started: list[subprocess.Popen[str]] = []
        machine.leaves(*FURNITURE, *BRIDGE)

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.machine.run(PROGRAM, *words, check=False, **options)

    def ok(self, *words: str, **options: Any) -> str:
        """Run it, insist on exit code 0, and give its standard output without the last newline."""
        done = self(*words, **options)
        assert done.returncode == 0, f"minirt {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.removesuffix("\n")

    def fails(self, code: int, *words: str, **options: Any) -> str:
        """Run it, insist on `code` and on an error in our own manner; its standard error."""
        done = self(*words, **options)
        assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}{done.stderr}"
        assert "minirt: error: " in done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def start(self, *words: str, program: str = PROGRAM, **options: Any) -> subprocess.Popen[str]:
        """Start it, and leave it running until the test is over."""
        process = subprocess.Popen([program, *words], text=True, **options)
        self._started.append(process)
        return process

    def end(self) -> None:
        """Wait for what was started, and close its streams."""
        for process in self._started:
            process.communicate(timeout=20)

    def inspect(self, reference: str) -> Any:
        return json.loads(self.ok("inspect", reference))[0]

    def address(self, reference: str, family: int = 4) -> str:
        """The container's first address of a family, from inside."""
        netns = self.inspect(reference)["NetworkSettings"]["SandboxKey"].rpartition("/")[2]
        found = self.machine.addresses("eth0", netns)
        return next(item.partition("/")[0] for item in sorted(found) if (":" in item) == (family == 6))

    def network(self, name: str, *plugins: dict[str, Any], file: str = "", **keys: Any) -> None:
        """Write a network list into /etc/cni/net.d."""
        NETWORKS.mkdir(exist_ok=True)
        self.machine.leaves(f"file {NETWORKS}/*")
        document = {"cniVersion": "1.0.0", "name": name, "plugins": plugins} | keys
        (NETWORKS / (file or f"{name}.conflist")).write_text(json.dumps(document, indent=2))


def bridge(name: str, subnet: str, **keys: Any) -> dict[str, Any]:
    """A bridge with host-local, as most lists have it."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": []}
    wishes = {"ips": True, "mac": True}
    return {"type": "bridge", "bridge": name, "isGateway": True, "ipam": ipam, "capabilities": wishes} | keys


def eventually(probe: Callable[[], Any], seconds: float = 10.0) -> Any:
    """What `probe` gives, as soon as it is true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


def serving(machine: Machine, url: str, netns: str = "") -> str:
    """What an HTTP server answers at `url`, asked until it is there; from inside a namespace if one is named."""
    inside = ("ip", "netns", "exec", netns) if netns else ()
    ask = (*inside, "curl", "-sS", "-m", "2", url)
    return str(eventually(lambda: machine.run(*ask, check=False).stdout))
