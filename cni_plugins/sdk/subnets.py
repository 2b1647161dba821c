"""Subnets that several attachments use together, and the elements that stand for them in an nftables table.

The first attachment of a subnet adds its elements, the last one takes them away, and all between only note that they
use it. A subnet may serve several networks. Two subnets that overlap without being the same are refused, by the kernel:
an address in both would have two meanings.
"""

from __future__ import annotations

from cni_plugins.sdk.elements import Element, subnet
from cni_plugins.sdk.nfnl import Change
from cni_plugins.sdk.shares import Shares
from cni_plugins.spec.errors import INVALID_CONFIG, CniError
from cni_plugins.spec.ip import parse_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.sdk.records import LockedFolder, Owner
    from cni_plugins.spec.ip import Cidr


class Subnets:
    """Those of one plugin. `sets` are the names of interval sets, less the family's digit, each with the number of
    fields of its key: 1 for the subnet, 2 for the subnet towards itself. Use it under its lock."""

    def __init__(self, plugin: str, table: str, **sets: int) -> None:
        self._shares = Shares(plugin, "subnets")
        self._table = table
        self._sets = sets

    def locked(self) -> LockedFolder:
        return self._shares.locked()

    def elements(self, subnets: Iterable[Cidr]) -> list[Element]:
        """What stands for them. No comment: a subnet is nobody's alone."""
        return [
            Element(self._table, f"{name}{cidr.family}", (subnet(cidr),) * fields, interval=True)
            for cidr in subnets
            for name, fields in self._sets.items()
        ]

    def additions(self, subnets: Iterable[Cidr]) -> list[Change]:
        return [Change("add", element) for element in self.elements(subnets)]

    def removals(self, nftables: Nftables, subnets: Iterable[Cidr]) -> list[Change]:
        """What takes their elements away, as far as they are there to the last bit: since somebody's flush, another
        subnet may begin with the same address. Raises OSError."""
        elements = self.elements(subnets)
        held = zip(elements, nftables.lookup(*elements), strict=True)
        return [Change("delete", element) for element, stored in held if stored is not None and stored.fits(element)]

    def join(self, subnets: Iterable[Cidr], network: str, owner: Owner) -> None:
        for cidr in subnets:
            self._shares.join(_name(cidr), network, owner)

    def only(self, subnets: Iterable[Cidr], network: str, owner: Owner) -> list[Cidr]:
        """Those that `owner` uses, and nobody else."""
        return [cidr for cidr in subnets if self._shares.only(_name(cidr), network, owner)]

    def leave(self, subnets: Iterable[Cidr], network: str, owner: Owner) -> list[Cidr]:
        """Those that nobody uses any more."""
        return [cidr for cidr in subnets if self._shares.leave(_name(cidr), network, owner)]

    def owners(self, network: str) -> set[Owner]:
        """The attachments of a network that use some."""
        return self._shares.owners(network)

    def used(self) -> list[Cidr]:
        """All that somebody uses."""
        return [parse_network(name.replace("-", "/")) for name in self._shares.things()]

    def overlap(self, subnets: Iterable[Cidr], network: str) -> CniError | None:
        """Which of `subnets` overlaps one that is in use, and whose that is; None when none does."""
        for mine in subnets:
            for other in self.used():
                if mine != other and (mine.first in other or other.first in mine):
                    networks = ", ".join(sorted({name for name, _owner in self._shares.users(_name(other))}))
                    return CniError(
                        INVALID_CONFIG,
                        f"subnet {mine} of network {network} overlaps {other} of network {networks}",
                        "give the networks separate subnets, or the same one",
                    )
        return None


def _name(cidr: Cidr) -> str:
    """A subnet as the name of a folder."""
    return str(cidr).replace("/", "-")
