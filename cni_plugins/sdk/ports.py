"""Published ports: what arrives for a port of this host goes to a container.

Rules that are written once look into maps with one element a port: `any4` and `any6` by protocol and port, `host4` and
`host6` for those of one host address. The kernel refuses an element that exists, which is how two containers never
get the same port. Only what is for this host itself is looked at (`fib daddr type local`): a flow in transit to the
same port of another host is not ours (CVE-2025-67499).

Two kinds of packets need the host's address as their source, too, else their answers would not come back through the
host: those of localhost, and those of the container's own subnet (of itself, of its neighbours on the bridge). Sets
say so: `snat4` and `snat6` hold the addresses of containers that are to have it, `inside4` and `inside6` each of their
subnets towards itself, one element for all who share it. Where the packets came in would tell as well, but a bridge
with br_netfilter hands them on without passing the host's routing, and the name of the link is lost on that way.

Packets of 127.0.0.0/8 leave the host thanks to route_localnet, a sysctl of the link towards the container. Where that
cannot be (IPv6 has no such thing, or without snat) a packet to the loopback is left alone: the client is refused at
once and tries the next address. The sysctl would also let such packets in, from containers to whatever listens at
127.0.0.1 (CVE-2020-8558): chain `loopback` drops them, as the kernel does without it (RFC 1122, 3.2.1.3 g).

The law of this file: it says what is to be in the kernel, and touches nothing. `publish` makes it so.
"""

from __future__ import annotations

from cni_plugins.sdk import elements
from cni_plugins.sdk.elements import Element
from cni_plugins.sdk.naming import digest
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.sdk.records import Owner
from cni_plugins.spec.config import View
from cni_plugins.spec.ip import Address, Cidr, parse_cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.sdk.elements import Field

TABLE = Table(
    "cni_portmap",
    (
        "map any4 { type inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }",
        "map host4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }",
        "map host6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }",
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
                "ct status dnat ip daddr @snat4 ip saddr . ip daddr @inside4 masquerade",
                "ct status dnat ip daddr @snat4 ip saddr 127.0.0.0/8 masquerade",
                "ct status dnat ip6 daddr @snat6 ip6 saddr . ip6 daddr @inside6 masquerade",
            ),
        ),
    ),
)

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


@record
class Publication:
    """What an attachment publishes: each of the mappings, to the target of every family that it serves."""

    network: str
    container_id: str
    ifname: str
    mappings: tuple[Mapping, ...]
    targets: tuple[Target, ...]
    snat: bool = True

    @property
    def owner(self) -> Owner:
        return Owner(self.container_id, self.ifname)

    @property
    def comment(self) -> str:
        """Whose the elements are: "NETWORK CONTAINER IFNAME", none of which can hold a space."""
        return comment(self.network, self.container_id, self.ifname)

    def pairs(self) -> list[tuple[Mapping, Target]]:
        return [(mapping, target) for mapping in self.mappings for target in self.targets if mapping.serves(target)]

    @property
    def subnets(self) -> list[Cidr]:
        """Those whose packets to themselves need snat."""
        return list(dict.fromkeys(target.cidr.network for _mapping, target in self.pairs())) if self.snat else []

    def elements(self) -> list[Element]:
        """Everything that the table holds for it alone, each once."""
        pairs = self.pairs()
        found = [self.in_map(mapping, target) for mapping, target in pairs]
        if self.snat:
            found += [self._in_snat(target) for _mapping, target in pairs]
        else:
            hidden = (item for item, target in pairs if not item.only_at and target.address.family == 4)
            found += [self._element("not_by_loopback4", item.by_port) for item in hidden]
        return list(dict.fromkeys(found))

    def in_map(self, mapping: Mapping, target: Target) -> Element:
        """The element that leads a mapping to a target."""
        value = (elements.address(target.address), elements.port(mapping.container_port))
        if mapping.only_at is None:
            return self._element(f"any{target.address.family}", mapping.by_port, value)
        key = (elements.address(mapping.only_at), *mapping.by_port)
        return self._element(f"host{target.address.family}", key, value)

    def _in_snat(self, target: Target) -> Element:
        return self._element(f"snat{target.address.family}", (elements.address(target.address),))

    def _element(self, name: str, key: tuple[Field, ...], value: tuple[Field, ...] = ()) -> Element:
        return Element(TABLE.name, name, key, value, self.comment)


def comment(network: str, container_id: str, ifname: str) -> str:
    return f"{_short(network, 40)} {_short(container_id, 64)} {ifname}"


def of_container(text: str, container_id: str) -> bool:
    """Whether a comment is that of one of the container's attachments."""
    return text.split(" ")[1:2] == [_short(container_id, 64)]


def holder(text: str) -> str:
    """Whom a comment names, in words."""
    words = text.split(" ")
    return f"container {words[1]} (network {words[0]}, {words[2]})" if len(words) == 3 else repr(text)


def _short(word: str, longest: int) -> str:
    """nft refuses to read back a comment of more than 128 bytes."""
    return word if len(word) <= longest else "#" + digest(word, size=16).hex()


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
    return {
        "snat": publication.snat,
        "targets": [{"address": str(item.cidr), "link": item.link} for item in publication.targets],
        "portMappings": [mapping_to_json(item) for item in publication.mappings],
    }


def from_json(view: View, network: str, owner: Owner) -> Publication:
    """The publication that a record holds. Raises CniError 7 when it holds none."""
    mappings = tuple(read_mapping(item) for item in view.views("portMappings"))
    targets = tuple(_target(item) for item in view.views("targets"))
    return Publication(network, owner.container_id, owner.ifname, mappings, targets, view.boolean("snat", True))


def _target(view: View) -> Target:
    found = view.cidr("address")
    if found is None:
        raise view.wrong("address", "an address with its prefix length")
    return Target(found, view.string("link"))
