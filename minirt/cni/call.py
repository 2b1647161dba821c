"""One call of a plugin: run it, read its answer, and when something is wrong, say what, in one sentence of its own.

Source: SPEC.md 1.1.0, "Section 2: Execution Protocol" and "Section 5: Result Types" (the error type). The contract
wants an error object on standard output of a plugin that fails; everything else that programs do instead is told apart:
too slow, too talkative, dead by a signal, silent, not JSON, not an error, an error with exit code 0.
"""

from __future__ import annotations

from time import monotonic

from cni_plugins.spec import convert
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.record import record
from cni_plugins.spec.result import Result
from minirt.cni.executor import ExecutorError, StartError, StoppedError
from minirt.errors import PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias, TypeVar

    from minirt.cni.executor import Executor, Outcome
    from minirt.cni.inside import Stepping

    T = TypeVar("T")
    Ear = tuple[int, Callable[[], object]]
    Event: TypeAlias = "Calling | Answered | Stepping"
    Watch = Callable[[Event], None]
else:
    import _signal


def both(first: Watch, second: Watch) -> Watch:
    """A watch of two: whoever only writes down comes first, for the other may wait for a person."""

    def watch(event: Event) -> None:
        first(event)
        second(event)

    return watch


class NotStarted(PluginError):
    """The kernel refused to execute the program, so it has done nothing."""


TOLD, STOPPED = "told", "stopped"  # of a plugin's own steps: listened to; allowed one by one
_QUOTED = 200  # characters of an answer that an error shows


@record
class Calling:
    """A call that is about to be made. `env` is all of the environment, `config` what goes to standard input.

    `by` is the plugin that makes the call, for a delegate; empty for the runtime's own calls. `source` is where the
    network's list was read from.
    """

    command: str
    network: str
    plugin: str
    path: str
    env: Mapping[str, str]
    config: Mapping[str, Any]
    by: str = ""
    source: str = ""


@record
class Answered:
    """How a call ended. `exit` is minus the signal's number for a plugin that one ended, None when it was not run to
    its end; `problem` is empty when all is well."""

    call: Calling
    exit: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    problem: str


def make(
    call: Calling,
    executor: Executor,
    timeout: float | None,
    keep_fds: Sequence[int],
    watch: Watch | None,
    steps: str = "",
) -> Result:
    """Make the call: the result that ADD printed; an empty one for other verbs. Raises PluginError.

    `watch` is told before and after, and with `steps` (TOLD, STOPPED) of what the plugin does in between. It costs
    nothing when there is none.
    """
    if watch is None or not steps:
        return _watched(call, watch, _read, lambda: _run(call, executor, timeout, keep_fds))
    from minirt.cni.inside import Inside  # for those who listen

    inside = Inside(call, watch, steps == STOPPED)
    patience = None if steps == STOPPED else timeout  # a person who reads is no plugin that hangs

    def run() -> Outcome:
        try:
            outcome = _run(inside.given, executor, patience, (*keep_fds, inside.fd), inside.ear)
        finally:
            inside.close()
        if inside.refusal is not None:
            raise inside.refusal
        return outcome

    return _watched(inside.call, watch, _read, run)


def ask_versions(call: Calling, executor: Executor, timeout: float | None, watch: Watch | None) -> tuple[str, ...]:
    """The versions that a plugin says it speaks. Raises PluginError."""
    return _watched(call, watch, _versions, lambda: _run(call, executor, timeout, ()))


def _watched(
    call: Calling, watch: Watch | None, read: Callable[[Calling, Outcome], T], run: Callable[[], Outcome]
) -> T:
    """What `read` makes of the plugin's run, with `watch` told of both."""
    if watch is None:
        return read(call, run())
    watch(call)
    began = monotonic()
    outcome: Outcome | None = None
    problem = stopped = ""
    try:
        outcome = run()
        return read(call, outcome)
    except PluginError as error:
        problem, stopped = error.msg, error.stderr
        raise
    except BaseException:  # an interrupt, or a step that was refused
        problem = "given up"
        raise
    finally:
        seconds = monotonic() - began
        if outcome is None:
            watch(Answered(call, None, b"", stopped.encode(), seconds, problem))
        else:
            watch(Answered(call, outcome.exit, outcome.stdout, outcome.stderr, seconds, problem))


def _run(
    call: Calling, executor: Executor, timeout: float | None, keep_fds: Sequence[int], ear: Ear | None = None
) -> Outcome:
    stdin = dumps(call.config, indent=0).encode()
    try:
        return executor.run(call.path, call.env, stdin, timeout, keep_fds, ear)
    except StoppedError as error:
        raise _failure(call, str(error), stderr=error.stderr, stopped=True) from None
    except StartError as error:
        raise NotStarted(call.plugin, call.command, str(error), network=call.network) from error
    except ExecutorError as error:
        raise _failure(call, str(error), stopped=True) from error


def _read(call: Calling, outcome: Outcome) -> Result:
    """The result of ADD. What other verbs print is nobody's business, unless it is an error."""
    if outcome.exit:
        raise _failed(call, outcome)
    document = _json(outcome.stdout)
    if error := _error_object(document):
        raise _failure(call, f"it exited with 0, but printed an error: {error.msg}", error, outcome.stderr)
    return _result(call, document, outcome) if call.command == "ADD" else Result()


def _versions(call: Calling, outcome: Outcome) -> tuple[str, ...]:
    """A plugin from before the verb does not know it (SPEC.md, "VERSION"), and says so in these very words; an answer
    of 0.2.0 without a list means the two oldest (libcni does the same)."""
    document = _json(outcome.stdout)
    error = _error_object(document)
    if outcome.exit > 0 and error and error.msg == "unknown CNI_COMMAND: VERSION":
        return ("0.1.0",)
    if outcome.exit:
        raise _failed(call, outcome)
    match document:
        case {"supportedVersions": [*spoken]} if spoken and all(isinstance(version, str) for version in spoken):
            return tuple(spoken)
        case {"cniVersion": "0.2.0"}:
            return ("0.1.0", "0.2.0")
    problem = f"it did not say which versions it speaks: {_quote(outcome.stdout)}"
    raise _failure(call, problem, stderr=outcome.stderr)


def _failed(call: Calling, outcome: Outcome) -> PluginError:
    """A plugin that did not exit with 0, in words."""
    status, stdout, stderr = outcome.exit, outcome.stdout, outcome.stderr
    if status < 0:
        return _failure(call, f"it was ended by signal {-status} ({_signal.strsignal(-status)})", stderr=stderr)
    document = _json(stdout)
    if error := _error_object(document):
        return _failure(call, error.msg, error, stderr)
    if not stdout.strip():
        said = "only wrote to standard error" if stderr.strip() else "said nothing"
        return _failure(call, f"it exited with {status} and {said}", stderr=stderr)
    printed = f"what is not JSON ({document})" if isinstance(document, JsonError) else "what is no error object"
    return _failure(call, f"it exited with {status} and printed {printed}: {_quote(stdout)}", stderr=stderr)


def _result(call: Calling, document: Any, outcome: Outcome) -> Result:
    """What ADD printed, read by its own version, or else the configuration's."""
    stdout, stderr = outcome.stdout, outcome.stderr
    if not stdout.strip():
        raise _failure(call, "it exited with 0 and printed nothing, where a result was due", stderr=stderr)
    if isinstance(document, JsonError):
        raise _failure(call, f"it printed a result that is not JSON ({document}): {_quote(stdout)}", stderr=stderr)
    if document is None:
        document = {}  # the word `null`, which the Go libraries read as an empty result
    if not isinstance(document, dict):
        raise _failure(call, f"it printed a result that is no JSON object: {_quote(stdout)}", stderr=stderr)
    try:
        return convert.decode(document, call.config["cniVersion"])
    except CniError as error:
        raise _failure(call, f"it printed an invalid result: {error}", stderr=stderr) from None


def _json(text: bytes) -> Any:
    """The value, or the JsonError that says why there is none."""
    try:
        return loads(text)
    except JsonError as error:
        return error


def _error_object(document: Any) -> CniError | None:
    """The contract's error type. A result has neither of its keys."""
    match document:
        case {"code": int(code), "msg": str(msg)} if not isinstance(code, bool):
            details = document.get("details")
            return CniError(code, msg or "it gave no reason", details if isinstance(details, str) else "")
    return None


def _failure(
    call: Calling, msg: str, error: CniError | None = None, stderr: bytes = b"", stopped: bool = False
) -> PluginError:
    return PluginError(
        call.plugin,
        call.command,
        msg,
        code=error.code if error else 0,
        details=error.details if error else "",
        stderr=stderr.decode(errors="backslashreplace"),
        network=call.network,
        hint="" if error or stopped else f"the program is {call.path}: is it a CNI plugin?",
    )


def _quote(text: bytes) -> str:
    shown = text.decode(errors="backslashreplace").strip()
    return repr(shown if len(shown) <= _QUOTED else f"{shown[:_QUOTED]}…")
