"""minirt start, stop, kill, wait, rm"""

from __future__ import annotations

from minirt.cli import engine
from minirt.cli.output import each, need_root
from minirt.cli.verb import EXPLAIN, TRACE_FILE, VALUE, Argument, Option, Verb
from minirt.errors import UsageError
from minirt.signals import parse_signal
from minirt.spec import parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONTAINERS = (Argument("containers", "CONTAINER...", many=True),)


def _seconds(text: str) -> float:
    """`--time`: whole seconds; -1 waits for ever."""
    if text == "-1":
        return float("inf")
    return float(parse_number(text, "number of seconds", 1_000_000))


def start(values: dict[str, Any]) -> int:
    need_root("start")
    account = engine.account(values, "minirt start", detached=not values["attach"])
    containers = engine.make(account=account, recorder=engine.recorder(values, "start"))
    if values["attach"]:
        (reference, *more) = values["containers"]
        if more:
            raise UsageError("--attach takes one container")
        return containers.start(reference)
    return each(values["containers"], containers.start_detached)


def stop(values: dict[str, Any]) -> int:
    need_root("stop")
    number, grace = parse_signal(values["signal"] or "TERM"), _seconds(values["time"] or "10")
    account = engine.account(values, "minirt stop")
    containers = engine.make(account=account, recorder=engine.recorder(values, "stop"))
    return each(values["containers"], lambda reference: containers.stop(reference, number, grace))


def kill(values: dict[str, Any]) -> int:
    need_root("kill")
    number = parse_signal(values["signal"] or "KILL")
    containers = engine.make()
    return each(values["containers"], lambda reference: containers.kill(reference, number))


def wait(values: dict[str, Any]) -> int:
    need_root("wait")
    return each(values["containers"], engine.make().wait)


def rm(values: dict[str, Any]) -> int:
    need_root("rm")
    containers = engine.make(account=engine.account(values, "minirt rm"), recorder=engine.recorder(values, "rm"))
    return each(values["containers"], lambda reference: containers.remove(reference, force=values["force"]))


START = Verb(
    "start",
    "Start containers that have stopped: a new network namespace, and ADD again.",
    start,
    (Option(("--attach", "-a"), "Stay, show its output, exit with its code."), *EXPLAIN, TRACE_FILE),
    CONTAINERS,
    failure=125,
)
STOP = Verb(
    "stop",
    "Stop containers: SIGTERM, and SIGKILL if they have not ended in time. Their networks are disconnected (DEL).",
    stop,
    (
        Option(("--time", "-t"), "Seconds until SIGKILL; -1 never sends it. [default: 10]", VALUE, "SECONDS"),
        Option(("--signal", "-s"), "Signal to send first. [default: TERM]", VALUE, "SIGNAL"),
        *EXPLAIN,
        TRACE_FILE,
    ),
    CONTAINERS,
)
KILL = Verb(
    "kill",
    "Send a signal to the first process of containers.",
    kill,
    (Option(("--signal", "-s"), "Its name or number. [default: KILL]", VALUE, "SIGNAL"),),
    CONTAINERS,
)
WAIT = Verb("wait", "Wait until containers have stopped, and print their exit codes.", wait, (), CONTAINERS)
RM = Verb(
    "rm",
    "Remove containers and all that is left of them: networks (DEL again, harmlessly), namespaces, files.",
    rm,
    (
        Option(("--force", "-f"), "Kill one that runs; go on when a plugin fails to disconnect it."),
        *EXPLAIN,
        TRACE_FILE,
    ),
    CONTAINERS,
)
