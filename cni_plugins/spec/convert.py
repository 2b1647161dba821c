"""Results of every version, converted at the edge (SPEC.md of each version; the rules are the Go libraries').

`encode` writes the one inner shape as a version wants it, `decode` reads any version into it.
"""

from __future__ import annotations

from cni_plugins.spec import versions
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INCOMPATIBLE_VERSION, INVALID_CONFIG, CniError
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import (
    Ip,
    Result,
    Route,
    dns_from_json,
    dns_to_json,
    interface_from_json,
    interface_to_json,
    ip_from_json,
    ip_to_json,
    route_from_json,
    route_to_json,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_OLD = ("0.1.0", "0.2.0")
_VERSIONED = ("0.3.0", "0.3.1", "0.4.0")


def encode(result: Result, version: str) -> dict[str, Any]:
    """`result` as a document of `version`, none at all meaning the first. Raises CniError 1 for an unknown version or
    one that cannot hold it."""
    version = version or versions.ALL[0]
    return {"cniVersion": version} | _writer(version)(result)


def decode(document: dict[str, Any], fallback: str = versions.NEWEST) -> Result:
    """The result in `document`, by its own `cniVersion`, or else `fallback`'s. Raises CniError 1 or 7."""
    view = View(document, "result")
    version = view.string("cniVersion") or fallback
    if version not in versions.ALL:
        raise CniError(INCOMPATIBLE_VERSION, f"result of version {version!r} is not supported")
    if version in _OLD:
        return _decode_old(view)
    result = _decode_rich(view)
    return _bare(result) if version in _VERSIONED else result


def _writer(version: str) -> Callable[[Result], dict[str, Any]]:
    if version in _OLD:
        return _encode_old
    if version in _VERSIONED:
        return _encode_versioned
    if version in versions.ALL:
        return _encode_new
    raise CniError(INCOMPATIBLE_VERSION, f"cannot write a result of version {version!r}")


def _encode_new(result: Result) -> dict[str, Any]:
    lists = {
        "interfaces": [interface_to_json(item) for item in result.interfaces],
        "ips": [ip_to_json(item) for item in result.ips],
        "routes": [route_to_json(item) for item in result.routes],
        "dns": dns_to_json(result.dns),
    }
    return {key: value for key, value in lists.items() if value}


def _encode_versioned(result: Result) -> dict[str, Any]:
    """0.3.0 to 0.4.0: each IP says its version, interfaces have three keys only, `dns` is there even when empty."""
    document = {"dns": {}} | _encode_new(_bare(result))
    for ip in document.get("ips", []):
        ip["version"] = "6" if ":" in ip["address"] else "4"
    return document


def _bare(result: Result) -> Result:
    """Without what interfaces have had since 1.1.0."""
    interfaces = tuple(replace(item, mtu=0, socket_path="", pci_id="") for item in result.interfaces)
    return replace(result, interfaces=interfaces)


def _encode_old(result: Result) -> dict[str, Any]:
    """0.1.0 and 0.2.0: the first address of each family, with that family's routes.

    Without an address there are no words for interfaces and routes. A result that has none of them either says as much
    in these versions as in any: that is how one of 0.2.0 comes through as it was.
    """
    document: dict[str, Any] = {}
    for family in (4, 6):
        ip = next((item for item in result.ips if item.address.family == family), None)
        if ip is not None:
            block = ip_to_json(replace(ip, interface=None))
            block = {"ip" if key == "address" else key: value for key, value in block.items()}
            routes = [Route(route.dst, route.gw) for route in result.routes if route.dst.family == family]
            if routes:
                block["routes"] = [route_to_json(route) for route in routes]
            document[f"ip{family}"] = block
    if not document and (result.interfaces or result.routes):
        raise CniError(INCOMPATIBLE_VERSION, "cannot convert: no valid IP addresses")
    return document | {"dns": dns_to_json(result.dns)}


def _decode_rich(view: View) -> Result:
    result = Result(
        tuple(interface_from_json(item) for item in view.views("interfaces")),
        tuple(ip_from_json(item) for item in view.views("ips")),
        tuple(route_from_json(item) for item in view.views("routes")),
        dns_from_json(view.view("dns")),
    )
    for index, ip in enumerate(result.ips):
        if ip.interface is not None and ip.interface >= len(result.interfaces):
            raise CniError(INVALID_CONFIG, f"result.ips[{index}].interface: there is no interface {ip.interface}")
    return result


def _decode_old(view: View) -> Result:
    ips: list[Ip] = []
    routes: list[Route] = []
    for key in ("ip4", "ip6"):
        block = view.view(key)
        if not block.document:
            continue
        address = block.cidr("ip")
        if address is None:
            raise block.wrong("ip", "an address with its prefix length")
        ips.append(Ip(address, block.address("gateway")))
        routes += [route_from_json(item) for item in block.views("routes")]
    return Result((), tuple(ips), tuple(routes), dns_from_json(view.view("dns")))
