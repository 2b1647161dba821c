"""minirt network graph, path"""

from __future__ import annotations

from minirt.cli import engine
from minirt.cli.output import need_root
from minirt.cli.verb import VALUE, Argument, Option, Verb
from minirt.errors import MinirtError, UsageError
from minirt.spec import parse_number
from minirt.state import RUNNING

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


def path(values: dict[str, Any]) -> int:
    seconds = parse_number(values["seconds"], "number of seconds", 86400) if values["seconds"] else None
    if seconds is not None and not values["counters"]:
        raise UsageError("--seconds says how long to count", "--counters --seconds 10")
    need_root("network path")
    from minirt.picture import counters, ruleset, survey, telling

    rules = ruleset.read()
    picture = survey.take(engine.catalog(), engine.look().all(), "", rules)
    walked = telling.walk(picture, rules, values["container"], values["destination"])
    print(telling.tell(walked))
    if rules.problem:
        raise MinirtError(rules.problem, "what is told of rules above says nothing")
    if values["counters"]:
        print(flush=True)
        counters.watch(walked, seconds, _say, _inside(walked.hops[0].space))
    return 0


def _inside(space: str) -> str:
    """What runs a command in the namespace at `space`; nothing for the one that minirt runs in."""
    from minirt.picture.kernel import OURS

    if space == OURS:
        return ""
    ours = next(
        (record.name for record in engine.look().all() if record.status == RUNNING and record.netns == space), ""
    )
    return f"minirt exec {ours}" if ours else f"nsenter --net={space}"


def _say(text: str) -> None:
    print(text, flush=True)


GRAPH = Verb(
    "graph",
    "Draw what there is: the host's ways out, masquerade and published ports, bridges, veth pairs, and containers with "
    "their interfaces, addresses and routes. It is read from the kernel, so networks that other people's plugins made "
    "are drawn as well. Of NETWORK alone, or of all.",
    graph,
    (Option(("--format",), "text, mermaid, dot, svg. [default: text]", VALUE, "FORMAT"),),
    (Argument("network", "[NETWORK]", required=False),),
)
PATH = Verb(
    "path",
    "Walk a packet from CONTAINER (or from host, this machine, or from a namespace of ip-netns) to DESTINATION: "
    "every route, bridge port and rule of nftables on its way, what is changed in it, and where it ends. DESTINATION "
    "is an address or another container, with :PORT or :PORT/udp; without, it is a ping. Nothing is sent.",
    path,
    (
        Option(
            ("--counters",), "Then count the packets of this very flow at every hook, while they come, until ctrl-C."
        ),
        Option(("--seconds",), "Stop counting after so long.", VALUE, "SECONDS"),
    ),
    (Argument("container", "CONTAINER"), Argument("destination", "DESTINATION")),
)
