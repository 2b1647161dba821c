"""The way of one packet: from a container, hop by hop, to where it is delivered, leaves the host, or is lost.

    web ── route, its own rules ── bridge port ── host: prerouting, route, forward, postrouting ── the next link ── …

The kernel is asked for every route (`ip route get`), so rules and tables count as they do for a packet. What nftables
would do is worked out (`ruleset`); what a bridge would do, from its ports and from who has the next hop's address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface

from minirt import files
from minirt.namespaces import Inside
from minirt.picture import ruleset, translation
from minirt.picture.kernel import OURS, Eye, Link, Way
from minirt.picture.listening import heard
from minirt.picture.matching import Packet
from minirt.picture.model import PARENT, VETH, Container, Interface, Picture
from minirt.picture.ruleset import Hit, Passage, Ruleset

DELIVERED, LEAVES, DROPPED, LOST = "delivered", "leaves", "dropped", "lost"
_HOPS = 12
_LEADS = ("unicast", "local")
_FORBIDS = {"blackhole": "a blackhole", "unreachable": "unreachable", "prohibit": "prohibited"}
_BRIDGE_CALLS = "/proc/sys/net/bridge/bridge-nf-call-ip{}tables"
_FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}


@dataclass(frozen=True)
class Mark:
    """One thing that happens at a hop: `what` in a word, `text` in nft's or ip's words. `hit` is the rule's."""

    what: str
    text: str
    hit: Hit | None = None


@dataclass
class Hop:
    """A place that the packet comes to. `space` is the namespace's path, `packet` how it looks when it comes."""

    place: str
    space: str
    packet: Packet
    marks: list[Mark] = field(default_factory=list)
    hooks: list[str] = field(default_factory=list)

    def say(self, what: str, text: str, hit: Hit | None = None) -> None:
        self.marks.append(Mark(what, text, hit))


@dataclass
class Walk:
    """The whole way. `end` is one of delivered, leaves, dropped, lost; `reason` says where and why."""

    packet: Packet
    hops: list[Hop] = field(default_factory=list)
    end: str = LOST
    reason: str = ""

    def stop(self, end: str, reason: str) -> None:
        self.end, self.reason = end, reason


@dataclass(frozen=True)
class _Start:
    """Where a walk begins: what the place is called, `who` that is in a sentence, and how its rules are come by."""

    place: str
    who: str
    space: str
    rules: Callable[[], Ruleset]


class Walker:
    """Walks packets through `picture`, which must be the one of all networks."""

    def __init__(self, picture: Picture, rules: Ruleset) -> None:
        self._picture = picture
        self._rules = rules
        self._host_name = f"host {picture.name}"
        self._inside: dict[str, Ruleset] = {}

    # --- where it begins ---------------------------------------------------------------------------------------------

    def from_container(self, container: Container, to: str, protocol: str, port: int) -> Walk:
        with Eye(container.path) as eye:
            start = _Start(container.name, container.name, container.path, lambda: self._rules_in(container))
            walk, way, packet = self._begin(start, eye, to, protocol, port)
            if way is None or packet is None:
                return walk
            if way.kind == "local":
                _deliver(walk, f"to {container.name} itself, by lo", packet)
                return walk
            packet = self._hook(walk, start.rules(), "postrouting", replace(packet, leaving=way.link))
            link = container.space.named(way.link)
            if packet is None or link is None:
                return walk
            next_hop = way.gateway or packet.destination
            mac = eye.neighbour(next_hop, link.index)
        walk.hops[-1].say("frame", f"by {link.name}, {link.mac}, to {mac or _who(next_hop)}")
        self._wire(walk, container, link, next_hop, mac, replace(packet, mac=link.mac))
        return walk

    def from_host(self, to: str, protocol: str, port: int) -> Walk:
        with Eye() as eye:
            start = _Start(self._host_name, "the host", OURS, lambda: self._rules)
            walk, way, packet = self._begin(start, eye, to, protocol, port)
        if way is None or packet is None:
            return walk
        if way.kind == "local":
            self._input(walk, packet)
        else:
            self._out(walk, way, packet)
        return walk

    def _begin(
        self, start: _Start, eye: Eye, to: str, protocol: str, port: int
    ) -> tuple[Walk, Way | None, Packet | None]:
        """Whoever sends it: a route, the rules for what it sends, and the route anew where those changed the packet.
        The walk, and unless it ends there the way to go on by, and the packet."""
        way = eye.way(to)
        walk = Walk(Packet((way and way.source) or "?", to, protocol, port, leaving=way.link if way else ""))
        hop = self._come(walk, start.place, start.space)
        if way is None or way.kind not in _LEADS:
            walk.stop(LOST, _nowhere(start.who, way, to))
            return walk, None, None
        hop.say("route", told(way, to))
        packet = self._hook(walk, start.rules(), "output", replace(walk.packet, local=way.kind == "local"))
        if packet is not None and packet.destination != to:
            way = eye.way(packet.destination) or way
            hop.say("route", told(way, packet.destination))
        return walk, way, packet

    # --- places ------------------------------------------------------------------------------------------------------

    def _come(self, walk: Walk, place: str, space: str, packet: Packet | None = None) -> Hop:
        hop = Hop(place, space, packet or walk.packet)
        walk.hops.append(hop)
        return hop

    def _wire(self, walk: Walk, container: Container, link: Link, next_hop: str, mac: str, packet: Packet) -> None:
        """Out of a container's link."""
        interface = next((item for item in container.interfaces if item.link == link), None)
        wire = interface.wire if interface else None
        if wire is None or wire.end is None:
            walk.stop(LEAVES, f"by {link.name}, {link.kind or 'a device'} of the container's own")
        elif wire.how == PARENT:
            self._parent(walk, link, wire.end, next_hop, packet)
        elif wire.bridge:
            self._bridge(walk, wire.bridge, wire.end, next_hop, mac, replace(packet, mark=0))
        else:
            self._host(walk, wire.end, replace(packet, mark=0))

    def _parent(self, walk: Walk, link: Link, parent: Link, next_hop: str, packet: Packet) -> None:
        """A link that was made on one of the host's: its siblings are reached there, the host is not."""
        hop = self._come(walk, parent.name, "", packet)
        hop.say("link", f"{link.kind} {link.mode}".strip() + f" on {parent.name}: past the host's routing and rules")
        sibling = self._with_address(next_hop, lambda item: item.wire.how == PARENT and item.wire.end == parent)
        if sibling:
            self._arrive(walk, sibling, packet)
        elif self._is_hosts(next_hop):
            walk.stop(LOST, f"a {link.kind} link and its parent {parent.name} do not reach each other: {next_hop}")
        else:
            walk.stop(LEAVES, f"by {parent.name} to {next_hop}")

    def _bridge(self, walk: Walk, bridge: Link, port: Link | None, next_hop: str, mac: str, packet: Packet) -> None:
        """On a bridge: from `port`, or from the host when that is None."""
        hop = self._come(walk, f"bridge {bridge.name}", "", packet)
        if port:
            hop.say("port", f"in by {port.name}")
            packet = replace(packet, arriving=port.name, leaving="")
            if not self._passes(walk, "ingress", packet, port.name) or not self._passes(walk, "prerouting", packet):
                return
            if self._is_hosts(next_hop):
                hop.say("port", f"out by {bridge.name} itself: {next_hop} is the host's")
                if self._passes(walk, "input", packet):
                    self._host(walk, bridge, packet)
                return
        target = self._with_address(next_hop, lambda item: item.wire.bridge == bridge and item.wire.end != port)
        if target:
            end = next(item.wire.end for item in target.interfaces if _has(item, next_hop) and item.wire.end)
            hop.say("port", f"out by {end.name} ══ {target.name}")
            if port and port.isolated and end.isolated:
                walk.stop(DROPPED, f"at bridge {bridge.name}: its ports {port.name} and {end.name} are isolated")
            elif self._across(walk, bridge, port, end, packet):
                self._arrive(walk, target, packet)
            return
        with Eye() as eye:
            learnt = self._picture.host.link(eye.port_of(bridge.index, mac)) if mac else None
        if learnt:
            walk.stop(LEAVES, f"by the bridge's port {learnt.name} to {next_hop}")
        else:
            walk.stop(LOST, f"nobody on {bridge.name} is known to have {next_hop}: the bridge asks at every port")

    def _across(self, walk: Walk, bridge: Link, port: Link | None, end: Link, packet: Packet) -> bool:
        """Whether rules let the packet through a bridge, from `port` or the host, out by `end`: the bridge's own, and
        where br_netfilter is on, those for packets."""
        frame = replace(packet, arriving=port.name if port else bridge.name, leaving=end.name)
        if not self._passes(walk, "forward" if port else "output", frame):
            return False
        passed: Packet | None = replace(packet, arriving=bridge.name, leaving=bridge.name)
        for hook in ("prerouting", "forward", "postrouting") if port and self._called(packet) else ():
            passed = self._hook(walk, self._rules, hook, passed, "br_netfilter") if passed else None
        return (
            passed is not None
            and self._passes(walk, "postrouting", frame)
            and self._passes(walk, "egress", frame, end.name)
        )

    def _passes(self, walk: Walk, hook: str, packet: Packet, device: str = "") -> bool:
        """Whether the rules of a bridge, or of `device` (ingress, egress), let it by; told where they match."""
        hop = walk.hops[-1]
        passage = self._rules.at(hook, packet, "" if device else "bridge", device)
        for hit in passage.hits:
            if hit.verdict:
                hop.say(hook, f"{'' if hit.certain else 'perhaps: '}{hit.rule.place}: {hit.rule.text}", hit)
        if passage.dropped:
            walk.stop(DROPPED, f"at {hook} of {device or hop.place} by {passage.dropped}")
        elif tables := self._tables(hook, device) if not any(hit.verdict for hit in passage.hits) else ():
            hop.say(hook, f"no rule of {', '.join(tables)} matches: it passes")
        return not passage.dropped

    def _tables(self, hook: str, device: str) -> tuple[str, ...]:
        """Those that have rules at a hook of a bridge, or of `device`."""
        families = ("netdev", "inet") if device else ("bridge",)
        chains = (chain for chain in self._rules.chains if chain.hook == hook and chain.family in families)
        return tuple(
            dict.fromkeys(f"{chain.family} {chain.table}" for chain in chains if not device or device in chain.devices)
        )

    def _called(self, packet: Packet) -> bool:
        """Whether frames that a bridge passes on are shown to the rules for packets."""
        try:
            return files.read(_BRIDGE_CALLS.format("6" if ":" in packet.destination else "")).strip() == b"1"
        except FileNotFoundError:
            return False

    def _host(self, walk: Walk, arriving: Link, packet: Packet) -> None:
        """Into the host's IP, from one of its links, and on."""
        packet = replace(packet, arriving=arriving.name, leaving="")
        hop = self._come(walk, self._host_name, OURS, packet)
        if len(walk.hops) > _HOPS:
            walk.stop(LOST, "it goes round in circles")
            return
        if not self._passes(walk, "ingress", packet, arriving.name):
            return
        with Eye() as eye:
            before = eye.way(packet.destination)
            local = before is not None and before.kind == "local"
            passed = self._hook(walk, self._rules, "prerouting", replace(packet, local=local))
            if passed is None:
                return
            outward = eye.way(passed.destination)
            way = eye.way(passed.destination, passed.source, arriving.index)
        family = 6 if ":" in passed.destination else 4
        if outward and outward.kind != "local" and files.read(_FORWARDING[family]).strip() == b"0":
            walk.stop(LOST, f"the host does not forward IPv{family}: {_FORWARDING[family]} is 0")
            return
        if way is None or way.kind not in _LEADS:
            walk.stop(LOST, _refusal(passed, way, outward))
            return
        hop.say("route", told(way, passed.destination))
        if way.kind == "local":
            self._input(walk, passed)
            return
        forwarded = self._hook(walk, self._rules, "forward", replace(passed, leaving=way.link, local=False))
        if forwarded is not None:
            self._out(walk, way, forwarded)

    def _input(self, walk: Walk, packet: Packet) -> None:
        """For the host itself."""
        if self._hook(walk, self._rules, "input", replace(packet, local=True)) is not None:
            _deliver(walk, f"to the host itself, {packet.destination}", packet)

    def _out(self, walk: Walk, way: Way, packet: Packet) -> None:
        """Out of the host by one of its links."""
        packet = replace(packet, leaving=way.link, local=False)
        left = self._hook(walk, self._rules, "postrouting", packet)
        if left is None:
            return
        next_hop = way.gateway or packet.destination
        link = self._picture.host.named(way.link)
        if link and link.kind == "bridge":
            self._bridge(walk, link, None, next_hop, "", left)
            return
        if not self._passes(walk, "egress", left, way.link):
            return
        target = self._with_address(packet.destination, lambda item: item.wire.how == VETH and item.wire.end == link)
        if target and link:
            walk.hops[-1].say("wire", f"by {link.name} ══ {target.name}")
            self._arrive(walk, target, left)
        else:
            walk.stop(LEAVES, f"the host by {way.link} to {next_hop}")

    def _arrive(self, walk: Walk, container: Container, packet: Packet) -> None:
        """Into a container."""
        interface = next((item for item in container.interfaces if _has(item, packet.destination)), None)
        packet = replace(packet, arriving=interface.link.name if interface else "", leaving="", local=True)
        hop = self._come(walk, container.name, container.path, packet)
        if interface is None:
            walk.stop(LOST, f"{container.name} is no router, and does not have {packet.destination}")
            return
        hop.say("frame", f"by {interface.link.name}, {interface.link.mac}")
        rules = self._rules_in(container)
        for hook in ("prerouting", "input"):
            passed = self._hook(walk, rules, hook, packet)
            if passed is None:
                return
            packet = passed
        _deliver(walk, f"to {container.name}, {packet.destination}", packet)

    # --- rules -------------------------------------------------------------------------------------------------------

    def _hook(self, walk: Walk, rules: Ruleset, hook: str, packet: Packet, why: str = "") -> Packet | None:
        """`packet` at a hook of the place where it is; None when it ends there."""
        hop = walk.hops[-1]
        hop.hooks.append(hook)
        passage = rules.at(hook, packet)
        _tell(hop, hook, passage, rules, why)
        if passage.dropped:
            walk.stop(DROPPED, f"at {hook} of {hop.place} by {passage.dropped}")
            return None
        after = passage.packet
        hit = next((hit for hit in passage.hits if hit.certain and hit.verdict in translation.KINDS), None)
        if hit and hit.verdict in (translation.MASQUERADE, translation.SNAT):
            after = replace(after, source=hit.address or self._own_address(hop, after))
            hop.say("now", str(after))
        elif hit and hit.verdict == translation.REDIRECT:
            to = self._itself(hook, hop, after)
            after = replace(after, destination=to, port=hit.port or after.port, local=True)
            hop.say("now", str(after))
        elif (after.destination, after.port) != (packet.destination, packet.port):
            hop.say("now", str(after))
        return after

    def _itself(self, hook: str, hop: Hop, packet: Packet) -> str:
        """Where a redirect sends a packet: to this place itself, by the address of the link that it came by."""
        six = ":" in packet.destination
        link = self._picture.host.named(packet.arriving) if hop.space == OURS else None
        own = [_bare(address) for address in link.addresses if (":" in address) == six] if link else []
        if hook == "output":
            return "::1" if six else "127.0.0.1"
        return own[0] if own else packet.destination

    def _own_address(self, hop: Hop, packet: Packet) -> str:
        """What a masquerade takes: an address of the link that the packet leaves by, whatever source its route names.
        Of IPv4 the first that is in one subnet with the next hop (inet_select_addr() in the kernel)."""
        with Eye(hop.space) as eye:
            way = eye.way(packet.destination)
        inside = next((item.space for item in self._picture.containers if item.path == hop.space), None)
        link = (inside or self._picture.host).named(packet.leaving)
        own = [ip_interface(address) for address in link.addresses if (":" in address) == packet.six] if link else []
        if way is None or not own or (packet.six and any(str(item.ip) == way.source for item in own)):
            return way.source if way and way.source else packet.source
        next_hop = ip_address(way.gateway or packet.destination)
        return str(next((item for item in own if next_hop in item.network), own[0]).ip)

    def _rules_in(self, container: Container) -> Ruleset:
        """A container's own rules, read once."""
        if container.path not in self._inside:
            with Inside(container.path):
                self._inside[container.path] = ruleset.read()
        return self._inside[container.path]

    # --- who has what ------------------------------------------------------------------------------------------------

    def _is_hosts(self, address: str) -> bool:
        return any(_bare(item) == address for link in self._picture.host.links for item in link.addresses)

    def _with_address(self, address: str, there: Callable[[Interface], bool]) -> Container | None:
        for container in self._picture.containers:
            if any(there(item) and _has(item, address) for item in container.interfaces):
                return container
        return None


def _deliver(walk: Walk, whom: str, packet: Packet) -> None:
    """It has come to its end, where somebody may listen or not."""
    there = heard(walk.hops[-1].space, packet.protocol, packet.destination, packet.port)
    nobody = f", where nobody listens at {packet.port}/{packet.protocol}" if there is False else ""
    walk.stop(DELIVERED, f"{whom}{nobody}")


def _tell(hop: Hop, hook: str, passage: Passage, rules: Ruleset, why: str) -> None:
    """What the rules at a hook do, as marks of the hop."""
    prefix = f"({why}) " if why else ""
    decisive = [hit for hit in passage.hits if hit.verdict and (hit.verdict != "return" or not hit.certain)]
    for hit in decisive:
        doubt = "" if hit.certain else "perhaps: "
        hop.say(hook, f"{prefix}{doubt}{hit.rule.place}: {hit.rule.text}", hit)
    family = "ip6" if ":" in passage.packet.destination else "ip"
    if not decisive and not passage.dropped:
        chains = any(chain.hook == hook and chain.family in (family, "inet") for chain in rules.chains)
        if not chains and hop.space != OURS:
            return  # as in most containers
        hop.say(hook, f"{prefix}{'no rule matches' if chains else 'no rules'}: it passes")


def _has(interface: Interface, address: str) -> bool:
    return any(_bare(item) == address for item in interface.link.addresses)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _who(address: str) -> str:
    ask = "neighbour discovery" if ":" in address else "ARP"
    return f"whoever has {address} ({ask} will ask)"


def _nowhere(who: str, way: Way | None, to: str) -> str:
    """Why the way ends where it has begun."""
    if way is not None and way.kind in ("broadcast", "multicast"):
        return f"{to} is a {way.kind} address: it is for all on {way.link}, and this walk is that of one packet to one"
    if way is not None:
        return f"{who} has a route or rule for {to} that is {_FORBIDS.get(way.kind, way.kind)}"
    return f"{who} has no route to {to}"


def _refusal(packet: Packet, way: Way | None, outward: Way | None) -> str:
    """Why the host does not pass a packet on, by the `way` that it has for it, and that which it has for its own."""
    at = f"the host refuses {packet.source} at {packet.arriving}"
    if outward is None or outward.kind not in _LEADS:
        return _nowhere("the host", outward, packet.destination)
    if way is None:
        return f"the host has no route to {packet.destination} for what comes from {packet.source} by {packet.arriving}"
    if way.kind == "reverse path":
        return f"{at}: its own way to that address leads elsewhere (rp_filter)"
    if way.kind == "martian":
        return f"{at}: such an address cannot come from there, or a rule makes a blackhole of it"
    return _nowhere("the host", way, packet.destination)


def told(way: Way, to: str) -> str:
    """A way in the words of `ip route get`."""
    kind = f"{way.kind} " if way.kind != "unicast" else ""
    via = f" via {way.gateway}" if way.gateway else ""
    source = f" src {way.source}" if way.source else ""
    table = f" table {way.table}" if way.table not in (0, 254, 255) else ""
    return f"{kind}{to}{via} dev {way.link or 'lo'}{table}{source}"
