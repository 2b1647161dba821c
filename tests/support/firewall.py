"""The firewall plugin as a runtime calls it, behind containers on two bridges, and the rules as iptables shows them.

outside ── the machine ── cni0 ── a 10.88.0.5, b 10.88.0.6      (support.topology)
                      └── cni1 ── c 10.89.0.5, d 10.89.0.6
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.machine import Machine
from support.plugins import Answer, Plugins
from support.topology import A6, B6, A, B, Topology

C, C6 = "10.89.0.5", "fd00:89::5"
D, D6 = "10.89.0.6", "fd00:89::6"
ADDRESSES = {"a": (A, A6), "b": (B, B6), "c": (C, C6), "d": (D, D6)}
BRIDGES = {"a": "cni0", "b": "cni0", "c": "cni1", "d": "cni1"}
PROGRAMS = ("iptables", "ip6tables")


class Firewall:
    """Calls ours or another folder's. The container's name is its namespace's, and the network its bridge's."""

    def __init__(self, machine: Machine, plugins: Plugins | None = None) -> None:
        self.machine = machine
        self.plugins = plugins or Plugins(machine, "/run/plugins")

    def conf(self, name: str, version: str = "1.1.0", ifname: str = "eth0", **keys: Any) -> dict[str, Any]:
        conf: dict[str, Any] = {"cniVersion": version, "name": f"on-{BRIDGES.get(name, 'cni0')}", "type": "firewall"}
        conf["prevResult"] = self.result(name, version, ifname) if name in ADDRESSES else None
        return {key: value for key, value in (conf | keys).items() if value is not None}

    def result(self, name: str, version: str = "1.1.0", ifname: str = "eth0") -> dict[str, Any]:
        addresses = zip(ADDRESSES[name], (24, 64), strict=True)
        return {
            "cniVersion": version,
            "interfaces": [
                {"name": BRIDGES[name]},
                {"name": f"veth-{name}"},
                {"name": ifname, "sandbox": f"/run/netns/{name}"},
            ],
            "ips": [_family(item, version) | {"address": f"{item}/{size}", "interface": 2} for item, size in addresses],
            "dns": {},
        }

    def call(self, command: str, name: str, ifname: str = "eth0", netns: str | None = None, **keys: Any) -> Answer:
        return self.plugins.finish(self.start(command, name, ifname, netns, **keys))

    def start(
        self, command: str, name: str, ifname: str = "eth0", netns: str | None = None, **keys: Any
    ) -> subprocess.Popen[str]:
        path = f"/run/netns/{name}" if netns is None else netns
        return self.plugins.start(command, self.conf(name, ifname=ifname, **keys), path, container=name, ifname=ifname)

    def add(self, name: str, **keys: Any) -> dict[str, Any]:
        return self.call("ADD", name, **keys).result

    def delete(self, name: str, **keys: Any) -> None:
        self.call("DEL", name, **keys).done()

    def check(self, name: str, **keys: Any) -> Answer:
        return self.call("CHECK", name, **keys)

    def gc(self, *alive: str, network: str = "on-cni0", **keys: Any) -> Answer:
        valid = [{"containerID": name, "ifname": "eth0"} for name in alive]
        conf = {"cniVersion": "1.1.0", "name": network, "type": "firewall", "cni.dev/valid-attachments": valid}
        return self.plugins.call("GC", conf | keys)

    def status(self, **keys: Any) -> Answer:
        return self.plugins.call("STATUS", {"cniVersion": "1.1.0", "name": "on-cni0", "type": "firewall"} | keys)


def _family(address: str, version: str) -> dict[str, str]:
    """What an address says beside itself before 1.0.0."""
    return {"version": "6" if ":" in address else "4"} if version < "1" else {}


class TwoBridges(Topology):
    """The topology with a second bridge, and pings."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        gateways = ["addr add 10.89.0.1/24 dev cni1", "addr add fd00:89::1/64 dev cni1 nodad"]
        self._batch("", ["link add cni1 type bridge", *gateways, "link set cni1 up"])
        for name in ("c", "d"):
            machine.netns(name)
            address, address6 = ADDRESSES[name]
            self._batch("", [f"link add veth-{name} master cni1 up type veth peer name eth0 netns {name}"])
            lines = [f"addr add {address}/24 dev eth0", f"addr add {address6}/64 dev eth0 nodad"]
            lines += ["link set lo up", "link set eth0 up"]
            self._batch(name, [*lines, "route add default via 10.89.0.1", "route add default via fd00:89::1"])

    def __enter__(self) -> TwoBridges:
        return self

    def reaches(self, netns: str, address: str) -> bool:
        """Whether an echo comes back; it is waited for as long as a busy machine may need."""
        return self._ping(netns, "-w", "3", address)

    def cut_off(self, netns: str, address: str) -> bool:
        """Whether none comes back, in the time that many would take."""
        return not self._ping(netns, "-W", "0.3", address)

    def _ping(self, netns: str, *words: str) -> bool:
        argv = ("ip", "netns", "exec", netns, "ping", "-q", "-c", "1", *words)
        return self.machine.run(*argv, check=False).returncode == 0

    def drop_forwarded(self) -> None:
        """As docker sets it."""
        for program in PROGRAMS:
            self.machine.run(program, "-P", "FORWARD", "DROP")


def rules(machine: Machine, *chains: str, program: str = "iptables") -> list[str]:
    """The rules of `chains`, as iptables-save has them."""
    listed = machine.run(f"{program}-save", "-t", "filter").stdout.splitlines()
    return [line for line in listed if line.startswith("-A ") and (not chains or line.split()[1] in chains)]


def mentioning(machine: Machine, name: str) -> list[str]:
    """The rules of both families that name one of a container's addresses."""
    found = [line for program in PROGRAMS for line in rules(machine, program=program)]
    return [line for line in found if any(f" {address}/" in line for address in ADDRESSES[name])]


def records(machine: Machine) -> list[str]:
    return sorted(path for path in machine.files() if path.startswith("/run/cni/"))


def guards(machine: Machine) -> dict[str, list[Any]]:
    """The elements of the sets of our own table."""
    sets = [body for item in machine.nft() for kind, body in item.items() if kind == "set"]
    return {body["name"]: body["elem"] for body in sets if body.get("elem") and body["table"] == "cni_firewall"}


# --- firewalld --------------------------------------------------------------------------------------------------------

# Anybody may own any name: no polkit, no service files, nothing started on demand.
_BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_destination="*"/><allow receive_type="*"/></policy></busconfig>
"""
_NAME, _PATH = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
_GET_SOURCES = (_NAME, _PATH, f"{_NAME}.zone", "getSources", "s")
_NAMES = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ListNames")


class Firewalld:
    """The distribution's firewalld, and the bus that it is spoken to on, as processes of a private machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Firewalld:
        Path("/run/dbus").mkdir()
        Path("/run/firewalld").mkdir()
        Path("/run/dbus/bus.conf").write_text(_BUS, encoding="utf-8")
        self._start("dbus-daemon", "--config-file=/run/dbus/bus.conf", "--nofork", "--nopidfile")
        poll(lambda: self._names() != "")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        while self._processes:
            self.stop()

    def start(self) -> None:
        """Returns when it answers."""
        self._start("/usr/sbin/firewalld", "--nofork", "--nopid", "--log-target", "console")
        poll(lambda: _NAME in self._names())

    def stop(self) -> None:
        """End what was started last: firewalld, which takes its rules with it; then the bus."""
        process = self._processes.pop()
        process.terminate()
        process.wait(timeout=20)

    def _start(self, *argv: str) -> None:
        quiet = subprocess.DEVNULL
        self._processes.append(subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet))

    def _names(self) -> str:
        """The names on the bus."""
        return self.machine.text("busctl", "--system", "call", *_NAMES, check=False)

    def cmd(self, *words: str) -> str:
        return self.machine.text("firewall-cmd", *words).strip()

    def sources(self, zone: str = "trusted") -> set[str]:
        """As `firewall-cmd --list-sources` would tell after a while."""
        return set(self.machine.text("busctl", "--system", "call", *_GET_SOURCES, zone).replace('"', "").split()[2:])


def poll(condition: Callable[[], bool], patience: float = 30.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it has not come about"
        time.sleep(0.02)
