"""Terms of publishing: what is asked of a packet before it is led to a container, and the mark it is given.

A network may publish its ports to some clients only (`conditionsV4`, `conditionsV6`), and may want the packets that are
going to be masqueraded to bear a mark (`markMasqBit`, `externalSetMarkChain`). Its terms are a chain of a few rules,
found by verdict maps from the port, as its target is: one lookup more, however many containers there are, and one
chain for all whose terms are the same. A port without terms is in no such map.

The law of this file: it says what the chain holds, and touches nothing. It is imported where there are terms alone.
"""

from __future__ import annotations

from cni_plugins.sdk.naming import digest
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.spec.config import View

_ALL = 0xFFFFFFFF


@record
class Terms:
    """Those of one family (4 or 6), both parts optional.

    `condition` is a match as nft(8) writes it. The mark of packets that come from `marked` (subnets; none means all of
    them) becomes `mark & keep ^ flip`; with `flip` 0 it is left alone.
    """

    family: int
    condition: str = ""
    keep: int = _ALL
    flip: int = 0
    marked: tuple[str, ...] = ()

    @property
    def chain(self) -> str:
        """The name of the chain, which is its contents': whoever has the same terms has the same chain."""
        return f"terms_{digest(f'{self.family} {self.rules}', size=8).hex()}"

    @property
    def rules(self) -> tuple[str, ...]:
        """What falls through goes on to be published; what is accepted here is not."""
        found = []
        if self.flip:
            source = (
                f"{'ip' if self.family == 4 else 'ip6'} saddr {{ {', '.join(self.marked)} }}" if self.marked else ""
            )
            change = f"meta mark set meta mark & {self.keep:#x} ^ {self.flip:#x}"
            found.append(" ".join(filter(None, (source, self.condition, change))))
        if self.condition:
            found += [f"{self.condition} return", "accept"]
        return tuple(found)

    def commands(self, table: str) -> list[str]:
        """What nft is told to make the chain, whether there is one already or not."""
        place = f"inet {table} {self.chain}"
        return [f"add chain {place}", f"flush chain {place}", *(f"add rule {place} {rule}" for rule in self.rules)]


def removal(table: str, chain: str) -> str:
    """What nft is told to take a chain away."""
    return f"flush chain inet {table} {chain}; delete chain inet {table} {chain}"


def to_json(terms: Terms) -> dict[str, Any]:
    marks = {"keep": terms.keep, "flip": terms.flip, "marked": list(terms.marked)} if terms.flip else {}
    return {"family": terms.family, "condition": terms.condition} | marks


def from_json(view: View) -> Terms:
    """Raises CniError 7."""
    return Terms(
        view.integer("family", low=4, high=6),
        view.string("condition"),
        view.integer("keep", _ALL),
        view.integer("flip"),
        tuple(view.strings("marked")),
    )
