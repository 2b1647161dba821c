"""A new network's place among the others: subnets that are free, and on the host a bridge of its own. Pure."""

from __future__ import annotations

import os

from cni_plugins.spec.config import View
from cni_plugins.spec.ip import Cidr
from cni_plugins.spec.names import MAX_IFNAME
from cni_plugins.spec.record import replace
from minirt.errors import Conflict
from minirt.netadmin import subnets
from minirt.netadmin.drivers import DRIVERS, HOST_LOCAL, is_router
from minirt.netadmin.spec import Subnet
from minirt.netadmin.subnets import overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_plugins.spec.config import NetworkList
    from minirt.netadmin.hostnet import Host
    from minirt.netadmin.spec import NetworkSpec

BRIDGE = "bridge"  # the plugin, its key, and the kind of link
PREFIX = "cni-"
_UPSTREAM = "cni0"  # the bridge of a configuration that names none
_ANYWAY = "choose another, or insist with --force"


def place(
    spec: NetworkSpec, networks: Sequence[NetworkList], host: Host, ipv6: bool = False, force: bool = False
) -> NetworkSpec:
    """`spec` with a free IPv4 subnet if it has none, with an IPv6 one if `ipv6` wants it, and with a bridge.

    Raises Conflict for what another of `networks`, or the host, has already, unless `force`.
    """
    listed, hosted = subnets.claims(networks), (*host.addresses, *host.routes)
    if spec.ipam == HOST_LOCAL:
        spec = replace(spec, subnets=spec.subnets + tuple(_picked(spec, (*listed, *hosted), ipv6)))
    bridge = ""
    if spec.driver == BRIDGE:
        bridge = _bridge(spec, networks, host, force)
        spec = replace(spec, options={BRIDGE: bridge} | dict(spec.options))
    if not force:
        # The others' subnets are those of the network behind their parent, so the host is expected to be in them.
        claims = [*listed, *(item for item in hosted if DRIVERS[spec.driver].routed and item.link != bridge)]
        _refuse_collision(spec, claims)
    return spec


def _picked(spec: NetworkSpec, claims: Sequence[subnets.Claim], ipv6: bool) -> Iterator[Subnet]:
    if not spec.subnets:
        yield Subnet(subnets.free4(claims))
    if ipv6 and not any(subnet.cidr.family == 6 for subnet in spec.subnets):
        yield Subnet(subnets.free6(claims, iter(lambda: os.urandom(7), b"")))


def _refuse_collision(spec: NetworkSpec, claims: Sequence[subnets.Claim]) -> None:
    if found := subnets.collision([subnet.cidr for subnet in spec.subnets], claims):
        subnet, claim = found
        raise Conflict(f"subnet {subnet} overlaps {claim.by}", _ANYWAY)


def _bridge(spec: NetworkSpec, networks: Sequence[NetworkList], host: Host, force: bool) -> str:
    """The name of the bridge: the one asked for, or one that is made of the network's name. Raises Conflict."""
    taken = {
        View(plugin).string(BRIDGE) or _UPSTREAM: item.name
        for item in networks
        for plugin in item.plugins
        if plugin.get("type") == BRIDGE and isinstance(plugin.get(BRIDGE, ""), str)
    }
    asked = str(spec.options.get(BRIDGE, ""))
    if not asked:
        return next(name for name in _names(spec.name) if name not in taken and _is_free(name, spec, host))
    if asked in taken and not force:
        raise Conflict(f"bridge {asked} belongs to network {taken[asked]!r}", _ANYWAY)
    _refuse_link(asked, spec, host)
    return asked


def _refuse_link(asked: str, spec: NetworkSpec, host: Host) -> None:
    """Raises Conflict for a link of this name that the bridge plugin would refuse."""
    if host.links.get(asked, BRIDGE) != BRIDGE:
        raise Conflict(f"link {asked} exists and is not a bridge", "choose another name")
    for other in _others(asked, spec, host) if is_router(spec) else ():
        if any(subnet.cidr.family == other.family == 4 or overlap(subnet.cidr, other) for subnet in spec.subnets):
            raise Conflict(
                f"bridge {asked} has the address {other}, and the gateway would be another",
                f"--subnet {other.network} --gateway {other.address} makes a network of what it has",
            )


def _names(network: str) -> Iterator[str]:
    number = 0
    while True:
        suffix = str(number or "")
        yield f"{PREFIX}{network[: MAX_IFNAME - len(PREFIX) - len(suffix)]}{suffix}"
        number += 1


def _is_free(name: str, spec: NetworkSpec, host: Host) -> bool:
    """No such link; or a bridge that an earlier network of this name has left, with no other address than ours."""
    return name not in host.links or (host.links[name] == BRIDGE and not _others(name, spec, host))


def _others(bridge: str, spec: NetworkSpec, host: Host) -> list[Cidr]:
    """The addresses of a bridge that are not to be its gateway's: the plugin adds its own and takes none away."""
    gateways = [
        Cidr(subnet.gateway or subnet.cidr.first.plus(1), subnet.cidr.length)
        for subnet in (spec.subnets if is_router(spec) else ())
    ]
    return [claim.cidr for claim in host.addresses if claim.link == bridge and claim.cidr not in gateways]
