"""Published ports that no record tells of, found in the kernel by the comments of their elements.

A record that is damaged, or that somebody has deleted, must not leave a port taken for ever. Here all elements are
read: the cost grows with the host, so it is what GC does, and DEL where a record says nothing.

The law of this file: it is imported where it is needed alone, and it takes away nothing whose comment is not asked for.
"""

from __future__ import annotations

from cni_plugins.sdk import elements, garbage
from cni_plugins.sdk.elements import Element, Field
from cni_plugins.sdk.main import do, warn
from cni_plugins.sdk.naming import comment, of_network
from cni_plugins.sdk.nfnl import Change, Nftables
from cni_plugins.sdk.ports import TABLE
from cni_plugins.sdk.publish import CHAINS, SINGLE, SUBNETS, Unpublish, forget_flows
from cni_plugins.sdk.records import AttachmentRecords
from cni_plugins.spec.ip import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cni_plugins.sdk.elements import Stored
    from cni_plugins.sdk.records import Owner

# The sets and maps whose elements are somebody's own.
_SETS = (
    *("any4", "host4", "terms4", "host_terms4", "masq_all4", "snat4", "not_by_loopback4"),
    *("any6", "host6", "terms6", "host_terms6", "masq_all6", "snat6"),
)


def sweep(step: Unpublish) -> None:
    """What `step` would do, without the record that it goes by; the record itself is left."""
    with SUBNETS.locked():
        unused = SUBNETS.leave(SUBNETS.used(), step.network, step.owner)
        removals = SUBNETS.removals(step.nftables, unused)
        _remove(step.nftables, lambda text: text == step.comment, *removals)
        step.leave_chains(CHAINS.things())
    for thing in SINGLE.things():
        SINGLE.leave(thing, step.network, step.owner)


def collect(nftables: Nftables, network: str, valid: Collection[Owner]) -> None:
    """GC: take back what the attachments of `network` publish that are not `valid`. Raises the first failure."""
    recorded = set(AttachmentRecords("portmap", network).owners())
    noted = SUBNETS.owners(network) | SINGLE.owners(network) | CHAINS.owners(network)

    def release(owner: Owner) -> None:
        step = Unpublish(nftables, network, owner)
        return do(step) if owner in recorded else sweep(step)

    garbage.collect(recorded | noted, valid, release)
    alive = {comment(network, owner.container_id, owner.ifname) for owner in valid}
    try:
        _remove(nftables, lambda text: of_network(text, network) and text not in alive)
    except OSError as error:  # a kernel without nftables, which was asked for nothing
        warn(f"portmap: cannot look for ports that no record tells of: {error}")


def _remove(nftables: Nftables, whose: Callable[[str], bool], *removals: Change) -> None:
    """Delete every element with such a comment, and make `removals` beside."""
    held = [_element(name, stored) for name in _SETS for stored in nftables.elements(TABLE.name, name)]
    ours = [element for element in held if whose(element.comment)]
    nftables.commit(*(Change("delete", element) for element in ours), *removals)
    forget_flows(nftables, {target for target in map(_udp_target, ours) if target is not None})


def _element(name: str, stored: Stored) -> Element:
    """What one of the sets holds, as an element that can be deleted."""
    key, value = ((Field(packed.hex(), packed, packed),) if packed else () for packed in (stored.key, stored.value))
    return Element(TABLE.name, name, key, value, stored.comment, False, stored.jump)


def _udp_target(element: Element) -> tuple[Address, int] | None:
    """Where it leads UDP packets, and from which port of the host; None for all else."""
    if not element.value:
        return None
    key, value = element.key[0].first, element.value[0].first  # … protocol . port, address . port, 4 bytes each
    if key[-8] != elements.PROTOCOLS["udp"]:
        return None
    packed = value[:-4]
    return Address(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big")), int.from_bytes(key[-4:-2], "big")
