"""What a plugin has changed whose inside nobody can see: host and container before it was called, and after.

Seen through the distribution's `ip` and `nft`: links, addresses, routes, rules and nftables, a line each. Counters are
left out, which change by everybody's packets; so are addresses and routes that the kernel makes for every link.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

LOOKED_AT = "links, addresses, routes, rules and nftables"
_HOST, _CONTAINER = "host", "container"
_PATIENCE = 5  # seconds for one look at host and container
_SBIN = ":/usr/sbin:/sbin"  # not everybody's PATH has them
_ROUTE_KEYS = ("gateway", "via", "dev", "src", "protocol", "scope", "metric", "table")
_RULE_KEYS = ("srclen", "src", "dst", "dstlen", "fwmark", "iif", "oif", "table", "protocol")


@dataclass(frozen=True)
class Snapshot:
    """Lines by place (`host`, `container`), with how often each stands there; and what could not be seen."""

    places: dict[str, Counter[str]]
    unseen: frozenset[str]

    @classmethod
    def take(cls, netns: str) -> Snapshot:
        """The host, and the namespace at `netns` if it is there."""
        look = _Look()
        places = {_HOST: look.at(())}
        if netns and os.path.exists(netns):
            places[_CONTAINER] = look.at(("nsenter", f"--net={netns}"))
        return cls(places, frozenset(look.unseen))

    def changes(self, after: Snapshot) -> Iterator[str]:
        """What is new with a plus, what has gone with a minus; what could not be seen."""
        changed = False
        for place, now in after.places.items():
            before = self.places.get(place, Counter())
            for sign, lines in (("-", before - now), ("+", now - before)):
                for line in lines.elements():
                    changed = True
                    yield f"{sign} {place}: {line}"
        if self.places.keys() - after.places.keys():
            changed = True
            yield f"- {_CONTAINER}: the network namespace, with all that was in it"
        if not changed:
            yield f"nothing is changed in {LOOKED_AT}; queues, sysctls and files are not looked at"
        yield from (f"could not be seen: {reason}" for reason in sorted(self.unseen | after.unseen))


@dataclass
class _Look:
    unseen: set[str] = field(default_factory=set)
    deadline: float = field(default_factory=lambda: monotonic() + _PATIENCE)

    def at(self, inside: tuple[str, ...]) -> Counter[str]:
        """What there is, seen by programs that are started by way of `inside`. What they print is others' doing: that
        it cannot be understood is said, and stops nobody."""
        found: Counter[str] = Counter()
        for program, witness in (("ip addr", self._links), ("ip route", self._routes), ("nft", self._rules)):
            try:
                found.update(witness(inside))
            except Exception as error:
                self.unseen.add(f"what {program} says is not understood: {error!r}")
        return found

    def _links(self, inside: tuple[str, ...]) -> Iterator[str]:
        for link in self._documents(*inside, "ip", "-j", "-d", "addr", "show"):
            yield from _link(link)

    def _routes(self, inside: tuple[str, ...]) -> Iterator[str]:
        for family in ("-4", "-6"):
            for route in self._documents(*inside, "ip", "-j", family, "route", "show", "table", "all"):
                yield from _route(route)
            for rule in self._documents(*inside, "ip", "-j", family, "rule", "show"):
                yield f"rule {family} {_words(rule, ('priority', *_RULE_KEYS))}"

    def _rules(self, inside: tuple[str, ...]) -> Iterator[str]:
        """Table by table: of what iptables has written, `list ruleset` of nft 1.0 leaves out the targets."""
        tables = self._run(*inside, "nft", "list", "tables").splitlines()
        if tables:
            wanted = "".join(f"list {table}\n" for table in tables)
            yield from _rules(self._run(*inside, "nft", "--stateless", "-f", "-", stdin=wanted))

    def _documents(self, *argv: str) -> list[dict[str, Any]]:
        text = self._run(*argv)
        return json.loads(text, strict=False) if text.strip() else []

    def _run(self, *argv: str, stdin: str = "") -> str:
        env = {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + _SBIN}
        left = max(0.1, self.deadline - monotonic())
        try:
            done = subprocess.run(  # noqa: S603
                argv, input=stdin.encode(), capture_output=True, timeout=left, check=True, env=env
            )
        except FileNotFoundError:
            self.unseen.add(f"the program {argv[0]} is missing")
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="backslashreplace").splitlines()
            self.unseen.add(f"{' '.join(argv)}: {(said or ['it failed'])[0]}")
        except subprocess.TimeoutExpired:
            self.unseen.add(f"{' '.join(argv)}: no answer within {_PATIENCE} s")
        except (OSError, subprocess.SubprocessError) as error:
            self.unseen.add(f"{' '.join(argv)}: {error}")
        else:
            return done.stdout.decode(errors="replace")
        return ""


def _link(link: dict[str, Any]) -> Iterator[str]:
    name = link["ifname"]
    kind = link.get("linkinfo", {}).get("info_kind", "")
    words = {"type": kind, "address": link.get("address"), "mtu": link.get("mtu"), "master": link.get("master")}
    words["alias"] = link.get("ifalias")
    yield f"link {name} {'up' if 'UP' in link['flags'] else 'down'} {_words(words, tuple(words))}"
    for address in link["addr_info"]:
        if not (address["family"] == "inet6" and address["scope"] == "link"):
            yield f"address {address['local']}/{address['prefixlen']} on {name}"


def _route(route: dict[str, Any]) -> Iterator[str]:
    to = route["dst"]
    if route.get("table") != "local" and not to.startswith("fe80:") and route.get("type") != "multicast":
        hops = route.get("nexthops") or [{}]
        for hop in hops:
            yield f"route {to} {_words({**route, **hop}, _ROUTE_KEYS)}"


def _rules(text: str) -> Iterator[str]:
    """Each line of a table, with the chain or set that it stands in; alone, where there is nothing in it."""
    place: list[str] = []
    empty = False
    for line in text.splitlines():
        words = " ".join(line.split())
        if words.endswith("{"):
            place.append(words.removesuffix(" {"))
            empty = True
        elif words == "}":
            if empty:
                yield " · ".join(place)
            place.pop()
            empty = False
        elif words:
            yield " · ".join((*place, words))
            empty = False


def _words(values: dict[str, Any], keys: tuple[str, ...]) -> str:
    found = ((key, values.get(key)) for key in keys)
    return " ".join(f"{key} {value}" for key, value in found if value not in (None, ""))
