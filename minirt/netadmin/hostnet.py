"""The host's own network, as far as a new one must keep clear of it: links, addresses and routes, read by pyroute2.

pyroute2 takes a quarter of a second to load, so it is imported when it is needed: for `minirt network create`.
"""

from __future__ import annotations

from cni_plugins.spec.ip import Cidr, parse_address
from cni_plugins.spec.record import record
from minirt.netadmin.subnets import Claim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_RTN_UNICAST = 1  # rtnetlink(7): not a local, broadcast, multicast or rejecting route
_FAMILY = {2: 4, 10: 6}  # AF_INET, AF_INET6


@record
class Host:
    """`links` maps the name of each link to its kind (`bridge`, `veth`, …; empty for a device). `addresses` and
    `routes` are what they claim; link-local ones are left out."""

    links: Mapping[str, str]
    addresses: tuple[Claim, ...]
    routes: tuple[Claim, ...]


def look() -> Host:
    """What there is now in the network namespace of this process. Raises OSError."""
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        links = {link["index"]: link for link in netlink.get_links()}
        names = {index: str(link.get("ifname")) for index, link in links.items()}
        return Host(
            {names[index]: _kind(link) for index, link in links.items()},
            tuple(_addresses(netlink.get_addr(), names)),
            tuple(_routes(netlink.get_routes(), names)),
        )


def _kind(link: Any) -> str:
    info = link.get("linkinfo")
    return str(info.get("kind") or "") if info else ""


def _addresses(messages: Any, names: Mapping[int, str]) -> Iterator[Claim]:
    for message in messages:
        # The peer's address is the one that has a prefix, where the link goes to one peer only (IFA_ADDRESS).
        text = message.get("address") or message.get("local")
        cidr = Cidr(parse_address(text), message["prefixlen"])
        if not text.startswith("fe80:"):
            link = names.get(message["index"], "")
            yield Claim(cidr, f"address {cidr} of {link}", link)


def _routes(messages: Any, names: Mapping[int, str]) -> Iterator[Claim]:
    for message in messages:
        text = message.get("dst")
        if message["type"] != _RTN_UNICAST or not text or message["family"] not in _FAMILY:
            continue
        cidr = Cidr(parse_address(text.partition("/")[0]), message["dst_len"])
        if not text.startswith("fe80:"):
            link = names.get(message.get("oif") or 0, "")
            yield Claim(cidr, f"route {cidr}" + (f" by {link}" if link else ""), link)
