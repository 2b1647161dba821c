"""Reading configurations: a view of a JSON object that knows its path, and network lists.

Keys match as Go's decoder matches them: the exact key first, else one that differs in case only. Real configurations
rely on it (upstream's own test data says `RuntimeConfig` and `bandWidth`), and a key that is silently ignored here but
honoured there would be worse than a strict rule. Values are never coerced: `"vlan": "110"` is an error.
"""

from __future__ import annotations

from cni_plugins.spec import names, versions
from cni_plugins.spec.errors import DECODING_FAILURE, INVALID_CONFIG, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr, parse_network
from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from cni_plugins.spec.ip import Address, Cidr

    T = TypeVar("T")

_KINDS = {str: "a string", bool: "true or false", int: "an integer", dict: "an object", list: "a list"}


class View:
    """A JSON object with its path. Every accessor raises CniError 7 that names path, value and what was expected.

    A key that is absent or null gives the default: Go leaves a field alone in both cases.
    """

    def __init__(self, document: dict[str, Any], path: str = "") -> None:
        self.document = document
        self.path = path

    def where(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, expected: str) -> CniError:
        value = self.get(key)
        shown = "nothing" if value is None else dumps(value, indent=0)
        return CniError(INVALID_CONFIG, f"{self.where(key)}: expected {expected}, got {shown[:80]}")

    def get(self, key: str) -> Any:
        """The value as it stands, or None."""
        if key in self.document:
            return self.document[key]
        folded = key.casefold()
        return next((value for name, value in self.document.items() if name.casefold() == folded), None)

    def _typed(self, key: str, kind: type[T], default: T) -> T:
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, _KINDS[kind])
        return value

    def string(self, key: str, default: str = "") -> str:
        return self._typed(key, str, default)

    def boolean(self, key: str, default: bool = False) -> bool:
        return self._typed(key, bool, default)

    def integer(self, key: str, default: int = 0, low: int = 0, high: int = 2**32 - 1) -> int:
        value = self._typed(key, int, default)
        if self.has(key) and not low <= value <= high:
            raise self.wrong(key, f"an integer from {low} to {high}")
        return value

    def view(self, key: str) -> View:
        """The object under `key`; empty when absent."""
        return View(self._typed(key, dict, {}), self.where(key))

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def strings(self, key: str) -> list[str]:
        for index, item in enumerate(values := self._typed(key, list, [])):
            if not isinstance(item, str):
                raise View({f"{key}[{index}]": item}, self.path).wrong(f"{key}[{index}]", "a string")
        return values

    def views(self, key: str) -> Iterator[View]:
        """The objects in the list under `key`."""
        for index, item in enumerate(self._typed(key, list, [])):
            here = f"{key}[{index}]"
            if not isinstance(item, dict):
                raise View({here: item}, self.path).wrong(here, "an object")
            yield View(item, self.where(here))

    def _parsed(self, key: str, parse: Callable[[str], T]) -> T | None:
        text = self.string(key)
        if not text:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise CniError(INVALID_CONFIG, f"{self.where(key)}: {error}") from None

    def address(self, key: str) -> Address | None:
        return self._parsed(key, parse_address)

    def cidr(self, key: str) -> Cidr | None:
        return self._parsed(key, parse_cidr)

    def network(self, key: str) -> Cidr | None:
        return self._parsed(key, parse_network)


def decode(source: bytes | str, what: str) -> dict[str, Any]:
    """The JSON object in `source`. Raises CniError 6 that names `what` with line and column."""
    try:
        document = loads(source)
    except JsonError as error:
        raise CniError(DECODING_FAILURE, f"{what}: {error}") from None
    if not isinstance(document, dict):
        raise CniError(DECODING_FAILURE, f"{what}: expected a JSON object")
    return document


@record
class NetworkList:
    """A network configuration list: what the runtime reads, plugin objects left as they were written.

    `version` is the one to speak first: the highest of `versions`, which holds all that the list offers and we know.
    `source` says where it came from (a path, or words), `text` is the exact text, kept for the result cache.
    """

    name: str
    version: str
    plugins: tuple[dict[str, Any], ...]
    versions: tuple[str, ...] = ()
    disable_check: bool = False
    disable_gc: bool = False
    only_inlined: bool = False
    source: str = ""
    text: str = ""

    def capabilities(self, plugin: dict[str, Any]) -> set[str]:
        """The capability names that `plugin` declares true."""
        return {name for name, wanted in View(plugin).view("capabilities").document.items() if wanted is True}


def _flag(view: View, key: str) -> bool:
    """A boolean that may be written as a string of any case, as libcni allows for the list's own switches."""
    value = view.get(key)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return view.boolean(key)


def typed(plugin: View) -> dict[str, Any]:
    """The plugin object with its type under the exact key, where whoever runs it will look."""
    if "type" in plugin.document:
        return plugin.document
    rest = {key: value for key, value in plugin.document.items() if key.casefold() != "type"}
    return {"type": plugin.string("type")} | rest


def _common(view: View) -> tuple[str, ...]:
    """The versions among `cniVersion` and `cniVersions` that we speak too, highest first; libcni's rule (conf.go).

    Never empty: when nothing is common, `cniVersion` stands, and the plugins will say what they think of it.
    """
    stated = view.string("cniVersion") or versions.ALL[0]
    more = view.strings("cniVersions")
    _said("cniVersion", versions.parse, stated)
    for index, version in enumerate(more):
        _said(f"cniVersions[{index}]", versions.parse, version)
    offered = {stated, *more}
    spoken = [version for version in offered if versions.parse(version) <= versions.parse(versions.NEWEST)]
    return tuple(sorted(spoken, key=versions.parse, reverse=True)) or (stated,)


def _said(where: str, check: Callable[[str], object], text: str) -> None:
    """Have `text` checked; what is wrong with it is told with its path."""
    try:
        check(text)
    except CniError as error:
        raise CniError(error.code, f"{where}: {error.msg}", error.details) from None


def parse_list(text: str, source: str) -> NetworkList:
    """A `.conflist` text. Raises CniError 6 or 7, naming `source`."""
    view = View(decode(text, source))
    try:
        plugins = tuple(map(typed, view.views("plugins")))
        for item in view.views("plugins"):
            _said(item.where("type"), names.plugin_type, item.string("type"))
        if view.has("plugins") and not plugins:
            raise CniError(INVALID_CONFIG, "plugins: the list is empty")
        only_inlined = _flag(view, "loadOnlyInlinedPlugins")
        if only_inlined and not plugins:
            raise CniError(INVALID_CONFIG, "loadOnlyInlinedPlugins is true, but there is no plugins list")
        spoken = _common(view)
        return NetworkList(
            name=names.network(view.string("name")),
            version=spoken[0],
            plugins=plugins,
            versions=spoken,
            disable_check=_flag(view, "disableCheck"),
            disable_gc=_flag(view, "disableGC"),
            only_inlined=only_inlined,
            source=source,
            text=text,
        )
    except CniError as error:
        raise CniError(error.code, f"{source}: {error.msg}", error.details) from None


def parse_single(text: str, source: str) -> NetworkList:
    """A `.conf` or `.json` text: one plugin, made a list of one, as libcni does."""
    plugin = decode(text, source)
    keep = {key: plugin[key] for key in ("name", "cniVersion") if key in plugin}
    return parse_list(dumps(keep | {"plugins": [plugin]}), source)
