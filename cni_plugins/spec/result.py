"""Results: the 1.1.0 shape, which is the only one inside; other versions are conversions at the edge (`convert`)."""

from __future__ import annotations

from cni_plugins.spec.config import View
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.spec.ip import Address, Cidr


@record
class Interface:
    """An interface of the attachment. `sandbox` is the path of its namespace; empty for one on the host."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


@record
class Ip:
    """An address of the attachment. `interface` is an index into the result's interfaces, or None."""

    address: Cidr
    gateway: Address | None = None
    interface: int | None = None


@record
class Route:
    """A route. `table` and `scope` may be 0, which differs from absent; for the others 0 is absent."""

    dst: Cidr
    gw: Address | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int | None = None
    scope: int | None = None


@record
class Dns:
    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != _NO_DNS


_NO_DNS = Dns()


@record
class Result:
    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = _NO_DNS


def _present(**items: Any) -> dict[str, Any]:
    """The items that say something: Go omits empty strings, lists and zeroes."""
    return {key: value for key, value in items.items() if value}


def interface_to_json(interface: Interface) -> dict[str, Any]:
    return {"name": interface.name} | _present(
        mac=interface.mac,
        mtu=interface.mtu,
        sandbox=interface.sandbox,
        socketPath=interface.socket_path,
        pciID=interface.pci_id,
    )


def interface_from_json(view: View) -> Interface:
    return Interface(
        view.string("name"),
        view.string("mac"),
        view.integer("mtu"),
        view.string("sandbox"),
        view.string("socketPath"),
        view.string("pciID"),
    )


def ip_to_json(ip: Ip) -> dict[str, Any]:
    document = {"address": str(ip.address)} | _present(gateway=str(ip.gateway or ""))
    return document if ip.interface is None else document | {"interface": ip.interface}


def ip_from_json(view: View) -> Ip:
    address = view.cidr("address")
    if address is None:
        raise view.wrong("address", "an address with its prefix length")
    # -1 is how some plugins say "no interface" (SPEC.md allows a runtime to meet it).
    index = view.integer("interface", low=-1) if view.has("interface") else -1
    return Ip(address, view.address("gateway"), None if index < 0 else index)


def route_to_json(route: Route) -> dict[str, Any]:
    document = {"dst": str(route.dst)} | _present(
        gw=str(route.gw or ""), mtu=route.mtu, advmss=route.advmss, priority=route.priority
    )
    given = {"table": route.table, "scope": route.scope}
    return document | {key: value for key, value in given.items() if value is not None}


def route_from_json(view: View) -> Route:
    dst = view.cidr("dst")
    if dst is None:
        raise view.wrong("dst", "a destination in CIDR form")
    return Route(
        dst.network,
        view.address("gw"),
        view.integer("mtu"),
        view.integer("advmss"),
        view.integer("priority"),
        view.integer("table") if view.has("table") else None,
        view.integer("scope", high=255) if view.has("scope") else None,
    )


def dns_to_json(dns: Dns) -> dict[str, Any]:
    return _present(
        nameservers=list(dns.nameservers), domain=dns.domain, search=list(dns.search), options=list(dns.options)
    )


def dns_from_json(view: View) -> Dns:
    return Dns(
        tuple(view.strings("nameservers")),
        view.string("domain"),
        tuple(view.strings("search")),
        tuple(view.strings("options")),
    )
