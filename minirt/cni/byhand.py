"""One plugin called by hand, as tutorials teach it: a program, a configuration, and the variables of the contract.

    minirt cni exec bridge add web /run/netns/web --conf bridge.json

The plugin is given what a runtime would give it, no more: nothing is remembered, no other plugin of the list is called,
what ADD did is taken back by nobody. The locks are held, for there may be runtimes at work beside.
"""

from __future__ import annotations

import os

from cni_plugins.spec.config import View, parse_list, parse_single
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, loads
from cni_plugins.spec.names import VALID_ATTACHMENTS
from cni_plugins.spec.record import record, replace
from minirt.cni import request
from minirt.cni.call import TOLD, Answered
from minirt.cni.chain import Caller
from minirt.cni.netns import alive
from minirt.cni.request import Attachment
from minirt.cni.tool import HINTS, IFNAME, absolute
from minirt.errors import ConfigError, Conflict, NotFound, PluginError, UsageError, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from minirt.cni.call import Event, Watch
    from minirt.cni.executor import Executor
    from minirt.cni.locks import Locks
    from minirt.cni.tool import Wishes

_NOTHING: Mapping[str, Any] = {}
VERBS = ("add", "del", "check", "gc", "status", "version")
STDIN = "-"


@record
class Request:
    """What is asked: `command` as the contract spells it, `conf` the path of the configuration or "-" (None without
    one), `valid` who is alive, for GC. A COMMAND leaves alone what it has no use for."""

    command: str
    container_id: str
    netns: str
    conf: str | None
    wishes: Wishes
    valid: tuple[tuple[str, str], ...] = ()


@record
class Answer:
    """What the plugin answered, and the error that a runtime would make of it, if it is one."""

    exit: int
    stdout: bytes
    stderr: bytes
    error: PluginError | None = None


def verb(word: str) -> str:
    """The contract's word for a command. Raises UsageError."""
    if word.lower() not in VERBS:
        raise UsageError(f"no command {word!r}", f"one of {', '.join(VERBS)}")
    return word.upper()


def read(source: str) -> str:
    """The text at a path, or on standard input. Raises NotFound, ConfigError."""
    try:
        with open(0 if source == STDIN else source, "rb", closefd=source != STDIN) as file:
            return file.read().decode().removeprefix("\ufeff")
    except FileNotFoundError:
        raise NotFound(f"no file {source!r}", "--conf names a network configuration, '-' is standard input") from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8 text", where=_named(source)) from None
    except OSError as error:
        raise ConfigError(f"cannot read it: {because(error)}", where=_named(source)) from error


def configuration(text: str, source: str, plugin_type: str) -> NetworkList:
    """A list of the one plugin that is meant, from a list or a single configuration. Raises ConfigError.

    It is meant by its type, or because it delegates to that type: an IPAM plugin reads its caller's configuration.
    """
    where = _named(source)
    try:
        document = loads(text)
    except JsonError as error:
        hint = "JSON has no comments, and no comma after the last item"
        raise ConfigError(f"malformed JSON: {error.problem}", hint, f"{where}:{error.line}:{error.column}") from None
    if not isinstance(document, dict):
        raise ConfigError("expected a JSON object: a network list, or the configuration of one plugin", where=where)
    try:
        _complete(View(document), where)
        network = (parse_list if View(document).has("plugins") else parse_single)(text, where)
        listed = View(document).has("plugins")
        return replace(network, plugins=(_meant(network, plugin_type, listed),))
    except CniError as error:
        raise ConfigError(str(error).removeprefix(f"{where}: "), where=where) from None


def _named(source: str) -> str:
    return "standard input" if source == STDIN else source


def _complete(view: View, where: str) -> None:
    """What a runtime would have inserted must stand in the file (SPEC.md, "Section 3", "Deriving …")."""
    for key, example in (("cniVersion", "1.0.0"), ("name", "lab")):
        if not view.string(key):
            raise ConfigError(f"no {key!r}", f'every configuration has one: "{key}": "{example}"', where)
    if not view.has("plugins") and not view.string("type"):
        hint = 'the configuration of one plugin has "type": "bridge", a network list has "plugins": [{…}]'
        raise ConfigError("neither 'type' nor 'plugins'", hint, where)


def _meant(network: NetworkList, plugin_type: str, listed: bool) -> dict[str, Any]:
    meant = [plugin for plugin in network.plugins if plugin_type in _types(plugin)]
    if len(meant) > 1:
        raise ConfigError(f"{plugin_type!r} stands in the list {len(meant)} times", "give it alone", network.source)
    if not meant:
        there = ", ".join(dict.fromkeys(name for plugin in network.plugins for name in _types(plugin)))
        what = "the list has" if listed else "the configuration is for"
        raise ConfigError(f"{what} {there}, not {plugin_type!r}", "its 'type' is the plugin's name", network.source)
    return meant[0]


def _types(plugin: dict[str, Any]) -> list[str]:
    return [name for name in (plugin["type"], View(plugin).view("ipam").string("type")) if name]


def _attachment(network: NetworkList, asked: Request) -> Attachment:
    """Raises UsageError, NotFound, ConfigError, Conflict."""
    if not asked.container_id or not (asked.netns or asked.command == "DEL"):
        raise UsageError(
            f"{asked.command} needs CONTAINER-ID and NETNS", "minirt cni exec bridge add web /run/netns/web"
        )
    netns = absolute(asked.netns) if asked.netns else ""
    if netns and not alive(netns):
        if os.path.exists(netns) and os.path.samefile(netns, "/proc/thread-self/ns/net"):
            raise Conflict(f"{netns} is the network namespace that minirt runs in", "name that of a container")
        if asked.command != "DEL":
            raise NotFound(f"no network namespace at {netns!r}", "`ip netns` and `lsns -t net` list them")
        netns = ""
    wishes = asked.wishes
    attachment = Attachment(
        network, asked.container_id, netns, wishes.ifname or IFNAME, wishes.args, wishes.capability_args
    )
    request.validate(attachment)
    return attachment


class ByHand:
    """Calls one plugin: `program` is a type that is searched for, or, with a slash in it, a path; `watch` is told of
    all that happens. Raises NotFound."""

    def __init__(
        self,
        program: str,
        executor: Executor,
        locks: Locks,
        timeout: float | None,
        environ: Mapping[str, str],
        watch: Watch | None = None,
        steps: str = TOLD,
    ) -> None:
        self._locks = locks
        self._answers: list[Answer] = []
        self.plugin_type = os.path.basename(program)
        if "/" in program:
            if not os.path.isfile(program):
                raise NotFound(f"no program {program!r}", "without a '/' it is searched in the folders of plugins")
            # Whom it delegates to probably lies beside it.
            executor = executor.preferring(os.path.dirname(os.path.abspath(program)))
        self._path = executor.find(self.plugin_type)
        self._caller = Caller(executor, timeout, (), self._watch, environ, ())
        if watch is not None:
            self._caller.listen(watch, steps)

    def call(self, asked: Request) -> Answer:
        """Call it. Raises UsageError, NotFound, ConfigError and Conflict before it runs, PluginError when it could not
        be run to its end."""
        if asked.command == "VERSION":
            return self._answer(lambda: self._caller.versions(self.plugin_type, self._path))
        if not asked.conf:
            raise UsageError(f"{asked.command} needs a configuration", "--conf FILE, where '-' is standard input")
        network = configuration(read(asked.conf), asked.conf, self.plugin_type)
        if asked.command in ("GC", "STATUS"):
            return self._look_after(network, asked)
        attachment = _attachment(network, asked)
        with self._locks.container(attachment.container_id), self._locks.network(network.name):
            return self._call(asked.command, network, attachment)

    def _look_after(self, network: NetworkList, asked: Request) -> Answer:
        if asked.command == "STATUS":
            return self._call("STATUS", network)
        alive = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in asked.valid]
        known = network.plugins[0].get(VALID_ATTACHMENTS)
        if not isinstance(known, list | None):
            raise ConfigError(f"{VALID_ATTACHMENTS}: expected a list", where=network.source)
        if known is None and not alive:
            raise UsageError(
                "GC removes all that is not alive: who is?",
                f"--valid ID:IFNAME for each attachment, or {VALID_ATTACHMENTS!r} in the configuration, where [] means "
                "nobody",
            )
        with self._locks.network(network.name, alone=True):
            return self._call("GC", network, generated={VALID_ATTACHMENTS: [*(known or ()), *alive]})

    def _call(
        self,
        command: str,
        network: NetworkList,
        attachment: Attachment | None = None,
        generated: Mapping[str, Any] = _NOTHING,
    ) -> Answer:
        (plugin,) = network.plugins
        before = View(plugin).get("prevResult")  # nobody else was called whose result it could be
        generated = dict(generated) | ({} if before is None else {"prevResult": before})
        return self._answer(
            lambda: self._caller.call(
                command, network, network.version, plugin, self._path, generated, attachment, name=self.plugin_type
            )
        )

    def _watch(self, event: Event) -> None:
        if isinstance(event, Answered) and event.exit is not None and not event.call.by:
            self._answers.append(Answer(event.exit, event.stdout, event.stderr))

    def _answer(self, call: Callable[[], object]) -> Answer:
        """Make the call. Raises PluginError only for a plugin that was not run to its end."""
        failure = None
        try:
            call()
        except PluginError as error:
            if not self._answers:
                raise
            failure = error
            failure.hint = failure.hint or HINTS.get(failure.code, "")
        return replace(self._answers[-1], error=failure)
