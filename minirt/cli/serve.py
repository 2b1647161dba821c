"""minirt serve"""

from __future__ import annotations

import os

from minirt.cli import engine
from minirt.cli.output import need_root
from minirt.cli.verb import VALUE, Argument, Option, Verb
from minirt.spec import parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PORT = 8900  # not 8080, which everybody publishes: what is published there would take the browser elsewhere


def serve(values: dict[str, Any]) -> int:
    port = parse_number(values["port"], "port", 65535) if values["port"] else PORT
    need_root("serve")
    from minirt.web import serving

    return serving.serve(*engine.bystander(), port, values["network"] or "", os.environ)


SERVE = Verb(
    "serve",
    "Show in a browser of this machine what there is, live: the graph of networks and containers, and each command's "
    "ADD and DEL as a sequence to step through, with what --explain tells of it. What commands do is told from now on, "
    "as long as this runs. It listens on loopback alone, for root and whoever called sudo, and changes nothing. "
    "Ctrl-C ends it.",
    serve,
    (Option(("--port",), f"Where to listen; 0 takes any that is free. [default: {PORT}]", VALUE, "PORT"),),
    (Argument("network", "[NETWORK]", required=False),),
)
