"""A small network around a private machine, made with `ip` alone, and packets sent through it by real sockets.

    outside 192.0.2.2 ── 192.0.2.1 ┐                    ┌ 10.88.0.1 cni0 ──┬── a 10.88.0.5
            2001:db8:2::2        the machine        fd00:88::1         └── b 10.88.0.6
    far     198.51.100.2 ─ 198.51.100.1 ┘

`outside` and `far` are other hosts, which have a route to the containers; a and b are containers, their last group
is the same in IPv6 (fd00:88::5). A socket stays in the namespace that it was made in, so the test's own process holds
both ends of every conversation, and no server has to be started.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from support.machine import CLONE_NEWNET, Machine

HOST, HOST6 = "192.0.2.1", "2001:db8:2::1"
OUTSIDE, OUTSIDE6 = "192.0.2.2", "2001:db8:2::2"
FAR = "198.51.100.2"
GATEWAY, GATEWAY6 = "10.88.0.1", "fd00:88::1"
A, A6 = "10.88.0.5", "fd00:88::5"
B, B6 = "10.88.0.6", "fd00:88::6"

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """The test's process is in the named namespace; "" is the machine itself."""
    if not netns:
        yield
        return
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/run/netns/{netns}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert _libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        assert _libc.setns(home, CLONE_NEWNET) == 0
        os.close(home)
        os.close(there)


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Topology:
    """The network above on `machine`. Close it before the test ends: sockets keep namespaces alive."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._sockets: list[socket.socket] = []
        machine.leaves("link *", "address *", "route *", "in netns *")  # gone with the machine, and quicker so
        # Neighbours are asked from link-local addresses, which duplicate detection would hold back for a second.
        machine.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        gateways = [f"addr add {GATEWAY}/24 dev cni0", f"addr add {GATEWAY6}/64 dev cni0 nodad"]
        self._batch("", ["link add cni0 type bridge", *gateways, "link set cni0 up"])
        self.container("a", A, A6)
        self.container("b", B, B6)
        self._neighbour("outside", "wan0", f"{HOST}/24", f"{OUTSIDE}/24", f"{HOST6}/64", f"{OUTSIDE6}/64")
        self._neighbour("far", "wan1", "198.51.100.1/24", f"{FAR}/24")
        machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.filter_bridge(False)

    def __enter__(self) -> Topology:
        return self

    def __exit__(self, *_: object) -> None:
        for item in self._sockets:
            item.close()

    def filter_bridge(self, on: bool) -> None:
        """Whether frames that stay on the bridge pass the rules for IP, too (br_netfilter, which Kubernetes wants).

        A bridge then sends packets that come back to the port they came from, if that is in hairpin mode.
        """
        for family in ("ip", "ip6"):
            self.machine.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{family}tables={int(on)}")
        for name in ("a", "b"):
            self._batch("", [f"link set veth-{name} type bridge_slave hairpin {'on' if on else 'off'}"])

    def _batch(self, netns: str, lines: list[str]) -> None:
        where = ("-n", netns) if netns else ()
        self.machine.run("ip", *where, "-b", "-", input="".join(f"{line}\n" for line in lines))

    def container(self, name: str, address: str, address6: str) -> None:
        """A namespace with eth0 on the bridge."""
        self.machine.netns(name)
        self._batch("", [f"link add veth-{name} master cni0 up type veth peer name eth0 netns {name}"])
        lines = [f"addr add {address}/24 dev eth0", f"addr add {address6}/64 dev eth0 nodad"]
        lines += ["link set lo up", "link set eth0 up"]
        lines += [f"route add default via {GATEWAY}", f"route add default via {GATEWAY6}"]
        self._batch(name, lines)

    def _neighbour(self, name: str, link: str, *addresses: str) -> None:
        """Another host, on a link of its own; `addresses` are ours and theirs in turn."""
        self.machine.netns(name)
        ours, theirs = addresses[::2], addresses[1::2]
        self._batch("", [f"link add {link} up type veth peer name eth0 netns {name}"])
        self._batch("", [f"addr add {item} dev {link}{_nodad(item)}" for item in ours])
        there = ["link set lo up", "link set eth0 up", *(f"addr add {item} dev eth0{_nodad(item)}" for item in theirs)]
        there += [f"route add default via {item.partition('/')[0]}" for item in ours]
        self._batch(name, there)

    # --- conversations ---------------------------------------------------------------------------------------------

    def open(self, netns: str, address: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A socket of the address's family inside a namespace, closed when the topology is."""
        with inside(netns):
            made = socket.socket(family(address), kind)
        made.settimeout(0.4)
        self._sockets.append(made)
        return made

    def keep(self, made: socket.socket) -> None:
        """Close it when the topology is."""
        self._sockets.append(made)

    def listen(self, netns: str, address: str, port: int) -> socket.socket:
        listener = self.open(netns, address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        return listener

    def receive(self, netns: str, address: str, port: int) -> socket.socket:
        """A UDP server."""
        server = self.open(netns, address, socket.SOCK_DGRAM)
        server.bind((address, port))
        return server

    def connect(self, netns: str, listener: socket.socket, address: str, port: int) -> str:
        """Speak TCP from a namespace to address and port; the client's address as `listener` sees it.

        Raises OSError when the connection is not made, or made with somebody else.
        """
        client = self.open(netns, address)
        client.connect((address, port))
        served, peer = listener.accept()
        with served:
            served.sendall(b"hello")
            assert client.recv(16) == b"hello"
        client.close()
        return str(peer[0])

    def exchange(self, netns: str, server: socket.socket, address: str, port: int) -> str:
        """The same with UDP, from a new client."""
        return self.converse(self.open(netns, address, socket.SOCK_DGRAM), server, address, port)

    def converse(self, client: socket.socket, server: socket.socket, address: str, port: int) -> str:
        """One datagram from `client` to address and port, and its answer, whose sender must be who was asked."""
        client.sendto(b"ping", (address, port))
        words, peer = server.recvfrom(16)
        assert words == b"ping"
        server.sendto(b"pong", peer)
        words, sender = client.recvfrom(16)
        assert (words, sender[:2]) == (b"pong", (address, port))
        return str(peer[0])


def _nodad(cidr: str) -> str:
    return " nodad" if ":" in cidr else ""
