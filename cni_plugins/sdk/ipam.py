"""Delegation: a plugin has its addresses managed by another, which it finds in CNI_PATH and runs as a runtime would.

The delegate gets the plugin's own environment and its whole configuration (SPEC.md 1.1.0, "Section 4: Plugin
Delegation"); its log goes to our standard error. It stays in our process group, so that whoever gives up on us takes
it along.

ADD is started early and awaited when its answer is needed, so that links are made meanwhile:

    lease = ipam.Lease(request)
    plan.do(lease)                # the delegate runs from here
    plan.do(AddVeth(...))
    result = lease.result()

A lease is a step: when the plan fails, also when the delegate itself does, its `undo` has the delegate DEL what it may
have given (P23).

A DHCP client speaks over the container's own link, so that one delegate is started when its answer is asked for, and
deletes before the link goes: `result(plan)` puts the lease behind the links' steps, and `begin` waits for its end.

CNI_PLAIN_EXEC set to anything has the delegate executed always. Otherwise it is forked from this interpreter when the
program found in CNI_PATH is a launcher of ours: 3 ms instead of 14.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import fdio, keys
from cni_plugins.sdk.executor import ExecutorError, Fork, Spawn, find
from cni_plugins.sdk.main import Request
from cni_plugins.spec import convert
from cni_plugins.spec.config import View, decode
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, NOT_AVAILABLE, CniError
from cni_plugins.spec.names import LENT_SOCKET, STEPS_FD
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.sdk.call import Call
    from cni_plugins.sdk.main import Outcome
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Plan

_NEED_THE_LINK = ("dhcp",)
_THEIRS = ("ranges", "subnet", "rangeStart", "rangeEnd", "gateway", "addresses", "routes", "resolvConf", "dataDir")


def wanted(request: Request) -> bool:
    """Whether the configuration names an IPAM plugin; without one a network is layer 2 only.

    Raises CniError 7 for one that would delegate to itself, and so on without end, and for an `ipam` that has what an
    IPAM plugin reads but does not say which.
    """
    if _itself(request):
        hint = "expected a plugin that manages addresses: host-local, static or dhcp"
        raise CniError(INVALID_CONFIG, f"ipam.type: {_type(request)!r} is the plugin that asks", hint)
    if _type(request):
        return True
    if request.command != "DEL":  # which must do without
        _refuse_nameless(request.conf.view("ipam"))
    return False


def _refuse_nameless(ipam: View) -> None:
    keys.refuse_slips(ipam, ("type",))
    stated = [key for key in _THEIRS if ipam.has(key)]
    if stated:
        hint = f"which plugin is to read {', '.join(stated)}? Without any, leave ipam out"
        raise CniError(INVALID_CONFIG, "ipam.type: missing", hint)


def delegate(request: Request, command: str = "") -> None:
    """Have the delegate do `command`, or else the request's own (DEL, CHECK, GC, STATUS); nothing without a delegate.

    Raises CniError: the delegate's own, or what kept it from running.
    """
    begin(request, command)()


def begin(request: Request, command: str = "") -> Callable[[], object]:
    """The same, begun; what is returned waits for its end, so that other work is done meanwhile. It must be called.

    Whatever `delegate` raises is raised by the waiting.
    """
    command = command or request.command
    if command == "DEL" and _itself(request):
        return lambda: None  # ADD refused it
    try:
        call = _start(request, command) if wanted(request) else None
        if call is not None and command == "DEL" and _needs_link(request):
            _answer(request, _wait(request, call, command))
            call = None
    except CniError as error:
        return _raiser(error)
    return lambda: _answer(request, _wait(request, call, command)) if call is not None else None


def collected(request: Request, *tasks: Callable[[], object]) -> tuple[Callable[[], object], ...]:
    """GC's `tasks` with the delegate's own: the last one, for what still runs must have lost its connection before
    another can be given its address; but before links go where it needs them."""
    own = (lambda: delegate(request),)
    return (*own, *tasks) if _needs_link(request) else (*tasks, *own)


def _raiser(error: CniError) -> Callable[[], object]:
    def wait() -> object:
        raise error

    return wait


class Lease(Step):
    """The delegate's ADD. `apply` starts it, `result` waits for it, `undo` gives back."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._call: Call | None = None
        self._later = False

    def describe(self) -> str:
        request = self.request
        return (
            f"CNI_COMMAND=ADD CNI_CONTAINERID={request.container_id} CNI_NETNS={request.netns} "
            f"CNI_IFNAME={request.ifname} CNI_PATH={':'.join(request.path)} {_type(request)} < the configuration"
        )

    def apply(self) -> None:
        """Raises CniError when the delegate cannot be started."""
        if not wanted(self.request):
            raise CniError(INVALID_CONFIG, "ipam.type: missing", "this plugin needs an IPAM plugin")
        self._later = _needs_link(self.request) or _one_by_one()
        if not self._later:
            self._call = _start(self.request, "ADD")

    def result(self, plan: Plan | None = None) -> Result:
        """What it gave: addresses without interfaces (P24). To be called once, after `apply`. Raises CniError.

        `plan` is the one that the lease is a step of.
        """
        if self._later:
            if plan is not None:  # to be undone before the link, over which an address is given back
                plan.done.remove(self)
                plan.done.append(self)
            self._later, self._call = False, _start(self.request, "ADD")
        if self._call is None:
            raise RuntimeError("the delegate's result can be had once, after it was started")
        call, self._call = self._call, None
        document = decode(
            _answer(self.request, _wait(self.request, call, "ADD")) or b"{}", f"the answer of {_who(self.request)}"
        )
        return convert.decode(_without_interfaces(document), self.request.version)

    def undo(self) -> None:
        """DEL, after ADD has ended one way or the other: a delegate killed half-way might still get its address. The
        call is told."""
        if self._later:
            return  # it has not been started
        call, self._call = self._call, None
        try:
            if call is not None:
                _wait(self.request, call, "ADD")
        finally:
            delegate(self.request, "DEL")


def _without_interfaces(document: dict[str, Any]) -> dict[str, Any]:
    """An IPAM plugin has none to speak of; some speak of one that is not there."""
    ips = View(document).get("ips")
    bare = {key: value for key, value in document.items() if key.casefold() not in ("interfaces", "ips")}
    if isinstance(ips, list):
        ips = [{key: ip[key] for key in ip if key != "interface"} if isinstance(ip, dict) else ip for ip in ips]
    return bare if ips is None else bare | {"ips": ips}


def _needs_link(request: Request) -> bool:
    return _type(request) in _NEED_THE_LINK


def _one_by_one() -> bool:
    """Whether somebody gives leave for every step: then the delegate and the plugin do not work side by side."""
    return os.environ.get(STEPS_FD, "").endswith(":step")


def _itself(request: Request) -> bool:
    """Whether the delegate is the plugin itself; where another has it for its delegate, too."""
    kind = _type(request)
    return bool(kind) and kind in (request.plugin, request.conf.string("type"))


def _type(request: Request) -> str:
    return request.conf.view("ipam").string("type")


def _who(request: Request) -> str:
    return f"IPAM plugin {_type(request)!r}"


def _start(request: Request, command: str) -> Call:
    plain = request.env.get("CNI_PLAIN_EXEC")
    executor = Spawn(own_group=False) if plain else Fork(own_group=False, preload=False)
    # The runtime's nftables socket is between it and us; under its number the delegate would meet another descriptor.
    env = {key: value for key, value in request.env.items() if key != LENT_SOCKET} | {"CNI_COMMAND": command}
    try:
        path = find(_type(request), request.path)
        keep_fds: tuple[int, ...] = ()
        if STEPS_FD in os.environ:
            from cni_plugins.sdk import narration

            narration.calling(_type(request), command, path, env)
            keep_fds = narration.descriptor()
        return executor.start(path, env, request.stdin, keep_fds=keep_fds)
    except (ExecutorError, OSError) as error:
        code = NOT_AVAILABLE if command == "STATUS" else INTERNAL
        raise CniError(code, f"cannot run {_who(request)}: {error}") from error


def _wait(request: Request, call: Call, command: str) -> Outcome:
    try:
        outcome = call.wait()
    except ExecutorError as error:
        raise CniError(INTERNAL, f"{_who(request)}: {error}") from error
    if STEPS_FD in os.environ:
        from cni_plugins.sdk import narration

        narration.answered(_type(request), command, outcome)
    fdio.write(2, outcome.stderr)
    return outcome


def _answer(request: Request, outcome: Outcome) -> bytes:
    """Its standard output when it succeeded. Raises its error as its own words and code, which are ours to pass on."""
    if outcome.exit == 0:
        return outcome.stdout
    try:
        view = View(decode(outcome.stdout, ""))
        error = CniError(view.integer("code"), view.string("msg"), view.string("details"))
    except CniError:
        how = f"exited with {outcome.exit}" if outcome.exit > 0 else f"was ended by signal {-outcome.exit}"
        said = (outcome.stdout or outcome.stderr).decode(errors="replace").strip()
        error = CniError(INTERNAL, f"{_who(request)} {how}", said[:500] or "it said nothing")
    raise error
