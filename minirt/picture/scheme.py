"""The picture as cards and lines between them, in columns from the outside to the containers; mermaid and dot of it.

outside │ uplinks │ routing │ bridges, parents, wires │ containers
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from minirt.picture.kernel import Link
from minirt.picture.model import MISSING, PARENT, VETH, Container, Interface, Picture
from minirt.visible import line as shown

OUTSIDE, UPLINKS, ROUTING, WIRES, CONTAINERS = range(5)
HEAD, MONO, QUIET, WARN = "head", "mono", "quiet", "warn"
_LOST = ": not in nftables"


@dataclass
class Line:
    """A line of a card; lines of the graph may end at its `anchor`. `more` stands at the other edge of the card."""

    text: str
    style: str = MONO
    anchor: str = ""
    more: str = ""

    def __post_init__(self) -> None:
        self.text, self.more = shown(self.text), shown(self.more)

    @property
    def whole(self) -> str:
        return f"{self.text}  {self.more}" if self.more else self.text


@dataclass
class Card:
    """A box: a title, what it is, and its lines. `kind` chooses its colour; `subject` is the id of the container that
    it shows."""

    key: str
    column: int
    title: str
    subtitle: str
    kind: str
    lines: list[Line] = field(default_factory=list)
    subject: str = ""

    def __post_init__(self) -> None:
        self.title, self.subtitle, self.subject = shown(self.title), shown(self.subtitle), shown(self.subject)


@dataclass(frozen=True)
class Edge:
    """A line between two cards, or anchors in them; `routed` where the host's routing is the connection."""

    left: str
    right: str
    label: str = ""
    routed: bool = False
    left_anchor: str = ""
    right_anchor: str = ""


@dataclass
class Scheme:
    """All cards, in the order in which they are stacked, and all edges. Whatever name stands here has been made fit to
    be shown: in a line, and without what a terminal would obey."""

    title: str
    host: str
    cards: list[Card] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.title, self.host = shown(self.title), shown(self.host)
        self.notes = tuple(map(shown, self.notes))

    def card(self, key: str) -> Card:
        return next(card for card in self.cards if card.key == key)


def of(picture: Picture) -> Scheme:
    """The scheme of a picture."""
    title = f"network {picture.network}" if picture.network else "all networks"
    scheme = Scheme(title, f"host {picture.name}", notes=picture.notes)
    _ways_out(picture, scheme)
    _routing(picture, scheme)
    for bridge in picture.bridges:
        _bridge(picture, bridge, scheme)
    for container in picture.containers:
        _container(container, scheme)
    for container, interface in picture.interfaces:
        _wire(picture, container, interface, scheme)
    _order(scheme)
    return scheme


def _key(*words: str) -> str:
    """A name for mermaid and dot: letters, digits, and the code of whatever else there is, so that none is twice."""
    return "_".join(re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", word) for word in words)


def _ways_out(picture: Picture, scheme: Scheme) -> None:
    gateways: dict[str, list[str]] = {route.link: [] for route in picture.ways_out}
    for route in picture.ways_out:
        gateways[route.link].append(route.gateway)
    for link in picture.uplinks:
        key = _key("up", link.name)
        kind = link.kind or "link"
        scheme.cards.append(Card(key, UPLINKS, link.name, kind, "uplink", _facts(link)))
        if link.name in gateways:
            if not any(card.key == "outside" for card in scheme.cards):
                scheme.cards.append(Card("outside", OUTSIDE, "outside", "by the default route", "outside"))
            lines = [Line(f"via {gateway}") for gateway in gateways[link.name] if gateway]
            scheme.card("outside").lines += lines
            scheme.edges.append(Edge("outside", key, "default"))


def _facts(link: Link, mac: bool = True) -> list[Line]:
    lines = [Line(address) for address in link.addresses]
    lines += [Line(link.mac, QUIET)] if link.mac and mac else []
    return lines if link.up else [*lines, Line("down", WARN)]


def _routing(picture: Picture, scheme: Scheme) -> None:
    """What the host does with packets: where they go, under whose address, and which come in."""
    card = Card("routing", ROUTING, "routing", "the host's IP", "routing")
    if picture.masquerades or picture.unmasked:
        card.lines.append(Line("masquerade", HEAD))
        card.lines += [Line(address) for address in picture.masquerades]
        card.lines += [Line(f"{address}{_LOST}", WARN) for address in picture.unmasked]
    published = [(port, container) for container in picture.containers for port in container.ports]
    if published:
        card.lines.append(Line("published ports", HEAD))
    for port, container in published:
        text = f"{port.outer} → {container.name} {port.inside}"
        missing = port.state == MISSING
        card.lines.append(Line(f"{text}{_LOST}" if missing else text, WARN if missing else MONO))
    card.lines.append(Line("routes out", HEAD))
    card.lines += [Line(str(route)) for route in picture.ways_out] or [Line("no default route", WARN)]
    scheme.cards.append(card)
    scheme.edges += [Edge(_key("up", link.name), "routing", routed=True) for link in picture.uplinks]


def _bridge(picture: Picture, bridge: Link, scheme: Scheme) -> None:
    key = _key("bridge", bridge.name)
    card = Card(key, WIRES, bridge.name, "bridge", "bridge", _facts(bridge))
    wanted = {interface.wire.end.index for _container, interface in picture.interfaces if interface.wire.end}
    for port in picture.ports_of(bridge):
        if port.index not in wanted and (not picture.network or port.kind != "veth"):
            card.lines.append(Line(f"port {port.name}", QUIET))
    scheme.cards.append(card)
    if bridge.addresses:
        scheme.edges.append(Edge("routing", key, routed=True))


def _container(container: Container, scheme: Scheme) -> None:
    short = container.id[:12]
    subtitle = "container" if container.name == short else short
    card = Card(_key("c", container.id), CONTAINERS, container.name, subtitle, "container", subject=container.id)
    if not container.interfaces:
        card.lines.append(Line("no network but lo", QUIET))
    scheme.cards.append(card)


def _wire(picture: Picture, container: Container, interface: Interface, scheme: Scheme) -> None:
    """The interface as lines of its container's card, and what it hangs on."""
    inner, card = interface.link, scheme.card(_key("c", container.id))
    anchor = _key("in", inner.name)
    named = f"{inner.name} on {interface.network}" if interface.network else inner.name
    card.lines.append(Line(named, HEAD, anchor, inner.mac))
    card.lines += [] if inner.addresses else [Line("no address", QUIET)]
    card.lines += _facts(inner, mac=False)
    card.lines += [
        Line(str(route).removesuffix(f" dev {inner.name}"), QUIET)
        for route in container.routes
        if route.link == inner.name
    ]
    end, bridge = interface.wire.end, interface.wire.bridge
    if interface.wire.how == VETH and end and bridge:
        outer = scheme.card(_key("bridge", bridge.name))
        outer.lines.append(Line(end.name, HEAD, _key("port", end.name), end.mac))
        scheme.edges.append(Edge(outer.key, card.key, "veth", False, outer.lines[-1].anchor, anchor))
        return
    key = _key("wire", container.id, inner.name)
    if interface.wire.how == VETH and end:
        scheme.cards.append(Card(key, WIRES, end.name, "veth, routed", "wire", _facts(end)))
        scheme.edges.append(Edge("routing", key, routed=True))
    elif interface.wire.how == PARENT and end:
        mode = f"{inner.kind} {inner.mode}".strip()
        scheme.cards.append(Card(key, WIRES, mode, f"on {end.name}", "wire"))
        left = "bridge" if any(bridge.index == end.index for bridge in picture.bridges) else "up"
        if any(known.key == _key(left, end.name) for known in scheme.cards):
            scheme.edges.append(Edge(_key(left, end.name), key))
    else:
        scheme.cards.append(Card(key, WIRES, inner.kind or "device", interface.wire.words, "wire"))
    scheme.edges.append(Edge(key, card.key, "", False, "", anchor))


def _order(scheme: Scheme) -> None:
    """Containers stand in the order of what they hang on, so that lines cross as little as they can."""
    wires = [card.key for card in scheme.cards if card.column == WIRES]
    first: dict[str, int] = {}
    for edge in scheme.edges:
        if edge.left in wires:
            first.setdefault(edge.right, wires.index(edge.left))
    scheme.cards.sort(key=lambda card: (card.column, first.get(card.key, len(wires))))


# --- mermaid ----------------------------------------------------------------------------------------------------------


def mermaid(scheme: Scheme) -> str:
    """A flowchart for whatever renders mermaid: GitHub, GitLab, an editor."""
    out = ["---", f"title: {scheme.host}, {scheme.title}", "---", "flowchart LR"]
    inside = (UPLINKS, ROUTING, WIRES)
    out += [f"  {_mermaid_node(card)}" for card in scheme.cards if card.column == OUTSIDE]
    out.append(f'  subgraph host["{_entity(scheme.host)}"]')
    out += [f"    {_mermaid_node(card)}" for card in scheme.cards if card.column in inside]
    out.append("  end")
    out += [f"  {_mermaid_node(card)}" for card in scheme.cards if card.column == CONTAINERS]
    for edge in scheme.edges:
        line = "-.-" if edge.routed else "---"
        label = _edge_label(scheme, edge)
        quoted = f'|"{_entity(label)}"|' if label else ""
        out.append(f"  {edge.left} {line}{quoted} {edge.right}")
    return "\n".join(out)


def _edge_label(scheme: Scheme, edge: Edge) -> str:
    """The two ends of a wire, where the label cannot stand in the cards."""
    ends = [
        line.text.partition(" on ")[0]
        for key, anchor in ((edge.left, edge.left_anchor), (edge.right, edge.right_anchor))
        for line in scheme.card(key).lines
        if anchor and line.anchor == anchor
    ]
    return " = ".join(ends) if len(ends) == 2 else edge.label


def _mermaid_node(card: Card) -> str:
    lines = [f"<b>{_entity(card.title)}</b> {_entity(card.subtitle)}", *(_entity(line.whole) for line in card.lines)]
    return f'{card.key}["{"<br>".join(lines)}"]'


def _entity(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")


# --- dot --------------------------------------------------------------------------------------------------------------


def dot(scheme: Scheme) -> str:
    """A graph for graphviz; the ends of wires are ports of their cards."""
    out = [
        "graph minirt {",
        "  rankdir=LR;",
        f"  label={_quoted(f'{scheme.host}, {scheme.title}')};",
        '  node [shape=plain, fontname="monospace", fontsize=11];',
    ]
    for inside in (False, True):
        cards = [card for card in scheme.cards if (card.column in (UPLINKS, ROUTING, WIRES)) == inside]
        if inside:
            out += ["  subgraph cluster_host {", f"    label={_quoted(scheme.host)}; style=rounded;"]
        out += [f"  {'  ' * inside}{card.key} [label=<{_table(card)}>];" for card in cards]
        out += ["  }"] if inside else []
    out += [f"  {_dot_edge(edge)}" for edge in scheme.edges]
    return "\n".join([*out, "}"])


def _table(card: Card) -> str:
    def row(text: str, anchor: str = "") -> str:
        port = f' PORT="{anchor}"' if anchor else ""
        return f'<TR><TD ALIGN="LEFT"{port}>{text}</TD></TR>'

    head = row(f"<B>{_entity(card.title)}</B> {_entity(card.subtitle)}")
    return (
        f'<TABLE BORDER="1" CELLBORDER="0" CELLSPACING="0" STYLE="ROUNDED">{head}'
        f"{''.join(row(_entity(line.whole), line.anchor) for line in card.lines)}</TABLE>"
    )


def _dot_edge(edge: Edge) -> str:
    left = f"{edge.left}:{edge.left_anchor}" if edge.left_anchor else edge.left
    right = f"{edge.right}:{edge.right_anchor}" if edge.right_anchor else edge.right
    says = [f"label={_quoted(edge.label)}"] if edge.label else []
    says += ["style=dashed"] if edge.routed else []
    attributes = f" [{', '.join(says)}]" if says else ""
    return f"{left} -- {right}{attributes};"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
