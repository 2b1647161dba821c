"""Whether anybody listens where a packet is delivered: the kernel's lists of sockets in one namespace.

/proc/net/tcp has a line for each socket (proc_net_tcp(5)): address and port in hexadecimal, the address as words of the
machine's own byte order, and a state, 0A for one that listens; an unconnected one of UDP is in state 07. A socket of
IPv6 that is bound to :: hears IPv4 as well, unless IPV6_V6ONLY is set, which the list does not say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from minirt import files
from minirt.namespaces import Inside
from minirt.picture.kernel import OURS

_LIST = "/proc/thread-self/net/{}"
_WAITS = {"tcp": "0A", "udp": "07"}
_ANY = (IPv4Address(0), IPv6Address(0))


def heard(space: str, protocol: str, address: str, port: int) -> bool | None:
    """Whether a socket of the namespace at `space` listens there; None where that cannot be told (SCTP, ICMP)."""
    if protocol not in _WAITS or not port:
        return None
    try:
        if space == OURS:
            return _heard(protocol, address, port)
        with Inside(space):
            return _heard(protocol, address, port)
    except OSError:
        return None  # it has ended meanwhile


def _heard(protocol: str, address: str, port: int) -> bool:
    to = ip_address(address)
    lists = (protocol, f"{protocol}6") if to.version == 4 else (f"{protocol}6",)
    return any(bound == port and where in (to, *_ANY) for name in lists for where, bound in _sockets(name, protocol))


def _sockets(name: str, protocol: str) -> Iterator[tuple[IPv4Address | IPv6Address, int]]:
    """Where the sockets of a list wait for somebody."""
    try:
        lines = files.read(_LIST.format(name)).decode().splitlines()[1:]
    except FileNotFoundError:
        return  # a kernel without IPv6
    for _number, local, _remote, state, *_ in map(str.split, lines):
        if state == _WAITS[protocol]:
            place, _, port = local.partition(":")
            yield _address(place), int(port, 16)


def _address(words: str) -> IPv4Address | IPv6Address:
    """An address of such a list; one of IPv4 that a socket of IPv6 is bound to, as what it is."""
    packed = bytes.fromhex(words)
    if sys.byteorder == "little":
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    found = ip_address(packed)
    return getattr(found, "ipv4_mapped", None) or found
