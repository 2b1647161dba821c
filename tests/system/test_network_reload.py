"""`minirt network reload`: after a flush of the firewall everything works as before, under the same addresses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, bridge, eventually, serving
from support.machine import Machine
from support.scripted import Scripted, fails, says
from support.topology import inside
from support.world import HERE, WORLD, WORLD6, add_world

LISTS = Path("/etc/cni/net.d")
GO = "/usr/lib/cni"
SERVER = ("host", "python3", "-m", "http.server", "-d", "/usr/share/doc", "--bind", "::", "80")
SLEEP = ("host", "sleep", "600")
PING = ("busybox", "ping", "-c1", "-W2")


@pytest.fixture(autouse=True)
def furniture(machine: Machine) -> None:
    machine.leaves(f"file {LISTS}/*", f"directory {LISTS}", "link cni-*", "address * dev cni-*")


def flush(machine: Machine) -> None:
    machine.run("nft", "flush", "ruleset")
    assert machine.nft() == []


def answers(machine: Machine, url: str) -> bool:
    return machine.run("curl", "-sS", "-m2", "-o/dev/null", url, check=False).returncode == 0


def identity(minirt: Command, name: str, *links: str) -> Any:
    """Addresses and hardware addresses of a container's links, from inside, and its routes."""
    netns = minirt.inspect(name)["Id"]
    machine = minirt.machine
    macs = [machine.ip("link", "show", link, netns=netns)[0]["address"] for link in links]
    routes = machine.run("ip", "-n", netns, "route").stdout + machine.run("ip", "-n", netns, "-6", "route").stdout
    return macs, [machine.addresses(link, netns) for link in links], sorted(routes.splitlines())


def cached() -> Any:
    (path,) = Path("/var/lib/cni/results").iterdir()
    return json.loads(path.read_text())["result"]


@pytest.mark.parametrize("plugins", ["", GO])
def test_U13_ports_and_masquerade_come_back_and_the_container_is_who_it_was(
    minirt: Command, plugins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plugins:
        monkeypatch.setenv("CNI_PATH", plugins)
        minirt.machine.leaves("nft * nat*", "nft * filter*")
    add_world(minirt.machine)
    minirt.ok("network", "create", "--ipv6", "blue")
    minirt.ok("run", "-d", "--network", "blue", "--name", "web", "-p", "8080:80", *SERVER)
    assert "Directory listing" in serving(minirt.machine, "http://127.0.0.1:8080/")
    before = identity(minirt, "web", "eth0")
    flush(minirt.machine)
    assert not answers(minirt.machine, "http://127.0.0.1:8080/")
    assert minirt("exec", "web", *PING, WORLD).returncode != 0
    assert minirt.ok("network", "reload", "web") == "web"
    assert "Directory listing" in serving(minirt.machine, "http://127.0.0.1:8080/")
    assert "Directory listing" in serving(minirt.machine, f"http://{HERE}:8080/", "world")
    for address in (WORLD, WORLD6):
        minirt.ok("exec", "web", *PING, address)
    assert identity(minirt, "web", "eth0") == before
    shown = minirt.inspect("web")["NetworkSettings"]["Networks"]["blue"]["CNIResult"]
    assert shown["interfaces"][1]["name"] in minirt.machine.links(), "the record knows the new link on the host"
    assert {link["name"] for link in shown["interfaces"]} == {link["name"] for link in cached()["interfaces"]}
    minirt.ok("rm", "-f", "web")
    assert list(Path("/var/lib/cni/results").iterdir()) == []


def test_all_running_containers_are_reloaded_and_those_without_networks_passed_over(minirt: Command) -> None:
    minirt.ok("network", "create", "blue")
    minirt.ok("run", "-d", "--network", "blue", "--name", "one", "-p", "8081:80", *SERVER)
    minirt.ok("run", "-d", "--name", "two", "-p", "8082:80", *SERVER)
    minirt.ok("run", "-d", "--network", "none", "--name", "alone", *SLEEP)
    minirt.ok("run", "--name", "done", "host", "true")
    assert minirt.ok("network", "reload", "--all").split() == ["one", "two"], "while nothing is wrong"
    flush(minirt.machine)
    assert minirt.ok("network", "reload", "--all").split() == ["one", "two"]
    for port in (8081, 8082):
        assert "Directory listing" in serving(minirt.machine, f"http://127.0.0.1:{port}/")
    assert "is attached to no network" in minirt.fails(1, "network", "reload", "alone")
    assert "is not running" in minirt.fails(1, "network", "reload", "done")
    done = minirt("network", "reload", "nothing", "one")
    assert (done.returncode, done.stdout) == (1, "one\n") and "no container 'nothing'" in done.stderr
    for words in ((), ("--all", "one")):
        assert "which containers?" in minirt.fails(1, "network", "reload", *words)
    minirt.ok("rm", "-f", "one", "two", "alone", "done")


def test_interfaces_of_several_networks_come_back_as_they_were(minirt: Command) -> None:
    minirt.ok("network", "create", "blue")
    minirt.ok("network", "create", "--ipv6", "green")
    networks = ("--network", "blue", "--network", "green:ifname=data0,mac=02:00:00:00:00:07")
    minirt.ok("run", "-d", *networks, "--name", "web", "-p", "8080:80", *SERVER)
    path = minirt.inspect("web")["NetworkSettings"]["SandboxKey"]
    assert Path(path).exists()
    before = identity(minirt, "web", "eth0", "data0")
    flush(minirt.machine)
    minirt.ok("network", "reload", "web")
    assert identity(minirt, "web", "eth0", "data0") == before
    assert "Directory listing" in serving(minirt.machine, "http://127.0.0.1:8080/")
    minirt.ok("stop", "-t0", "web")
    assert minirt.machine.elements() == []
    minirt.ok("rm", "web")


def test_an_interface_that_others_gave_the_container_comes_back_too(minirt: Command) -> None:
    minirt.ok("network", "create", "blue")
    minirt.ok("run", "-d", "--network", "none", "--name", "web", *SLEEP)
    minirt.ok("cni", "add", "-i", "extra0", "blue", "--container", "web")
    before, elements = identity(minirt, "web", "extra0"), minirt.machine.elements()
    flush(minirt.machine)
    assert minirt.ok("network", "reload", "--all") == "web"
    assert identity(minirt, "web", "extra0") == before
    assert minirt.machine.elements() == elements != []
    minirt.ok("rm", "-f", "web")
    assert minirt.machine.elements() == []


REPEAT = """
import socket
server = socket.create_server(("", 80))
while True:
    served, peer = server.accept()
    while words := served.recv(64):
        served.sendall(words)
"""


@pytest.fixture
def conversation(minirt: Command) -> Iterator[socket.socket]:
    """A TCP connection from the world to a container's port, which echoes."""
    add_world(minirt.machine)
    minirt.ok("network", "create", "blue")
    minirt.ok("run", "-d", "--network", "blue", "--name", "web", "-p", "8080:80", "host", "python3", "-c", REPEAT)
    with inside("world"):
        client = eventually(lambda: _connect(HERE, 8080))
    with client:
        yield client
    minirt.ok("rm", "-f", "web")


def _connect(address: str, port: int) -> socket.socket | None:
    client = socket.socket()
    client.settimeout(5)
    try:
        client.connect((address, port))
    except OSError:
        client.close()
        return None
    return client


def test_a_connection_outlives_the_reload(minirt: Command, conversation: socket.socket) -> None:
    for number in range(3):
        words = f"hello {number}\n".encode()
        conversation.sendall(words)
        assert conversation.recv(64) == words
        flush(minirt.machine)
        minirt.ok("network", "reload", "web")


# Sends a datagram a millisecond to an echoing container, and prints the longest silence in milliseconds.
PROBE = """
import select, socket, sys, time
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.setblocking(False)
end, last, longest = time.monotonic() + 1.5, time.monotonic(), 0
while time.monotonic() < end:
    try:
        probe.sendto(b"x", (sys.argv[1], 7))
    except OSError:
        pass
    while select.select([probe], [], [], 0.001)[0]:
        try:
            probe.recv(9)
        except OSError:
            continue
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
print(round(longest * 1000), round((end - last) * 1000))
"""
ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 7))
while True:
    words, peer = server.recvfrom(9)
    try:
        server.sendto(words, peer)
    except OSError:
        pass
"""


def test_the_silence_is_short(minirt: Command) -> None:
    minirt.ok("network", "create", "blue")
    minirt.ok("run", "-d", "--network", "blue", "--name", "echo", "host", "python3", "-c", ECHO)
    address = minirt.address("echo")
    probe = subprocess.Popen([sys.executable, "-c", PROBE, address], stdout=subprocess.PIPE, text=True)
    time.sleep(0.4)
    flush(minirt.machine)
    minirt.ok("network", "reload", "echo")
    longest, at_the_end = map(int, probe.communicate(timeout=20)[0].split())
    assert longest < 500, "50 to 90 ms on an idle machine"
    assert at_the_end < 100, "it ended while the container was silent"
    minirt.ok("rm", "-f", "echo")


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2])
def test_a_container_that_ends_meanwhile_is_taken_down_whole(minirt: Command, delay: float) -> None:
    """Whichever of the two comes first: what is left over would fail the test."""
    minirt.ok("network", "create", "blue")
    minirt.ok("run", "-d", "--network", "blue", "--name", "web", "-p", "8080:80", *SLEEP)
    reload = minirt.start("network", "reload", "web", stdout=-1, stderr=-1)
    time.sleep(delay)
    minirt.ok("rm", "-f", "web")
    _out, err = reload.communicate(timeout=20)
    assert reload.returncode == 0 or "is not running" in err or "no container" in err, err
    assert minirt.machine.elements() == []
    assert list(Path("/var/lib/cni/results").iterdir()) == []


@pytest.mark.parametrize("missing", ["ips", "mac"])
def test_where_the_address_could_change_nothing_is_touched_and_it_is_said(minirt: Command, missing: str) -> None:
    plugin = bridge("cni-plain", "10.2.0.0/24", ipMasq=True)
    del plugin["capabilities"][missing]
    minirt.network("plain", plugin)
    minirt.ok("run", "-d", "--network", "plain", "--name", "web", *SLEEP)
    (before,) = minirt.machine.ip("link", "show", "eth0", netns=minirt.inspect("web")["Id"])
    for words in (("web",), ("--all",)):
        error = minirt.fails(1, "network", "reload", *words)
        assert f"no plugin of network 'plain' takes '{missing}'" in error
    (after,) = minirt.machine.ip("link", "show", "eth0", netns=minirt.inspect("web")["Id"])
    assert after["ifindex"] == before["ifindex"]
    minirt.ok("rm", "-f", "web")


def test_what_fails_can_be_reloaded_again(minirt: Command, tmp_path: Path) -> None:
    """The container is without the network until then, and is told so; its record keeps the addresses."""
    scripted = Scripted(tmp_path)
    for name in ("bridge", "host-local"):
        os.symlink(f"{_bundled()}/{name}", scripted.folder / name)
    result = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/x"}]}
    result |= {"ips": [{"address": "10.2.0.2/24", "interface": 0}]}
    scripted.write("second", ADD=[says(result), fails(100, "no firewall here"), says(result)])
    env = {"CNI_PATH": str(scripted.folder), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    minirt.network("net", bridge("cni-net", "10.2.0.0/24"), {"type": "second"})
    flags = ("--mac-address", "02:00:00:00:00:01")
    minirt.ok("run", "-d", *flags, "--name", "web", *SLEEP, env=env)
    netns = minirt.inspect("web")["Id"]
    assert "no firewall here" in minirt.fails(1, "network", "reload", "web", env=env)
    assert minirt.machine.links(netns) == {"lo"}
    assert minirt.ok("network", "reload", "web", env=env) == "web"
    assert minirt.machine.addresses("eth0", netns) == {"10.2.0.2/24"}
    minirt.ok("rm", "-f", "web", env=env)


def _bundled() -> str:
    from minirt.cni import executor

    return executor.bundled()
