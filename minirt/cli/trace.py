"""minirt cni trace, replay"""

from __future__ import annotations

import sys

from minirt.cli.verb import VALUE, Argument, Option, Verb
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("tree", "json", "mermaid", "svg")
RECORD = "'minirt run --trace FILE' writes one, and so do start, stop, rm, and cni add, del, check, gc, status, exec."


def trace(values: dict[str, Any]) -> int:
    form = values["format"] or FORMATS[0]
    if form not in FORMATS:
        raise UsageError(f"invalid format {form!r}", f"one of {', '.join(FORMATS)}")
    from minirt.trace import lines, mermaid, reading, svg, tree

    found = reading.read(values["file"])
    if values["step"] is not None:
        found = found.only(reading.number(values["step"], "--step"))
    if form == "tree":
        full = values["full"] or values["step"] is not None
        print(tree.Tree(full, tree.wants_colours(sys.stdout)).draw(found))
    else:
        print({"json": lines, "mermaid": mermaid, "svg": svg}[form].draw(found))
    return 0


TRACE = Verb(
    "trace",
    "Show a recorded trace: every call of a plugin, what it was given, what it did, what it answered, how long it "
    "took, and which plugin called which. Calls of an IPAM plugin and what a plugin changed are known of bundled "
    "plugins; others do not tell.",
    trace,
    (
        Option(("--format",), "tree, json (a line a call), mermaid, svg. [default: tree]", VALUE, "FORMAT"),
        Option(("--full",), "With environment, standard input, standard output and standard error in the tree."),
        Option(("--step",), "Show call N alone, in full.", VALUE, "N"),
    ),
    (Argument("file", "FILE"),),
    epilog=RECORD,
)
