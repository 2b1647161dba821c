"""The plugins of one network list, called one after another for one attachment, in one version of the contract.

ADD goes through the list and hands each plugin the result of the one before. When a plugin fails, all that have been
called are deleted, newest first, the failed one included, for nobody knows how far it came; a deletion that fails does
not keep the others from being tried. DEL goes backwards and stops at the first failure: a plugin that stands later in
the list may still use what an earlier one would free. By force it goes on. CHECK goes forwards.
"""

from __future__ import annotations

from time import sleep

from cni_plugins.spec import convert, versions
from cni_plugins.spec.errors import INCOMPATIBLE_VERSION, TRY_AGAIN_LATER, CniError
from cni_plugins.spec.names import LENT_SOCKET
from minirt.cni import call, request
from minirt.errors import MinirtError, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from cni_plugins.spec.result import Result
    from minirt.cni.executor import Executor
    from minirt.cni.nftsocket import NftSocket
    from minirt.cni.request import Attachment

_NOTHING: Mapping[str, Any] = {}


class SeveralFailed(MinirtError):
    """More than one thing was tried and failed; `errors` has them all."""

    def __init__(self, what: str, errors: Sequence[MinirtError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{what}: {'; '.join(map(told, errors))}", next((e.hint for e in errors if e.hint), ""))


def told(error: BaseException) -> str:
    """The error with its notes, on one line."""
    return "; ".join((str(error), *getattr(error, "__notes__", ())))


def incompatible(error: BaseException) -> bool:
    """Whether a plugin said that it does not speak the version, or has not the verb."""
    return isinstance(error, PluginError) and error.code == INCOMPATIBLE_VERSION


class Caller:
    """How plugins are called: by which executor, with how much patience, watched by whom.

    `timeout` is in seconds a call; `retry_after` are the waits after "try again later" (code 11), before giving in to
    it; `environ` is what plugins inherit, and `keep_fds` the descriptors that are left to them; `steps` is what the
    watcher hears of the plugins' own steps (`call.TOLD`, `call.STOPPED`), nothing when it is empty.
    """

    def __init__(
        self,
        executor: Executor,
        timeout: float | None,
        retry_after: Sequence[float],
        watch: call.Watch | None,
        environ: Mapping[str, str],
        keep_fds: Sequence[int],
        steps: str = "",
    ) -> None:
        self.executor = executor
        self.timeout = timeout
        self.retry_after = tuple(retry_after)
        self.environ = environ
        self._watch = watch
        self._keep_fds = tuple(keep_fds)
        self._steps = steps

    def listen(self, watch: call.Watch, steps: str = call.TOLD) -> None:
        """Have `watch` told of all that happens from now on, too."""
        self._watch = call.both(watch, self._watch) if self._watch is not None else watch
        self._steps = call.STOPPED if call.STOPPED in (steps, self._steps) else call.TOLD

    def find(self, plugin: Mapping[str, Any]) -> str:
        return self.executor.find(plugin["type"])

    def call(
        self,
        command: str,
        network: NetworkList,
        version: str,
        plugin: Mapping[str, Any],
        path: str,
        generated: Mapping[str, Any] = _NOTHING,
        attachment: Attachment | None = None,
        shared: NftSocket | None = None,
        name: str = "",
    ) -> Result:
        """One call of one plugin, whose `name` is not its configuration's type when that is another's, whose delegate
        it is. Raises PluginError."""
        env = request.environment(command, attachment, self.executor.directories, self.environ)
        capability_args = attachment.capability_args if attachment else _NOTHING
        config = request.configuration(network, plugin, version, capability_args, generated)
        fds = shared.fds() if shared is not None else ()
        if fds:
            env[LENT_SOCKET] = str(fds[0])
        calling = call.Calling(command, network.name, name or plugin["type"], path, env, config, "", network.source)
        return call.make(calling, self.executor, self.timeout, (*self._keep_fds, *fds), self._watch, self._steps)

    def versions(self, plugin_type: str, path: str = "") -> tuple[str, ...]:
        """The versions that the plugin says it speaks: the one that is found, or that at `path`. Raises NotFound,
        PluginError."""
        path = path or self.executor.find(plugin_type)
        # Values that mean nothing: plugins from before the verb fail without them, in words that would mislead.
        nobody = {"CNI_CONTAINERID": "dummy", "CNI_NETNS": "dummy", "CNI_IFNAME": "dummy"}
        env = request.environment("VERSION", None, self.executor.directories, self.environ) | nobody
        calling = call.Calling("VERSION", "", plugin_type, path, env, {"cniVersion": versions.NEWEST})
        return call.ask_versions(calling, self.executor, self.timeout, self._watch)


class Chain:
    """One list for one attachment. `result` is the document that the next plugin is given as prevResult, or empty."""

    def __init__(
        self,
        caller: Caller,
        attachment: Attachment,
        version: str,
        shared: NftSocket,
        result: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self._caller = caller
        self._attachment = attachment
        self._version = version
        self._shared = shared
        self._called: list[tuple[Mapping[str, Any], str]] = []
        self.result = result

    def add(self) -> None:
        """ADD for every plugin; all are found before the first is called. Raises NotFound, PluginError; then `undo`."""
        found = [(plugin, self._caller.find(plugin)) for plugin in self._attachment.network.plugins]
        for plugin, path in found:
            self._called.append((plugin, path))
            try:
                self.result = self._add_one(plugin, path)
            except call.NotStarted:
                self._called.pop()
                raise

    def _add_one(self, plugin: Mapping[str, Any], path: str) -> dict[str, Any]:
        def forget() -> None:
            self._call("DEL", plugin, path)  # there must be no second ADD without a DEL between

        result = self._patiently(lambda: self._call("ADD", plugin, path), forget)
        try:
            return convert.encode(result, self._version)
        except CniError as error:
            network = self._attachment.network.name
            raise PluginError(plugin["type"], "ADD", f"its result is of no use: {error}", network=network) from None

    def undo(self, reason: BaseException) -> list[MinirtError]:
        """DEL for every plugin that was called, newest first, whatever fails on the way; what failed."""
        failures: list[MinirtError] = []
        while self._called:
            plugin, path = self._called.pop()
            try:
                self._call("DEL", plugin, path)
            except MinirtError as error:
                # One that did not speak the version of ADD says so again: it has done nothing.
                if not (incompatible(reason) and incompatible(error)):
                    failures.append(error)
        return failures

    def delete(self, force: bool, last: bool = True) -> None:
        """DEL for every plugin, last one first. Raises NotFound, PluginError; by force SeveralFailed, at the end.

        Unless this is the `last` version there is, a plugin that does not speak it is no failure to go on from.
        """
        failures: list[MinirtError] = []
        for plugin in reversed(self._attachment.network.plugins):
            try:
                self._ask("DEL", plugin)
            except MinirtError as error:
                if not force or (incompatible(error) and not last):
                    raise
                failures.append(error)
        if failures:
            raise SeveralFailed(f"{self._attachment} was deleted by force", failures)

    def check(self) -> None:
        """CHECK for every plugin. Raises NotFound, PluginError."""
        for plugin in self._attachment.network.plugins:
            self._ask("CHECK", plugin)

    def _ask(self, command: str, plugin: Mapping[str, Any]) -> None:
        path = self._caller.find(plugin)
        self._patiently(lambda: self._call(command, plugin, path))

    def _call(self, command: str, plugin: Mapping[str, Any], path: str) -> Result:
        network = self._attachment.network
        # A plugin may be deleted before any result is there; and before 0.4.0 DEL knew no prevResult.
        known = self.result and (command == "ADD" or versions.at_least(self._version, "0.4.0"))
        generated = {"prevResult": self.result} if known else {}
        return self._caller.call(
            command, network, self._version, plugin, path, generated, self._attachment, self._shared
        )

    def _patiently(self, attempt: Callable[[], Result], between: Callable[[], None] = lambda: None) -> Result:
        """Repeat what a plugin asks to have tried again later, a few times."""
        for delay in self._caller.retry_after:
            try:
                return attempt()
            except PluginError as error:
                if error.code != TRY_AGAIN_LATER:
                    raise
            between()
            sleep(delay)
        return attempt()
