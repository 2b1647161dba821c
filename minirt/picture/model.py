"""The picture as data: a host, the links that its containers hang on, the containers, and the ways out.

Made by `survey` out of the kernel and of what is on record; drawn by `text`, `scheme` (mermaid, dot) and `svg`. Nothing
here asks anybody anything.

    Picture ── host: Space, ways out, masquerades, published ports
            └─ containers ── interfaces ── Wire: how each reaches the host
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from cni_plugins.spec.ip import bracketed
from minirt.picture.kernel import Link, Route, Space

VETH, PARENT, LENT, NOWHERE, ELSEWHERE = "veth", "parent", "lent", "nowhere", "elsewhere"
THERE, MISSING, UNKNOWN = "there", "missing", "unknown"

_WORDS = {
    LENT: "a link of the host, lent",
    NOWHERE: "leads nowhere",
    ELSEWHERE: "leads into another namespace than the host's",
}


@dataclass(frozen=True)
class Wire:
    """How an interface of a container reaches the host.

    veth: its other end is the host's link `end`, a port of the bridge `bridge` where there is one.
    parent: it is made on the host's link `end` (macvlan, ipvlan, vlan).  lent: it was a link of the host itself.
    nowhere: it leads out of no namespace (dummy, tap).  elsewhere: into another namespace than the host's.
    """

    how: str
    end: Link | None = None
    bridge: Link | None = None

    @property
    def words(self) -> str:
        """What it is, where it does not hang on the host; empty where it does."""
        return _WORDS.get(self.how, "")


@dataclass(frozen=True)
class Interface:
    """An interface of a container. `network` is empty where nobody has it on record."""

    network: str
    link: Link
    wire: Wire


@dataclass(frozen=True)
class Port:
    """A published port; ports from `number` to `until`, where that is not 0, which keep their numbers or all become
    `inner`. `state`: it is there, as nftables has it; it is asked for and missing; or nftables could not be asked."""

    protocol: str
    address: str
    number: int
    target: str
    inner: int
    state: str = THERE
    until: int = 0

    @property
    def outer(self) -> str:
        host = f"{bracketed(self.address)}:" if self.address else ""
        return f"{host}{self._numbers(self.number)}/{self.protocol}"

    @property
    def inside(self) -> str:
        return f"{bracketed(self.target)}:{self._numbers(self.inner)}"

    def _numbers(self, first: int) -> str:
        return f"{first}-{self.until}" if self.until and first == self.number else str(first)


@dataclass(frozen=True)
class Container:
    """A container whose network namespace is there. `guests` are the names of those that run in it as well; `unmasked`
    are those of its addresses whose masquerade was asked for and is not there."""

    id: str
    name: str
    path: str
    space: Space
    interfaces: tuple[Interface, ...]
    ports: tuple[Port, ...]
    masquerades: tuple[str, ...]
    guests: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that lead further than its own links."""
        return tuple(route for route in self.space.routes if route.gateway or route.to == "default")


@dataclass(frozen=True)
class Picture:
    """What there is. `network` is the one that was asked for, empty for all; `notes` are for the reader."""

    name: str
    host: Space
    containers: tuple[Container, ...]
    bridges: tuple[Link, ...]
    network: str = ""
    notes: tuple[str, ...] = ()

    @property
    def interfaces(self) -> Iterator[tuple[Container, Interface]]:
        """Every interface of every container."""
        return ((container, item) for container in self.containers for item in container.interfaces)

    @property
    def ways_out(self) -> tuple[Route, ...]:
        """The host's default routes."""
        return tuple(route for route in self.host.routes if route.to == "default")

    @property
    def masquerades(self) -> tuple[str, ...]:
        """Addresses that leave the host as the host's own: subnets, where all of the picture's in them do."""
        masked = {address for container in self.containers for address in container.masquerades}
        plain = {
            _subnet(address)
            for _container, interface in self.interfaces
            for address in interface.link.addresses
            if address not in masked
        }
        return tuple(dict.fromkeys(item if _subnet(item) in plain else _subnet(item) for item in sorted(masked)))

    @property
    def unmasked(self) -> tuple[str, ...]:
        """What should leave as the host's own and does not: subnets, where none of the picture's in them do."""
        masked = {_subnet(address) for container in self.containers for address in container.masquerades}
        lost = sorted(address for container in self.containers for address in container.unmasked)
        return tuple(dict.fromkeys(item if _subnet(item) in masked else _subnet(item) for item in lost))

    @property
    def uplinks(self) -> tuple[Link, ...]:
        """The host's links by which one leaves it: where its default routes lead, and parents of containers' links."""
        names = {route.link for route in self.ways_out}
        wires = [interface.wire for _container, interface in self.interfaces]
        parents = {wire.end.index for wire in wires if wire.how == PARENT and wire.end}
        ends = {wire.end.index for wire in wires if wire.how == VETH and wire.end}
        ends |= {bridge.index for bridge in self.bridges}
        return tuple(
            link
            for link in self.host.links
            if not link.loopback
            and link.index not in ends
            and (link.name in names or link.index in parents or (self._alone(link) and not self.network))
        )

    def _alone(self, link: Link) -> bool:
        """Whether it is a link of the host's own, no matter to any container."""
        return bool(link.addresses) and not link.below and link.kind != "bridge"

    def ports_of(self, bridge: Link) -> tuple[Link, ...]:
        """The links that are ports of a bridge."""
        return tuple(link for link in self.host.links if link.below == bridge.index)


def _subnet(address: str) -> str:
    return str(ip_interface(address).network)


def titled(container: Container) -> str:
    """A container as a picture names it: its name, and the beginning of its id where that is another."""
    short = container.id[:12]
    return container.name if container.name in (short, container.id) else f"{container.name} ({short})"
