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
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from cni_plugins.spec.ip import bracketed
from minirt.errors import MinirtError
from minirt.namespaces import Inside
from minirt.picture import ruleset
from minirt.picture.kernel import OURS
from minirt.picture.matching import Packet
from minirt.picture.path import Hop, Walk
from minirt.visible import line as shown

_PATIENCE = 5.0
_PRIORITY = -150  # behind conntrack (-200), before any translation (-100)
_OUT, _BACK = "out", "back"
# A chain, and a rule's counter, in nft's text: of a table that is owned nft 1.0.6 prints no JSON that is whole.
_COUNTED = re.compile(r"^\tchain (\S+) \{$|counter packets (\d+)", re.MULTILINE)


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
        script = "".join(f"{line}\n" for line in lines).encode()
        with _within(space):
            owner = _Owner(script)
        self._stack.callback(owner.end)
        deadline = time.monotonic() + _PATIENCE
        while len(self._read(space)) < sum(point.space == space for point in self.points):
            if time.monotonic() > deadline or owner.ended:
                raise MinirtError(f"cannot count in {space}: nft says {shown(owner.last_words())}")
            time.sleep(0.02)

    def read(self) -> list[tuple[int, int]]:
        """Packets gone and come back, by point. Raises MinirtError when somebody has taken the counters away."""
        spaces = {space: self._read(space) for space in dict.fromkeys(point.space for point in self.points)}
        for point in self.points:
            if point.chain not in spaces[point.space]:
                raise MinirtError(f"the counters in {point.space} are gone")
        return [spaces[point.space][point.chain] for point in self.points]

    def _read(self, space: str) -> dict[str, tuple[int, int]]:
        """The table of one namespace, chain by chain; only those that are complete. Raises MinirtError."""
        try:
            with _within(space):
                listed = ruleset.listed("list", "table", "inet", self._table)
        except subprocess.CalledProcessError:
            return {}  # nft says that there is none
        except (OSError, subprocess.SubprocessError) as error:
            raise MinirtError(f"cannot read the counters in {space}: {error}") from error
        counted: dict[str, list[int]] = {}
        for chain, packets in _COUNTED.findall(listed):
            if chain:
                rules = counted[chain] = []
            else:
                rules.append(int(packets))
        return {chain: (both[0], both[1]) for chain, both in counted.items() if len(both) == 2}


def _within(space: str) -> AbstractContextManager[object]:
    return nullcontext() if space == OURS else Inside(space)


class _Owner:
    """An nft process that has been given a script, and waits for more: as long as it lives, so do its tables."""

    def __init__(self, script: bytes) -> None:
        # Written before there is a reader that might have ended: that would be a signal, SIGPIPE. It holds 64 KiB.
        source, self._sink = os.pipe()
        os.write(self._sink, script)
        self._process = subprocess.Popen(  # noqa: S603
            (ruleset.program(), "-i"), stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        os.close(source)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        """The last line of what it had to say, when it is to say no more."""
        self._process.kill()
        said = self._process.stderr.read() if self._process.stderr else b""
        return os.fsdecode(said).strip().split("\n")[-1] or "nothing"

    def end(self) -> None:
        """The process, and with it its tables."""
        os.close(self._sink)
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()


def watch(walk: Walk, seconds: float | None, say: Callable[[str], None], inside: str = "") -> None:
    """Count until `seconds` have passed, or ctrl-C; a line whenever something has come. `inside` is what one types to
    run a command where the walk begins."""
    rules = _rules(walk)
    with Counters(walk) as counters:
        say("packets out/back:")
        for number, point in enumerate(counters.points, 1):
            say(shown(f"  [{number}] {point.label}"))
        say("          " + "".join(f"{f'[{number}]':>11}" for number in range(1, len(counters.points) + 1)))
        say(shown(f"now send some, from another terminal: {f'{inside} ' if inside else ''}{_sending(walk.packet)}"))
        deadline = None if seconds is None else time.monotonic() + seconds
        last: list[tuple[int, int]] = []
        try:
            while True:
                counted = counters.read()
                if counted != last:
                    say(time.strftime("%H:%M:%S  ") + "".join(f"{f'{out}/{back}':>11}" for out, back in counted))
                    last = counted
                if deadline is not None and time.monotonic() >= deadline:
                    break
                time.sleep(0.2)
        except KeyboardInterrupt:
            pass
    for text in _gained(rules):
        say(text)


def _sending(packet: Packet) -> str:
    """A command that sends such a packet."""
    to = packet.destination
    match packet.protocol:
        case "tcp":
            return f"bash -c '</dev/tcp/{to}/{packet.port}'"
        case "udp":
            return f"bash -c 'echo >/dev/udp/{to}/{packet.port}'"
        case "sctp":
            return f"socat - SCTP:{bracketed(to)}:{packet.port}"
    return f"ping -c 1 {to}"


@dataclass(frozen=True)
class _Met:
    """A rule that the walk has met, in the namespace `space`, which the walk calls `place`."""

    space: str
    place: str
    rule: ruleset.Rule


def _rules(walk: Walk) -> list[_Met]:
    """Those that count, each once; a bridge's and a parent link's are the host's."""
    found: dict[ruleset.Rule, _Met] = {}
    for hop in walk.hops:
        for hit in (mark.hit for mark in hop.marks):
            if hit and hit.rule.packets >= 0:
                found.setdefault(hit.rule, _Met(hop.space or OURS, hop.place, hit.rule))
    return list(found.values())


def _gained(met: list[_Met]) -> Iterator[str]:
    """What the counters of the rules themselves have gained. A rule is known again by its place and handle, and by what
    it does: tables that are made anew begin to number anew."""
    if met:
        yield "rules that count:"
    after = {space: _now(space) for space in dict.fromkeys(item.space for item in met)}
    for item in met:
        rule = after[item.space].get((item.rule.place, item.rule.handle))
        of = "" if item.space == OURS else f" of {item.place}"
        if rule is None or rule.deed != item.rule.deed or rule.packets < item.rule.packets:
            yield shown(f"  gone, or made anew: {item.rule.place}{of}")
        else:
            yield shown(f"  +{rule.packets - item.rule.packets}  {rule.place}{of}")


def _now(space: str) -> dict[tuple[str, int], ruleset.Rule]:
    """The rules of a namespace; none where that has ended."""
    try:
        with _within(space):
            now = ruleset.read()
    except OSError:
        return {}
    return {(rule.place, rule.handle): rule for group in now.rules.values() for rule in group}
