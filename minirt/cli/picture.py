"""minirt network graph, path"""

from __future__ import annotations

from minirt.cli import engine
from minirt.cli.output import need_root
from minirt.cli.verb import VALUE, Argument, Option, Verb
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMATS = ("text", "mermaid", "dot", "svg")


def graph(values: dict[str, Any]) -> int:
    form = values["format"] or "text"
    if form not in FORMATS:
        raise UsageError(f"invalid format {form!r}", f"one of {', '.join(FORMATS)}")
    need_root("network graph")
    from minirt.picture import drawing

    print(drawing.draw(engine.catalog(), engine.look().all(), values["network"] or "", form))
    return 0


GRAPH = Verb(
    "graph",
    "Draw what there is: the host's ways out, masquerade and published ports, bridges, veth pairs, and containers with "
    "their interfaces, addresses and routes. It is read from the kernel, so networks that other people's plugins made "
    "are drawn as well. Of NETWORK alone, or of all.",
    graph,
    (Option(("--format",), "text, mermaid, dot, svg. [default: text]", VALUE, "FORMAT"),),
    (Argument("network", "[NETWORK]", required=False),),
)
