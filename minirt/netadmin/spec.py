"""What a new network is asked to be: a record, and the parsers of docker-shaped flags.

Pure: whatever can be refused by looking at the flags alone is refused here, as UsageError with what was expected.
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import BITS, parse_address, parse_network
from cni_plugins.spec.record import record, replace
from minirt.errors import UsageError
from minirt.spec import is_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cni_plugins.spec.ip import Address, Cidr

_NOTHING: Mapping[str, Any] = {}
# What no container can have: this host, loopback, multicast and what is reserved (RFC 6890), IPv6 link-local.
_NOBODYS = tuple(
    map(parse_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"))
)


@record
class Subnet:
    """A subnet of a network. None leaves it to the IPAM plugin: the first address is the gateway, all others are given
    out. `first` and `last` bound what is given out."""

    cidr: Cidr
    gateway: Address | None = None
    first: Address | None = None
    last: Address | None = None


@record
class NetworkSpec:
    """All that `minirt network create` was asked for.

    `options` has the values of -o as the plugin's configuration takes them; `gateways` are those that belong to no
    subnet of ours (the addresses are asked for, one by one).
    """

    name: str
    driver: str = "bridge"
    ipam: str = "host-local"
    subnets: tuple[Subnet, ...] = ()
    gateways: tuple[Address, ...] = ()
    internal: bool = False
    options: Mapping[str, Any] = _NOTHING
    labels: Mapping[str, str] = _NOTHING


def parse_name(text: str) -> str:
    try:
        names.network(text)
    except CniError as error:
        raise UsageError(error.msg, error.details) from None
    if is_mode(text):
        raise UsageError(f"a network cannot be called {text!r}", f"'--network {text}' means something else")
    return text


def parse_subnets(texts: Sequence[str], gateways: Sequence[str], ranges: Sequence[str]) -> tuple[Subnet, ...]:
    """`--subnet`, one a family, with the `--gateway` and the `--ip-range` that lie in it."""
    subnets = [Subnet(_subnet(text)) for text in texts]
    for family in BITS:
        if len(same := [str(subnet.cidr) for subnet in subnets if subnet.cidr.family == family]) > 1:
            raise UsageError(f"{' and '.join(same)} are both IPv{family}", "a network has one subnet a family")
    for text in gateways:
        gateway = _address(text, "--gateway")
        place = _home(subnets, gateway, f"--gateway {text}")
        if subnets[place].gateway:
            raise UsageError(f"--gateway {subnets[place].gateway} and {gateway} are both of {subnets[place].cidr}")
        if gateway in _ends(subnets[place].cidr):
            raise UsageError(f"--gateway {gateway} is no host's address in {subnets[place].cidr}")
        subnets[place] = replace(subnets[place], gateway=gateway)
    for text in ranges:
        pool = _cidr(text, "--ip-range")
        place = _home(subnets, pool.first, f"--ip-range {text}")
        if pool.last not in subnets[place].cidr:
            raise UsageError(f"--ip-range {pool} is larger than its subnet {subnets[place].cidr}")
        if subnets[place].first:
            raise UsageError(f"--ip-range is given twice for {subnets[place].cidr}")
        subnets[place] = _bounded(subnets[place], pool)
    return tuple(subnets)


def parse_gateways(texts: Sequence[str]) -> tuple[Address, ...]:
    """`--gateway` where there is no subnet, one a family."""
    gateways = [_address(text, "--gateway") for text in texts]
    for family in BITS:
        if len(same := [str(gateway) for gateway in gateways if gateway.family == family]) > 1:
            raise UsageError(f"--gateway is given twice for IPv{family}: {' and '.join(same)}")
    return tuple(gateways)


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """`--label KEY[=VALUE]`."""
    labels = {}
    for text in texts:
        key, _, value = text.partition("=")
        if not key:
            raise UsageError(f"invalid label {text!r}", "expected KEY or KEY=VALUE")
        labels[key] = value
    return labels


def _subnet(text: str) -> Cidr:
    subnet = _cidr(text, "--subnet")
    if subnet.length > BITS[subnet.family] - 2:
        raise UsageError(
            f"--subnet {subnet} is too small", f"at most /{BITS[subnet.family] - 2}: a gateway, and others"
        )
    for other in _NOBODYS:
        if subnet.first in other or other.first in subnet:
            raise UsageError(f"--subnet {subnet} cannot be a network's: {other} has a meaning of its own")
    return subnet


def _cidr(text: str, flag: str) -> Cidr:
    try:
        return parse_network(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}", "expected ADDRESS/LENGTH, such as 10.20.0.0/24") from None


def _address(text: str, flag: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None


def _home(subnets: Sequence[Subnet], address: Address, what: str) -> int:
    """The place of the subnet that holds `address`. Raises UsageError."""
    for place, subnet in enumerate(subnets):
        if address in subnet.cidr:
            return place
    if not subnets:
        raise UsageError(f"{what} needs a --subnet that it is in")
    raise UsageError(f"{what} is not in {' nor in '.join(str(subnet.cidr) for subnet in subnets)}")


def _ends(subnet: Cidr) -> tuple[Address, ...]:
    """The addresses that no host can have: the network's own and, in IPv4, its broadcast."""
    return (subnet.first, subnet.last) if subnet.family == 4 else (subnet.first,)


def _bounded(subnet: Subnet, pool: Cidr) -> Subnet:
    ends = _ends(subnet.cidr)
    first = pool.first.plus(1) if pool.first in ends else pool.first
    last = pool.last.plus(-1) if pool.last in ends else pool.last
    gateway = subnet.gateway or subnet.cidr.first.plus(1)
    if last.value - first.value + 1 - (first.value <= gateway.value <= last.value) < 1:
        raise UsageError(f"--ip-range {pool} has no address to give: {gateway} is the gateway")
    return replace(subnet, first=first, last=last)
