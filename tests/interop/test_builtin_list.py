"""The built-in network list, by Debian's Go plugins and by ours, seen from inside, from the host and from the world.

Debian's are the reference plugins 1.1.1 (containernetworking-plugins, in /usr/lib/cni), which speak versions up to
1.0.0: the list's `cniVersions` let them have it in that one.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.command import eventually
from support.machine import Machine

from minirt.cni import discovery, executor
from minirt.cni.executor import Executor
from minirt.cni.operations import Cni
from minirt.cni.request import Attachment

GO = "/usr/lib/cni"
WORLD = "203.0.113.2"  # beyond the host, without a way back to the bridge
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]

# What the plugins leave on purpose: the bridge, tables and chains that are written once, the store's lock and marks.
FURNITURE = (
    "link minirt0",
    "address * dev minirt0",
    "link world",
    "address * dev world",
    "nft table *",
    "nft chain *",
    "directory /run/cni*",
    "file /run/minirt/cni.lock",
    "directory /var/lib/cni/results",
    "file /var/lib/cni/networks/minirt/l*",
)
ONCE = {"go": ("nft rule ip* nat *", "file /run/xtables.lock"), "bundled": ("nft rule inet cni_*",)}

SERVER = """
import socket
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    with server.accept()[0] as client:
        client.recv(1000)
        client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello")
"""


class Net:
    """The built-in network on a machine, under one set of plugins."""

    def __init__(self, machine: Machine, folders: tuple[str, ...]) -> None:
        self.machine = machine
        self.cni = Cni(Executor(folders))

    def attachment(self, name: str, **capability_args: Any) -> Attachment:
        return Attachment(discovery.builtin(), name, f"/run/netns/{name}", "eth0", (), capability_args)

    def inside(self, name: str, *argv: str) -> bool:
        return self.machine.run("ip", "netns", "exec", name, *argv, check=False).returncode == 0

    def pings(self, name: str, address: str) -> bool:
        return self.inside(name, "busybox", "ping", "-c1", "-W2", address)

    def fetches(self, url: str, netns: str = "") -> bool:
        prefix = ("ip", "netns", "exec", netns) if netns else ()
        return self.machine.run(*prefix, "curl", "-sS", "-m", "2", url, check=False).stdout == "hello"


@pytest.fixture(params=["go", "bundled"])
def net(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Net:
    executor.install(str(tmp_path / "bundled"))
    folders = (GO, str(tmp_path / "bundled")) if request.param == "go" else (str(tmp_path / "bundled"),)
    machine.leaves(*FURNITURE, *ONCE[request.param])
    return Net(machine, folders)


@pytest.fixture
def world(machine: Machine) -> str:
    """A namespace beyond the host, whose neighbour the host is; its name."""
    machine.netns("world")
    machine.ip("link", "add", "world", "type", "veth", "peer", "name", "eth0", "netns", "world")
    machine.ip("addr", "add", "203.0.113.1/24", "dev", "world")
    machine.ip("link", "set", "world", "up")
    machine.ip("addr", "add", f"{WORLD}/24", "dev", "eth0", netns="world")
    machine.ip("link", "set", "eth0", "up", netns="world")
    return "world"


@pytest.fixture
def server(net: Net) -> Iterator[None]:
    """An attachment called `box` with a published port, and a server behind it."""
    net.machine.netns("box")
    net.cni.add(net.attachment("box", portMappings=PORTS))
    process = subprocess.Popen(["ip", "netns", "exec", "box", "/usr/bin/python3", "-IS", "-c", SERVER])
    yield
    process.kill()
    process.wait()


def end(net: Net, *names: str) -> None:
    """Delete the attachments, and see that the kernel and the store have nothing of them any more."""
    for name in names:
        net.cni.delete(net.attachment(name))
        assert net.machine.links(name) == {"lo"}
        net.machine.run("ip", "netns", "del", name)
    assert net.cni.warnings == []


def test_it_gives_each_container_two_addresses_and_the_way_out(net: Net, world: str) -> None:
    for name in ("one", "two"):
        net.machine.netns(name)
        result = net.cni.add(net.attachment(name))
        net.cni.check(net.attachment(name))
        assert {str(ip.address) for ip in result.ips} == net.machine.addresses("eth0", name)
        assert [ip.interface for ip in result.ips] == [2, 2]
        assert (result.interfaces[0].name, result.interfaces[2].sandbox) == ("minirt0", f"/run/netns/{name}")
    assert net.machine.addresses("eth0", "two") == {"10.143.0.3/20", "fd6d:696e:6972:7400::3/64"}
    for address in ("10.143.0.1", "fd6d:696e:6972:7400::1", "10.143.0.3", "fd6d:696e:6972:7400::3", WORLD):
        # Debian's bridge takes a second to be sure of its own IPv6 address (duplicate address detection).
        eventually(partial(net.pings, "one", address))
    end(net, "one", "two")
    net.machine.run("ip", "netns", "del", world)


@pytest.mark.usefixtures("server")
def test_a_published_port_answers_on_every_address_of_the_host(net: Net, world: str) -> None:
    eventually(lambda: net.fetches("http://10.143.0.2/"))
    assert net.fetches("http://203.0.113.1:8080/", netns=world)
    assert net.fetches("http://203.0.113.1:8080/")
    assert net.fetches("http://127.0.0.1:8080/")
    assert net.fetches("http://10.143.0.1:8080/", netns="box"), "its own, by way of the host"
    net.machine.netns("other")
    net.cni.add(net.attachment("other"))
    assert net.fetches("http://203.0.113.1:8080/", netns="other")
    end(net, "other", "box")
    assert not net.fetches("http://203.0.113.1:8080/", netns=world)
    net.machine.run("ip", "netns", "del", world)


def test_what_run_may_ask_for_is_granted(net: Net) -> None:
    net.machine.netns("box")
    asked = net.attachment("box", ips=["10.143.7.7", "fd6d:696e:6972:7400::77"], mac="02:00:00:00:00:07")
    net.cni.add(asked)
    assert net.machine.addresses("eth0", "box") == {"10.143.7.7/20", "fd6d:696e:6972:7400::77/64"}
    (link,) = net.machine.ip("link", "show", "eth0", netns="box")
    assert link["address"] == "02:00:00:00:00:07"
    end(net, "box")


def test_it_is_left_also_when_the_namespace_has_gone(net: Net) -> None:
    net.machine.netns("box")
    net.cni.add(net.attachment("box"))
    net.machine.run("ip", "netns", "del", "box")
    net.cni.delete(net.attachment("box"))
    # The kernel takes a dead namespace apart in its own time; only then has Debian's pair gone.
    eventually(lambda: net.machine.links() == {"lo", "minirt0"})
