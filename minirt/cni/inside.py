"""What plugins of ours tell of their own work while they are at it: the runtime's side of `cni_plugins.sdk.narration`.

A call that is listened to has a socket beside its three pipes. Each message that arrives becomes an event for the one
who watches, in the order in which things happened:

    Calling  bridge ADD
      Stepping   ip link add …
      Calling    host-local ADD      by bridge
      Answered   host-local
      Stepping   ip addr add …
    Answered bridge

With `stop` a plugin waits before each step until the watcher has returned: whoever watches decides when it goes on.
Foreign plugins do not know of the socket; of the delegates that they call a stand-in tells (see `standin`). The law of
this file: it is imported only when somebody listens.
"""

from __future__ import annotations

import _socket
from time import monotonic

from cni_plugins.spec.jsontext import JsonError, loads
from cni_plugins.spec.names import REFUSED, STEPS_FD
from cni_plugins.spec.record import record, replace
from minirt.cni import executor
from minirt.cni.call import Answered, Calling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minirt.cni.call import Watch

_LONGEST = 1 << 18
_AT_ONCE = 1000  # messages: more than any plugin has steps


@record
class Stepping:
    """A plugin is about to change something: `text` is the command, or several, that would do the same. With `undo`
    it is about to take that back. One that `asks` waits for leave."""

    call: Calling
    plugin: str
    verb: str
    text: str
    undo: bool = False
    asks: bool = False


class Inside:
    """One call that is listened to; `close` when it has ended."""

    def __init__(self, call: Calling, watch: Watch, stop: bool) -> None:
        self._watch = watch
        self.refusal: BaseException | None = None
        self._delegates: dict[str, tuple[Calling, float]] = {}
        self._ours, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        number = f"{self._theirs.fileno()}{':step' if stop else ''}"
        self.call = replace(call, env={**call.env, STEPS_FD: number})
        self.given = self.call if executor.is_ours(call.path) else _with_standins(self.call)
        self.fd = self._theirs.fileno()
        self.ear = (self._ours.fileno(), self.hear)

    def hear(self) -> None:
        """Pass on what has been told; of a flood, so much that whoever waits for the plugin sees its time, too."""
        for _ in range(_AT_ONCE):
            try:
                message = self._ours.recv(_LONGEST)
            except (BlockingIOError, ConnectionError):
                return
            if not message:
                return
            try:
                told = loads(message)
            except JsonError:
                continue
            if isinstance(told, dict):
                self._event(told)

    def _event(self, told: dict[str, Any]) -> None:
        match told:
            case {"plugin": str(plugin), "verb": str(verb), "step": str(text)}:
                undo, asks = (told.get(key) is True for key in ("undo", "asks"))
                self._step(Stepping(self.call, plugin, verb, text, undo, asks))
            case {"plugin": str(plugin), "call": str(name), "command": str(verb), "path": str(path), "env": dict(env)}:
                env = {**self.call.env, **{key: value for key, value in env.items() if isinstance(value, str)}}
                by = plugin or self.call.plugin
                calling = Calling(verb, self.call.network, name, path, env, self._config(told), by)
                self._delegates[name] = calling, monotonic()
                self._watch(calling)
            case {"answered": str(name), "exit": int(code), "stdout": str(out), "stderr": str(err)}:
                if name in self._delegates:
                    calling, began = self._delegates.pop(name)
                    problem = out if code else ""
                    self._watch(Answered(calling, code, out.encode(), err.encode(), monotonic() - began, problem))

    def _config(self, told: dict[str, Any]) -> Mapping[str, Any]:
        """What a delegate is given on standard input, where that is told: mostly its caller's configuration."""
        try:
            config = loads(told["stdin"])
        except (KeyError, TypeError, AttributeError, JsonError):
            return self.call.config
        return config if isinstance(config, dict) else self.call.config

    def _step(self, event: Stepping) -> None:
        """Whoever watches gives leave by returning. What they raise is a refusal, which ends the plugin in its own
        way, with all taken back; it is raised again when that is done."""
        if not event.asks:
            return self._watch(event)
        leave = b"\n"
        try:
            self._watch(event)
        except BaseException as refusal:
            self.refusal, leave = refusal, REFUSED
        try:
            self._ours.send(leave)
        except OSError:
            pass  # it has ended meanwhile
        return None

    def close(self) -> None:
        """Pass on the rest, and hang up."""
        self.hear()
        self._ours.close()
        self._theirs.close()


def _with_standins(call: Calling) -> Calling:
    from minirt.cni import standin  # for foreign plugins alone

    return replace(call, env=standin.environment(call))
