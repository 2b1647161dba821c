"""What every plugin's process is: environment and standard input in; result or error, and an exit code, out.

`dispatch` is the whole of it without a process: the order of its checks is the Go skeleton's (`pkg/skel`), so a
mistake is answered with the same code everywhere. environment → standard input → JSON → network name → command →
version → namespace → handler. One difference is deliberate: the guard against a CNI_NETNS that is the plugin's own
namespace stands before the handler, not after it, when a host's interfaces have been taken down already.

`main` is the edge: it reads descriptor 0, writes 1 and 2, and leaves with `os._exit`, which saves the interpreter's
shutdown. Nothing but the answer is ever written to standard output. A plugin's file ends with
`PLUGIN = Plugin(...)`; its launcher calls `main(PLUGIN)`.

Source: SPEC.md 1.1.0, "Section 2: Execution Protocol"; the table of variables is the skeleton's.
"""

from __future__ import annotations

import os
import sys

from cni_plugins.sdk import fdio
from cni_plugins.spec import convert, names, versions
from cni_plugins.spec.config import View, decode
from cni_plugins.spec.errors import (
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_ENVIRONMENT,
    INVALID_NETNS,
    IO_FAILURE,
    CniError,
)
from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.names import STEPS_FD
from cni_plugins.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn

    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Plan, Step

_ATTACHMENT = ("ADD", "DEL", "CHECK")
_COMMANDS = (*_ATTACHMENT, "GC", "STATUS", "VERSION")

# Variable, the commands that need it, its check. CNI_NETNS may be empty for DEL: the namespace may be gone (P9).
_VARIABLES: tuple[tuple[str, tuple[str, ...], Callable[[str], str] | None], ...] = (
    ("CNI_CONTAINERID", _ATTACHMENT, names.container_id),
    ("CNI_NETNS", ("ADD", "CHECK"), None),
    ("CNI_IFNAME", _ATTACHMENT, names.ifname),
    ("CNI_PATH", (*_ATTACHMENT, "GC", "STATUS"), None),
)


@record
class Outcome:
    """How a plugin's run ended: exit code (or minus the signal's number), and what it wrote."""

    exit: int
    stdout: bytes = b""
    stderr: bytes = b""


@record
class Request:
    """One call of a plugin, checked. `version` is the configuration's, 0.1.0 when it states none.

    `prev_result` is in the one inner shape whatever its version was. `stdin` and `env` are as they came, for
    delegation, which passes both on whole (P21); `plugin` is who was called. For GC and STATUS the fields of the
    attachment are empty.
    """

    command: str
    container_id: str
    netns: str
    ifname: str
    args: dict[str, str]
    path: tuple[str, ...]
    conf: View
    version: str
    network: str
    prev_result: Result | None
    stdin: bytes
    env: Mapping[str, str]
    plugin: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What an attachment is known by: network, container, interface."""
        return self.network, self.container_id, self.ifname


class Plugin:
    """A plugin as data. `add` gives a Result; the others give nothing and say what is wrong by raising CniError.

    GC and STATUS may be left out: the plugin then has nothing of its own to collect and is always ready. `program` is
    what its file is when it is called with words behind its name, as no runtime does: it gets them, and gives the exit
    code.
    """

    def __init__(
        self,
        name: str,
        *,
        add: Callable[[Request], Result],
        delete: Callable[[Request], None],
        check: Callable[[Request], None],
        gc: Callable[[Request], None] | None = None,
        status: Callable[[Request], None] | None = None,
        about: str = "",
        versions: tuple[str, ...] = versions.ALL,
        program: Callable[[list[str]], int] | None = None,
    ) -> None:
        self.name = name
        self.about = about or f"CNI {name} plugin"
        self.versions = versions
        self.program = program
        self.add = add
        self.others = {"DEL": delete, "CHECK": check, "GC": gc, "STATUS": status}


def dispatch(plugin: Plugin, env: Mapping[str, str], stdin: Callable[[], bytes]) -> Outcome:
    """Answer one call. `stdin` is called at most once, and not for VERSION (nobody may be writing there)."""
    command = env.get("CNI_COMMAND", "")
    if not command:
        spoken = ", ".join(plugin.versions)
        return Outcome(0, stderr=f"{plugin.about}\nCNI protocol versions supported: {spoken}\n".encode())
    if command == "VERSION":
        document = {"cniVersion": plugin.versions[-1], "supportedVersions": plugin.versions}
        return Outcome(0, f"{dumps(document, indent=0)}\n".encode())
    version = ""
    try:
        _check_environment(command, env)
        source = _read(stdin)
        conf = View(decode(source, "standard input"))
        network = names.network(conf.string("name"))
        version = conf.string("cniVersion") or versions.ALL[0]
        _check_command(command)
        _check_version(plugin, command, version)
        request = _request(plugin, command, env, conf, version, network, source)
        _check_namespace(request)
        return Outcome(0, _call(plugin, request))
    except CniError as error:
        return _failed(error, version)
    except BaseException as error:  # whatever it is, standard output gets an error object and not a traceback
        trace = _traceback(error) if env.get("CNI_DEBUG") else b""
        return _failed(_unexpected(error), version, trace)


def main(plugin: Plugin) -> NoReturn:
    """Run `plugin` as this process, to its end."""
    if plugin.program is not None and sys.argv[1:]:
        sys.exit(plugin.program(sys.argv[1:]))
    status = 1
    source: list[bytes] = []  # what was read, for whoever needs it again

    def stdin() -> bytes:
        source[:] = source or [fdio.read(0)]
        return source[0]

    try:
        outcome = dispatch(plugin, os.environ, stdin)
        try:
            fdio.write(2, outcome.stderr)
            fdio.write(1, outcome.stdout)
            status = outcome.exit
        except OSError as error:  # nobody reads our answer any more: it counts as a failure, and ADD's leaves nothing
            warn(f"{plugin.name}: cannot write the answer: {error.strerror}")
            if outcome.exit == 0 and os.environ.get("CNI_COMMAND") == "ADD":
                dispatch(plugin, {**os.environ, "CNI_COMMAND": "DEL"}, stdin)
    finally:
        os._exit(status)


def new_plan() -> Plan:
    """A plan for this process's steps. A runtime that wants to know what its plugins do is told (see `narration`)."""
    from cni_plugins.spec.steps import Plan  # not every plugin has steps

    if STEPS_FD not in os.environ:
        return Plan()
    from cni_plugins.sdk import narration

    return Plan(narration.step)


def do(*steps: Step) -> None:
    """Apply `steps` that have no way back, told as those of a plan are."""
    new_plan().do(*steps)


def later(step: Step) -> Callable[[], None]:
    """`do` it when called."""
    return lambda: do(step)


def warn(text: str) -> None:
    """One line of log on standard error, which is where a plugin's logs go. Never fails."""
    try:
        fdio.write(2, f"{text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass  # standard error may be closed, and a log is no reason to fail


def _check_environment(command: str, env: Mapping[str, str]) -> None:
    """All that are missing are named at once, unless a value that stands before them is wrong in itself."""
    missing = []
    for name, needed_by, check in _VARIABLES:
        if command not in needed_by:
            continue
        if not env.get(name):
            missing.append(name)
        elif check is not None:
            check(env[name])
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")


def _read(stdin: Callable[[], bytes]) -> bytes:
    try:
        return stdin()
    except OSError as error:
        raise CniError(IO_FAILURE, f"error reading from stdin: {error.strerror}") from error


def _check_command(command: str) -> None:
    if command not in _COMMANDS:
        raise CniError(
            INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}", f"expected one of {', '.join(_COMMANDS)}"
        )


def _check_version(plugin: Plugin, command: str, version: str) -> None:
    """The configuration's version must have the verb, and be literally one that the plugin speaks."""
    wanted = versions.parse(version)
    if not versions.allows(version, command):
        first = versions.FIRST_WITH[command]
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"config version does not allow {command}",
            f"{command} came with {first}, the config is {version}",
        )
    if command in versions.FIRST_WITH and all(versions.parse(spoken) < wanted for spoken in plugin.versions):
        raise CniError(INCOMPATIBLE_VERSION, f"plugin version does not allow {command}")
    if version not in plugin.versions:
        spoken = ", ".join(plugin.versions)
        raise CniError(
            INCOMPATIBLE_VERSION, "incompatible CNI versions", f"config is {version!r}, plugin supports {spoken}"
        )


def _request(
    plugin: Plugin, command: str, env: Mapping[str, str], conf: View, version: str, network: str, source: bytes
) -> Request:
    attached = command in _ATTACHMENT
    return Request(
        command=command,
        container_id=env["CNI_CONTAINERID"] if attached else "",
        netns=env.get("CNI_NETNS", "") if attached else "",
        ifname=env["CNI_IFNAME"] if attached else "",
        args=_args(env.get("CNI_ARGS", ""), command) if attached else {},
        path=tuple(folder for folder in env["CNI_PATH"].split(":") if folder),
        conf=conf,
        version=version,
        network=network,
        prev_result=_prev_result(conf, version, command) if attached else None,
        stdin=source,
        env=env,
        plugin=plugin.name,
    )


def _args(text: str, command: str) -> dict[str, str]:
    """`K=V;K=V`. Keys that nobody knows are no error: orchestrators send their own to every plugin.

    A pair that is malformed is one, except for DEL: what ADD refused must still be deletable.
    """
    found = {}
    for pair in text.split(";") if text else ():
        parts = pair.split("=")
        if len(parts) == 2:
            found[parts[0]] = parts[1]
        elif command != "DEL":
            raise CniError(INTERNAL, f"ARGS: invalid pair {pair!r}", f"CNI_ARGS is {text!r}, expected KEY=VALUE;…")
    return found


def _prev_result(conf: View, version: str, command: str) -> Result | None:
    """The result of the plugins before, or of ADD. DEL must do without one (P11), so it does without a broken one."""
    try:
        document = conf.view("prevResult").document
        return convert.decode(document, version) if conf.has("prevResult") else None
    except CniError as error:
        if command != "DEL":
            raise CniError(error.code, f"prevResult: {error.msg}", error.details) from None
        warn(f"prevResult is left out of account: {error}")
        return None


def _check_namespace(request: Request) -> None:
    """Refuse to work on the namespace that we run in: a path by pid may have come to mean the host (pain 24)."""
    if not request.netns or request.env.get("CNI_NETNS_OVERRIDE", "").upper() in ("1", "TRUE"):
        return
    try:
        theirs, ours = os.stat(request.netns), os.stat("/proc/thread-self/ns/net")
    except OSError:
        return  # a namespace that is gone is the handler's business: fine for DEL, an error for ADD
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino):
        raise CniError(
            INVALID_NETNS,
            "plugin's netns and netns from CNI_NETNS should not be the same",
            f"{request.netns} is the namespace the plugin was started in",
        )


def _call(plugin: Plugin, request: Request) -> bytes:
    """Run the handler; what it has to say on standard output."""
    try:
        if request.command == "ADD":
            return dumps(_encoded(plugin, request, plugin.add(request))).encode()
        handler = plugin.others[request.command]
        if handler is not None:
            handler(request)
        return b""
    finally:
        if STEPS_FD in os.environ:
            from cni_plugins.sdk import narration

            narration.rest()


def _encoded(plugin: Plugin, request: Request, result: Result) -> dict[str, Any]:
    """The result's document. One that the version has no room for fails the ADD, which is then taken back."""
    try:
        return convert.encode(result, request.version)
    except CniError as error:
        delete = plugin.others["DEL"]
        try:
            if delete is not None:
                delete(replace(request, command="DEL"))
        except Exception as failure:
            error.add_note(f"not undone: {failure}")
        raise


def _failed(error: CniError, version: str, stderr: bytes = b"") -> Outcome:
    notes = getattr(error, "__notes__", [])
    if notes:  # what could not be undone is part of what the user must know
        error = CniError(error.code, error.msg, "; ".join([error.details, *notes] if error.details else notes))
    return Outcome(1, dumps(error.to_json(version)).encode(errors="replace"), stderr)


def _unexpected(error: BaseException) -> CniError:
    """A failure without a code of its own, in words."""
    files = [str(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    if not isinstance(error, OSError):
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    elif type(error).__str__ is not OSError.__str__:
        text = str(error)  # it has better words than we, the kernel's own
    else:
        text = ": ".join([" to ".join(files), error.strerror or ""] if files else [error.strerror or str(error)])
    wrapped = CniError(INTERNAL, text)
    for note in getattr(error, "__notes__", []):
        wrapped.add_note(note)
    return wrapped


def _traceback(error: BaseException) -> bytes:
    import traceback  # only a developer pays for it

    return "".join(traceback.format_exception(error)).encode(errors="backslashreplace")
