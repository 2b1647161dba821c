"""A DHCP server that does what a script tells it: run as a program with the script, JSON, as its only argument.

    {"interface": "lan0", "server": "10.77.0.1", "address": "10.77.0.99", "lease": 4, "t1": 1, "t2": 2,
     "requests": ["ACK", "NAK", "", "10.77.0.98", "ACK"], "options": {"3": "0a4d0001"}, "garbage": false}

`requests` are the answers to each DHCPREQUEST in turn, the last one for all that follow; an address is offered from
then on, with "" nothing is answered. With `garbage` each answer is preceded by messages that no client should mind.
Whatever arrives is printed, decoded by pyroute2's classes, a JSON object a line.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any

from pyroute2.dhcp.dhcp4msg import dhcp4msg
from pyroute2.dhcp.enums.dhcp import MessageType

MAGIC = b"\x63\x82\x53\x63"


def option(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


class Server:
    """The script, and where in it we are."""

    def __init__(self, script: dict[str, Any]) -> None:
        self._script = script
        self._address: str = script.get("address", "10.77.0.99")
        self._requests: list[str] = script.get("requests", ["ACK"])
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, script["interface"].encode())
        self._socket.bind(("", 67))

    def serve(self) -> None:
        print("ready", flush=True)
        while True:
            data, sender = self._socket.recvfrom(4096)
            message = dhcp4msg(buf=data).decode()
            kind = MessageType(message["options"]["message_type"]).name
            shown = {"kind": kind, "from": sender[0], "ciaddr": message["ciaddr"], "flags": message["flags"]}
            shown |= {"chaddr": message["chaddr"], "size": len(data), "options": message["options"]}
            print(json.dumps(shown, default=list), flush=True)
            self._answer(kind, data)

    def _answer(self, kind: str, data: bytes) -> None:
        if kind == "DISCOVER":
            self._send(data, MessageType.OFFER)
        elif kind == "REQUEST":
            answer = self._requests.pop(0) if len(self._requests) > 1 else self._requests[0]
            if answer in ("ACK", "NAK"):
                self._send(data, MessageType[answer])
            elif answer:
                self._address = answer

    def _send(self, asked: bytes, kind: MessageType) -> None:
        if self._script.get("garbage"):
            for piece in (
                b"",
                b"\x02",
                self._head(asked),
                self._head(asked) + MAGIC,
                self._head(asked) + MAGIC + b"\x3d\x00\x35",
            ):
                self._socket.sendto(piece, ("255.255.255.255", 68))
            other = bytearray(self._head(asked))
            other[4:8] = b"\1\2\3\4"
            self._socket.sendto(
                bytes(other) + MAGIC + self._options(MessageType.NAK) + b"\xff", ("255.255.255.255", 68)
            )
        message = self._head(asked) + MAGIC + self._options(kind) + b"\xff"
        self._socket.sendto(message, ("255.255.255.255", 68))

    def _head(self, asked: bytes) -> bytes:
        """A reply to `asked`: its transaction and hardware address, and the address that we give."""
        given = socket.inet_aton(self._address)
        head = b"\x02\x01\x06\x00" + asked[4:8] + bytes(8) + given + bytes(8) + asked[28:44]
        return head.ljust(236, b"\0")

    def _options(self, kind: MessageType) -> bytes:
        packed = option(53, bytes((kind,))) + option(54, socket.inet_aton(self._script["server"]))
        if kind == MessageType.NAK:
            return packed + option(56, b"not yours any more")
        times = {51: "lease", 58: "t1", 59: "t2"}
        for code, key in times.items():
            if key in self._script:
                packed += option(code, struct.pack("!I", self._script[key]))
        found = {"1": "ffffff00"} | self._script.get("options", {})
        return packed + b"".join(option(int(code), bytes.fromhex(value)) for code, value in found.items())


if __name__ == "__main__":
    Server(json.loads(sys.argv[1])).serve()
