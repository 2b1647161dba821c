"""What a plugin tells while it works, to a runtime that wants to know: each step, and each call of a delegate.

A runtime that asks leaves the plugin one end of a message-oriented socket (SOCK_SEQPACKET) and names its descriptor by
CNI_STEPS_FD. One message is one line of JSON:

    {"plugin": "bridge", "verb": "ADD", "step": "ip link add …", "undo": false, "asks": false}     before it is (un)done
    {"plugin": "bridge", "verb": "ADD", "call": "host-local", "command": "ADD", "path": "/…", "env": {…}}
    {"plugin": "bridge", "verb": "ADD", "answered": "host-local", "command": "ADD", "exit": 0, "stdout": "…", …}

`CNI_STEPS_FD=7:step` asks for more: before a step that `asks` one byte is waited for, which is the runtime's leave to
go on, or, as "n", its refusal: the step then fails, and the plugin takes back what it has done.
One that does not ask is made under a lock of many, and waits for no reader either: see `rest`.
Delegates inherit the socket. All of this is in the process's environment, as a log's place is its standard error, so
nothing needs to be carried around; steps that are part of another step are not told.

`sdk.main` has `new_plan` and `do`, by which plugins carry out steps; this file is imported only when somebody listens.
A listener that has gone away is no failure.
"""

from __future__ import annotations

import _socket
import os
import sys

from cni_plugins.spec.errors import PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.names import REFUSED, STEPS_FD, parameters
from cni_plugins.spec.steps import Undoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.sdk.main import Outcome
    from cni_plugins.spec.steps import Step

_LONGEST = 1 << 16  # characters of a text that are told: a message must fit into the socket's buffer
_QUOTED = 1000  # characters of a step that was refused

_kept: list[bytes] = []  # what there was no room for


def descriptor() -> tuple[int, ...]:
    """What a delegate must be left, for it to tell as well."""
    channel = _channel()
    return () if channel is None else (channel.detach(),)


def calling(delegate: str, command: str, path: str, env: dict[str, str]) -> None:
    """A delegate is about to be called."""
    _tell({"call": delegate, "command": command, "path": path, "env": parameters(env)})


def answered(delegate: str, command: str, outcome: Outcome) -> None:
    """It has answered."""
    said = {
        key: _fitting(text.decode(errors="backslashreplace"))
        for key, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr))
    }
    _tell({"answered": delegate, "command": command, "exit": outcome.exit, **said})


def step(step: Step) -> None:
    """`step` is about to be applied, or undone."""
    undo = isinstance(step, Undoing)
    text = step.describe()
    if text:  # a step that has nothing to do says so by having nothing to say
        asks = step.asks and os.environ[STEPS_FD].endswith(":step")
        told = {"step": _fitting(text), "undo": undo, "asks": asks}
        if _tell(told, wait=asks, patient=step.asks) == REFUSED and not undo:
            raise CniError(PLUGIN_SPECIFIC, f"given up before: {text[:_QUOTED]}", "somebody who was asked said no")


def _fitting(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … {len(text) - _LONGEST} more characters"


def rest() -> None:
    """Tell what there was no room for; for the end of a call, when no lock is held any more."""
    if _kept and (channel := _channel()) is not None:
        _sent(channel)
        channel.detach()


def _tell(what: dict[str, Any], wait: bool = False, patient: bool = True) -> bytes:
    """The answer, where one is waited for. What is not `patient` is kept for later while there is no room."""
    from cni_plugins.spec.jsontext import dumps

    channel = _channel()
    if channel is None:
        return b""
    who = {"plugin": os.path.basename(sys.argv[0]), "verb": os.environ.get("CNI_COMMAND", "")}
    _kept.append(dumps(who | what, indent=0).encode(errors="replace"))
    try:
        return channel.recv(1) if _sent(channel, patient) and wait else b""
    except OSError:
        return b""  # nobody answers any more: the work goes on
    finally:
        channel.detach()


def _sent(channel: _socket.socket, patient: bool = True) -> bool:
    """Send what is kept, in order, as far as there is room; a message that cannot be sent at all, because nobody
    listens any more or it is too long, is left out. Whether the last one has gone."""
    went = False
    while _kept:
        try:
            channel.send(_kept[0], 0 if patient else _socket.MSG_DONTWAIT)
            went = True
        except BlockingIOError:
            return False
        except OSError:
            went = False
        del _kept[0]
    return went


def _channel() -> _socket.socket | None:
    """The socket, to be detached after use; None unless it is such a socket: one that a foreign plugin was given may
    not have come through, and its number mean something else."""
    text = os.environ.get(STEPS_FD, "").partition(":")[0]
    if not (text.isascii() and text.isdigit()):
        return None
    try:
        channel = _socket.socket(fileno=int(text))
    except (OSError, OverflowError):
        return None
    if (channel.family, channel.type) == (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
        return channel
    channel.detach()
    return None
