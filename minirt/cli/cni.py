"""minirt cni add, del, check, gc, status, version"""

from __future__ import annotations

import os

from cni_plugins.spec.jsontext import dumps
from minirt import targets
from minirt.cli import engine
from minirt.cli.output import need_root, table, warn
from minirt.cli.verb import EXPLAIN, MANY, TRACE_FILE, VALUE, Argument, Option, Verb
from minirt.cni import survey, tool
from minirt.cni.operations import TIMEOUT
from minirt.cni.tool import Tool
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.cni.survey import Program

ASKING = 10.0  # seconds for a program to say which versions it speaks
PLACES = ("netns", "pid", "container", "docker", "podman")

TIMEOUT_OPTION = Option(
    ("--timeout",), f"Seconds for each call of a plugin. [default: {TIMEOUT:.0f}]", VALUE, "SECONDS"
)
IFNAME = Option(("--ifname", "-i"), "Interface inside. [default: $CNI_IFNAME, or eth0]", VALUE, "NAME")
CAP_ARGS = Option(
    ("--cap-args",),
    "Capability arguments, for plugins that declare them. [default: $CAP_ARGS]",
    VALUE,
    "JSON",
    bare=True,
)
ARGS = Option(("--args",), "CNI_ARGS for the plugins. [default: $CNI_ARGS]", VALUE, "K=V;...", bare=True)
VALID = Option(("--valid",), "This attachment is alive, too. [default interface: eth0]", MANY, "ID[:IFNAME]")
WHERE = (
    Option(("--pid",), "In the namespace of this process.", VALUE, "PID"),
    Option(("--container",), "In that of this container of minirt.", VALUE, "CONTAINER"),
    Option(("--docker",), "In that of this container of docker.", VALUE, "NAME"),
    Option(("--podman",), "In that of this container of podman.", VALUE, "NAME"),
)
NETWORK = Argument("network", "NETWORK")
NETNS = Argument("netns", "[NETNS]", required=False)
FOLDERS = "NETCONFPATH replaces /etc/cni/net.d, CNI_PATH the folders where plugins are searched."


def seconds(text: str | None, default: float = TIMEOUT) -> float:
    """`--timeout`. Raises UsageError."""
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"invalid timeout {text!r}", "expected a number of seconds")
    return value


def wishes(values: dict[str, Any]) -> tool.Wishes:
    """What flags and variables ask for. Raises UsageError."""
    return tool.wishes(os.environ, *map(values.get, ("ifname", "args", "cap_args")))


def attachment(text: str) -> tuple[str, str]:
    """`--valid ID[:IFNAME]`. Raises UsageError."""
    container_id, _, ifname = text.partition(":")
    if not container_id:
        raise UsageError(f"invalid attachment {text!r}", "ID or ID:IFNAME")
    return container_id, ifname or tool.IFNAME


def tool_for(values: dict[str, Any], verb: str) -> Tool:
    """What does the work of one verb."""
    watched = engine.watched(engine.account(values, f"minirt cni {verb}"), engine.recorder(values, f"cni {verb}"))
    return Tool(engine.cni(timeout=seconds(values["timeout"]), **watched), wishes(values))


def _places(values: dict[str, Any]) -> dict[str, str | None]:
    return {kind: values[kind] for kind in PLACES}


def add(values: dict[str, Any]) -> int:
    need_root("cni add")
    networks = tool_for(values, "add")
    target = targets.joining(_places(values), engine.make())
    print(dumps(networks.add(values["network"], target.container_id, target.netns), indent=4))
    return 0


def delete(values: dict[str, Any]) -> int:
    need_root("cni del")
    networks = tool_for(values, "del")
    target = targets.leaving(_places(values), engine.make())
    networks.delete(values["network"], target.container_id, target.netns, force=values["force"])
    return 0


def check(values: dict[str, Any]) -> int:
    need_root("cni check")
    networks = tool_for(values, "check")
    target = targets.present(_places(values), engine.make())
    networks.check(values["network"], target.container_id, target.netns)
    return 0


def gc(values: dict[str, Any]) -> int:
    need_root("cni gc")
    named = tuple(map(attachment, values["valid"]))
    networks = tool_for(values, "gc")
    containers = engine.make()
    containers.all()  # those whose supervisor died hold nothing any more
    networks.gc(values["network"], containers.held(values["network"]), named)
    return 0


def status(values: dict[str, Any]) -> int:
    need_root("cni status")
    tool_for(values, "status").status(values["network"])
    return 0


HEAD = ("PLUGIN", "VERSIONS", "PATH")


def version(values: dict[str, Any]) -> int:
    cni = engine.cni(timeout=seconds(values["timeout"], ASKING))
    network = Tool(cni, wishes(values)).network(values["network"]) if values["network"] else None
    programs = survey.of_network(cni, network) if network else survey.everything(cni)
    print(table(HEAD, map(_cells, programs)))
    for program in programs:
        if program.problem and not network:
            warn(f"{program.path} {program.problem}")
    if network:
        survey.common(network, programs)
    return 0


def _cells(program: Program) -> tuple[str, ...]:
    place = program.path or program.problem
    return (
        program.name,
        " ".join(program.versions) or "?",
        f"{place} (behind {program.behind})" if program.behind else place,
    )


ADD = Verb(
    "add",
    "Attach a network namespace to NETWORK, a list of /etc/cni/net.d, and print the result. NETNS is the path of the "
    "namespace; a container of docker or podman is best started with --network none. Another interface than eth0 needs "
    "--ifname.",
    add,
    (*WHERE, IFNAME, CAP_ARGS, ARGS, TIMEOUT_OPTION, *EXPLAIN, TRACE_FILE),
    (NETWORK, NETNS),
    epilog=FOLDERS,
)
DEL = Verb(
    "del",
    "Detach it again, with the list as it was when it was attached. No error if it is detached already, or the "
    "namespace has gone. The first plugin that fails ends it: it must be asked for again.",
    delete,
    (
        *(*WHERE, IFNAME, CAP_ARGS, ARGS, TIMEOUT_OPTION),
        Option(("--force",), "Go on whatever fails, and forget it."),
        *EXPLAIN,
        TRACE_FILE,
    ),
    (NETWORK, NETNS),
    epilog=FOLDERS,
)
CHECK = Verb(
    "check",
    "Ask the plugins whether an attachment is still as they made it. Silent when it is.",
    check,
    (*WHERE, IFNAME, CAP_ARGS, ARGS, TIMEOUT_OPTION, *EXPLAIN, TRACE_FILE),
    (NETWORK, NETNS),
    epilog=FOLDERS,
)
GC = Verb(
    "gc",
    "Have everything removed that is left of attachments to NETWORK that are not alive any more. Alive are those of "
    "minirt's containers, those that --valid names, and those that the cache remembers (/var/lib/cni/results, which "
    "other runtimes use as well) as long as their network namespace is there. NETNS is taken for cnitool's sake.",
    gc,
    (VALID, TIMEOUT_OPTION, *EXPLAIN, TRACE_FILE),
    (NETWORK, NETNS),
    epilog=FOLDERS,
)
STATUS = Verb(
    "status",
    "Ask the plugins of NETWORK whether they could attach something now. Silent when they could. NETNS is taken for "
    "cnitool's sake.",
    status,
    (TIMEOUT_OPTION, *EXPLAIN, TRACE_FILE),
    (NETWORK, NETNS),
    epilog=FOLDERS,
)
VERSION = Verb(
    "version",
    "Show every plugin in the folders that are searched, the versions it speaks, and where it lies; or those of "
    "NETWORK, which is an error when they have no version in common.",
    version,
    (Option(("--timeout",), f"Seconds for each plugin to answer. [default: {ASKING:.0f}]", VALUE, "SECONDS"),),
    (Argument("network", "[NETWORK]", required=False),),
    epilog=FOLDERS,
)
