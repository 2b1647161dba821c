"""Which parts of the address space are taken, whether a subnet collides with one, and a free one. Pure.

Two networks whose subnets overlap cannot both be reached from the host, nor can a network that overlaps with where the
host itself is or goes. So what lists, addresses and routes say is gathered as claims, and a new subnet keeps clear of
them all, unless somebody insists.
"""

from __future__ import annotations

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import Address, Cidr, parse_network
from cni_plugins.spec.record import record
from minirt.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_plugins.spec.config import NetworkList

# Where a subnet is looked for when none is asked for (RFC 1918). The built-in network lies just before the first.
_POOLS = tuple(map(parse_network, ("10.144.0.0/12", "172.16.0.0/12", "192.168.0.0/16")))
_LENGTH = 24
_ULA = Address(6, 0xFD << 120)  # fd00::/8: unique local addresses whose 40 bits of global id are random (RFC 4193)
_ULA_LENGTH = 64
# A route this short is a way to everywhere (a default route, or one of the halves that VPNs make of it): no claim.
_EVERYWHERE = 3


@record
class Claim:
    """A part of the address space that is taken, by what, in words. `link` is the host's, empty where there is none."""

    cidr: Cidr
    by: str
    link: str = ""


@record
class Pool:
    """What an IPAM configuration says of one subnet; empty where it says nothing."""

    subnet: Cidr
    gateway: str = ""
    first: str = ""
    last: str = ""


def overlap(one: Cidr, other: Cidr) -> bool:
    return one.first in other or other.first in one


def collision(subnets: Iterable[Cidr], claims: Iterable[Claim]) -> tuple[Cidr, Claim] | None:
    """The first of `subnets` that is not free, and who has it."""
    known = [claim for claim in claims if claim.cidr.length > _EVERYWHERE]
    return next(((mine, claim) for mine in subnets for claim in known if overlap(mine, claim.cidr)), None)


def free4(claims: Iterable[Claim]) -> Cidr:
    """The first free /24. Raises Conflict."""
    known = list(claims)
    for pool in _POOLS:
        found = Cidr(pool.first, _LENGTH)
        while found.first in pool:
            hit = collision((found,), known)
            if hit is None:
                return found
            # The next one is behind whichever of the two is larger.
            behind = max(found.last.value, hit[1].cidr.last.value)
            found = Cidr(Address(4, behind + 1), _LENGTH).network
    raise Conflict(f"no /{_LENGTH} is free in {', '.join(map(str, _POOLS))}", "say which --subnet to take")


def free6(claims: Iterable[Claim], random: Iterator[bytes]) -> Cidr:
    """A /64 of unique local addresses; each of `random` is 7 bytes: global id and subnet id."""
    known = list(claims)
    made = (Cidr(Address(6, _ULA.value | int.from_bytes(bits, "big") << _ULA_LENGTH), _ULA_LENGTH) for bits in random)
    return next(found for found in made if not collision((found,), known))


def pools(network: NetworkList) -> list[Pool]:
    """The subnets that a list gives addresses of, as far as its IPAM plugins are known to us; what is no address there
    is left to the plugins to complain of."""
    found: list[Pool] = []
    for plugin in network.plugins:
        try:
            found += _pools(View(plugin).view("ipam"))
        except CniError:
            continue
    return found


def _pools(ipam: View) -> Iterator[Pool]:
    """host-local's ranges and static's addresses."""
    for view in _ranges(ipam):
        if subnet := view.cidr("subnet"):
            gateway = view.string("gateway") or str(subnet.first.plus(1))
            yield Pool(subnet.network, gateway, view.string("rangeStart"), view.string("rangeEnd"))
    for view in ipam.views("addresses"):
        if address := view.cidr("address"):
            yield Pool(address.network, view.string("gateway"))


def _ranges(ipam: View) -> Iterator[View]:
    """Those of the old style, which stand in `ipam` itself, and those of the list of lists."""
    yield ipam
    sets = ipam.get("ranges")
    for item in sets if isinstance(sets, list) else ():
        yield from View({"ranges": item}).views("ranges")


def claims(networks: Iterable[NetworkList]) -> list[Claim]:
    """What network lists take."""
    return [
        Claim(pool.subnet, f"{pool.subnet} of network {item.name!r} ({item.source})")
        for item in networks
        for pool in pools(item)
    ]
