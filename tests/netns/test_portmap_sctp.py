"""SCTP through published ports. The kernel tracks and translates it whether it has sockets for it or not, so the two
ends are raw sockets, and what they exchange are the first two packets of an association: INIT and INIT ACK."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import Portmap, elements, tcp
from support.topology import A6, GATEWAY, GATEWAY6, HOST, HOST6, OUTSIDE, OUTSIDE6, A, Topology, family, inside

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)

SCTP = 132
INIT, INIT_ACK = 1, 2
CLIENT = 4567


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def packet(source: int, destination: int, kind: int) -> bytes:
    """An SCTP packet of one chunk (RFC 9260, 3.3.2 and 3.3.3), with its checksum."""
    tag = 0 if kind == INIT else 7
    cookie = struct.pack(">HH4x", 7, 8) if kind == INIT_ACK else b""
    chunk = struct.pack(">BBHIIHHI", kind, 0, 20 + len(cookie), 7, 65536, 1, 1, 1) + cookie
    head = struct.pack(">HHI", source, destination, tag)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def heard(end: socket.socket, kind: int) -> tuple[str, int, int]:
    """Sender, source port and destination port of the next chunk of a kind; its checksum must be right."""
    while True:
        data, sender = end.recvfrom(2000)
        data = data[20:] if end.family == socket.AF_INET else data  # IPv4's header comes with it
        source, destination = struct.unpack_from(">HH", data)
        if data[12] == kind:
            assert struct.unpack_from("<I", data, 8)[0] == crc32c(data[:8] + bytes(4) + data[12:])
            return sender[0], source, destination


class Sctp:
    """Raw sockets in the namespaces of a topology, closed with it."""

    def __init__(self, net: Topology) -> None:
        self.net = net

    def end(self, netns: str, address: str) -> socket.socket:
        with inside(netns):
            made = socket.socket(family(address), socket.SOCK_RAW, SCTP)
        made.settimeout(0.4)
        self.net.keep(made)
        return made

    def associate(self, netns: str, server: socket.socket, address: str, port: int) -> str:
        """INIT from a namespace to address and port, and its answer; the client's address as `server` sees it."""
        client = self.end(netns, address)
        client.sendto(packet(CLIENT, port, INIT), (address, 0))
        peer, source, asked = heard(server, INIT)
        assert asked == 80
        server.sendto(packet(80, source, INIT_ACK), (peer, 0))
        assert heard(client, INIT_ACK) == (address, port, CLIENT)
        client.close()
        return peer


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


def test_sctp_is_published(net: Topology) -> None:
    portmap, ends = Portmap(), Sctp(net)
    mapping = tcp(8080, 80) | {"protocol": "sctp"}
    portmap.ok("ADD", "a", mapping)
    server, server6 = ends.end("a", A), ends.end("a", A6)
    for netns, address, seen in (("outside", HOST, OUTSIDE), ("", "127.0.0.1", GATEWAY), ("b", HOST, GATEWAY)):
        assert ends.associate(netns, server, address, 8080) == seen
    for netns, address, seen in (("outside", HOST6, OUTSIDE6), ("b", HOST6, GATEWAY6)):
        assert ends.associate(netns, server6, address, 8080) == seen
    portmap.ok("CHECK", "a", mapping)
    assert "8080/sctp is taken by container a" in portmap.fails("ADD", "b", mapping)["msg"]
    portmap.ok("DEL", "a")
    assert elements(net.machine) == {}
    net.machine.run("conntrack", "-F")
    with pytest.raises(TimeoutError):
        ends.associate("outside", server, HOST, 8080)
