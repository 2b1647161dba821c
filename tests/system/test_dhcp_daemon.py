"""Containers whose addresses a DHCP server gives: `minirt dhcp daemon`, `minirt run`, and dnsmasq."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import house
from support.command import NETWORKS, PROGRAM, Command
from support.lan import BRIDGE, SOCKET, Lan, until

MAIN: dict[str, dict[str, Any]] = {
    "bridge": {"type": "bridge", "bridge": BRIDGE},
    "macvlan": {"type": "macvlan", "master": "nic"},
}


@pytest.fixture
def lan(minirt: Command) -> Iterator[Lan]:
    lan = Lan(minirt.machine)
    minirt.machine.leaves(f"file {NETWORKS}/*")
    NETWORKS.mkdir(parents=True)
    network("bridge")
    yield lan
    lan.close()


def network(main: str) -> None:
    plugin = MAIN[main] | {"ipam": {"type": "dhcp"}}
    text = json.dumps({"cniVersion": "1.1.0", "name": "lan", "plugins": [plugin]})
    (NETWORKS / "lan.conflist").write_text(text, encoding="utf-8")


def daemon(lan: Lan, *options: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([PROGRAM, "dhcp", "daemon", *options], stderr=subprocess.DEVNULL, text=True)
    lan.started(process)
    until(lambda: os.path.exists(SOCKET) or process.poll() is not None, "the daemon starts")
    return process


@pytest.mark.parametrize("main", MAIN)
def test_a_container_has_an_address_of_the_network_and_gives_it_back(minirt: Command, lan: Lan, main: str) -> None:
    network(main)
    lan.machine.run("ip", "link", "add", "nic", "up", "type", "veth", "peer", "p0")
    lan.machine.run("ip", "link", "set", "p0", "up", "master", BRIDGE)
    lan.dnsmasq()
    daemon(lan)
    minirt.ok("run", "-d", "--name", "web", "--network", "lan", "host", "sleep", "60")
    shown = minirt.ok("run", "--rm", "--network", "lan", "host", "ip", "-j", "-4", "addr", "show", "eth0")
    (other,) = (item["local"] for item in json.loads(shown)[0]["addr_info"])
    (web,) = set(lan.leases()) - {other}
    lan.leased(web)
    minirt.ok("run", "--rm", "--network", "lan", "host", "ping", "-c1", "-W2", web)
    assert minirt.ok("exec", "web", "cat", "/etc/resolv.conf").splitlines() == [
        "nameserver 10.77.0.1",
        "search lan.test corp.test",
    ]
    minirt.ok("rm", "--force", "web")
    lan.leased()
    lan.machine.run("ip", "link", "del", "nic")


def test_a_container_that_stops_gives_its_address_back_and_gets_it_again(minirt: Command, lan: Lan) -> None:
    lan.dnsmasq()
    daemon(lan)
    minirt.ok("run", "-d", "--name", "web", "--network", "lan", "host", "sleep", "60")
    (before,) = lan.leases()
    minirt.ok("stop", "-t", "0", "web")
    lan.leased()
    minirt.ok("start", "web")
    lan.leased(before)
    minirt.ok("rm", "--force", "web")
    lan.leased()


def test_without_the_daemon_it_is_said_how_to_start_it_and_nothing_is_left(minirt: Command, lan: Lan) -> None:
    said = minirt.fails(125, "run", "--network", "lan", "host", "true")
    assert f"no daemon answers at {SOCKET}" in said
    assert "minirt dhcp daemon" in said
    assert lan.machine.links() == {"lo", BRIDGE}


def test_a_container_is_removed_when_the_daemon_has_ended(minirt: Command, lan: Lan) -> None:
    lan.dnsmasq()
    process = daemon(lan)
    minirt.ok("run", "-d", "--name", "web", "--network", "lan", "host", "sleep", "60")
    assert lan.end(process, signal.SIGINT) == 0
    minirt.ok("rm", "--force", "web")
    lan.leased()
    assert lan.records() == set()


def test_the_daemon_is_told_how_long_to_try(minirt: Command, lan: Lan) -> None:
    daemon(lan, "--resendtimeout", "500ms", "--broadcast")
    said = minirt.fails(125, "run", "--network", "lan", "host", "true")
    assert "no DHCP server gave eth0 an address within 0.5 s" in said
    assert minirt("dhcp", "daemon", "--resendtimeout", "soon").returncode == 2


def test_systemd_holds_the_socket_until_somebody_asks(minirt: Command, lan: Lan) -> None:
    lan.dnsmasq()
    os.makedirs(os.path.dirname(SOCKET), exist_ok=True)
    activate = subprocess.Popen(
        ["systemd-socket-activate", "-l", SOCKET, PROGRAM, "dhcp", "daemon"], stderr=subprocess.DEVNULL, text=True
    )
    lan.started(activate)
    until(lambda: os.path.exists(SOCKET), "the socket is held")
    minirt.ok("run", "-d", "--name", "web", "--network", "lan", "host", "sleep", "60")
    assert len(lan.leases()) == 1
    minirt.ok("rm", "--force", "web")
    lan.leased()
    assert lan.end(activate) == 0, "it has become the daemon, which ends at SIGTERM"
    os.unlink(SOCKET)


def test_the_units_are_good(tmp_path: Path) -> None:
    for name in ("minirt-dhcp.service", "minirt-dhcp.socket"):
        text = (house.TOP / "configs" / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("/usr/local/bin/minirt", PROGRAM), encoding="utf-8")
    units = [str(tmp_path / name) for name in ("minirt-dhcp.service", "minirt-dhcp.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
