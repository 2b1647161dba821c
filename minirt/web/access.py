"""Who may look. Loopback alone keeps nobody of this machine out, and configurations may hold secrets.

- The Host header must name this machine's loopback: a page from elsewhere, whose name is made to lead here (DNS
  rebinding), brings its own. The port may be another, for ports are forwarded.
- The other end of the connection must belong to root, to whoever we run as, or to who called sudo. The kernel tells in
  /proc/thread-self/net/tcp and tcp6 (proc(5)) whose a socket is: this thread's, for /proc/net is the main thread's, and
  that looks into the containers' networks in turn.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping

NAMES = ("localhost", "127.0.0.1", "[::1]")
# Seconds before each reading. The kernel hands the table out in pieces, between which sockets come and go: a browser's
# was once missing in one, and with it a script of the page.
_PAUSES = (0, 0.001, 0.01, 0.1)
_TABLES = {socket.AF_INET: "/proc/thread-self/net/tcp", socket.AF_INET6: "/proc/thread-self/net/tcp6"}
_MAPPED = "::ffff:"  # before an address of IPv4 that a socket of IPv6 is connected from (RFC 4291, 2.5.5.2)


def names_us(host: str) -> bool:
    """Whether a Host header names loopback, with any port."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name = host
    return name.lower() in NAMES


def welcome(environ: Mapping[str, str]) -> frozenset[int]:
    """The user ids that may look."""
    caller = environ.get("SUDO_UID", "")
    return frozenset({0, os.geteuid()} | ({int(caller)} if caller.isdigit() else set()))


def owner(family: socket.AddressFamily, theirs: tuple[str, int], ours: tuple[str, int]) -> int | None:
    """Whose the socket is that is connected from `theirs` to `ours`, addresses of this machine; None when the kernel
    does not know it (any more)."""
    wanted = {_TABLES[family]: (_place(family, theirs), _place(family, ours))}
    if family == socket.AF_INET:
        theirs, ours = ((_MAPPED + address, port) for address, port in (theirs, ours))
        wanted[_TABLES[socket.AF_INET6]] = (_place(socket.AF_INET6, theirs), _place(socket.AF_INET6, ours))
    for wait in _PAUSES:
        time.sleep(wait)
        for path, places in wanted.items():
            for line in _lines(path):
                # sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …
                fields = line.split()
                if (fields[1], fields[2]) == places:
                    return int(fields[7])
    return None


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path) as file:
            next(file, "")
            yield from file
    except FileNotFoundError:
        return  # a kernel without IPv6


def _place(family: socket.AddressFamily, place: tuple[str, int]) -> str:
    """As the table writes it: the address's words of 32 bits as this machine has them in memory, and the port."""
    packed = socket.inet_pton(family, place[0])
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{place[1]:04X}"
