"""A network with a DHCP server, dnsmasq, on a bridge of the test's machine; and the daemon of the dhcp plugin.

host   lan0 10.77.0.1 (dnsmasq) ──┬── container       its lease file and its log are what the tests judge by
                                  └── container
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.machine import Machine
from support.plugins import Plugins

BRIDGE, GATEWAY = "lan0", "10.77.0.1"
PLUGINS = "/run/plugins"
SOCKET = "/run/cni/dhcp.minirt.sock"
SIDE_SOCKET = "/run/lan/side.sock"
SERVER = str(Path(__file__).with_name("dhcpserver.py"))
# The network itself, as it is typed.
SETUP = (
    f"ip link add {BRIDGE} address 02:00:00:00:77:01 type bridge",
    f"ip addr add {GATEWAY}/24 dev {BRIDGE}",
    f"ip link set {BRIDGE} up",
)
USUAL = ("3,10.77.0.1", "6,10.77.0.1", "15,lan.test", "119,lan.test,corp.test")

# Empty folders, the plugins' launchers, and the network itself.
LEFT = (
    "link lan0",
    f"address * dev {BRIDGE}",
    "file /run/plugins/*",
    "directory /run/cni*",
    "file /run/lan/*",
    "directory /run/lan",
)


def until(true: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """What `true` gives, as soon as it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


class Lan:
    """The network. `dnsmasq` serves it, `scripted` has another server do so; `daemon` is that of `plugins`, or ours."""

    def __init__(self, machine: Machine, plugins: Plugins | None = None) -> None:
        self.machine = machine
        self._started: list[subprocess.Popen[str]] = []
        self._here = Path("/run/lan")
        self._here.mkdir()
        self.plugins = plugins or Plugins(machine, PLUGINS)
        machine.leaves(*LEFT)
        for command in SETUP:
            machine.run(*command.split())

    def close(self) -> None:
        for process in reversed(self._started):
            process.terminate()
            process.wait(timeout=20)

    def started(self, process: subprocess.Popen[str]) -> None:
        """Another program that ends with the network."""
        self._started.append(process)

    # --- servers ------------------------------------------------------------------------------------------------------

    def dnsmasq(self, last: int = 50, options: tuple[str, ...] = USUAL, soon: bool = False) -> subprocess.Popen[str]:
        """Serves 10.77.0.10 to .`last`; `soon` has clients renew after 3 seconds, the least that dnsmasq knows."""
        times = ("58,3", "59,6") if soon else ()
        log = self.log_file.open("a", encoding="utf-8")
        process = subprocess.Popen(
            [
                *("/usr/sbin/dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", f"--interface={BRIDGE}"),
                *("--bind-interfaces", "--except-interface=lo", "--dhcp-authoritative", "--no-ping", "--log-dhcp"),
                *("--pid-file=", "--user=root", f"--dhcp-leasefile={self._here}/leases"),
                f"--dhcp-range=10.77.0.10,10.77.0.{last},255.255.255.0,2m",
                *(f"--dhcp-option={option}" for option in (*options, *times)),
            ],
            stderr=log,
            text=True,
        )
        log.close()
        self._started.append(process)
        until(lambda: "sockets bound" in self.log(), "dnsmasq starts")
        return process

    def scripted(self, **script: Any) -> subprocess.Popen[str]:
        """A server that does what it is told: see `dhcpserver`."""
        argv = [sys.executable, "-I", SERVER, json.dumps({"interface": BRIDGE, "server": GATEWAY} | script)]
        with (self._here / "heard").open("w", encoding="utf-8") as heard:
            process = subprocess.Popen(argv, stdout=heard, text=True)
        self._started.append(process)
        until(lambda: (self._here / "heard").read_text(encoding="utf-8"), "the scripted server starts")
        return process

    def heard(self, kind: str = "") -> list[dict[str, Any]]:
        """What the scripted server has got, or of that one kind."""
        lines = (self._here / "heard").read_text(encoding="utf-8").splitlines()[1:]
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [message for message in found if kind in ("", message["kind"])]

    @property
    def log_file(self) -> Path:
        return self._here / "log"

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def count(self, what: str) -> int:
        """How often the server has logged `what`: DHCPDISCOVER, DHCPACK, DHCPRELEASE."""
        return self.log().count(f"{what}(")

    def leases(self) -> dict[str, str]:
        """Address and client identifier of each lease that the server has granted."""
        path = self._here / "leases"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return {
            address: bytes.fromhex(client.replace(":", "")).decode()
            for _, _, address, _, client in map(str.split, lines)
        }

    def leased(self, *addresses: str) -> None:
        """The server has granted these, and no others, once it has heard of all that was done."""
        until(lambda: set(self.leases()) == set(addresses), f"the server's leases are {addresses}")

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def daemon(self, *options: str, wait: bool = True, **more: Any) -> subprocess.Popen[str]:
        log = (self._here / "daemon").open("a", encoding="utf-8")
        before = self.said().count("dhcp: ready")
        argv = [f"{PLUGINS}/dhcp", "daemon", *options]
        process = subprocess.Popen(argv, stderr=log, text=True, **more)
        log.close()
        self._started.append(process)
        if wait:
            until(lambda: self.said().count("dhcp: ready") > before, "the daemon starts")
        return process

    def side_daemon(self) -> subprocess.Popen[str]:
        """The daemon of `plugins`, whoever wrote it, at `SIDE_SOCKET`."""
        argv = [f"{self.plugins.folder}/dhcp", "daemon", "-socketpath", SIDE_SOCKET, "-timeout", "2s"]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL, text=True)
        self._started.append(process)
        until(lambda: _answers(SIDE_SOCKET) or process.poll() is not None, "the daemon starts")
        assert process.poll() is None, "the daemon ended at once"
        return process

    def said(self) -> str:
        """What the daemon has said on standard error."""
        path = self._here / "daemon"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def activated(self) -> socket.socket:
        """A socket at the daemon's place, as systemd holds one."""
        os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
        made = socket.socket(socket.AF_UNIX)
        made.bind(SOCKET)
        made.listen()
        return made

    @staticmethod
    def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(timeout=20)

    # --- attachments --------------------------------------------------------------------------------------------------

    def conf(self, type_: str = "bridge", ipam: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
        named: dict[str, Any] = {"bridge": BRIDGE} if type_ == "bridge" else {}
        return (
            {"cniVersion": "1.1.0", "name": "lan", "type": type_, "ipam": {"type": "dhcp", **(ipam or {})}}
            | named
            | keys
        )

    def records(self) -> set[str]:
        folder = Path("/run/cni/dhcp/lan")
        return {path.name for path in folder.iterdir()} if folder.exists() else set()
