"""ADD, DEL, CHECK, GC, STATUS and VERSION: what a runtime, or a person, asks for. The object is `Cni`.

Around the plugins' own order (see `chain`) it puts what the contract wants of a runtime: one operation at a time for a
container, none on a network that is being collected; what was added is remembered, with the configuration of then, for
DEL and CHECK; a plugin that does not speak the list's highest version (`cniVersions`) is asked in the next; several
networks of one container are all made or none; what is deleted together shares one nftables socket.

Source: SPEC.md 1.1.0, "Section 3: Execution of Network Configurations".
"""

from __future__ import annotations

import os

from cni_plugins.spec import convert, versions
from cni_plugins.spec.config import parse_list
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.names import EARLY_ATTACHMENTS, VALID_ATTACHMENTS
from cni_plugins.spec.record import replace
from minirt.cni import call, request
from minirt.cni.cache import ROOT, Cache, Entry
from minirt.cni.chain import Caller, Chain, SeveralFailed, incompatible, told
from minirt.cni.locks import Locks
from minirt.cni.nftsocket import NftSocket
from minirt.cni.request import Attachment
from minirt.errors import ConfigError, Conflict, KernelRefused, MinirtError, NotFound, PluginError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, TypeVar

    from cni_plugins.spec.config import NetworkList
    from cni_plugins.spec.result import Result
    from minirt.cni.executor import Executor
    from minirt.cni.locks import Held

    T = TypeVar("T")

TIMEOUT = 60.0  # seconds that a plugin has for one call
RETRY_AFTER = (0.1, 0.5, 2.0)  # seconds between attempts when a plugin says "try again later"


class Cni:
    """Puts plugins to work; one object serves any number of attachments, one after another.

    `watch` is called with a `call.Calling` before, and a `call.Answered` after, each call of a plugin, and with
    `inside.Stepping` for what the plugin does when `steps` is `call.TOLD` or `call.STOPPED`. `tell` is given,
    once, each thing that went wrong without being a failure; `warnings` collects them. The other parameters are those
    of `chain.Caller`.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        cache_root: str = ROOT,
        locks: Locks | None = None,
        timeout: float | None = TIMEOUT,
        retry_after: Sequence[float] = RETRY_AFTER,
        watch: call.Watch | None = None,
        environ: Mapping[str, str] = os.environ,
        keep_fds: Sequence[int] = (),
        tell: Callable[[str], None] = lambda _text: None,
        steps: str = "",
    ) -> None:
        self.tell = tell
        self.warnings: list[str] = []
        self.cache = Cache(cache_root, self.warn)
        self._locks = locks or Locks()
        self._caller = Caller(executor, timeout, retry_after, watch, environ, keep_fds, steps)

    def listen(self, watch: call.Watch, steps: str = call.TOLD) -> None:
        """Have `watch` told of all that plugins do from now on, too."""
        self._caller.listen(watch, steps)

    def warn(self, text: str) -> None:
        """Tell of something that a person should know, though it is no failure."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.tell(text)

    # --- ADD ---------------------------------------------------------------------------------------------------------

    def add(self, attachment: Attachment) -> Result:
        """Attach, and remember it; on failure nothing is left.

        Raises ConfigError, NotFound or Conflict before anything runs, PluginError after; what could not be taken back
        is told in the error's notes.
        """
        return self.add_all((attachment,))[0]

    def add_all(self, attachments: Sequence[Attachment]) -> list[Result]:
        """Make the attachments of one container in this order; when one fails, none is left. Raises as `add`."""
        for attachment in attachments:
            request.validate(attachment)
            if not os.path.exists(attachment.netns):
                raise NotFound(f"no network namespace at {attachment.netns!r}", "it must be there before its networks")
        if not attachments:
            return []
        with self._container(attachments), NftSocket() as shared:
            results: list[Result] = []
            try:
                for attachment in attachments:
                    results.append(self._add(attachment, shared))
            except BaseException as error:
                done = attachments[: len(results)]
                _note(error, self._delete_each(reversed(done), True, shared))
                raise
            return results

    def renew_all(
        self,
        attachments: Sequence[Attachment],
        begin: Callable[[], None],
        keep: Callable[[Attachment, Result], None],
    ) -> None:
        """DEL and ADD again, one after another, for attachments of one container that stay: what plugins keep on the
        host is made anew. What is to stay as it was, each must ask for (capabilities ips and mac).

        `begin` is called when nobody else can add or delete for the container any more, and may raise to have nothing
        done; `keep` is told each new result. Each is tried, whatever becomes of the others; one that cannot be added
        again is left out, and may be renewed later. Raises as `add`. A plugin that fails on DEL, as some do when they
        miss what they have made, is only told of where ADD fails too.
        """
        for attachment in attachments:
            request.validate(attachment)
            for plugin in attachment.network.plugins:
                self._caller.find(plugin)
        failures: list[MinirtError] = []
        with self._container(attachments), NftSocket() as shared:
            begin()
            for attachment in attachments:
                # Alone: nobody shall be given the address meanwhile.
                with self._locks.network(attachment.network.name, alone=True):
                    left = self._delete_by_force(attachment, shared)
                    try:
                        keep(attachment, self._add_alone(attachment, shared))
                    except MinirtError as error:
                        _note(error, left)
                        failures.append(error)
        _raise(failures, "networks could not be joined again")

    def _delete_by_force(self, attachment: Attachment, shared: NftSocket) -> Sequence[MinirtError]:
        """What failed on the way."""
        try:
            self._delete(attachment, True, shared)
        except SeveralFailed as failed:
            return failed.errors
        return ()

    def _add(self, attachment: Attachment, shared: NftSocket) -> Result:
        network = attachment.network
        with self._locks.network(network.name):
            if self.cache.get(network.name, attachment.container_id, attachment.ifname):
                raise Conflict(f"{attachment} is attached already", "it must be deleted before it is added again")
            return self._add_alone(attachment, shared)

    def _add_alone(self, attachment: Attachment, shared: NftSocket) -> Result:
        """The network's lock is held, and the attachment is not there."""

        def attempt(version: str) -> Result:
            return self._add_list(attachment, Chain(self._caller, attachment, version, shared), version)

        return _negotiate(attachment.network.versions, attempt)

    def _add_list(self, attachment: Attachment, chain: Chain, version: str) -> Result:
        network = attachment.network
        try:
            chain.add()
            self._write(
                Entry(
                    network.name,
                    attachment.container_id,
                    attachment.ifname,
                    attachment.netns,
                    network.text,
                    attachment.args,
                    attachment.capability_args,
                    chain.result,
                )
            )
        except BaseException as error:
            _note(error, chain.undo(error))
            raise
        return convert.decode(dict(chain.result), version)

    # --- DEL ---------------------------------------------------------------------------------------------------------

    def delete(self, attachment: Attachment, force: bool = False) -> None:
        """Detach. What was never attached, or is not any more, is no error; `netns` may be empty.

        What ADD was given counts, where it is known, whatever `attachment` says. The first failure ends it: PluginError
        or NotFound, and it must be asked for again. With `force` SeveralFailed tells all failures, and the attachment
        is forgotten.
        """
        self.delete_all((attachment,), force)

    def delete_all(self, attachments: Sequence[Attachment], force: bool = False) -> None:
        """Delete the attachments of one container, last one first; each is tried, whatever becomes of the others."""
        if not attachments:
            return
        with self._container(attachments), NftSocket() as shared:
            failures = self._delete_each(reversed(attachments), force, shared)
        _raise(failures, "networks could not be left")

    def recall(self, network: str, container_id: str, ifname: str) -> Attachment | None:
        """The attachment as it was added, from the cache; None when nothing is known of it."""
        entry = self.cache.get(network, container_id, ifname)
        return self._known(entry) if entry else None

    def recall_all(self, container_id: str) -> list[Attachment]:
        """All that the cache knows of a container, once nobody is at work on it."""
        with self._locks.container(container_id):
            entries = list(self.cache.entries(container_id))
        return [known for entry in entries if (known := self._known(entry))]

    def _delete_each(self, attachments: Iterable[Attachment], force: bool, shared: NftSocket) -> list[MinirtError]:
        failures: list[MinirtError] = []
        for attachment in attachments:
            try:
                with self._locks.network(attachment.network.name):
                    self._delete(attachment, force, shared)
            except MinirtError as error:
                failures.append(error)
        return failures

    def _delete(self, attachment: Attachment, force: bool, shared: NftSocket) -> None:
        entry = self.cache.get(attachment.network.name, attachment.container_id, attachment.ifname)
        if entry and (known := self._known(entry)):
            attachment = replace(known, netns=attachment.netns)
        offered = _offered(attachment.network, entry)

        def attempt(version: str) -> None:
            chain = Chain(self._caller, attachment, version, shared, self._cached_result(entry, version))
            chain.delete(force, last=version == offered[-1])

        try:
            _negotiate(offered, attempt)
        except SeveralFailed:  # by force: nothing more can be done about it
            self._forget(attachment)
            raise
        except MinirtError as error:
            if entry:
                self._note_failure(replace(entry, failure=told(error)))
            raise
        self._forget(attachment)

    # --- CHECK, GC, STATUS, VERSION ----------------------------------------------------------------------------------

    def check(self, attachment: Attachment) -> None:
        """Is the attachment still as ADD made it? Silent where the list says disableCheck.

        Raises NotFound for what was not added, ConfigError for a version without CHECK, PluginError.
        """
        with self._container((attachment,)), self._locks.network(attachment.network.name), NftSocket() as shared:
            entry = self.cache.get(attachment.network.name, attachment.container_id, attachment.ifname)
            if entry is None:
                raise NotFound(f"{attachment} is not attached", "only what was added can be checked")
            added = self._known(entry) or attachment
            if added.network.disable_check:
                return
            offered = [version for version in _offered(added.network, entry) if versions.allows(version, "CHECK")]
            if not offered:
                raise ConfigError(f"version {added.network.version} has no CHECK", where=added.network.source)

            def attempt(version: str) -> None:
                Chain(self._caller, added, version, shared, self._cached_result(entry, version)).check()

            _negotiate(offered, attempt)

    def gc(self, network: NetworkList, valid: Iterable[tuple[str, str]]) -> None:
        """Have all removed that belongs to no attachment in `valid`, which are pairs of container id and ifname.

        It waits until nothing runs on the network, and only then goes through `valid`: whoever was added meanwhile is
        in it. Attachments that are only known from the cache are deleted; then every plugin collects, whatever fails.
        Silent where the list says disableGC, and for plugins that are older than GC. Raises SeveralFailed.
        """
        if network.disable_gc:
            return
        with self._locks.network(network.name, alone=True), NftSocket() as shared:
            keep = set(valid)
            failures = [*self._delete_stale(network, keep, shared), *self._gc_plugins(network, keep, shared)]
        if failures:
            raise SeveralFailed(f"network {network.name!r} could not be collected whole", failures)

    def _delete_stale(
        self, network: NetworkList, keep: set[tuple[str, str]], shared: NftSocket
    ) -> Iterator[MinirtError]:
        from minirt.cni.netns import alive  # not on the way of a run

        for entry in self.cache.entries():
            if entry.network != network.name or (entry.container_id, entry.ifname) in keep:
                continue
            netns = next(filter(alive, entry.namespaces), "")
            try:
                with self._locks.container(entry.container_id, wait=False):
                    self._delete(Attachment(network, entry.container_id, netns, entry.ifname), False, shared)
            except BlockingIOError:
                keep.add((entry.container_id, entry.ifname))  # somebody is at it right now: it is alive
            except MinirtError as error:
                yield error

    def _gc_plugins(self, network: NetworkList, keep: set[tuple[str, str]], shared: NftSocket) -> Iterator[MinirtError]:
        if not versions.allows(network.version, "GC"):
            return
        alive = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in sorted(keep)]
        generated = {VALID_ATTACHMENTS: alive, EARLY_ATTACHMENTS: alive}
        for plugin in network.plugins:
            try:
                path = self._caller.find(plugin)
                self._caller.call("GC", network, network.version, plugin, path, generated, shared=shared)
            except MinirtError as error:
                if not incompatible(error):
                    yield error

    def status(self, network: NetworkList) -> None:
        """Could ADD be served? Raises PluginError of the first plugin that says no (codes 50 and 51), NotFound.

        Plugins that are older than STATUS are taken to be ready.
        """
        if not versions.allows(network.version, "STATUS"):
            return
        for plugin in network.plugins:
            try:
                self._caller.call("STATUS", network, network.version, plugin, self._caller.find(plugin))
            except PluginError as error:
                if not incompatible(error):
                    raise

    def version(self, plugin_type: str, path: str = "") -> tuple[str, ...]:
        """The versions that the plugin says it speaks: the one that is found, or that at `path`. Raises NotFound,
        PluginError."""
        return self._caller.versions(plugin_type, path)

    @property
    def executor(self) -> Executor:
        return self._caller.executor

    # --- what is remembered ------------------------------------------------------------------------------------------

    def _container(self, attachments: Sequence[Attachment]) -> Held:
        """The container's lock. All attachments are of one container: their order would mean nothing otherwise."""
        (container_id,) = {attachment.container_id for attachment in attachments}
        return self._locks.container(container_id)

    def _known(self, entry: Entry) -> Attachment | None:
        """What ADD was given; None when the cache does not say (its old form), or in no readable way."""
        if not entry.config:
            return None
        try:
            network = parse_list(entry.config, f"the remembered list of {entry.network}")
        except CniError as error:
            self.warn(f"{error}: the present list is taken instead")
            return None
        netns = next(iter(entry.namespaces), "")
        return Attachment(network, entry.container_id, netns, entry.ifname, entry.args, entry.capability_args)

    def _cached_result(self, entry: Entry | None, version: str) -> dict[str, Any]:
        """The result of ADD as a document of `version`; empty when there is none, or it cannot be said in it."""
        if entry is None or not entry.result:
            return {}
        try:
            return convert.encode(convert.decode(dict(entry.result), version), version)
        except CniError as error:
            self.warn(f"the remembered result of {entry.network} is left out: {error}")
            return {}

    def _write(self, entry: Entry) -> None:
        path = self.cache.path(entry.network, entry.container_id, entry.ifname)
        try:
            self.cache.put(entry)
        except OSError as error:
            raise KernelRefused(f"write {path}", error) from error

    def _note_failure(self, entry: Entry) -> None:
        """Without the note the failure is a failure all the same, and the one to tell of."""
        try:
            self._write(entry)
        except KernelRefused as error:
            self.warn(str(error))

    def _forget(self, attachment: Attachment) -> None:
        key = (attachment.network.name, attachment.container_id, attachment.ifname)
        try:
            self.cache.remove(*key)
        except OSError as error:
            raise KernelRefused(f"rm {self.cache.path(*key)}", error) from error


def _offered(network: NetworkList, entry: Entry | None) -> tuple[str, ...]:
    """The versions to speak, in order: that of the remembered result first, for ADD has found it to work."""
    used = entry.result.get("cniVersion") if entry else None
    return tuple(sorted(network.versions, key=lambda version: version != used))


def _negotiate(offered: Sequence[str], attempt: Callable[[str], T]) -> T:
    """`attempt` in the first version that no plugin refuses (code 1). Raises what the last attempt raised."""
    *others, last = offered
    for version in others:
        try:
            return attempt(version)
        except PluginError as error:
            if not incompatible(error):
                raise
    return attempt(last)


def _raise(failures: Sequence[MinirtError], what: str) -> None:
    """Raise the failure there is, or all of them in one; `what` is what became of how many."""
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise SeveralFailed(f"{len(failures)} {what}", failures)


def _note(error: BaseException, failures: Iterable[MinirtError]) -> None:
    for failure in failures:
        error.add_note(f"not undone: {told(failure)}")
