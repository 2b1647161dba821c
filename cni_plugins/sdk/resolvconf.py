"""What a resolv.conf says, as a result's DNS (resolv.conf(5)); lines that say nothing we know are passed over."""

from __future__ import annotations

from cni_plugins.spec.result import Dns


def parse(text: str) -> Dns:
    """`search` and `options` add up; of several `domain` lines the last counts, as in the reference plugins."""
    found: dict[str, list[str]] = {"nameserver": [], "domain": [], "search": [], "options": []}
    for line in text.splitlines():
        keyword, *values = line.split() or [""]
        if keyword in found and values:
            found[keyword] += values if keyword in ("search", "options") else values[:1]
    return Dns(
        nameservers=tuple(found["nameserver"]),
        domain="".join(found["domain"][-1:]),
        search=tuple(found["search"]),
        options=tuple(found["options"]),
    )
