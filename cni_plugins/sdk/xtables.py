"""iptables: containers' traffic let through where FORWARD drops what it does not know, as docker sets it.

    FORWARD ── CNI-ISOLATION-STAGE-1 ── CNI-ISOLATION-STAGE-2       bridges that guard themselves (ingressPolicy)
            └─ CNI-FORWARD ─┬─ CNI-ADMIN                            the administrator's own rules
                            ├─ -d ADDRESS  RELATED,ESTABLISHED      the reference plugin's two rules an address
                            ├─ -s ADDRESS
                            └─ -d ADDRESS  DNAT                     and one more: published ports, which it leaves shut

The layout is the reference plugin's, to the letter where its DEL looks: so either can take down what the other has put
up. Guarding rules let answers and published ports pass, which its own do not.

A rule of our own in another program's table has to be made by that program: iptables keeps the kernel's form of it to
itself, and has two of them (legacy and nftables). Each call waits for the lock of the legacy one, but not for ever:
code 11 then has the runtime try again later. What is there is asked before anything is changed, under a lock of our
own; what others make or remove meanwhile is no error.

Source: iptables(8), iptables-extensions(8) "conntrack"; exit codes are include/xtables.h's.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import guard, program
from cni_plugins.sdk.garbage import all_of
from cni_plugins.sdk.netns import quoted
from cni_plugins.sdk.records import ROOT, LockedFolder
from cni_plugins.sdk.shares import Shares
from cni_plugins.sdk.walls import ISOLATED
from cni_plugins.spec.errors import NOT_AVAILABLE, PLUGIN_SPECIFIC, TRY_AGAIN_LATER, CniError
from cni_plugins.spec.ip import host_cidr
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.sdk.walls import Wall
    from cni_plugins.spec.ip import Address

    Command = tuple[int, tuple[str, ...]]  # whose family's program is given what

PROGRAMS = {4: "iptables", 6: "ip6tables"}
FORWARD = "CNI-FORWARD"
ADMIN = "CNI-ADMIN"
STAGE_1, STAGE_2 = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"
_WAIT = "2"  # seconds for the lock; the runtime has more patience than a hung host deserves
_NO, _MISUSED, _LOCKED = 1, 2, 4  # "there is no such", "no such target or chain", "no access to the tables"

_PASSING = ("-m", "conntrack", "--ctstate")
_UNLESS_KNOWN = ("-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT")


@record
class Rule:
    """A rule of table filter. `head` says that it belongs before the chain's others."""

    family: int
    chain: str
    words: tuple[str, ...]
    head: bool = False

    def command(self, verb: str) -> tuple[str, ...]:
        return (verb, self.chain, *(("1",) if verb == "-I" else ()), *self.words)

    @property
    def made_by(self) -> tuple[str, ...]:
        return self.command("-I" if self.head else "-A")

    def exists(self) -> bool:
        return _run(self.family, *self.command("-C")).exit == 0

    def remove(self) -> None:
        """Fine when it is gone, or its chain with it."""
        _run(self.family, *self.command("-D"))


# --- the layout -------------------------------------------------------------------------------------------------------


def _comment(words: str) -> tuple[str, ...]:
    return ("-m", "comment", "--comment", words)


def _entry(family: int, admin: str) -> dict[Rule, tuple[str, ...]]:
    """The jumps, each with the chains that it needs."""
    return {
        Rule(family, "FORWARD", (*_comment("CNI firewall plugin rules"), "-j", FORWARD), head=True): (FORWARD,),
        Rule(family, FORWARD, (*_comment("CNI firewall plugin admin overrides"), "-j", admin), head=True): (admin,),
    }


# Not for the reader alone: ip6tables' legacy form looks at no more of a conntrack match than that there is one, and
# would take this rule for the one of answers.
_PUBLISHED = _comment("CNI firewall plugin published ports")


def _accepting(address: Address) -> list[Rule]:
    family, cidr = address.family, str(host_cidr(address))
    return [
        Rule(family, FORWARD, ("-d", cidr, *_PASSING, "RELATED,ESTABLISHED", "-j", "ACCEPT")),
        Rule(family, FORWARD, ("-s", cidr, "-j", "ACCEPT")),
        Rule(family, FORWARD, ("-d", cidr, *_PASSING, "DNAT", *_PUBLISHED, "-j", "ACCEPT")),
    ]


def _stages(family: int) -> dict[Rule, tuple[str, ...]]:
    """The jump to the guards, which must stand before the one to CNI-FORWARD, with the chains that it needs."""
    words = ("-j", STAGE_1, *_comment("CNI firewall plugin rules (ingressPolicy: same-bridge)"))
    return {Rule(family, "FORWARD", words, head=True): (STAGE_2, STAGE_1)}


def _guarding(family: int, thing: str) -> list[Rule]:
    policy, _, bridge = thing.partition(":")
    comment = _comment(f"CNI firewall plugin rules (ingressPolicy: {policy})")
    leaving = ("-i", bridge, "!", "-o", bridge, *_UNLESS_KNOWN, "-j", STAGE_2, *comment)
    rules = [
        Rule(family, STAGE_1, leaving, head=True),
        Rule(family, STAGE_2, ("-o", bridge, "-j", "DROP", *comment), head=True),
    ]
    if policy == ISOLATED:
        rules.append(
            Rule(family, STAGE_1, ("-i", bridge, "-o", bridge, *_UNLESS_KNOWN, "-j", "DROP", *comment), head=True)
        )
    return rules


# --- the backend ------------------------------------------------------------------------------------------------------

_LOCK = LockedFolder(os.path.join(ROOT, "firewall", ".iptables"))
_ADDRESSES = Shares("firewall", "accepted")
_GUARDS = Shares("firewall", "iptables-guards")


def steps(wall: Wall, _nftables: Nftables) -> list[Step]:
    for family in wall.families:
        _find(family)
    found: list[Step] = [Accept(wall)] if wall.addresses else []
    found += [GuardBridge(wall)] if wall.guarded else []
    isolate = wall.guarded and wall.policy == ISOLATED and wall.port
    return [*found, guard.isolation(wall)] if isolate else found


def release(wall: Wall, _nftables: Nftables) -> None:
    tasks: list[Callable[[], None]] = [Accept(wall).undo]
    all_of(*tasks, *([GuardBridge(wall).undo] if wall.guarded else []))


def undoing(wall: Wall, _nftables: Nftables) -> list[str]:
    return [*Accept(wall).undoing(), *(GuardBridge(wall).undoing() if wall.guarded else ())]


def check(wall: Wall, _nftables: Nftables) -> None:
    for rule in _expected(wall):
        if not rule.exists():
            hint = "somebody has flushed it; connect the container anew"
            raise CniError(PLUGIN_SPECIFIC, f"a rule is missing: {_typed(rule.family, rule.made_by)}", hint)
    if wall.guarded and wall.policy == ISOLATED and wall.port:
        guard.check_port(wall)


def status() -> None:
    """Raises CniError 50 when a program is missing."""
    for family in PROGRAMS:
        _find(family)


def take_over(addresses: Iterable[Address]) -> None:
    """Remove what the reference plugin has put up for `addresses`, unless an attachment of ours has one by now."""
    for address in addresses:
        if not any(_ADDRESSES.users(str(address))) and program.present(PROGRAMS[address.family]):
            _remove(_accepting(address)[:2])


@record
class Accept(Step):
    """Let through what the wall's addresses send, what answers them, and what is published of them."""

    wall: Wall

    def describe(self) -> str:
        return "\n".join(_typed(*command) for command in self._missing())

    def _missing(self) -> Iterator[Command]:
        for family in self.wall.families:
            yield from _missing_entries(_entry(family, self.wall.admin))
        for address in self.wall.addresses:
            yield from _missing(_accepting(address))

    def apply(self) -> None:
        with _LOCK:
            commands = list(self._missing())
            for address in self.wall.addresses:
                _ADDRESSES.join(str(address), self.wall.network, self.wall.owner)
            _carry_out(commands)

    def undo(self) -> None:
        """Fine when the program is gone, and the rules are out of anybody's reach with it."""
        with _LOCK:
            for address in self.wall.addresses:
                if _left(_ADDRESSES, str(address), self.wall):
                    _remove(_accepting(address))

    def describe_undo(self) -> str:
        return "\n".join(self.undoing())

    def undoing(self) -> Iterator[str]:
        for address in self.wall.addresses:
            if _ADDRESSES.only(str(address), self.wall.network, self.wall.owner):
                yield from _removals(_accepting(address))


@record
class GuardBridge(Step):
    """The rules of the wall's bridge, as long as an attachment needs them."""

    wall: Wall

    @property
    def _thing(self) -> str:
        return f"{self.wall.policy}:{self.wall.bridge}"

    def describe(self) -> str:
        return "\n".join(_typed(*command) for command in self._missing())

    def _missing(self) -> Iterator[Command]:
        for family in self.wall.families:
            yield from _missing_entries(_stages(family))
            yield from _missing(_guarding(family, self._thing))

    def apply(self) -> None:
        with _LOCK:
            commands = list(self._missing())
            for family in self.wall.families:
                _GUARDS.join(f"{self._thing}:{family}", self.wall.network, self.wall.owner)
            _carry_out(commands)

    def undo(self) -> None:
        with _LOCK:
            for family in self.wall.families:
                if _left(_GUARDS, f"{self._thing}:{family}", self.wall):
                    _remove(self._unneeded(family))

    def describe_undo(self) -> str:
        return "\n".join(self.undoing())

    def undoing(self) -> Iterator[str]:
        for family in self.wall.families:
            if _GUARDS.only(f"{self._thing}:{family}", self.wall.network, self.wall.owner):
                yield from _removals(self._unneeded(family))

    def _unneeded(self, family: int) -> list[Rule]:
        """Its rules, but for those that the other policy on the same bridge has, too."""
        others = (thing for thing in _guarded(family) if thing != self._thing)
        needed = [rule for thing in others for rule in _guarding(family, thing)]
        return [rule for rule in _guarding(family, self._thing) if rule not in needed]


def _left(shares: Shares, thing: str, wall: Wall) -> bool:
    """Whether the wall's attachment was the last that used `thing`. One that never came to use it was not."""
    used = (wall.network, wall.owner) in shares.users(thing)
    return shares.leave(thing, wall.network, wall.owner) and used


def _guarded(family: int) -> list[str]:
    """The bridges, with their policies, that somebody has guarded."""
    split = (thing.rpartition(":") for thing in _GUARDS.things())
    return [thing for thing, _, digit in split if digit == str(family)]


def _expected(wall: Wall) -> Iterator[Rule]:
    for family in wall.families:
        yield from _entry(family, wall.admin)
        if wall.guarded:
            yield from _stages(family)
            yield from _guarding(family, f"{wall.policy}:{wall.bridge}")
    for address in wall.addresses:
        yield from _accepting(address)


def _missing_entries(entries: dict[Rule, tuple[str, ...]]) -> Iterator[Command]:
    """What makes the jumps that are missing, and the chains that they need."""
    for rule, chains in entries.items():
        if not rule.exists():
            for chain in chains:
                if _run(rule.family, "-S", chain, "1").exit:
                    yield rule.family, ("-N", chain)
            position = _behind_guards(rule.family) if rule.words[-1] == FORWARD else 1
            yield rule.family, ("-I", rule.chain, str(position), *rule.words)


def _missing(rules: list[Rule]) -> Iterator[Command]:
    return ((rule.family, rule.made_by) for rule in rules if not rule.exists())


def _removals(rules: list[Rule]) -> Iterator[str]:
    return (_typed(rule.family, rule.command("-D")) for rule in rules if rule.exists())


def _carry_out(commands: list[Command]) -> None:
    """That a chain is there by now is fine; that its name means something else already (ACCEPT) is not."""
    for family, words in commands:
        said = _run(family, *words)
        if said.exit and not (words[0] == "-N" and said.exit == _NO):
            raise CniError(PLUGIN_SPECIFIC, f"{_typed(family, words)}: {said.first}")


def _behind_guards(family: int) -> int:
    """Where the jump to CNI-FORWARD belongs: nothing may be accepted there that the guards have not seen."""
    listed = _run(family, "-S", "FORWARD").text.splitlines()
    rules = [line for line in listed if line.startswith("-A ")]
    guards = [place for place, line in enumerate(rules, 1) if f"-j {STAGE_1}" in line]
    return max(guards, default=0) + 1


def _remove(rules: list[Rule]) -> None:
    """All at once, by one process; where one of them is gone already, one after the other."""
    if not rules or not program.present(PROGRAMS[rules[0].family]):
        return
    lines = [" ".join(map(_for_restore, rule.command("-D"))) for rule in rules]
    restore = program.present(f"{PROGRAMS[rules[0].family]}-restore")
    script = "\n".join(["*filter", *lines, "COMMIT", ""])
    said = program.run(restore, "-w", _WAIT, "--noflush", stdin=script) if restore else program.Said(_NO, "")
    if said.exit == _LOCKED:
        raise _busy(rules[0].family, said)
    for rule in rules if said.exit else ():
        rule.remove()


def _for_restore(word: str) -> str:
    return f'"{word}"' if " " in word else word


# --- the programs -----------------------------------------------------------------------------------------------------


def _find(family: int) -> str:
    return program.find(PROGRAMS[family], "iptables")


def _run(family: int, *words: str) -> program.Said:
    """Run it; "there is no such rule" is an answer. Raises CniError: 11 when others hold the lock too long."""
    said = program.run(_find(family), "-w", _WAIT, *words)
    if said.exit == _LOCKED and "Permission" not in said.text:
        raise _busy(family, said)
    if said.exit not in (0, _NO, _MISUSED):
        raise CniError(NOT_AVAILABLE, f"{_typed(family, words)}: {said.first}", "does this kernel have iptables?")
    return said


def _busy(family: int, said: program.Said) -> CniError:
    return CniError(TRY_AGAIN_LATER, f"{PROGRAMS[family]} is being used by somebody else", said.first)


def _typed(family: int, words: Iterable[str]) -> str:
    """The command as a person types it."""
    return " ".join((PROGRAMS[family], "-w", _WAIT, *map(quoted, words)))
