"""bench/run: what minirt costs, as ratios to what others do for the same.

Tables: `run` is a whole `minirt run --rm host true`, beside a shell script that does it by hand with crun and the Go
bridge plugin, and beside podman with the same network list; `told` is the same run with `--explain`, `--trace` or a
browser that looks on; `plugins` is one attachment by the plugins as programs.

How to read them: times are medians of ROUNDS interleaved rounds, in milliseconds, with the lower quartile beside them
as the value of a quiet machine. `ratio` is the first row's median over this row's: below 1, the first is faster. Only
ratios mean something on another machine, and only within one table. `at most` is the ratio that the project has set
itself. A good part of every DEL is the kernel waiting for its readers (RCU), the same for everybody who waits once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from support import orphans
from support.command import BRIDGE, FURNITURE
from support.leftovers import SHARED
from support.machine import Machine

from bench import plugins, runs, told
from bench.measure import Subject, interleaved, table

TABLES: dict[str, tuple[str, Callable[[Machine], list[Subject]]]] = {
    "run": ("A networked run of `true`", runs.subjects),
    "told": ("A networked run of `true` that tells of itself", told.subjects),
    "plugins": ("One attachment, masqueraded, plugins as programs", plugins.subjects),
}

# What the Go plugins and the network list of the bench leave behind.
FOREIGN = ("nft * CNI-*", "nft * nat *", "nft * filter *", "nft table ip* *", "link bench-*", "address * dev bench-*")
LISTS = ("file /etc/cni/net.d/*", "file /run/peers/*", "directory /run/peers/*")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        "bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", "--rounds", type=int, default=20)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"one of {', '.join(TABLES)}; all unless given")
    given = parser.parse_args(argv)
    if unknown := set(given.tables) - set(TABLES):
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    orphans.adopt()
    for name in given.tables or TABLES:
        title, subjects = TABLES[name]
        print(_measured(f"{title} ({given.rounds} rounds)", subjects, given.rounds), flush=True)
    return 0


def _measured(title: str, subjects: Callable[[Machine], list[Subject]], rounds: int) -> str:
    """The table, measured on a private machine. Raises RuntimeError when somebody left something behind there."""
    with Machine() as machine:
        machine.leaves(*SHARED, *FURNITURE, *BRIDGE, *FOREIGN, *LISTS)
        measured = subjects(machine)
        interleaved(measured, rounds)
        if left := machine.leftovers():
            raise RuntimeError("\n  ".join(["left behind:", *left]))
    return f"{table(title, measured)}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
