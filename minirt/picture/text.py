"""The picture as text: a tree, from the ways out of the host down to the interfaces of its containers.

host lab
├─ out: default via 192.0.2.2 dev eth0
└─ minirt0, bridge, 10.143.0.1/20
   └─ veth8452f322 ══ eth0 in web
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from minirt.picture.kernel import Link
from minirt.picture.model import MISSING, PARENT, VETH, Container, Interface, Picture, titled
from minirt.terminal import WIDTH
from minirt.visible import line as shown

_LOST = "  (asked for, but no rule of nftables does it)"


@dataclass
class Branch:
    """A line of the tree, what belongs to it in lines of their own, and the branches below."""

    line: str
    facts: list[str] = field(default_factory=list)
    below: list[Branch] = field(default_factory=list)


def draw(picture: Picture) -> str:
    """The whole tree, and the notes."""
    root = Branch(f"host {picture.name}{f', network {picture.network}' if picture.network else ''}")
    root.below += [Branch(f"out: {route}") for route in picture.ways_out]
    if not picture.ways_out:
        root.below.append(Branch("out: no default route, so nothing leads further than the host's own links"))
    root.below += [Branch(*_link(link)) for link in picture.uplinks if not _carries(picture, link)]
    root.below += [Branch(f"masquerade: {address}") for address in picture.masquerades]
    root.below += [Branch(f"masquerade: {address}{_LOST}") for address in picture.unmasked]
    root.below += list(_ports(picture))
    root.below += [_bridge(picture, bridge) for bridge in picture.bridges]
    root.below += list(_straight(picture))
    root.below += list(_others(picture))
    if not picture.containers:
        root.below.append(Branch("no container is attached"))
    notes = [line for note in picture.notes for line in _wrapped(f"note: {note}", "", "  ")]
    return "\n".join([*_lines(root), *notes])


def _link(link: Link, kind: str = "") -> tuple[str, list[str]]:
    words = [link.name, kind or link.kind, link.mac, "" if link.up else "down"]
    return ", ".join(filter(None, words)), list(link.addresses)


def _ports(picture: Picture) -> Iterator[Branch]:
    for container in picture.containers:
        for port in container.ports:
            lost = "" if port.state != MISSING else _LOST
            yield Branch(f"published: {port.outer} → {container.name} {port.inside}{lost}")


def _bridge(picture: Picture, bridge: Link) -> Branch:
    branch = Branch(*_link(bridge))
    drawn = set()
    for container, interface in picture.interfaces:
        if interface.wire.bridge == bridge and interface.wire.end:
            drawn.add(interface.wire.end.index)
            branch.below.append(_wired(container, interface))
    for port in picture.ports_of(bridge):
        if port.index not in drawn and (not picture.network or port.kind != "veth"):
            branch.below.append(Branch(_link(port)[0]))
    return branch


def _wired(container: Container, interface: Interface) -> Branch:
    """A veth pair: the host's end, and the container's."""
    end = interface.wire.end
    line = f"{end.name}, {end.mac} ══ " if end else ""
    return _inside(container, interface, line)


def _inside(container: Container, interface: Interface, prefix: str) -> Branch:
    network = f", network {interface.network}" if interface.network else ""
    down = "" if interface.link.up else ", down"
    branch = Branch(f"{prefix}{interface.link.name} in {titled(container)}{network}{down}")
    branch.facts.append(interface.link.mac or "no MAC")
    branch.facts += interface.link.addresses or ("no address",)
    branch.facts += [str(route) for route in container.routes if route.link == interface.link.name]
    return branch


def _straight(picture: Picture) -> Iterator[Branch]:
    """veth pairs without a bridge, and links made on links of the host."""
    parents: dict[int, Branch] = {}
    for container, interface in picture.interfaces:
        end = interface.wire.end
        if interface.wire.how == VETH and end and interface.wire.bridge is None:
            branch = Branch(*_link(end, "veth, routed"))
            branch.below.append(_inside(container, interface, "══ "))
            yield branch
        elif interface.wire.how == PARENT and end:
            branch = parents.setdefault(end.index, Branch(*_link(end, end.kind or "parent")))
            mode = f" {interface.link.mode}" if interface.link.mode else ""
            branch.below.append(_inside(container, interface, f"{interface.link.kind}{mode} ── "))
    yield from parents.values()


def _others(picture: Picture) -> Iterator[Branch]:
    """Interfaces that do not hang on the host."""
    for container, interface in picture.interfaces:
        if words := interface.wire.words:
            yield _inside(container, interface, f"{interface.link.kind or 'device'}, {words}: ")
    for container in picture.containers:
        if not container.interfaces:
            yield Branch(f"{titled(container)}: no network but lo")


def _carries(picture: Picture, link: Link) -> bool:
    """Whether the link is drawn with what hangs on it."""
    return any(item.wire.how == PARENT and item.wire.end == link for _container, item in picture.interfaces)


def _lines(branch: Branch, lead: str = "", hang: str = "") -> Iterator[str]:
    """`lead` begins the branch's own line, `hang` those below it."""
    yield from _wrapped(branch.line, lead, hang + ("│    " if branch.below else "     "))
    bar = "│    " if branch.below else "     "
    for fact in branch.facts:
        yield from _wrapped(fact, hang + bar, hang + bar + "  ")
    for position, item in enumerate(branch.below):
        last = position == len(branch.below) - 1
        yield from _lines(item, hang + ("└─ " if last else "├─ "), hang + ("   " if last else "│  "))


def _wrapped(text: str, lead: str, hang: str) -> Sequence[str]:
    return textwrap.wrap(
        shown(text), WIDTH, initial_indent=lead, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )
