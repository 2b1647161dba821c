"""Bridges that guard what is on them, in an nftables table of our own: ingressPolicy same-bridge and isolated.

    guarded     cni0                a bridge to which nothing is forwarded from another guarded one, and back
    inside      cni0 . cni0         what stays on it is no business of that rule
    closed      cni0 . cni0         …but not on this one: its containers are closed to each other, too (isolated)

One element a bridge, in rules that are written once; the first attachment of a bridge adds them, the last one takes
them away. Answers pass, and so do packets to published ports, which were let in by name (the reference plugin drops
those from other bridges: containernetworking/plugins issue 708).

Frames that stay on a bridge pass rules for IP with br_netfilter only. So each port of an isolated one is isolated in
the bridge itself, which hands nothing on from one isolated port to another, be it IP or not (bridge(8), "isolated").
"""

from __future__ import annotations

from cni_plugins.sdk import elements
from cni_plugins.sdk.elements import Element
from cni_plugins.sdk.links import SetPort
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.nfnl import Change
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.shares import Shares
from cni_plugins.sdk.walls import ISOLATED
from cni_plugins.spec.errors import PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.sdk.walls import Wall

TABLE = Table(
    "cni_firewall",
    (
        "set guarded { type ifname; }",
        "set inside { type ifname . ifname; }",
        "set closed { type ifname . ifname; }",
    ),
    (
        Chain(
            "forward",
            "filter hook forward priority filter",
            (
                "ct state established,related accept",
                "ct status dnat accept",
                "iifname . oifname @closed drop",
                "iifname . oifname @inside accept",
                "iifname @guarded oifname @guarded drop",
            ),
        ),
    ),
)

_GUARDS = Shares("firewall", "guards")


def steps(wall: Wall, nftables: Nftables) -> list[Step]:
    found: list[Step] = [Guard(nftables, wall)]
    return [*found, isolation(wall)] if wall.policy == ISOLATED and wall.port else found


def isolation(wall: Wall) -> Step:
    """Have the bridge hand nothing on from the wall's port to the others that are isolated, nor the other way."""
    return SetPort(Namespace(), wall.port, isolated=True)


def release(wall: Wall, nftables: Nftables) -> None:
    """The port's isolation goes with the port: by the time of a DEL its name may be another's."""
    Guard(nftables, wall).undo()


def undoing(wall: Wall, nftables: Nftables) -> list[str]:
    return Guard(nftables, wall).undoing()


def check(wall: Wall, nftables: Nftables) -> None:
    TABLE.require(nftables, *_elements(_thing(wall)))
    if wall.policy == ISOLATED and wall.port:
        check_port(wall)


@record
class Guard(Step):
    """The elements of the wall's bridge, as long as an attachment needs them. Raises CniError, OSError."""

    nftables: Nftables
    wall: Wall

    def describe(self) -> str:
        table = [] if self.nftables.rules(TABLE.name) else [f"nft '{TABLE}'"]
        return "\n".join([*table, *map(str, _additions(_thing(self.wall)))])

    def apply(self) -> None:
        with _GUARDS.locked():
            _GUARDS.join(_thing(self.wall), self.wall.network, self.wall.owner)
            TABLE.commit(self.nftables, *_additions(_thing(self.wall)), restore=lambda: _additions(*_GUARDS.things()))

    def undo(self) -> None:
        with _GUARDS.locked():
            if not _GUARDS.leave(_thing(self.wall), self.wall.network, self.wall.owner):
                return
            self.nftables.commit(*self._removals())

    def describe_undo(self) -> str:
        return "\n".join(self.undoing())

    def undoing(self) -> list[str]:
        if not _GUARDS.only(_thing(self.wall), self.wall.network, self.wall.owner):
            return []
        changes = self._removals()
        held = self.nftables.lookup(*(change.element for change in changes))
        return [str(change) for change, stored in zip(changes, held, strict=True) if stored is not None]

    def _removals(self) -> list[Change]:
        """What takes its elements away, but for those that the other policy on the same bridge has, too."""
        others = (thing for thing in _GUARDS.things() if thing != _thing(self.wall))
        needed = [element for thing in others for element in _elements(thing)]
        return [Change("delete", element) for element in _elements(_thing(self.wall)) if element not in needed]


def check_port(wall: Wall) -> None:
    """Raises CniError when the wall's port is not isolated; for whichever backend has it so."""
    with Namespace() as host:
        link = host.rtnl.link(wall.port)
    if link is None:
        raise CniError(PLUGIN_SPECIFIC, f"there is no link {wall.port}, a port of {wall.bridge}")
    if not link.isolated:
        raise CniError(PLUGIN_SPECIFIC, f"{wall.port}, a port of {wall.bridge}, is not isolated any more")


def _thing(wall: Wall) -> str:
    """What attachments share: a bridge under a policy. Neither can hold a ':' and a '/'."""
    return f"{wall.policy}:{wall.bridge}"


def _elements(thing: str) -> list[Element]:
    policy, _, bridge = thing.partition(":")
    name = elements.link(bridge)
    found = [Element(TABLE.name, "guarded", (name,)), Element(TABLE.name, "inside", (name, name))]
    return found + ([Element(TABLE.name, "closed", (name, name))] if policy == ISOLATED else [])


def _additions(*things: str) -> list[Change]:
    return [Change("add", element) for thing in things for element in _elements(thing)]
