"""What an attachment has in the host's firewall, and the record that lets it be found again.

    Wall            what is wanted: backend, addresses, and the bridge whose ingress is restricted
    Remember        the first step of an ADD: write that down, before anything is done
    Forget          the whole of a DEL: what the record says is taken back, then the record goes

A backend is a module with functions on a Wall: `steps` for ADD, `release` for DEL (`undoing` says it), `check` for
CHECK. What a wall consists of is said in one place, `_parts`: iptables does all of it itself, as the reference plugin
has laid it out; firewalld has zones and no notion of bridges, so those are guarded in nftables, as without either.

DEL goes by the record alone: the backend may have been chosen anew since, the configuration may be another, the result
may be gone. What somebody else uses too (an address that IPAM has given away again, a bridge) stays: `Shares` counts.
"""

from __future__ import annotations

from cni_plugins.sdk import garbage
from cni_plugins.sdk.main import do, warn
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import parse_address
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, Protocol

    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.spec.ip import Address

    class Backend(Protocol):
        """What a part of a wall is carried out by."""

        def steps(self, wall: Wall, nftables: Nftables, /) -> list[Step]:
            """What puts it up. Reads, and changes nothing yet."""

        def release(self, wall: Wall, nftables: Nftables, /) -> None:
            """Takes it back, as far as nobody else needs it; fine when there is nothing. Raises CniError, OSError."""

        def undoing(self, wall: Wall, nftables: Nftables, /) -> list[str]:
            """What a person would type for `release`."""

        def check(self, wall: Wall, nftables: Nftables, /) -> None:
            """Raises CniError 100 for what is not as `steps` made it."""


OPEN, SAME_BRIDGE, ISOLATED = "open", "same-bridge", "isolated"
POLICIES = (OPEN, SAME_BRIDGE, ISOLATED)
NFTABLES, IPTABLES, FIREWALLD = "nftables", "iptables", "firewalld"
BACKENDS = (NFTABLES, IPTABLES, FIREWALLD)


@record
class Wall:
    """`bridge` is the host's link whose ingress `policy` restricts, `port` the attachment's port of it, if it has one.

    `admin` is the administrator's own chain (iptables), `zone` the one that the addresses are put into (firewalld).
    """

    network: str
    owner: Owner
    backend: str
    addresses: tuple[Address, ...] = ()
    policy: str = OPEN
    bridge: str = ""
    port: str = ""
    admin: str = ""
    zone: str = ""

    @property
    def families(self) -> list[int]:
        return sorted({address.family for address in self.addresses})

    @property
    def guarded(self) -> bool:
        return self.policy != OPEN and bool(self.bridge)


def steps(wall: Wall, nftables: Nftables) -> list[Step]:
    """What an ADD does. One that repeats an earlier ADD puts back what is missing, and takes nothing of that one away
    should it fail."""
    found = [step for part in _parts(wall) for step in part.steps(wall, nftables)]
    again = load(wall.network, wall.owner) == wall
    return [Again(step) for step in found] if again else [Remember(nftables, wall), *found]


def check(wall: Wall, nftables: Nftables) -> None:
    """Raises CniError when what `wall` says is not what was put up, or is there no more."""
    found = load(wall.network, wall.owner)
    if found is None:
        raise CniError(PLUGIN_SPECIFIC, f"{wall.owner} has nothing in the firewall", "its record is missing")
    for key, value in to_json(wall).items():
        if key != "port" and to_json(found)[key] != value:  # a port that is gone has no name to compare
            was = to_json(found)[key] or "nothing"
            raise CniError(PLUGIN_SPECIFIC, f"{wall.owner}: ADD had {key} {was}, the configuration says {value}")
    for part in _parts(found):
        part.check(found, nftables)


def collect(network: str, nftables: Nftables, valid: Collection[Owner]) -> None:
    """GC: what attachments of `network` have that are not `valid`. Raises the first failure, after all were tried."""
    owners = AttachmentRecords("firewall", network).owners()
    garbage.collect(owners, valid, lambda owner: do(Forget(nftables, network, owner)))


@record
class Remember(Step):
    """Write down what is going to be put up; first take back what an earlier ADD of another mind has left."""

    nftables: Nftables
    wall: Wall

    def describe(self) -> str:
        return ""  # of the kernel's state nothing

    def apply(self) -> None:
        self.undo()
        AttachmentRecords("firewall", self.wall.network).save(self.wall.owner, to_json(self.wall))

    def opposite(self) -> Step | None:
        return Forget(self.nftables, self.wall.network, self.wall.owner)


@record
class Again(Step):
    """What an earlier ADD has done, done once more; it is not this one's to take back."""

    step: Step

    def describe(self) -> str:
        return self.step.describe()

    def apply(self) -> None:
        self.step.apply()


@record
class Forget(Step):
    """Take down what the attachment's record says, and then the record; fine when there is none."""

    nftables: Nftables
    network: str
    owner: Owner

    def describe(self) -> str:
        wall = load(self.network, self.owner)
        lines = [line for part in _parts(wall) for line in part.undoing(wall, self.nftables)] if wall else []
        return "\n".join(lines)

    def apply(self) -> None:
        wall = load(self.network, self.owner)
        if wall is not None:
            garbage.all_of(*(_release(part, wall, self.nftables) for part in _parts(wall)))
        AttachmentRecords("firewall", self.network).delete(self.owner)


def _release(part: Backend, wall: Wall, nftables: Nftables) -> Any:
    return lambda: part.release(wall, nftables)


def _parts(wall: Wall) -> list[Backend]:
    """Who does what. Modules are loaded where they are needed: most hosts need none of them."""
    parts: list[Backend] = []
    if wall.backend == IPTABLES:
        from cni_plugins.sdk import xtables

        return [xtables]
    if wall.backend == FIREWALLD:
        from cni_plugins.sdk import firewalld

        parts.append(firewalld)
    if wall.guarded:
        from cni_plugins.sdk import guard

        parts.append(guard)
    return parts


# --- as JSON ----------------------------------------------------------------------------------------------------------


def to_json(wall: Wall) -> dict[str, Any]:
    """What an attachment's record holds; network, container and interface are in its path."""
    return {
        "backend": wall.backend,
        "addresses": [str(address) for address in wall.addresses],
        "ingressPolicy": wall.policy,
        "bridge": wall.bridge,
        "port": wall.port,
        "iptablesAdminChainName": wall.admin,
        "firewalldZone": wall.zone,
    }


def load(network: str, owner: Owner) -> Wall | None:
    """What the attachment's record says. One that says nothing is as good as none, but not passed over in silence."""
    records = AttachmentRecords("firewall", network)
    document = records.load(owner)
    if document is None:
        return None
    view = View(document)
    try:
        return Wall(
            network,
            owner,
            view.string("backend"),
            tuple(parse_address(text) for text in view.strings("addresses")),
            view.string("ingressPolicy"),
            view.string("bridge"),
            view.string("port"),
            view.string("iptablesAdminChainName"),
            view.string("firewalldZone"),
        )
    except (CniError, ValueError) as error:
        warn(f"firewall: {records.path(owner)} does not tell what {owner} has: {error}")
        return None
