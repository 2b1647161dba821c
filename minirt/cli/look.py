"""minirt ps, logs, inspect"""

from __future__ import annotations

import os
import sys
import time

from cni_plugins.spec.jsontext import dumps
from minirt import log, report
from minirt.cli import engine
from minirt.cli.output import ago, each, need_root, table
from minirt.cli.verb import MANY, VALUE, Argument, Option, Verb
from minirt.errors import MinirtError, UsageError
from minirt.spec import parse_number
from minirt.state import EXITED, RUNNING, SHORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.state import Attached, Record

FILTERS = ("id", "name", "status", "network")


def _wanted(filters: tuple[str, ...]) -> dict[str, list[str]]:
    """`--filter KEY=VALUE`: the values by key. Raises UsageError."""
    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if key not in FILTERS or not equals:
            raise UsageError(f"invalid filter {text!r}", f"KEY=VALUE, KEY being one of {', '.join(FILTERS)}")
        wanted.setdefault(key, []).append(value)
    return wanted


def _matches(record: Record, wanted: dict[str, list[str]]) -> bool:
    """All keys must match, any value of one key does. An id matches by its beginning."""
    tests: dict[str, Callable[[str], bool]] = {
        "id": record.id.startswith,
        "name": lambda value: value in record.name,
        "status": lambda value: value == record.status,
        "network": lambda value: value in report.networks(record),
    }
    return all(any(tests[key](value) for value in values) for key, values in wanted.items())


def _status(record: Record, now: float) -> str:
    if record.status == RUNNING:
        return f"Up {ago(now - record.started)}"
    if record.status == EXITED:
        return f"Exited ({record.exit_code}) {ago(now - record.finished)} ago"
    return record.status.capitalize()


def ps(values: dict[str, Any]) -> int:
    need_root("ps")
    if values["format"] not in (None, "table", "json"):
        raise UsageError(f"invalid format {values['format']!r}", "table or json")
    wanted = _wanted(values["filter"])
    found = [
        record
        for record in engine.look().all()
        if _matches(record, wanted) and (values["all"] or values["filter"] or record.status == RUNNING)
    ]
    found.reverse()  # newest first, as docker lists them
    width = None if values["no_trunc"] else SHORT
    if values["quiet"]:
        lines = [record.id[:width] for record in found]
    elif values["format"] == "json":
        lines = [dumps(report.row(record), indent=0) for record in found]
    else:
        now = time.time()
        lines = [table(HEAD, [_cells(record, now, width) for record in found])]
    for line in lines:
        print(line)
    return 0


HEAD = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")


def _cells(record: Record, now: float, width: int | None) -> tuple[str, ...]:
    command = " ".join(record.spec.args)
    if width and len(command) > 20:
        command = f"{command[:19]}…"
    ports = ", ".join(map(str, record.spec.ports)) if record.status == RUNNING else ""
    created = f"{ago(now - record.created)} ago"
    return (record.id[:width], record.spec.image, command, created, _status(record, now), ports, record.name)


def logs(values: dict[str, Any]) -> int:
    need_root("logs")
    containers = engine.look()
    record = containers.find(values["container"])
    after = log.since(values["since"], time.time()) if values["since"] else ""
    follow = (lambda: containers.is_alive(record)) if values["follow"] else None
    lines = log.read(containers.store.path(record.id, "log"), follow, _count(values["tail"]))
    for line in lines:
        if line.time >= after:
            prefix = f"{line.time} ".encode() if values["timestamps"] else b""
            os.write(1 if line.stream == "stdout" else 2, prefix + line.text)
    return 0


def _count(text: str | None) -> int | None:
    """`--tail`: a number of lines, or all."""
    if text in (None, "all"):
        return None
    return parse_number(text, "number of lines", 10**9)


def inspect(values: dict[str, Any]) -> int:
    need_root("inspect")
    if values["namespaces"]:
        return _namespaces(values["containers"])
    containers = engine.look()
    documents = []
    code = 0
    for reference in values["containers"]:
        try:
            record = containers.find(reference)
            documents.append(report.document(record, _guests(record) if containers.store.has_guests(record) else ()))
        except MinirtError as error:
            error.show()
            code = 1
    sys.stdout.write(dumps(documents) + "\n")
    return code


def _guests(record: Record) -> list[Attached]:
    """What has been attached to it by hand, as CNI's cache has it."""
    users = (user for group in engine.catalog().users().values() for user in group if user.container_id == record.id)
    return [user.attached for user in users if user.attached not in record.attached]


def _namespaces(references: tuple[str, ...]) -> int:
    """`inspect --namespaces`: for people, so a table and no JSON."""
    from minirt import spaces

    shelf = engine.look()
    everybody = shelf.all()

    def show(reference: str) -> str:
        record = shelf.find(reference)
        title = spaces.title(record)
        return f"{title}\n{table(spaces.HEAD, spaces.rows(record, everybody))}"

    return each(references, show)


PS = Verb(
    "ps",
    "List containers: those that run, or all with --all.",
    ps,
    (
        Option(("--all", "-a"), "Also those that do not run."),
        Option(("--quiet", "-q"), "Print ids only."),
        Option(("--no-trunc",), "Print ids and commands whole."),
        Option(("--filter", "-f"), "Only those with KEY=VALUE: id, name, status, network.", MANY, "KEY=VALUE"),
        Option(("--format",), "table, or json: an object on each line.", VALUE, "FORMAT"),
    ),
)
LOGS = Verb(
    "logs",
    "Print what the command of a container has written, standard output and standard error each to its own.",
    logs,
    (
        Option(("--follow", "-f"), "Go on until the container stops."),
        Option(("--tail", "-n"), "Only the last LINES lines.", VALUE, "LINES"),
        Option(("--timestamps", "-t"), "Say when each line was written."),
        Option(("--since",), "Only what is newer: 2026-01-31T12:00:00Z, or 42m for how long ago.", VALUE, "TIME"),
    ),
    (Argument("container", "CONTAINER"),),
)
INSPECT = Verb(
    "inspect",
    "Print all that is known of containers as a JSON list, with docker's field names and the CNI results.",
    inspect,
    (Option(("--namespaces",), "Compare the container's namespaces with the host's instead: a table."),),
    (Argument("containers", "CONTAINER...", many=True),),
)
