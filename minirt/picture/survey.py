"""The picture of this host, made of the kernel (links, addresses, routes, nftables) and of what is on record.

Who is attached to which network, the records of containers and CNI's cache say (`minirt.netadmin.catalog`): those of
other runtimes and of other people's plugins as well. How each interface reaches the host, the kernel says: so the
picture shows what is, and not what a list asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from cni_plugins.spec.jsontext import JsonError, loads
from minirt.cni.netns import alive
from minirt.cni.tool import CNITOOL
from minirt.errors import NotFound
from minirt.namespaces import NETNS_DIR, path_of
from minirt.netadmin.catalog import Catalog, User
from minirt.picture import ruleset
from minirt.picture.kernel import Eye, Link, Space
from minirt.picture.matching import Packet
from minirt.picture.model import (
    ELSEWHERE,
    LENT,
    MISSING,
    NOWHERE,
    PARENT,
    UNKNOWN,
    VETH,
    Container,
    Interface,
    Picture,
    Port,
    Wire,
)
from minirt.picture.published import published
from minirt.picture.ruleset import Ruleset
from minirt.spaces import identity
from minirt.spec import HOST, OF_CONTAINER
from minirt.state import RUNNING, Attached, Record

# Somebody who is nobody's neighbour (RFC 5737, RFC 3849): what is masqueraded on the way there, is on the way out.
AWAY = {4: "203.0.113.1", 6: "2001:db8:ffff::1"}
_ALONE = ("dummy", "tun", "tap", "bridge", "ifb")
_ON_TOP = ("macvlan", "ipvlan", "vlan", "macvtap", "ipvtap")


def take(catalog: Catalog, records: Sequence[Record], network: str = "", rules: Ruleset | None = None) -> Picture:
    """The picture of one network, or of all. Raises NotFound when there is no such network."""
    users = catalog.users()
    if network and network not in users:
        catalog.find(network)  # says what there is
    with Eye() as eye:
        host = eye.space()
    rules = rules or ruleset.read()
    wanted = [user for name, group in users.items() if network in ("", name) for user in group]
    subjects = _subjects(wanted, records, network)
    containers = tuple(_Surveyor(host, rules, network).containers(subjects))
    bridges = tuple(link for link in host.links if link.kind == "bridge" and _drawn(link, containers, catalog, network))
    notes = (*((rules.problem,) if rules.problem else ()), *_guests(records, containers, network))
    return Picture(os.uname().nodename, host, containers, bridges, network, notes)


def one(containers: Sequence[Container], reference: str) -> Container:
    """The container called so; an id, or its beginning, serves, and a name of /run/netns. Raises NotFound."""
    exact = [item for item in containers if reference in (item.name, item.id, *item.guests)]
    exact = exact or [item for item in containers if item.space.identity == _pinned(reference)]
    begun = [container for container in containers if reference and container.id.startswith(reference)]
    if not exact and len(begun) != 1:
        hint = "'minirt ps' lists those that run; 'host' is this machine itself"
        raise NotFound(f"no container {reference!r} with a network namespace of its own", hint)
    return (exact or begun)[0]


def _pinned(name: str) -> int:
    """The namespace that `ip netns` calls so; 0 where there is none."""
    return identity(path_of(name)) if name and "/" not in name else 0


def _guests(records: Sequence[Record], containers: Sequence[Container], network: str) -> Iterator[str]:
    """Containers that have no network of their own to be drawn, where that of which they are guests is drawn."""
    for record in records:
        if record.status == RUNNING and record.spec.network_mode == HOST and not network:
            yield f"{record.name} is in the network of the host"
    for container in containers:
        for guest in container.guests:
            yield f"{guest} is in the network of {container.name}"


def _drawn(bridge: Link, containers: Sequence[Container], catalog: Catalog, network: str) -> bool:
    """Whether a bridge belongs into the picture: all do in the one of everything."""
    if not network:
        return True
    used = any(item.wire.bridge == bridge for container in containers for item in container.interfaces)
    return used or any(
        plugin.get("bridge") == bridge.name
        for entry in catalog.entries()
        if entry.network and entry.network.name == network
        for plugin in entry.network.plugins
    )


@dataclass
class _Subject:
    """A container as it is on record: where its namespace lies, and its attachments by their interfaces."""

    id: str
    name: str
    path: str = ""
    attached: dict[str, Attached] = field(default_factory=dict)
    guests: tuple[str, ...] = ()

    @property
    def sandbox(self) -> str:
        """Where its namespace lies; of one that is not ours, where the plugins said."""
        return self.path or next(filter(None, (_sandbox(item.result) for item in self.attached.values())), "")

    @property
    def wishes(self) -> Iterator[Port]:
        """The ports that its attachments were asked to publish (CNI's capability portMappings): each once for every
        family that it has an address of, for a port of one family never leads to the other."""
        for item in self.attached.values():
            targets = [address.partition("/")[0] for address in _given(item)]
            for wish in item.wishes.get("portMappings") or ():
                if isinstance(wish, dict) and isinstance(outer := wish.get("hostPort"), int):
                    protocol, address = wish.get("protocol") or "tcp", str(wish.get("hostIP") or "")
                    port = Port(str(protocol), address, outer, "", wish.get("containerPort") or outer, MISSING)
                    served = [target for target in targets if not address or _six(target) == _six(address)]
                    for target in {_six(target): target for target in reversed(served)}.values():
                        yield replace(port, target=target)

    def masked(self, interface: str) -> Sequence[str]:
        """The addresses of an interface whose masquerade was asked for (`ipMasq` of bridge and ptp)."""
        item = self.attached.get(interface)
        return _given(item) if item and any(plugin.get("ipMasq") is True for plugin in _plugins(item)) else ()


def _subjects(users: Sequence[User], records: Sequence[Record], network: str) -> list[_Subject]:
    """Who may be in the picture: the network's users; with all networks, those as well that have none."""
    found: dict[str, _Subject] = {}
    for user in users:
        subject = found.setdefault(user.container_id, _Subject(user.container_id, user.name))
        subject.attached[user.attached.ifname] = user.attached
    for record in records:
        own = record.netns and not record.spec.network_mode.startswith(OF_CONTAINER)
        if record.id in found or (own and not network):
            subject = found.setdefault(record.id, _Subject(record.id, record.name))
            subject.path, subject.guests = record.netns, _sharing(record, records)
    return list(found.values())


def _sharing(owner: Record, records: Sequence[Record]) -> tuple[str, ...]:
    """The names of those that run in a container's network."""
    guests = (other for other in records if other.spec.network_mode.startswith(OF_CONTAINER))
    return tuple(
        other.name
        for other in guests
        if other.status == RUNNING and other.netns == owner.netns and other.id != owner.id
    )


def _look(path: str) -> Space | None:
    """What is in a container's namespace; None when it has ended meanwhile."""
    try:
        with Eye(path) as eye:
            return eye.space()
    except (OSError, NetlinkError):
        return None


def _sandbox(result: dict[str, Any]) -> str:
    """Where a namespace lies, as the plugins said."""
    for item in result.get("interfaces") or ():
        if isinstance(item, dict) and item.get("sandbox"):
            return str(item["sandbox"])
    return ""


def _name(subject: _Subject) -> str:
    """What people call it. The id that cnitool gives says nothing, where the namespace has a name of its own."""
    folder, name = os.path.split(subject.sandbox)
    called = subject.name == subject.id and subject.id.startswith(CNITOOL) and folder == NETNS_DIR
    return name if called and name else subject.name


def _given(item: Attached) -> list[str]:
    """The addresses that an attachment was given, as its plugins said."""
    ips = (ip for ip in item.result.get("ips") or () if isinstance(ip, dict))
    return [address for ip in ips if isinstance(address := ip.get("address"), str)]


def _plugins(item: Attached) -> list[dict[str, Any]]:
    """The configurations of an attachment's plugins; of a list that is not one, none."""
    try:
        document = loads(item.config)
    except JsonError:
        return []
    found = document.get("plugins", [document]) if isinstance(document, dict) else ()
    return [plugin for plugin in found if isinstance(plugin, dict)] if isinstance(found, list) else []


def _six(address: str) -> bool:
    return ":" in address


class _Surveyor:
    """Looks at containers, beside the host and its rules; of one network, or of all."""

    def __init__(self, host: Space, rules: Ruleset, network: str) -> None:
        self._host = host
        self._rules = rules
        self._network = network
        self._published = published(rules)

    def containers(self, subjects: Sequence[_Subject]) -> Iterator[Container]:
        """Those with a living namespace, each namespace once."""
        seen: set[int] = set()
        for subject in subjects:
            path = subject.sandbox
            space = _look(path) if path and alive(path) else None
            if space is not None and space.identity not in seen:
                seen.add(space.identity)
                yield self._container(subject, space)

    def _container(self, subject: _Subject, space: Space) -> Container:
        interfaces = tuple(self._interfaces(subject, space))
        own = [address.partition("/")[0] for item in interfaces for address in item.link.addresses]
        there = tuple(port for port in self._published if port.target in own)
        masquerades = tuple(self._masquerades(interfaces))
        return Container(
            subject.id,
            _name(subject),
            space.path,
            space,
            interfaces,
            (*there, *self._missing(subject, there)),
            masquerades,
            subject.guests,
            tuple(self._unmasked(subject, interfaces, masquerades)),
        )

    def _interfaces(self, subject: _Subject, space: Space) -> Iterator[Interface]:
        """Its links. Those that the kernel puts into every namespace (tunl0, sit0) are down, and nobody's."""
        for link in space.links:
            item = subject.attached.get(link.name)
            if item or (not self._network and not link.loopback and (link.up or link.addresses)):
                yield Interface(item.network if item else "", link, wire(link, space, self._host))

    def _missing(self, subject: _Subject, there: Sequence[Port]) -> Iterator[Port]:
        """What was asked for and is not there: somebody has flushed it, or it is kept where nft does not see it."""
        state = UNKNOWN if self._rules.problem else MISSING
        for wish in subject.wishes:
            if not any(_fulfils(port, wish) for port in there):
                yield replace(wish, state=state)

    def _masquerades(self, interfaces: Sequence[Interface]) -> Iterator[str]:
        """Its addresses that leave the host as the host's own."""
        for item in interfaces:
            for address in item.link.addresses if item.wire.how == VETH else ():
                if masqueraded(self._rules, address.partition("/")[0]):
                    yield address

    def _unmasked(
        self, subject: _Subject, interfaces: Sequence[Interface], masquerades: Sequence[str]
    ) -> Iterator[str]:
        """Its addresses whose masquerade was asked for, and lost."""
        for item in interfaces if not self._rules.problem else ():
            asked = subject.masked(item.link.name)
            yield from (address for address in item.link.addresses if address in asked and address not in masquerades)


def _fulfils(port: Port, wish: Port) -> bool:
    """Whether a port that is there is the one that was asked for; perhaps at one of the host's addresses alone."""
    asked = port.protocol == wish.protocol and port.number <= wish.number <= max(port.number, port.until)
    asked = asked and _six(port.target) == _six(wish.target)
    return asked and wish.address in ("", "0.0.0.0", "::", port.address)  # noqa: S104 - compared, not bound


def wire(link: Link, space: Space, host: Space) -> Wire:
    """How a container's link reaches the host."""
    if link.kind not in ("veth", *_ON_TOP):
        return Wire(NOWHERE if link.kind in _ALONE else LENT)
    if link.elsewhere is None:
        return Wire(NOWHERE)  # its other half is in the container as well
    end = host.link(link.beyond) if link.elsewhere == space.host else None
    if end is None:
        return Wire(ELSEWHERE)
    if link.kind != "veth":
        return Wire(PARENT, end)
    return Wire(VETH, end, host.link(end.below) if end.below else None)


def masqueraded(rules: Ruleset, address: str) -> bool:
    """Whether what this address sends away leaves the host under the host's own."""
    away = AWAY[6 if ":" in address else 4]
    packet = Packet(address, away, "icmpv6" if ":" in address else "icmp")
    return any(hit.verdict in ("masquerade", "snat") for hit in rules.at("postrouting", packet).hits)
