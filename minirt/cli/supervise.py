"""minirt supervise: nobody types it; `run -d` and `start` leave it behind. What it imports stays in memory with it."""

from __future__ import annotations

from minirt.cli.output import need_root
from minirt.cli.verb import Argument, Verb
from minirt.supervisor import watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def supervise(values: dict[str, Any]) -> int:
    need_root("supervise")
    code = watch(values["pid"], values["pidfd"], values["log"], values["sources"])
    from minirt.cli import engine

    engine.make(quiet=True).ended(values["container"], code, engine.account({}, "the end of"))
    return 0


SUPERVISE = Verb(
    "supervise",
    "See a detached container to its end. For minirt itself.",
    supervise,
    (),
    (
        Argument("container", "ID"),
        Argument("pid", "PID"),
        Argument("pidfd", "PIDFD"),
        Argument("log", "LOGFD"),
        Argument("sources", "STREAM:FD...", many=True),
    ),
)
