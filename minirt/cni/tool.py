"""What cnitool does: networks by name, for whatever network namespace a person has at hand.

It takes cnitool's variables, gives an attachment the id that cnitool gives it, and keeps the same cache, so that either
tears down what the other made. Where it goes further:

    the flag before the variable       --ifname, --args and --cap-args before CNI_IFNAME, CNI_ARGS and CAP_ARGS
    DEL and CHECK by what ADD did       the remembered list counts, also when the file is gone; so does its interface,
                                        when none is named and one is remembered
    one interface, one attachment      an interface that another network made is neither added to nor deleted (R14)
    GC knows who is alive              cnitool's deletes every attachment of the network, living ones included

Alive is (`Tool.gc`): what the caller says it holds, what is named, and what the cache remembers as long as its
namespace is there. Where a file in the cache cannot be read, or does not say where the namespace was, nobody knows, and
the attachment is left alone.

Source: cnitool of containernetworking/cni 1.3, and CONVENTIONS.md.
"""

from __future__ import annotations

import os

from cni_plugins.spec import names, versions
from cni_plugins.spec.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_NETNS,
    LIMITED_CONNECTIVITY,
    NOT_AVAILABLE,
    TRY_AGAIN_LATER,
    CniError,
)
from cni_plugins.spec.jsontext import JsonError, loads
from cni_plugins.spec.record import record, replace
from minirt.cni import discovery
from minirt.cni.netns import alive
from minirt.cni.request import Attachment
from minirt.errors import Conflict, MinirtError, NotFound, PluginError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from minirt.cni.operations import Cni

_NOTHING: Mapping[str, Any] = {}
IFNAME = "eth0"
CNITOOL = "cnitool-"  # what its ids begin with

# What to do about an error object; the codes that say all by their message alone are left out.
HINTS = {
    INCOMPATIBLE_VERSION: "'minirt cni version NETWORK' shows which versions each of its plugins speaks",
    INVALID_NETNS: "the namespace is the plugin's own: name that of a container",
    TRY_AGAIN_LATER: "something else is busy: ask again in a while",
    NOT_AVAILABLE: "ADD would fail now; what is attached goes on working",
    LIMITED_CONNECTIVITY: "ADD would fail now, and what is attached may be impaired",
}


@record
class Wishes:
    """What is asked of an attachment. `ifname` is empty when nobody has said; `directory` holds the network lists."""

    ifname: str = ""
    args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = _NOTHING
    directory: str = discovery.DIRECTORY


def wishes(
    environ: Mapping[str, str], ifname: str | None = None, args: str | None = None, capability_args: str | None = None
) -> Wishes:
    """Flags (None where there is none) before cnitool's variables before its defaults. Raises UsageError."""

    def chosen(value: str | None, flag: str, variable: str) -> tuple[str, str]:
        return (environ.get(variable, ""), variable) if value is None else (value, flag)

    pairs = parse_args(*chosen(args, "--args", "CNI_ARGS"))
    capabilities = parse_capability_args(*chosen(capability_args, "--cap-args", "CAP_ARGS"))
    directory = environ.get("NETCONFPATH") or discovery.DIRECTORY
    return Wishes(chosen(ifname, "--ifname", "CNI_IFNAME")[0], pairs, capabilities, directory)


def parse_args(text: str, said_by: str) -> tuple[tuple[str, str], ...]:
    """`K=V;K=V` as pairs. Raises UsageError, which names `said_by`: a flag or a variable."""
    pairs = []
    for pair in text.split(";") if text else ():
        match pair.split("="):
            case [key, value] if key and value:
                pairs.append((key, value))
            case _:
                raise UsageError(f"{said_by}: invalid CNI_ARGS pair {pair!r}", "KEY=VALUE;KEY=VALUE, neither one empty")
    return tuple(pairs)


def parse_capability_args(text: str, said_by: str) -> dict[str, Any]:
    """A JSON object: capability -> value. Raises UsageError, which names `said_by`."""
    hint = """an object of JSON, by capability: '{"ips": ["10.1.0.9"], "mac": "02:00:00:00:00:09"}'"""
    try:
        document = loads(text) if text.strip() else {}
    except JsonError as error:
        raise UsageError(f"{said_by} is not JSON: {error}", hint) from None
    if not isinstance(document, dict):
        raise UsageError(f"{said_by} is not a JSON object", hint)
    return document


def absolute(netns: str) -> str:
    """The path as cnitool takes it: absolute and tidied, symbolic links as they stand (filepath.Abs of Go)."""
    path = os.path.abspath(netns)
    return path[1:] if path.startswith("//") else path


def container_id(netns: str) -> str:
    """The id by which cnitool attaches the namespace at the absolute path `netns`: 10 bytes of the path's SHA-512."""
    from _hashlib import openssl_sha512

    return f"{CNITOOL}{openssl_sha512(os.fsencode(netns)).hexdigest()[:20]}"


class Tool:
    """Networks by name. `cni.warn` is given what a person should know of, though it is no failure.

    Ids and paths are the caller's: `netns` is that of a living namespace for ADD and CHECK, and empty for DEL when it
    is gone.
    """

    def __init__(self, cni: Cni, wishes: Wishes) -> None:
        self.cni = cni
        self._wishes = wishes

    def add(self, name: str, container_id: str, netns: str) -> Mapping[str, Any]:
        """Attach; the result as a document of the version that was spoken. Raises as `Cni.add`, Conflict."""
        attachment = self._wanted(name, container_id, netns, self._wishes.ifname or IFNAME)
        with _Hinted():
            self.cni.add(attachment)
            if not alive(netns):  # it went while the plugins were at work: nobody would ever delete the attachment
                self.cni.delete(replace(attachment, netns=""))
                raise NotFound(f"the network namespace {netns} has gone while it was being attached")
        entry = self.cni.cache.get(name, container_id, attachment.ifname)
        return entry.result if entry else {}

    def delete(self, name: str, container_id: str, netns: str, force: bool = False) -> None:
        """Detach; what was never attached is no error. Raises as `Cni.delete`, Conflict."""
        ifname = self._remembered_ifname(name, container_id)
        attachment = self._known(name, container_id, netns, ifname)
        if not self.cni.cache.get(name, container_id, ifname):
            self.cni.warn(f"nothing is remembered of {attachment}; its plugins are asked to delete it all the same")
        with _Hinted("" if force else "ask again when the cause is gone; --force goes on, and forgets it"):
            self.cni.delete(attachment, force)

    def check(self, name: str, container_id: str, netns: str) -> None:
        """Is it still as ADD made it? Raises as `Cni.check`, Conflict."""
        attachment = self._known(name, container_id, netns, self._remembered_ifname(name, container_id))
        if attachment.network.disable_check:
            self.cni.warn(f"network {name!r} says disableCheck: its plugins were not asked")
        with _Hinted("'minirt cni del' and 'minirt cni add' make it anew"):
            self.cni.check(attachment)

    def gc(self, name: str, held: Iterable[tuple[str, str]], named: Iterable[tuple[str, str]] = ()) -> None:
        """Have all removed that is not alive, see the module. `held` is gone through when nothing else runs on the
        network. Raises SeveralFailed."""
        network = self.network(name)
        if network.disable_gc:
            self.cni.warn(f"network {name!r} says disableGC: nothing was collected")
        elif not versions.allows(network.version, "GC"):
            self.cni.warn(f"version {network.version} has no GC: only attachments that are remembered were collected")

        def valid() -> Iterator[tuple[str, str]]:
            yield from held
            yield from named
            yield from self.cni.cache.doubtful(name)
            for entry in self.cni.cache.entries():
                if entry.network == name and (not entry.namespaces or any(map(alive, entry.namespaces))):
                    yield entry.container_id, entry.ifname

        with _Hinted():
            self.cni.gc(network, valid())

    def status(self, name: str) -> None:
        """Could ADD be served? Raises as `Cni.status`."""
        network = self.network(name)
        if not versions.allows(network.version, "STATUS"):
            self.cni.warn(f"version {network.version} has no STATUS: the plugins of {name!r} were not asked")
        with _Hinted():
            self.cni.status(network)

    def network(self, name: str) -> NetworkList:
        """The list called `name`. Raises NotFound, ConfigError."""
        choice = discovery.by_name(name, self._wishes.directory)
        for text in choice.warnings:
            self.cni.warn(text)
        if choice.builtin:
            self.cni.warn(f"{choice.reason}, taking the built-in network {name!r}")
        return choice.network

    # --- which attachment is meant -----------------------------------------------------------------------------------

    def _wanted(self, name: str, container_id: str, netns: str, ifname: str) -> Attachment:
        """The attachment as the network's list says today."""
        self._refuse_others(name, container_id, ifname)
        wishes = self._wishes
        return Attachment(self.network(name), container_id, netns, ifname, wishes.args, wishes.capability_args)

    def _known(self, name: str, container_id: str, netns: str, ifname: str) -> Attachment:
        """The attachment as ADD was given it, where that is remembered."""
        self._refuse_others(name, container_id, ifname)
        known = self.cni.recall(name, container_id, ifname)
        if known is None:
            return self._wanted(name, container_id, netns, ifname)
        return Attachment(known.network, container_id, netns, ifname, known.args, known.capability_args)

    def _remembered_ifname(self, name: str, container_id: str) -> str:
        """The interface that is meant: the one that was named, or eth0, unless the network made just one other."""
        made = [entry.ifname for entry in self.cni.cache.entries(container_id) if entry.network == name]
        return self._wishes.ifname or (made[0] if len(made) == 1 else IFNAME)

    def _refuse_others(self, name: str, container_id: str, ifname: str) -> None:
        """Refuse bad names before they become a file's, and an interface that is another network's.

        An attachment is a container and an interface (SPEC.md 1.1.0, "Section 2", "Attachment parameters"): the
        plugins of this network would delete the interface of that one. Raises UsageError, Conflict.
        """
        try:
            names.network(name)
            names.container_id(container_id)
            names.ifname(ifname)
        except CniError as error:
            raise UsageError(error.msg, error.details) from None
        for entry in self.cni.cache.entries(container_id):
            if entry.ifname == ifname and entry.network != name:
                raise Conflict(
                    f"{ifname} of {container_id} belongs to network {entry.network!r}, not to {name!r}",
                    "another interface can be named with --ifname",
                )


class _Hinted:
    """Gives the failure of a plugin that leaves the block a hint: by its code, or else `otherwise`."""

    def __init__(self, otherwise: str = "") -> None:
        self._otherwise = otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        failures = getattr(error, "errors", (error,))
        if isinstance(error, MinirtError) and isinstance(failures[0], PluginError) and not error.hint:
            error.hint = HINTS.get(failures[0].code, self._otherwise)
