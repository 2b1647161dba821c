"""The picture of this host, made of the kernel (links, addresses, routes, nftables) and of what is on record.

Who is attached to which network, the records of containers and CNI's cache say (`minirt.netadmin.catalog`): those of
other runtimes and of other people's plugins as well. How each interface reaches the host, the kernel says: so the
picture shows what is, and not what a list asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from minirt.cni.netns import alive
from minirt.errors import NotFound
from minirt.netadmin.catalog import Catalog, User
from minirt.picture import ruleset
from minirt.picture.kernel import Eye, Link, Space
from minirt.picture.matching import Packet
from minirt.picture.model import ELSEWHERE, LENT, NOWHERE, PARENT, VETH, Container, Interface, Picture, Port, Wire
from minirt.picture.ruleset import Ruleset
from minirt.spec import HOST, OF_CONTAINER
from minirt.state import RUNNING, Record

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
    containers = tuple(_containers(wanted, records, host, rules, network))
    bridges = tuple(link for link in host.links if link.kind == "bridge" and _drawn(link, containers, catalog, network))
    notes = (rules.problem,) if rules.problem else ()
    return Picture(
        os.uname().nodename, host, containers, bridges, network, (*notes, *_guests(records, containers, network))
    )


def one(containers: Sequence[Container], reference: str) -> Container:
    """The container called so; an id, or its beginning, serves. Raises NotFound."""
    exact = [item for item in containers if reference in (item.name, item.id, *item.guests)]
    begun = [container for container in containers if reference and container.id.startswith(reference)]
    if not exact and len(begun) != 1:
        hint = "'minirt ps' lists those that run; 'host' is this machine itself"
        raise NotFound(f"no container {reference!r} with a network namespace of its own", hint)
    return (exact or begun)[0]


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
    used = any(interface.wire.bridge == bridge for container in containers for interface in container.interfaces)
    return used or any(
        plugin.get("bridge") == bridge.name
        for entry in catalog.entries()
        if entry.network and entry.network.name == network
        for plugin in entry.network.plugins
    )


def _containers(
    users: Sequence[User], records: Sequence[Record], host: Space, rules: Ruleset, network: str
) -> Iterator[Container]:
    """Every container with a living namespace; of one network, or all."""
    attached: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    paths: dict[str, str] = {record.id: record.netns for record in records if record.netns}
    results: dict[str, list[dict[str, Any]]] = {}
    for user in users:
        attached.setdefault(user.container_id, {})[user.attached.ifname] = user.attached.network
        results.setdefault(user.container_id, []).append(user.attached.result)
        names[user.container_id] = user.name
    wishes = {record.id: record.spec.ports for record in records}
    guests = {record.id: _sharing(record, records) for record in records}
    for record in records:
        names.setdefault(record.id, record.name)
        if not network and record.netns and not record.spec.network_mode.startswith(OF_CONTAINER):
            attached.setdefault(record.id, {})
    seen: set[int] = set()
    for identity, interfaces in attached.items():
        path = paths.get(identity) or _sandbox(results.get(identity, ()))
        space = _look(path) if path and alive(path) else None
        if space is None or space.identity in seen:
            continue  # it has gone, or two share it
        seen.add(space.identity)
        made = _container(identity, names[identity], space, interfaces, host, rules, wishes.get(identity, ()), network)
        yield replace(made, guests=guests.get(identity, ()))


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


def _sandbox(results: Sequence[dict[str, Any]]) -> str:
    """Where a namespace lies, as the plugins said."""
    for result in results:
        for item in result.get("interfaces") or ():
            if isinstance(item, dict) and item.get("sandbox"):
                return str(item["sandbox"])
    return ""


def _container(
    identity: str,
    name: str,
    space: Space,
    attached: dict[str, str],
    host: Space,
    rules: Ruleset,
    wishes: Sequence[Any],
    network: str,
) -> Container:
    links = [link for link in space.links if not link.loopback and (not network or link.name in attached)]
    interfaces = tuple(
        Interface(attached.get(link.name, ""), link, wire(link, space, host))
        for link in links
        if _shown(link, attached)
    )
    own = [address.partition("/")[0] for item in interfaces for address in item.link.addresses]
    ports = tuple(_ports(rules, own))
    missing = (
        tuple(_missing(wishes, ports, own, rules.problem))
        if not network or _publishes(interfaces, ports, wishes)
        else ()
    )
    masquerades = tuple(
        address
        for item in interfaces
        if item.wire.how == VETH
        for address in item.link.addresses
        if masqueraded(rules, address.partition("/")[0])
    )
    return Container(identity, name, space.path, space, interfaces, ports + missing, masquerades)


def _shown(link: Link, attached: dict[str, str]) -> bool:
    """Links that the kernel puts into every namespace (tunl0, sit0) are down, and nobody's."""
    return link.name in attached or link.up or bool(link.addresses)


def _publishes(interfaces: Sequence[Interface], ports: Sequence[Port], wishes: Sequence[Any]) -> bool:
    """Whether wishes that nothing fulfils are this network's: the first interface's, as `run --publish` has it."""
    return bool(wishes) and not ports and any(item.link.name == "eth0" for item in interfaces)


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


def _ports(rules: Ruleset, own: Sequence[str]) -> Iterator[Port]:
    """What nftables publishes of these addresses."""
    for port in ruleset.published(rules):
        if port.target in own:
            yield port


def _missing(wishes: Sequence[Any], ports: Sequence[Port], own: Sequence[str], unread: str) -> Iterator[Port]:
    """What was asked for and is not there: somebody has flushed it, or it is kept where nft does not see it. Where the
    rules could not be read, `unread` says why, and the port is shown without a judgement."""
    there = {(port.protocol, port.number) for port in ports}
    for wish in wishes:
        if (wish.protocol, wish.host) not in there:
            target = next((address for address in own if ":" not in address), own[0] if own else "")
            yield Port(wish.protocol, wish.host_ip, wish.host, target, wish.container, unread)
