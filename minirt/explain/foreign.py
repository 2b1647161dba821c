"""What a plugin has changed whose inside nobody can see: host and container before it was called, and after.

Seen through the distribution's `ip` and `nft`: links, addresses, routes, rules and nftables, a line each. A program
that is missing shows nothing.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_LOOKS = (
    ("ip", "-o", "link", "show"),
    ("ip", "-o", "addr", "show"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "rule", "show"),
    ("ip", "-6", "rule", "show"),
)
_RULES = ("nft", "list", "ruleset")
_KERNELS_OWN = (" table local ", "fe80::", "ff00::/8")  # what comes with every interface
_ALONE = ("linkdown", "tentative", "dadfailed")
_FLEETING = ("mode", "group", "valid_lft", "preferred_lft", "qlen", "qdisc", "state", "expires")


@dataclass(frozen=True)
class Snapshot:
    """Lines by place (`host`, `container`), in the order in which they were shown."""

    places: dict[str, tuple[str, ...]]

    @classmethod
    def take(cls, netns: str) -> Snapshot:
        """The host, and the namespace at `netns` if it is there."""
        found = {"host": tuple(_host())}
        if netns and os.path.exists(netns):
            found["container"] = tuple(_look(("nsenter", f"--net={netns}")))
        return cls(found)

    def changes(self, after: Snapshot) -> Iterator[str]:
        """What is new with a plus, what has gone with a minus."""
        for place, now in after.places.items():
            before = self.places.get(place, ())
            yield from (f"- {place}: {line}" for line in before if line not in now)
            yield from (f"+ {place}: {line}" for line in now if line not in before)
        for place in self.places.keys() - after.places.keys():
            yield f"- {place}: the network namespace, with all that was in it"


def _host() -> Iterator[str]:
    yield from _look(())
    table = ""
    for line in _run(_RULES):
        if line.startswith("table "):
            table = line.removesuffix(" {")
        elif line.strip() not in ("", "}"):
            yield f"{table} · {line.strip()}"


def _look(inside: tuple[str, ...]) -> Iterator[str]:
    for argv in _LOOKS:
        for line in _run((*inside, *argv)):
            if not any(word in line for word in _KERNELS_OWN):
                yield f"{argv[2] if argv[1].startswith('-') else argv[1]} {_steady(line)}"


def _run(argv: tuple[str, ...]) -> list[str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


def _steady(line: str) -> str:
    """Without what changes by itself, and without the number that a link begins with."""
    words, kept = line.replace("\\", " ").split(), []
    skip = False
    for word in words[1:] if words[0].rstrip(":").isdigit() and words[0].endswith(":") else words:
        if skip or word in _FLEETING:
            skip = not skip
        elif word.startswith("<"):
            kept.append("up" if "UP" in word.strip("<>").split(",") else "down")
        elif word in _ALONE:
            continue
        else:
            kept.append(word)
    return " ".join(kept)
