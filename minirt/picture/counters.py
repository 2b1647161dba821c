"""Packets counted on the way that was walked, while they come: the one thing of this package that touches the kernel.

In each namespace on the way stands a table of nftables with a chain for each hook, and in each chain two counters, for
what goes and for what comes back. The table is owned by an nft process (`flags owner`): it goes with that process,
however that ends, so nothing is left over when this one is killed.

    add table inet minirt_path_4711 { flags owner; }
    add chain inet minirt_path_4711 c0_forward { type filter hook forward priority -150; }
    add rule inet minirt_path_4711 c0_forward ct direction original ct original ip saddr 10.143.0.2 … counter
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from minirt.errors import MinirtError
from minirt.namespaces import Inside
from minirt.picture import ruleset
from minirt.picture.kernel import OURS
from minirt.picture.matching import Packet
from minirt.picture.path import Hop, Walk

_PATIENCE = 5.0
_PRIORITY = -150  # behind conntrack (-200), before any translation (-100)
_OUT, _BACK = "out", "back"


@dataclass(frozen=True)
class Point:
    """Where is counted: a hook of a namespace, and what matches there in each direction."""

    label: str
    space: str
    hook: str
    chain: str
    out: str
    back: str


def points(walk: Walk) -> list[Point]:
    """Every hook on the way: of the first container's, the host's, and the last container's namespace."""
    found = []
    for number, hop in enumerate(walk.hops):
        if not hop.space:
            continue
        hooks = list(dict.fromkeys(hop.hooks))
        if hop.space != OURS:
            hooks = ["output", "input"] if number == 0 else ["input", "output"]
        elif number == 0:
            hooks += ["input"] if "input" not in hooks else []
        for hook in hooks:
            out, back = _matches(hop, walk.packet)
            found.append(Point(f"{hop.place} {hook}", hop.space, hook, f"c{number}_{hook}", out, back))
    return found


def _matches(hop: Hop, first: Packet) -> tuple[str, str]:
    """The flow as nft writes it. The host knows what it was before it was changed (conntrack's original); a container
    sees the addresses that it has there."""
    packet = first if hop.space == OURS else hop.packet
    family = "ip6" if ":" in packet.destination else "ip"
    kind = f"meta l4proto {packet.protocol}"
    if hop.space == OURS:
        whole = f"ct original {family} saddr {packet.source} ct original {family} daddr {packet.destination} {kind}"
        whole += f" ct original proto-dst {packet.port}" if packet.port else ""
        return f"ct direction original {whole}", f"ct direction reply {whole}"
    there, here = packet.destination, packet.source
    to, back = (f" th dport {packet.port}", f" th sport {packet.port}") if packet.port else ("", "")
    return (
        f"{family} saddr {here} {family} daddr {there} {kind}{to}",
        f"{family} saddr {there} {family} daddr {here} {kind}{back}",
    )


class Counters:
    """The tables while they stand; `with` takes them away."""

    def __init__(self, walk: Walk) -> None:
        self.points = points(walk)
        self._table = f"minirt_path_{os.getpid()}"
        self._stack = ExitStack()

    def __enter__(self) -> Counters:
        try:
            for space in dict.fromkeys(point.space for point in self.points):
                self._stand(space)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stand(self, space: str) -> None:
        """Make the table of one namespace. Raises MinirtError."""
        lines = [f"add table inet {self._table} {{ flags owner; }}"]
        for point in self.points:
            if point.space == space:
                chain = f"inet {self._table} {point.chain}"
                hook = f"type filter hook {point.hook} priority {_PRIORITY};"
                lines.append(f"add chain {chain} {{ {hook} }}")
                lines += [f"add rule {chain} {match} counter" for match in (point.out, point.back)]
        command = (ruleset.program(), "-i")
        with ExitStack() as entered:
            if space != OURS:
                entered.enter_context(Inside(space))
            owner = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        self._stack.callback(_end, owner)
        if owner.stdin:
            owner.stdin.write("".join(f"{line}\n" for line in lines))
            owner.stdin.flush()
        deadline = time.monotonic() + _PATIENCE
        while len(self._read(space)) < sum(point.space == space for point in self.points):
            if time.monotonic() > deadline or owner.poll() is not None:
                owner.kill()
                said = owner.stderr.read().strip() if owner.stderr else ""
                raise MinirtError(f"cannot count in {space}: nft says {said.splitlines()[-1:] or 'nothing'}")
            time.sleep(0.02)

    def read(self) -> list[tuple[int, int]]:
        """Packets gone and come back, by point."""
        spaces = {space: self._read(space) for space in dict.fromkeys(point.space for point in self.points)}
        return [spaces[point.space].get(point.chain, (0, 0)) for point in self.points]

    def _read(self, space: str) -> dict[str, tuple[int, int]]:
        """The table of one namespace, chain by chain; only those that are complete."""
        with ExitStack() as entered:
            if space != OURS:
                entered.enter_context(Inside(space))
            try:
                listed = ruleset.objects("list", "table", "inet", self._table)
            except subprocess.SubprocessError:
                return {}  # not there yet
        counted: dict[str, list[int]] = {}
        for item in listed:
            if rule := item.get("rule"):
                packets = next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
                counted.setdefault(rule["chain"], []).append(packets)
        return {chain: (both[0], both[1]) for chain, both in counted.items() if len(both) == 2}


def _end(owner: subprocess.Popen[str]) -> None:
    """The process, and with it its table."""
    owner.kill()
    owner.wait()
    for stream in (owner.stdin, owner.stderr):
        if stream:
            try:
                stream.close()
            except BrokenPipeError:
                pass


def watch(walk: Walk, seconds: float | None, say: Callable[[str], None]) -> None:
    """Count until `seconds` have passed, or ctrl-C; a line whenever something has come."""
    before = {hit.rule: hit.rule.packets for hop in walk.hops for mark in hop.marks if (hit := mark.hit)}
    with Counters(walk) as counters:
        say("packets out/back:")
        for number, point in enumerate(counters.points, 1):
            say(f"  [{number}] {point.label}")
        say("          " + "".join(f"{f'[{number}]':>11}" for number in range(1, len(counters.points) + 1)))
        deadline = None if seconds is None else time.monotonic() + seconds
        shown: list[tuple[int, int]] = []
        try:
            while True:
                counted = counters.read()
                if counted != shown:
                    say(time.strftime("%H:%M:%S  ") + "".join(f"{f'{out}/{back}':>11}" for out, back in counted))
                    shown = counted
                if deadline is not None and time.monotonic() >= deadline:
                    break
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass
    for line in _rules(before):
        say(line)


def _rules(before: dict[ruleset.Rule, int]) -> Iterator[str]:
    """What the counters of the rules themselves have gained, where they have one."""
    if not any(packets >= 0 for packets in before.values()):
        return
    after = {(rule.place, rule.handle): rule for group in ruleset.read().rules.values() for rule in group}
    yield "rules that count:"
    for rule, packets in before.items():
        if packets >= 0 and (rule.place, rule.handle) in after:
            yield f"  +{after[rule.place, rule.handle].packets - packets}  {rule.place}"
