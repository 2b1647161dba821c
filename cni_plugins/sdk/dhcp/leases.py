"""A lease as it is written down, and giving it back.

    /run/cni/dhcp/<network>/<container>:<ifname>

The daemon writes the record when the server has granted the lease, and again each time it is renewed; started again, it
goes on from there. A lease without a record is nobody's: the daemon looks before it renews one, so that a DEL which
could not reach it is heard all the same.

The record holds the very frame that gives the lease back (DHCPRELEASE). So DEL needs the daemon only to have it forget
the lease; when it is not there, the plugin sends the frame itself. Times are seconds of CLOCK_BOOTTIME, which goes on
while the machine sleeps and knows no time zones; the folder is emptied by a reboot, as the namespaces are.
"""

from __future__ import annotations

import os
from _socket import AF_PACKET, SOCK_CLOEXEC, SOCK_RAW, socket

from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import ROOT, AttachmentRecords
from cni_plugins.sdk.rtmsg import LinkRoute
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import Address, Cidr, parse_address, parse_cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PLUGIN = "dhcp"
_GRAIN = 1000  # of the times in a record: milliseconds


def records(network: str, prefix: str = "") -> AttachmentRecords:
    """Those of one network; `prefix` is where the host's files are, for a daemon that lives in a container."""
    return AttachmentRecords(PLUGIN, network, prefix + ROOT)


@record
class Place:
    """Where a lease is used: an interface in a namespace, which is known again by `identity`, as paths come and go."""

    netns: str
    identity: tuple[int, int]
    ifname: str
    prefix: str = ""

    @property
    def path(self) -> str:
        return self.prefix + self.netns

    def gone(self) -> bool:
        """Whether the namespace is not there any more, or another by the same path."""
        return identity(self.path) != self.identity


def identity(path: str) -> tuple[int, int]:
    """What tells one namespace from another; (0, 0) when there is none at `path`."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


@record
class Withdrawn:
    """The address that was taken from the interface when the lease was lost, with the routes that went with it."""

    cidr: Cidr
    routes: tuple[LinkRoute, ...]


@record
class Lease:
    """What the server granted, and what it takes to ask again. Times that are None never come."""

    place: Place
    address: Address
    server: Address
    server_mac: str
    options: Mapping[int, bytes]
    renew_at: float | None
    rebind_at: float | None
    expires: float | None
    request: tuple[int, ...]
    provide: Mapping[int, bytes]
    release: bytes
    withdrawn: Withdrawn | None = None


def give_back(place: Place, frame: bytes) -> bool:
    """Tell the server, if there still is a way to it; a lease that it is not told of expires by itself."""
    if place.gone():
        return False
    try:
        with Namespace(place.path) as namespace, namespace.inside():
            port = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)
            try:
                port.bind((place.ifname, 0))
                port.send(frame)
            finally:
                port.close()
    except OSError:
        return False  # the interface has gone, or is down
    return True


# --- the record -------------------------------------------------------------------------------------------------------


def to_json(lease: Lease) -> dict[str, Any]:
    place = lease.place
    return {
        "netns": place.netns,
        "identity": list(place.identity),
        "address": str(lease.address),
        "server": str(lease.server),
        "serverMac": lease.server_mac,
        "options": hexed(lease.options),
        "renewAt": _ticks(lease.renew_at),
        "rebindAt": _ticks(lease.rebind_at),
        "expires": _ticks(lease.expires),
        "request": list(lease.request),
        "provide": hexed(lease.provide),
        "release": lease.release.hex(),
        "withdrawn": None if lease.withdrawn is None else _withdrawn_to_json(lease.withdrawn),
    }


def from_json(document: dict[str, Any], ifname: str, prefix: str = "") -> Lease | None:
    """The lease that `document` tells of; None when it tells of none."""
    view = View(document)
    try:
        withdrawn = view.view("withdrawn") if view.has("withdrawn") else None
        return Lease(
            _place(view, ifname, prefix),
            parse_address(view.string("address")),
            parse_address(view.string("server")),
            view.string("serverMac"),
            unhexed(view.view("options")),
            _seconds(view, "renewAt"),
            _seconds(view, "rebindAt"),
            _seconds(view, "expires"),
            tuple(map(int, document.get("request") or ())),
            unhexed(view.view("provide")),
            bytes.fromhex(view.string("release")),
            None if withdrawn is None else _withdrawn_from_json(withdrawn),
        )
    except (CniError, ValueError, TypeError):
        return None


def way_back(document: dict[str, Any], ifname: str) -> tuple[Place, bytes] | None:
    """Where the lease of `document` is used, and the frame that gives it back; None when it does not say."""
    view = View(document)
    try:
        return _place(view, ifname, ""), bytes.fromhex(view.string("release"))
    except (CniError, ValueError, TypeError):
        return None


def _place(view: View, ifname: str, prefix: str) -> Place:
    device, inode = view.get("identity")
    return Place(view.string("netns"), (device, inode), ifname, prefix)


def hexed(options: Mapping[int, bytes]) -> dict[str, str]:
    return {str(code): value.hex() for code, value in options.items()}


def unhexed(view: View) -> dict[int, bytes]:
    """Raises CniError, ValueError."""
    return {int(code): bytes.fromhex(view.string(code)) for code in view.document}


def _ticks(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * _GRAIN)


def _seconds(view: View, key: str) -> float | None:
    return view.integer(key, high=1 << 62) / _GRAIN if view.has(key) else None


def _withdrawn_to_json(withdrawn: Withdrawn) -> dict[str, Any]:
    routes = [
        {
            "dst": str(route.dst),
            "gw": str(route.gw or ""),
            "source": str(route.source or ""),
            **{key: getattr(route, key) for key in _NUMBERS},
        }
        for route in withdrawn.routes
    ]
    return {"cidr": str(withdrawn.cidr), "routes": routes}


def _withdrawn_from_json(view: View) -> Withdrawn:
    routes = [
        LinkRoute(
            dst=parse_cidr(item.string("dst")),
            gw=item.address("gw"),
            source=item.address("source"),
            **_numbers(item),
        )
        for item in view.views("routes")
    ]
    return Withdrawn(parse_cidr(view.string("cidr")), tuple(routes))


def _numbers(item: View) -> dict[str, Any]:
    return {key: item.integer(key) for key in _NUMBERS}


_NUMBERS = ("index", "priority", "table", "scope", "mtu", "advmss")
