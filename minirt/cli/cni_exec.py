"""minirt cni exec"""

from __future__ import annotations

import os
import sys

from cni_plugins.spec.jsontext import JsonError, dumps, loads
from minirt.cli import engine
from minirt.cli.cni import ARGS, CAP_ARGS, IFNAME, TIMEOUT_OPTION, VALID, attachment, seconds, wishes
from minirt.cli.output import need_root
from minirt.cli.verb import EXPLAIN, TRACE_FILE, VALUE, Argument, Option, Verb
from minirt.cni import byhand
from minirt.cni.byhand import ByHand, Request
from minirt.cni.locks import Locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def execute(values: dict[str, Any]) -> int:
    command = byhand.verb(values["command"])
    asked = Request(
        command,
        values["container_id"] or "",
        values["netns"] or "",
        values["conf"],
        wishes(values),
        tuple(map(attachment, values["valid"])),
    )
    if command != "VERSION":
        need_root("cni exec")
    watched = engine.watched(engine.account(values, "minirt cni exec"), engine.recorder(values, "cni exec"))
    plugin = ByHand(values["plugin"], engine.executor(), Locks(), seconds(values["timeout"]), os.environ, **watched)
    answer = plugin.call(asked)
    if answer.error and not values["raw"]:
        raise answer.error
    sys.stderr.buffer.write(answer.stderr)
    sys.stderr.buffer.flush()
    sys.stdout.buffer.write(answer.stdout if values["raw"] else _result(command, answer.stdout))
    return answer.exit if answer.exit >= 0 else 128 - answer.exit


def _result(command: str, stdout: bytes) -> bytes:
    """What ADD and VERSION printed, in our own layout; the others have nothing to say."""
    if command not in ("ADD", "VERSION"):
        return b""
    try:
        return f"{dumps(loads(stdout), indent=4)}\n".encode()
    except JsonError:
        return stdout


EXEC = Verb(
    "exec",
    "Call one plugin by hand, with the configuration in FILE. COMMAND is add, del, check, gc, status or version; "
    "PLUGIN is a type that is searched, or a path. Nothing is remembered or taken back: del removes what add made.",
    execute,
    (
        Option(
            ("--conf", "-c"), "A plugin's configuration, or the list it stands in; - is standard input.", VALUE, "FILE"
        ),
        IFNAME,
        CAP_ARGS,
        ARGS,
        VALID,
        Option(("--raw",), "Print output and exit with the code as the plugin gave them."),
        TIMEOUT_OPTION,
        *EXPLAIN,
        TRACE_FILE,
    ),
    (
        Argument("plugin", "PLUGIN"),
        Argument("command", "COMMAND"),
        Argument("container_id", "[CONTAINER-ID]", required=False),
        Argument("netns", "[NETNS]", required=False, bare=True),  # as CNI_NETNS is empty, when the namespace has gone
    ),
    epilog="Only add and check need both CONTAINER-ID and NETNS; del does without NETNS when the namespace has gone.",
)
