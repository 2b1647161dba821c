"""One network namespace as the kernel tells it: links, addresses, routes, neighbours.

A link's other half stands in IFLA_LINK, and the namespace that it is in, in IFLA_LINK_NETNSID, a number that means
something only together with the namespace that is asked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from minirt.namespaces import Inside

OURS = "/proc/thread-self/ns/net"
_MAIN, _UNICAST, _LINK_SCOPE, _LOOPBACK = 254, 1, 253, 772
_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_FAMILY = {4: 2, 6: 10}
_LOOKUP_TABLE = 0x1000  # linux/rtnetlink.h, RTM_F_LOOKUP_TABLE: say the table that it was found in, and not just main
_FORBIDDEN = {errno.EINVAL: "blackhole", errno.EHOSTUNREACH: "unreachable", errno.EACCES: "prohibit"}
_REFUSED = _FORBIDDEN | {errno.EINVAL: "martian", errno.EXDEV: "reverse path"}


@dataclass(frozen=True)
class Link:
    """One link. `beyond` is the index of its other half or parent, which is `elsewhere` when it is in the namespace of
    that number; `below` is what it is enslaved to. `isolated`: as a port of a bridge it reaches no others of that sort.
    Addresses are in CIDR form, those of link scope left out."""

    index: int
    name: str
    kind: str
    mac: str
    up: bool
    beyond: int = 0
    elsewhere: int | None = None
    below: int = 0
    mode: str = ""
    addresses: tuple[str, ...] = ()
    loopback: bool = False
    isolated: bool = False


@dataclass(frozen=True)
class Route:
    """One route of the main table: a subnet or `default`, through `gateway` if there is one, by the link `link`."""

    to: str
    gateway: str
    link: str

    def __str__(self) -> str:
        return f"{self.to}{f' via {self.gateway}' if self.gateway else ''} dev {self.link}"


@dataclass(frozen=True)
class Way:
    """What the kernel answers when it is asked for the way to an address (`ip route get`). Where a route forbids it,
    `kind` says how (blackhole, unreachable, prohibit), and there is no link; for a packet that is passed on it may be
    where it comes from that is refused (martian, reverse path)."""

    kind: str
    gateway: str
    link: str
    source: str
    table: int


@dataclass(frozen=True)
class Space:
    """A namespace. `identity` is its inode; `host` the number by which it knows the host's, if it does."""

    path: str
    identity: int
    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    host: int | None = None

    def link(self, index: int) -> Link | None:
        return next((link for link in self.links if link.index == index), None)

    def named(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)


class Eye:
    """Looks into the network namespace at `path`; to be closed. Raises OSError when there is none."""

    def __init__(self, path: str = OURS) -> None:
        self.path = path
        if path == OURS:
            self._netlink = IPRoute()
        else:
            with Inside(path):
                self._netlink = IPRoute()

    def __enter__(self) -> Eye:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def space(self) -> Space:
        """All there is."""
        addresses: dict[int, list[str]] = {}
        for item in self._netlink.get_addr():
            if item["scope"] < _LINK_SCOPE:
                local = item.get("local") or item.get("address")
                addresses.setdefault(item["index"], []).append(f"{local}/{item['prefixlen']}")
        links = tuple(_link(item, addresses.get(item["index"], ())) for item in self._netlink.get_links())
        return Space(self.path, os.stat(self.path).st_ino, links, tuple(self._routes(links)), self._host())

    def _routes(self, links: Sequence[Link]) -> Iterator[Route]:
        names = {link.index: link.name for link in links}
        for item in self._netlink.get_routes(table=_MAIN, type=_UNICAST):
            to = f"{item.get('dst')}/{item['dst_len']}" if item.get("dst") else "default"
            if to.startswith(("fe80:", "ff00:")):
                continue
            hops = item.get("multipath") or [item]
            for hop in hops:
                via = (item.get("via") or {}).get("addr", "")
                yield Route(to, hop.get("gateway") or via, names.get(hop.get("oif"), ""))

    def _host(self) -> int | None:
        """The number that the host's namespace has in this one; None when nothing of this one reaches there."""
        fd = os.open(OURS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            number = self._netlink.get_netnsid(fd=fd)["nsid"]
        except NetlinkError:
            return None
        finally:
            os.close(fd)
        return None if number is None or number in (-1, 0xFFFFFFFF) else int(number)

    def way(self, to: str, source: str = "", arriving: int = 0) -> Way | None:
        """The way to the address `to`; None when there is none. `source` and `arriving` (the index of the link) tell of
        a packet that is passed on."""
        asked: dict[str, Any] = {"dst": to, "family": _FAMILY[6 if ":" in to else 4], "flags": _LOOKUP_TABLE}
        if source:
            asked["src"] = source
        if arriving:
            asked["iif"] = arriving
        try:
            found = next(iter(self._netlink.route("get", **asked)))
        except StopIteration:
            return None
        except NetlinkError as error:
            kind = (_REFUSED if arriving else _FORBIDDEN).get(error.code, "")
            return Way(kind, "", "", "", 0) if kind else None
        index = found.get("oif")
        name = next((_name(link.get("ifname")) for link in self._netlink.get_links(index)), "") if index else ""
        via = (found.get("via") or {}).get("addr", "")
        kind = _TYPES.get(found["type"], str(found["type"]))
        return Way(kind, found.get("gateway") or via, name, found.get("prefsrc") or "", found.get("table") or 0)

    def neighbour(self, address: str, link: int) -> str:
        """The MAC that the kernel has learnt for `address` behind `link`; empty when it has not."""
        family = _FAMILY[6 if ":" in address else 4]
        for item in self._netlink.get_neighbours(family=family, ifindex=link):
            if item.get("NDA_DST") == address and item.get("NDA_LLADDR"):
                return str(item.get("NDA_LLADDR"))
        return ""

    def port_of(self, bridge: int, mac: str) -> int:
        """The port behind which the bridge has learnt `mac`; 0 when it has not: such a frame goes to every port."""
        for item in self._netlink.fdb("dump"):
            if item.get("NDA_MASTER") == bridge and item.get("NDA_LLADDR") == mac:
                return int(item["ifindex"])
        return 0


def _link(item: Any, addresses: Sequence[str]) -> Link:
    kind = item.get(("linkinfo", "kind")) or ""
    mode = item.get(("linkinfo", "data", f"{kind}_mode"))
    if kind == "vlan":
        mode = item.get(("linkinfo", "data", "vlan_id"))
    return Link(
        item["index"],
        _name(item.get("ifname")),
        kind,
        item.get("address") or "",
        item["state"] == "up",
        item.get("link") or 0,
        item.get("IFLA_LINK_NETNSID"),
        item.get("master") or 0,
        "" if mode is None else _mode(kind, mode),
        tuple(addresses),
        item["ifi_type"] == _LOOPBACK,
        item.get(("linkinfo", "slave_data", "isolated")) == 1,
    )


def _name(name: str | bytes) -> str:
    """A link's: the kernel takes any bytes, and pyroute2 leaves those alone that are no UTF-8."""
    return os.fsdecode(name)


def _mode(kind: str, mode: object) -> str:
    if kind == "vlan":
        return f"id {mode}"
    if kind == "ipvlan":
        return {0: "l2", 1: "l3", 2: "l3s"}.get(mode, str(mode)) if isinstance(mode, int) else str(mode)
    return str(mode)
