"""DHCP messages as Ethernet frames, in and out (RFC 2131). pyroute2 is needed here, and nowhere else in this package.

pyroute2's classes make the message and its header. Options are ours (`options`): pyroute2 sends those only that it has
a name for, and does not join long ones.
"""

from __future__ import annotations

import struct

from pyroute2.dhcp.dhcp4msg import dhcp4msg
from pyroute2.dhcp.dhcp4socket import listen_udp_port
from pyroute2.dhcp.enums.bootp import Flag
from pyroute2.dhcp.enums.bootp import MessageType as Operation
from pyroute2.ext.bpf import compile as compile_filter
from pyroute2.protocols import msg

from cni_plugins.sdk.dhcp import options
from cni_plugins.sdk.dhcp.options import CLIENT_ID, MESSAGE_TYPE, REQUEST_LIST, REQUESTED_ADDRESS, SERVER_ID
from cni_plugins.spec.ip import Address
from cni_plugins.spec.mac import mac_bytes, mac_text
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)
CLIENT_PORT, SERVER_PORT = 68, 67
NOBODY = Address(4, 0)
EVERYBODY = Address(4, 0xFFFFFFFF)
EVERY_MAC = "ff:ff:ff:ff:ff:ff"
SHORTEST = 300  # octets: some relays drop less (RFC 1542, 2.1)

_ETHERNET = struct.Struct("!6s6sH")
_IP = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_PSEUDO = struct.Struct("!4s4sxBH")
_IPV4, _IPPROTO_UDP = 0x0800, 17


@record
class Client:
    """What is the same in every message of one client."""

    mac: str
    identifier: bytes
    request: tuple[int, ...]
    provide: Mapping[int, bytes]
    broadcast: bool = False  # have the server answer to all: for links that share a hardware address


@record
class Reply:
    """What a server said. `mac` is who passed it on to us: the server, or a relay."""

    kind: int
    transaction: int
    client_mac: str
    address: Address
    server: Address | None
    mac: str
    options: Mapping[int, bytes]


# --- out --------------------------------------------------------------------------------------------------------------


def discover(client: Client, transaction: int, address: Address | None = None) -> bytes:
    """The frame that asks every server for an address, for `address` if it can be."""
    return _broadcast(_message(client, transaction, DISCOVER, _wish(address)))


def request(client: Client, transaction: int, address: Address, server: Address) -> bytes:
    """The frame that takes the offer of `server`."""
    named = {REQUESTED_ADDRESS: address.packed, SERVER_ID: server.packed}
    return _broadcast(_message(client, transaction, REQUEST, named))


def renew(client: Client, transaction: int, address: Address) -> bytes:
    """The message that asks the server which granted the lease, from the address itself: no frame, but what it
    carries."""
    return _message(client, transaction, REQUEST, {}, address, unicast=True)


def rebind(client: Client, transaction: int, address: Address) -> bytes:
    """The frame that asks whichever server there is to go on with the lease."""
    return _broadcast(_message(client, transaction, REQUEST, {}, address))


def release(client: Client, transaction: int, address: Address, server: Address, server_mac: str) -> bytes:
    """The frame that gives the lease back; nobody answers it."""
    bare = Client(client.mac, client.identifier, (), {})
    payload = _message(bare, transaction, RELEASE, {SERVER_ID: server.packed}, address, unicast=True)
    return _frame(client.mac, server_mac, address, server, payload)


def _wish(address: Address | None) -> dict[int, bytes]:
    return {REQUESTED_ADDRESS: address.packed} if address else {}


def _message(
    client: Client,
    transaction: int,
    kind: int,
    named: Mapping[int, bytes],
    address: Address = NOBODY,
    unicast: bool = False,
) -> bytes:
    flags = Flag.BROADCAST if client.broadcast and not unicast else Flag.UNICAST
    head = {"op": Operation.BOOTREQUEST, "xid": transaction, "flags": flags}
    message = dhcp4msg(head | {"ciaddr": str(address), "chaddr": client.mac})
    msg.encode(message)  # the fields alone
    own = {MESSAGE_TYPE: bytes((kind,)), **client.provide, CLIENT_ID: client.identifier, **named}
    if client.request:
        own[REQUEST_LIST] = bytes(client.request)
    packed: bytes = message.buf + options.pack(own) + bytes((options.END,))
    return packed.ljust(SHORTEST, b"\0")


def _broadcast(payload: bytes) -> bytes:
    return _frame(mac_text(payload[28:34]), EVERY_MAC, NOBODY, EVERYBODY, payload)


def _frame(mac: str, to_mac: str, source: Address, to: Address, payload: bytes) -> bytes:
    length = _UDP.size + len(payload)
    pseudo = _PSEUDO.pack(source.packed, to.packed, _IPPROTO_UDP, length)
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, 0)
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, _checksum(pseudo + udp + payload) or 0xFFFF)
    fields = (0x45, 0, _IP.size + length, 0, 0, 64, _IPPROTO_UDP)
    ip = _IP.pack(*fields, 0, source.packed, to.packed)
    ip = _IP.pack(*fields, _checksum(ip), source.packed, to.packed)
    return _ETHERNET.pack(mac_bytes(to_mac), mac_bytes(mac), _IPV4) + ip + udp + payload


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.Struct(f"!{len(data) // 2}H").unpack(data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# --- in ---------------------------------------------------------------------------------------------------------------


def filter_program() -> tuple[bytes, object]:
    """What SO_ATTACH_FILTER takes, so that a socket gets what is sent to our port alone; and what must live as long."""
    packed: tuple[bytes, object] = compile_filter(listen_udp_port(CLIENT_PORT))
    return packed


def read(frame: bytes) -> Reply | None:
    """The server's reply in `frame`; None for whatever else it is.

    The UDP checksum is not looked at: between namespaces of one machine it is not computed.
    """
    try:
        _to, sender, _kind = _ETHERNET.unpack_from(frame)
        ip = frame[_ETHERNET.size :]
        payload = ip[(ip[0] & 0x0F) * 4 + _UDP.size :]
        head = dhcp4msg(buf=payload)
        msg.decode(head)  # the fields alone
    except (struct.error, IndexError, ValueError):
        return None
    found = options.of(payload)
    kind, server = found.get(MESSAGE_TYPE, b""), options.addresses(found.get(SERVER_ID))
    if head["op"] != Operation.BOOTREPLY or len(kind) != 1:
        return None
    return Reply(
        kind[0],
        head["xid"],
        head["chaddr"],
        options.address(payload[16:20]),
        server[0] if server else None,
        mac_text(sender),
        found,
    )
