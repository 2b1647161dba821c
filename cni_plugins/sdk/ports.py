"""Published ports: what arrives for a port of this host goes to a container.

Rules that are written once look into maps with one element a port: `any4` and `any6` by protocol and port, `host4` and
`host6` for those of one host address. The kernel refuses an element that exists, which is how two containers never
get the same port. Only what is for this host itself is looked at (`fib daddr type local`): a flow in transit to the
same port of another host is not ours (CVE-2025-67499). Some ports have terms (`sdk.terms`): verdict maps of the same
keys, `terms4` and `host_terms4` and so on, are asked first, and a packet that does not meet them is nobody's.

Two kinds of packets need the host's address as their source, too, else their answers would not come back through the
host: those of localhost, and those of the container's own subnet (of itself, of its neighbours on the bridge). Sets
say so: `snat4` and `snat6` hold the addresses of containers that are to have it, `inside4` and `inside6` each of their
subnets towards itself, one element for all who share it. Where the packets came in would tell as well, but a bridge
with br_netfilter hands them on without passing the host's routing, and the name of the link is lost on that way. A
container in `masq_all4` or `masq_all6` sees the host as the source of all that comes by way of its ports.

Packets of 127.0.0.0/8 leave the host thanks to route_localnet, a sysctl of the link towards the container. Where that
cannot be (IPv6 has no such thing, or without snat) a packet to the loopback is left alone: the client is refused at
once and tries the next address. The sysctl would also let such packets in, from containers to whatever listens at
127.0.0.1 (CVE-2020-8558): chain `loopback` drops them, as the kernel does without it (RFC 1122, 3.2.1.3 g).

The law of this file: it says what is to be in the kernel, and touches nothing. `publish` makes it so.
"""

from __future__ import annotations

from cni_plugins.sdk import elements, naming
from cni_plugins.sdk.elements import Element, Field
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.records import Owner
from cni_plugins.spec.config import View
from cni_plugins.spec.ip import Address, Cidr, parse_cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from cni_plugins.sdk.terms import Terms

TABLE = Table(
    "cni_portmap",
    (
        "map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }",
        "map host4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map host6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }",
        "map terms4 { type inet_proto . inet_service : verdict; }",
        "map terms6 { type inet_proto . inet_service : verdict; }",
        "map host_terms4 { type ipv4_addr . inet_proto . inet_service : verdict; }",
        "map host_terms6 { type ipv6_addr . inet_proto . inet_service : verdict; }",
        "set masq_all4 { type ipv4_addr; }",
        "set masq_all6 { type ipv6_addr; }",
        "set snat4 { type ipv4_addr; }",
        "set snat6 { type ipv6_addr; }",
        "set inside4 { type ipv4_addr . ipv4_addr; flags interval; }",
        "set inside6 { type ipv6_addr . ipv6_addr; flags interval; }",
        "set not_by_loopback4 { type inet_proto . inet_service; }",
    ),
    (
        Chain(
            "publish",
            "",
            (
                "ip6 daddr ::1 return",
                "ip daddr 127.0.0.0/8 meta l4proto . th dport @not_by_loopback4 return",
                "ip daddr . meta l4proto . th dport vmap @host_terms4",
                "ip6 daddr . meta l4proto . th dport vmap @host_terms6",
                "meta nfproto ipv4 meta l4proto . th dport vmap @terms4",
                "meta nfproto ipv6 meta l4proto . th dport vmap @terms6",
                "dnat ip to ip daddr . meta l4proto . th dport map @host4",
                "dnat ip6 to ip6 daddr . meta l4proto . th dport map @host6",
                "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4",
                "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6",
            ),
        ),
        Chain(
            "loopback",
            "filter hook prerouting priority raw",
            ('iifname != "lo" ip daddr 127.0.0.0/8 drop', 'iifname != "lo" ip saddr 127.0.0.0/8 drop'),
        ),
        Chain("prerouting", "nat hook prerouting priority dstnat", ("fib daddr type local jump publish",)),
        Chain("output", "nat hook output priority -100", ("fib daddr type local jump publish",)),
        Chain(
            "postrouting",
            "nat hook postrouting priority srcnat",
            (
                "ct status dnat ip daddr @masq_all4 masquerade",
                "ct status dnat ip6 daddr @masq_all6 masquerade",
                "ct status dnat ip daddr @snat4 ip saddr . ip daddr @inside4 masquerade",
                "ct status dnat ip daddr @snat4 ip saddr 127.0.0.0/8 masquerade",
                "ct status dnat ip6 daddr @snat6 ip6 saddr . ip6 daddr @inside6 masquerade",
            ),
        ),
    ),
)

# Whose source becomes the host's: those that need it, all of them, or whoever somebody else's rules say.
NEEDED, ALL, ELSEWHERE = "needed", "all", "elsewhere"
_SNAT_SETS = {NEEDED: "snat", ALL: "masq_all"}
LOOPBACK = {4: parse_cidr("127.0.0.0/8"), 6: parse_cidr("::1/128")}


@record
class Mapping:
    """One published port. `host_ip` None is any address of the host; an unspecified one is any of its family."""

    protocol: str
    host_port: int
    container_port: int
    host_ip: Address | None = None

    def __str__(self) -> str:
        place = "" if self.host_ip is None else f" of {self.host_ip}"
        return f"host port {self.host_port}/{self.protocol}{place}"

    @property
    def only_at(self) -> Address | None:
        """The one address of the host that it is published at, or None."""
        return None if self.host_ip is None or self.host_ip.unspecified else self.host_ip

    @property
    def by_port(self) -> tuple[Field, Field]:
        return (elements.protocol(self.protocol), elements.port(self.host_port))

    def place(self, anywhere: str, at_one: str, family: int) -> tuple[str, tuple[Field, ...]]:
        """In which of two maps of a family it stands, and its key there."""
        if self.only_at is None:
            return f"{anywhere}{family}", self.by_port
        return f"{at_one}{family}", (elements.address(self.only_at), *self.by_port)

    def serves(self, target: Target) -> bool:
        """Whether it leads there: families are never translated into each other."""
        return self.host_ip is None or self.host_ip.family == target.address.family


@record
class Target:
    """A container's address in its subnet, and the host's link towards it; empty when the host has no way there."""

    cidr: Cidr
    link: str = ""

    @property
    def address(self) -> Address:
        return self.cidr.address

    @property
    def family(self) -> int:
        return self.cidr.family

    @property
    def field(self) -> Field:
        return elements.address(self.address)


@record
class Publication:
    """What an attachment publishes: each of the mappings, to the target of every family that it serves.

    `snat` is whose source becomes the host's, empty for nobody's; `terms` are those of each family that has some.
    """

    network: str
    container_id: str
    ifname: str
    mappings: tuple[Mapping, ...]
    targets: tuple[Target, ...]
    snat: str = NEEDED
    terms: tuple[Terms, ...] = ()

    @property
    def owner(self) -> Owner:
        return Owner(self.container_id, self.ifname)

    @property
    def comment(self) -> str:
        """Whose the elements are."""
        return naming.comment(self.network, self.container_id, self.ifname)

    def pairs(self) -> list[tuple[Mapping, Target]]:
        return [(mapping, target) for mapping in self.mappings for target in self.targets if mapping.serves(target)]

    def served(self) -> list[Target]:
        """The targets to which a mapping leads."""
        return [target for target in self.targets if any(mapping.serves(target) for mapping in self.mappings)]

    @property
    def subnets(self) -> list[Cidr]:
        """Those whose packets to themselves need snat."""
        return list(dict.fromkeys(target.cidr.network for target in self.served())) if self.snat == NEEDED else []

    def elements(self) -> list[Element]:
        """Everything that the table holds for it alone, each once."""
        found: list[Element] = []
        for target in self.targets:
            found += self._in_maps(self._of_family(target.family), target)
        for terms in self.terms:
            found += [self._under(terms, mapping) for mapping in self._of_family(terms.family)]
        if self.snat in _SNAT_SETS:
            name = _SNAT_SETS[self.snat]
            found += [self._element(f"{name}{item.family}", (item.field,)) for item in self.served()]
        elif not self.snat:
            hidden = (item for item in self._of_family(4) if not item.only_at)
            found += [self._element("not_by_loopback4", item.by_port) for item in hidden]
        return list(dict.fromkeys(found))

    def _of_family(self, family: int) -> list[Mapping]:
        """The mappings that lead to a target of a family."""
        targets = [target for target in self.targets if target.family == family]
        return [mapping for mapping in self.mappings if targets and mapping.serves(targets[0])]

    def in_map(self, mapping: Mapping, target: Target) -> Element:
        """The element that leads a mapping to a target."""
        return next(self._in_maps([mapping], target))

    def _in_maps(self, mappings: Iterable[Mapping], target: Target) -> Iterator[Element]:
        """The elements that lead mappings to a target. There may be tens of thousands: what they share is made once."""
        address, whose, family = target.field, self.comment, target.family
        for mapping in mappings:
            value = (address, elements.port(mapping.container_port))
            yield Element(TABLE.name, *mapping.place("any", "host", family), value, whose, False, "")

    def _under(self, terms: Terms, mapping: Mapping) -> Element:
        """The element that puts a mapping under terms."""
        return self._element(*mapping.place("terms", "host_terms", terms.family), jump=terms.chain)

    def _element(self, name: str, key: tuple[Field, ...], value: tuple[Field, ...] = (), jump: str = "") -> Element:
        return Element(TABLE.name, name, key, value, self.comment, False, jump)


# --- as JSON: the capability's own shape, and an attachment's record --------------------------------------------------


def read_mapping(view: View) -> Mapping:
    """One of the `portMappings`, as the conventions have it. Raises CniError 7 with the path of what is wrong."""
    protocol = view.string("protocol").lower() or "tcp"
    if protocol not in elements.PROTOCOLS:
        raise view.wrong("protocol", " or ".join(elements.PROTOCOLS))
    return Mapping(protocol, _port(view, "hostPort"), _port(view, "containerPort"), view.address("hostIP"))


def _port(view: View, key: str) -> int:
    if not view.has(key):
        raise view.wrong(key, "a port")
    return view.integer(key, low=1, high=65535)


def mapping_to_json(mapping: Mapping) -> dict[str, Any]:
    document = {"hostPort": mapping.host_port, "containerPort": mapping.container_port, "protocol": mapping.protocol}
    return document if mapping.host_ip is None else document | {"hostIP": str(mapping.host_ip)}


def to_json(publication: Publication) -> dict[str, Any]:
    """What an attachment's record holds; network, container and interface are in its path."""
    document: dict[str, Any] = {
        "snat": publication.snat,
        "targets": [{"address": str(item.cidr), "link": item.link} for item in publication.targets],
        "portMappings": [mapping_to_json(item) for item in publication.mappings],
    }
    if publication.terms:
        from cni_plugins.sdk import terms

        document["terms"] = [terms.to_json(item) for item in publication.terms]
    return document


def from_json(view: View, network: str, owner: Owner) -> Publication:
    """The publication that a record holds. Raises CniError 7 when it holds none."""
    mappings = tuple(read_mapping(item) for item in view.views("portMappings"))
    targets = tuple(_target(item) for item in view.views("targets"))
    under: tuple[Terms, ...] = ()
    if view.has("terms"):
        from cni_plugins.sdk import terms

        under = tuple(terms.from_json(item) for item in view.views("terms"))
    snat = view.string("snat", NEEDED)
    return Publication(network, owner.container_id, owner.ifname, mappings, targets, snat, under)


def _target(view: View) -> Target:
    found = view.cidr("address")
    if found is None:
        raise view.wrong("address", "an address with its prefix length")
    return Target(found, view.string("link"))
