"""minirt cni trace, replay"""

from __future__ import annotations

import sys

from minirt.cli import engine, settings
from minirt.cli.cni import TIMEOUT_OPTION, seconds
from minirt.cli.output import need_root, warn
from minirt.cli.verb import TRACE_FILE, VALUE, Argument, Option, Verb
from minirt.errors import NotFound, UsageError
from minirt.spec import parse_number
from minirt.terminal import coloured

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.trace.reading import Trace

DIFFERENT, TROUBLE = 1, 2  # exit codes, as diff(1) has them
FORMATS = ("tree", "json", "mermaid", "svg")
BROKEN = 5  # lines that cannot be read, as many as are told
RECORD = "'minirt run --trace FILE' writes one, and so do start, stop, rm, and cni add, del, check, gc, status, exec."


def trace(values: dict[str, Any]) -> int:
    form = values["format"] or FORMATS[0]
    if form not in FORMATS:
        raise UsageError(f"invalid format {form!r}", f"one of {', '.join(FORMATS)}")
    from minirt.trace import lines, mermaid, reading, svg, tree

    step = _step(values)
    found = reading.read(values["file"])
    _warn_of_broken(found)
    if step:
        found = found.only(step)
    if form == "tree":
        full = values["full"] or values["step"] is not None
        print(tree.Tree(full, coloured(sys.stdout)).draw(found))
    else:
        text = {"json": lines, "mermaid": mermaid, "svg": svg}[form].draw(found)
        print(text, end="\n" if text else "")
    return 0


def _step(values: dict[str, Any]) -> int:
    """`--step`; 0 without. Raises UsageError."""
    return parse_number(values["step"], "number of a call", 10**8, 1) if values["step"] is not None else 0


def _warn_of_broken(found: Trace) -> None:
    for problem in found.broken[:BROKEN]:
        warn(f"{problem}; the line is left out")
    if len(found.broken) > BROKEN:
        warn(f"{len(found.broken) - BROKEN} more lines are left out")


def replay(values: dict[str, Any]) -> int:
    from minirt.trace import reading
    from minirt.trace.replay import Replay, Wish, report

    step = _step(values)
    found = reading.read(values["file"])
    _warn_of_broken(found)
    if not found.roots:
        raise NotFound(f"no call is recorded in {values['file']}", RECORD)
    need_root("cni replay")
    recorder = engine.recorder(values, "cni replay", hold=True)
    watch = recorder.event if recorder is not None else None
    wish = Wish(step, values["plugin"] or "", values["here"])
    code = 0
    for replayed in Replay(found, wish, seconds(values["timeout"]), settings.plain_exec, watch).run():
        if replayed.staged:
            warn(f"call {replayed.call.number}, {replayed.call.who} {replayed.call.command}, sets the stage")
        if not (replayed.staged and replayed.same):
            print("\n".join(report(replayed)), file=sys.stderr if replayed.staged else sys.stdout)
        if not (replayed.staged or replayed.same):
            code = DIFFERENT
    return code


TRACE = Verb(
    "trace",
    "Show a recorded trace: every call of a plugin, what it was given, what it did, what it answered, how long it "
    "took, and which plugin called which. What a plugin changed is known of the bundled ones; others do not tell.",
    trace,
    (
        Option(("--format",), "tree, json (a line a call), mermaid, svg. [default: tree]", VALUE, "FORMAT"),
        Option(("--full",), "With environment, standard input, standard output and standard error in the tree."),
        Option(("--step",), "Show call N alone, in full.", VALUE, "N"),
    ),
    (Argument("file", "FILE"),),
    epilog=RECORD,
)
REPLAY = Verb(
    "replay",
    "Run recorded calls again and show what differs: exit code, result, standard error. They are given what they were "
    "given then, in namespaces of the replay's own, where /run and /var/lib/cni are empty, so nothing of this host "
    "changes but what a program writes elsewhere. With --step the calls before it set the stage.",
    replay,
    (
        Option(("--step",), "Only call N of the trace, which may be one that a plugin made.", VALUE, "N"),
        Option(
            ("--plugin",),
            "Run this program in place of the recorded one; its name, or --step, says for which calls.",
            VALUE,
            "PATH",
        ),
        Option(("--here",), "Make the call of --step on this host, in the namespace that was recorded."),
        TIMEOUT_OPTION,
        TRACE_FILE,
    ),
    (Argument("file", "FILE"),),
    failure=TROUBLE,
    epilog="Exit code: 0 when nothing differs, 1 when something does, 2 when a call could not be made. Hardware "
    "addresses and names of links that plugins draw at random are left aside. The programs that the trace names are "
    "run, as root: let it be a trace of your own.",
)
