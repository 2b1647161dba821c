"""The picture that the page shows, as a document: the drawing, and the facts of each container and network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from cni_plugins.spec.record import replace
from minirt.errors import MinirtError
from minirt.netadmin.catalog import Catalog, Entry
from minirt.picture import scheme, survey, svg, text
from minirt.picture.model import MISSING, Container, Picture, Port
from minirt.report import instant
from minirt.shelf import Shelf
from minirt.state import EXITED, SHORT, Record, Store

DEAD = "dead"  # its supervisor was killed: the next minirt command takes it down


def shelf(store: Store, notice: Callable[[str], None]) -> Shelf:
    """The containers as they are: who only looks on takes down nothing."""
    return Shelf(store, notice, lambda record: replace(record, status=DEAD))


class View:
    """What there is, again and again. `network` is the one that is shown, empty for all."""

    def __init__(self, catalog: Catalog, containers: Shelf, network: str = "") -> None:
        self._catalog = catalog
        self._containers = containers
        self._network = network
        self._names: dict[str, str] = {}

    def name(self, identity: str) -> str:
        """What a container is called, or was; the beginning of its id, where it is none of minirt's."""
        if identity not in self._names:
            try:
                self._names[identity] = self._containers.store.load(identity).name
            except (MinirtError, OSError):
                return identity[:SHORT] if len(identity) > 2 * SHORT else identity
        return self._names[identity]

    def look(self) -> dict[str, Any]:
        """The document; what cannot be looked at is told in its place. Raises NotFound."""
        records = self._containers.all()
        self._names |= {record.id: record.name for record in records}
        picture = survey.take(self._catalog, records, self._network)
        self._names |= {container.id: container.name for container in picture.containers}
        return {
            "host": picture.name,
            "svg": svg.draw(scheme.of(picture)),
            "text": text.draw(picture),
            "containers": [*self._facts(picture, records)],
            "networks": [_network(entry) for entry in self._entries()],
        }

    def _entries(self) -> Iterator[Entry]:
        for entry in self._catalog.entries():
            if entry.network and not entry.problem and self._network in ("", entry.network.name):
                yield entry

    def _facts(self, picture: Picture, records: list[Record]) -> Iterator[dict[str, Any]]:
        drawn = {container.id: container for container in picture.containers}
        for record in records:
            container = drawn.pop(record.id, None)
            if container is not None or not self._network:
                yield _ours(record) | _interfaces(container)
        for container in drawn.values():
            yield _theirs(container) | _interfaces(container)


def _ours(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "state": record.status if record.status != EXITED else f"{EXITED} ({record.exit_code})",
        "pid": record.pid,
        "command": " ".join(record.spec.args),
        "image": record.spec.image,
        "created": instant(record.created),
    }


def _theirs(container: Container) -> dict[str, Any]:
    """A namespace that somebody else has attached."""
    return {
        "id": container.id,
        "name": container.name,
        "state": "attached",
        "pid": 0,
        "command": "",
        "image": "",
        "created": "",
    }


def _interfaces(container: Container | None) -> dict[str, Any]:
    if container is None:
        return {"interfaces": [], "ports": []}
    return {
        "interfaces": [
            {
                "network": item.network,
                "ifname": item.link.name,
                "mac": item.link.mac,
                "addresses": list(item.link.addresses),
                "host": item.wire.end.name if item.wire.end else "",
            }
            for item in container.interfaces
        ],
        "ports": [_port(port) for port in container.ports],
    }


def _port(port: Port) -> str:
    return f"{port.outer} → {port.inside}{': not in nftables' if port.state == MISSING else ''}"


def _network(entry: Entry) -> dict[str, Any]:
    network = entry.network
    plugins = network.plugins if network else ()
    ranges = [*_ranges(plugins[0].get("ipam"))] if plugins else []
    return {
        "name": network.name if network else "",
        "types": [str(plugin.get("type", "?")) for plugin in plugins],
        "subnets": [str(item["subnet"]) for item in ranges if "subnet" in item],
        "masquerade": any(plugin.get("ipMasq") is True for plugin in plugins),
    }


def _ranges(ipam: Any) -> Iterator[dict[str, Any]]:
    """host-local's ranges: sets of ranges, or one subnet beside the type."""
    if not isinstance(ipam, dict):
        return
    if "subnet" in ipam:
        yield ipam
    ranges = ipam.get("ranges")
    for group in ranges if isinstance(ranges, list) else ():
        yield from (item for item in group if isinstance(item, dict)) if isinstance(group, list) else ()


def nothing(error: Exception) -> dict[str, Any]:
    """In place of the picture, why there is none."""
    hint = getattr(error, "hint", "")
    text = f"{error}; {hint}" if hint else str(error)
    return {"host": os.uname().nodename, "svg": "", "text": text, "containers": [], "networks": []}
