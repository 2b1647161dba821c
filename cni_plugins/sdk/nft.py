"""Rules that are written once: a table with its sets, chains and rules, made by the nft program when it is missing.

Nobody asks whether the table is there. Elements are sent, and where the kernel answers that there is no such table,
the nft program is given the table's text and the elements are sent again. So an ADD starts the program once after
a boot or after `nft flush ruleset`, and never else. The text begins with `create table`, and nft makes all of it or
nothing: of several that come at once one wins, the others find the table made.

Source: nft(8).
"""

from __future__ import annotations

from cni_plugins.sdk.nfnl import Change, Nftables, Refused
from cni_plugins.spec.errors import NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_plugins.sdk.elements import Element


@record
class Chain:
    """A chain and its rules. `hook` says where the kernel calls it, empty for one that others jump to."""

    name: str
    hook: str
    rules: tuple[str, ...]

    def __str__(self) -> str:
        lines = (f"type {self.hook};", *self.rules) if self.hook else self.rules
        return "\n\t\t".join((f"chain {self.name} {{", *lines)) + "\n\t}"


@record
class Table:
    """A table: sets and maps as nft(8) writes them, then chains."""

    name: str
    sets: tuple[str, ...]
    chains: tuple[Chain, ...]
    family: str = "inet"

    def __str__(self) -> str:
        inner = "".join(f"\t{item}\n" for item in (*self.sets, *self.chains))
        return f"create table {self.family} {self.name}\ntable {self.family} {self.name} {{\n{inner}}}\n"

    def commit(self, nftables: Nftables, *changes: Change, restore: Callable[[], Iterable[Change]] = tuple) -> None:
        """Make all `changes` or none; where the table is missing, it is made first.

        `restore` gives what belongs into a table made anew: whoever flushed it took everybody's elements with it.
        Raises Refused, OSError; CniError when the table cannot be made.
        """
        try:
            return nftables.commit(*changes)
        except Refused as refused:
            if not refused.ruleset_missing:
                raise
        problem = self.make(nftables, restore)
        try:
            nftables.commit(*changes)  # whether we have made it, or somebody else just now
        except Refused as refused:
            if not refused.ruleset_missing:
                raise
            hint = f"is it a remainder of something else? nft delete table {self.family} {self.name}"
            problem = problem or str(refused)
            raise CniError(
                PLUGIN_SPECIFIC, f"cannot make nftables table {self.family} {self.name}: {problem}", hint
            ) from None

    def make(self, nftables: Nftables, restore: Callable[[], Iterable[Change]]) -> str:
        """Make the table, and put into it what `restore` gives; what nft complained of. Raises OSError, CniError."""
        problem = run_nft(str(self))
        if not problem:
            _commit_what_fits(nftables, list(restore()))
        return problem

    def require(self, nftables: Nftables, *elements: Element, hint: str = "") -> None:
        """That it has these elements and all of its rules. Raises CniError 100, with what is to be done about it."""
        hint = hint or "somebody has flushed it; the next ADD of the network puts it back"
        for element, stored in zip(elements, nftables.lookup(*elements), strict=True):
            if stored is None or not stored.fits(element):
                raise CniError(PLUGIN_SPECIFIC, f"nftables: {self.family} {self.name} {element} is missing", hint)
        if not self.complete(nftables):
            raise CniError(PLUGIN_SPECIFIC, f"nftables: rules of table {self.family} {self.name} are missing", hint)

    def complete(self, nftables: Nftables) -> bool:
        """Whether it has all of its rules (`nft flush table` takes them and leaves the sets)."""
        found = nftables.rules(self.name, self.family)
        return all(found.count(chain.name) >= len(chain.rules) for chain in self.chains)


def _commit_what_fits(nftables: Nftables, changes: list[Change]) -> None:
    """Make those of `changes` that the kernel takes: another ADD may have been quicker with a port of its own."""
    try:
        nftables.commit(*changes)
    except Refused as refused:
        unfit = {id(change) for change, _error in refused.refusals}
        nftables.commit(*(change for change in changes if id(change) not in unfit))


def find_nft() -> str:
    """The path of the nft program. Raises CniError."""
    from cni_plugins.sdk import program  # seldom needed: once a boot, and for STATUS

    return program.find("nft", "nftables")


def ready(nftables: Nftables, table: Table) -> None:
    """For STATUS: is there the program that makes `table`, and a kernel that takes it? Raises CniError 50."""
    find_nft()
    try:
        nftables.rules(table.name, table.family)
    except OSError as error:
        hint = "load the kernel's module nf_tables"
        raise CniError(NOT_AVAILABLE, f"the kernel has no nftables: {error}", hint) from None


def run_nft(script: str) -> str:
    """Have nft carry out `script`, all or nothing; what it complained of, empty when it is done. Raises CniError."""
    from cni_plugins.sdk import program

    said = program.run(find_nft(), "-f", "-", stdin=script)
    return "" if said.exit == 0 else said.first
