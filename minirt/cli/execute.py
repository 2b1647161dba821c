"""minirt exec"""

from __future__ import annotations

import os

from minirt.cli import engine
from minirt.cli.output import need_root
from minirt.cli.verb import EXIT_CODES, EXPLAIN, MANY, VALUE, Argument, Option, Verb
from minirt.spec import ContainerSpec, parse_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def execute(values: dict[str, Any]) -> int:
    need_root("exec")
    asked = ContainerSpec(
        image="",
        args=values["command"],
        env=tuple(pair for text in values["env"] for pair in parse_env(text, os.environ)),
        workdir=values["workdir"] or "",
        user=values["user"] or "",
        tty=values["tty"],
        interactive=values["interactive"],
    )
    return engine.make(account=engine.account(values)).execute(values["container"], asked)


EXEC = Verb(
    "exec",
    "Run COMMAND in a running container, in all its namespaces. Options end at CONTAINER.",
    execute,
    (
        Option(("--interactive", "-i"), "Pass standard input on."),
        Option(("--tty", "-t"), "Give the command a terminal."),
        Option(("--env", "-e"), "Set an environment variable; NAME alone takes it from here.", MANY, "NAME[=VALUE]"),
        Option(("--workdir", "-w"), "Working directory inside the container.", VALUE, "DIR"),
        Option(("--user", "-u"), "User, and group, to run as.", VALUE, "USER[:GROUP]"),
        *EXPLAIN,
    ),
    (Argument("container", "CONTAINER"), Argument("command", "COMMAND [ARG]...", many=True)),
    stops=True,
    failure=125,
    epilog=EXIT_CODES,
)
