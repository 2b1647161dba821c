"""Which networks the host offers: the lists in /etc/cni/net.d, and the built-in one where that folder holds none.

The rules are those that libcni and the runtimes around it have made (the specification leaves it to the runtime):
a network asked for by name is looked for in `*.conflist` first, then in `*.conf` and `*.json`; the default network is
the first good file of all three kinds together; each kind sorted by file name, in byte order. One thing is done better:
a broken file that is not the one asked for is a warning, where libcni would hide every network behind it. And a list
that bears our mark, having been made by a command, is joined by those who name it: it is nobody's default here.

Nothing is printed here: warnings, and that the built-in list was taken, are returned with the choice.
"""

from __future__ import annotations

import os

from cni_plugins.spec import names
from cni_plugins.spec.config import View, parse_list, parse_single, typed
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.record import record, replace
from minirt import files
from minirt.errors import ConfigError, NotFound, because

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import Any

    from cni_plugins.spec.config import NetworkList

DIRECTORY = "/etc/cni/net.d"
BUILTIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "configs", "minirt.conflist")
_LISTS = (".conflist",)
_SINGLES = (".conf", ".json")
_FRAGMENTS = (".conf",)
MARK = "minirt"  # the key of a list, at its top, under which whoever makes lists by command keeps what it knows of them


@record
class Choice:
    """A network list, why it is this one, and what was wrong with files that were passed over.

    `builtin` says that the folder holds no configuration but marked ones, and the list is our own.
    """

    network: NetworkList
    reason: str
    builtin: bool = False
    warnings: tuple[str, ...] = ()


@record
class Survey:
    """Every file of the folder: those that are good, in the order of the default network, and what ails the others."""

    networks: tuple[NetworkList, ...]
    broken: tuple[ConfigError, ...]


def default(directory: str = DIRECTORY) -> Choice:
    """The network of those who name none. Raises ConfigError when there are files, and none is good."""
    broken: list[ConfigError] = []
    others = "no network lists"
    for path in _files(directory, _LISTS + _SINGLES):
        try:
            network = load(path)
        except ConfigError as error:
            broken.append(error)
            continue
        if not mark(network):
            return Choice(network, f"the first of {directory}", warnings=_passed_over(broken))
        others = "none but created networks"
    if not broken:
        return Choice(builtin(), f"{directory} holds {others}", builtin=True)
    if len(broken) == 1:
        raise broken[0]
    problems = "; ".join(map(str, broken))
    raise ConfigError(f"none of the {len(broken)} files in {directory} is usable: {problems}", broken[0].hint)


def by_name(name: str, directory: str = DIRECTORY) -> Choice:
    """The network called `name`. Raises NotFound, or ConfigError when it is there and cannot be used."""
    broken: dict[str, ConfigError] = {}
    ours = True  # as long as nothing in the folder keeps the built-in list from being the default
    for path in _files(directory, _LISTS) + _files(directory, _SINGLES):
        try:
            network = load(path)
        except ConfigError as error:
            if _stated_name(path) == name:
                raise
            broken[path] = error
            continue
        if network.name == name:
            return Choice(network, f"called {name} in {directory}", warnings=_passed_over(broken.values()))
        ours = ours and bool(mark(network))
    if ours and not broken and name == builtin().name:
        return default(directory)
    for path, failure in broken.items():
        if _mentions(path, name):
            raise failure
    raise _unknown(name, directory, broken.values())


def survey(directory: str = DIRECTORY) -> Survey:
    """All that the folder holds, for those who want to see it."""
    networks, broken = [], []
    for path in _files(directory, _LISTS + _SINGLES):
        try:
            networks.append(load(path))
        except ConfigError as error:
            broken.append(error)
    return Survey(tuple(networks), tuple(broken))


def load(path: str) -> NetworkList:
    """The network list in one file, with the fragments that belong to it. Raises ConfigError."""
    text = _read(path)
    try:
        listed = path.endswith(_LISTS)
        network = _with_fragments(parse_list(text, path), path) if listed else parse_single(text, path)
    except CniError as error:
        raise _wrong(error, text, path) from None
    if not network.plugins:
        folder = f", and there are none in {os.path.dirname(path)}/{network.name}/*.conf"
        raise ConfigError(f"the list has no plugins{folder}", _shape_hint(text, path), path)
    return network


def mark(network: NetworkList) -> dict[str, Any]:
    """What a list says under `MARK`; nothing for one that people wrote. Plugins are never shown it."""
    if f'"{MARK}"' not in network.text:
        return {}
    said = loads(network.text).get(MARK)
    return said if isinstance(said, dict) else {}


def builtin(ipv6: bool | None = None) -> NetworkList:
    """Our own list. Where the kernel has no IPv6 at all, it is given without its IPv6 addresses."""
    network = load(BUILTIN)
    if os.path.isdir("/proc/sys/net/ipv6") if ipv6 is None else ipv6:
        return network
    document = loads(network.text)
    for plugin in document["plugins"]:
        ranges = plugin.get("ipam", {}).get("ranges", [])
        ranges[:] = [pool for pool in ranges if ":" not in pool[0]["subnet"]]
    return parse_list(dumps(document), BUILTIN)


def _passed_over(broken: Iterable[ConfigError]) -> tuple[str, ...]:
    return tuple(f"passed over {error}" for error in broken)


def _files(directory: str, extensions: tuple[str, ...]) -> list[str]:
    """Paths in byte order. Extensions match exactly; hidden files count, folders do not; no folder means no files."""
    try:
        names_there = [name for name in os.listdir(directory) if name.endswith(extensions)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read the folder of network lists: {because(error)}", where=directory) from error
    paths = [os.path.join(directory, name) for name in sorted(names_there, key=os.fsencode)]
    return [path for path in paths if not os.path.isdir(path)]


def _read(path: str) -> str:
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError("not an ordinary file", where=path)
    try:
        source = files.read(path)
        return source.decode().removeprefix("\ufeff")
    except OSError as error:
        raise ConfigError(f"cannot read it: {because(error)}", where=path) from error
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise ConfigError("not UTF-8 text", where=f"{path}:{line}") from None


def _with_fragments(network: NetworkList, path: str) -> NetworkList:
    """The plugins in `<folder>/<network name>/*.conf` follow those of the list (loadOnlyInlinedPlugins forbids it).

    They go into the list's text too: the cache must hold what ADD ran, whatever becomes of the folder.
    """
    if network.only_inlined:
        return network
    folder = os.path.join(os.path.dirname(path), network.name)
    fragments = tuple(_fragment(fragment) for fragment in _files(folder, _FRAGMENTS))
    if not fragments:
        return network
    plugins = network.plugins + fragments
    document = {key: value for key, value in loads(network.text).items() if key.casefold() != "plugins"}
    return replace(network, plugins=plugins, text=dumps(document | {"plugins": plugins}))


def _fragment(path: str) -> dict[str, Any]:
    text = _read(path)
    try:
        document = loads(text)
        if not isinstance(document, dict):
            raise ConfigError("expected a JSON object", where=path)
        plugin = typed(View(document, path))
        names.plugin_type(View(plugin, path).string("type"))
    except JsonError as error:
        raise _malformed(error, text, path) from None
    except CniError as error:
        raise ConfigError(str(error), where=path) from None
    return plugin


def _wrong(error: CniError, text: str, path: str) -> ConfigError:
    """What the parser refused, as the person who wrote the file needs it."""
    try:
        loads(text)
    except JsonError as malformed:
        return _malformed(malformed, text, path)
    return ConfigError(str(error).removeprefix(f"{path}: "), _shape_hint(text, path), path)


def _malformed(error: JsonError, text: str, path: str) -> ConfigError:
    """JSON is strict where people are not, so the line itself is shown."""
    lines = text.splitlines()
    shown = lines[error.line - 1].strip() if error.line <= len(lines) else ""
    hint = f"the line reads {shown[:80]!r}" if shown else "the text ends too early"
    return ConfigError(
        f"malformed JSON: {error.problem}",
        f"{hint}; JSON has no comments, and no comma after the last item",
        f"{path}:{error.line}:{error.column}",
    )


def _shape_hint(text: str, path: str) -> str:
    """The commonest mistake: a list in a file for one plugin, or one plugin in a file for a list."""
    document = loads(text)
    view = View(document if isinstance(document, dict) else {})
    if path.endswith(_LISTS) and view.has("type") and not view.has("plugins"):
        return "a file for a single plugin is called .conf; a .conflist has its plugins in a list, 'plugins'"
    if path.endswith(_SINGLES) and view.has("plugins"):
        return "a file with a list of plugins is called .conflist"
    return ""


def _stated_name(path: str) -> str:
    """The network that a broken file says it is, if it can be read that far."""
    try:
        document = loads(_read(path))
    except (ConfigError, JsonError):
        return ""
    name = View(document).get("name") if isinstance(document, dict) else ""
    return name if isinstance(name, str) else ""


def _mentions(path: str, name: str) -> bool:
    """Whether a file that is no JSON seems to be the one that was meant."""
    try:
        return os.path.isfile(path) and f'"{name}"'.encode() in files.read(path)
    except OSError:
        return False


def _unknown(name: str, directory: str, broken: Collection[ConfigError]) -> NotFound:
    known = sorted({network.name for network in survey(directory).networks})
    there = f"there are: {', '.join(known)}" if known else f"{directory} holds no usable network list"
    if not known and not broken:
        there = f"{directory} holds no network lists; the built-in one is called {builtin().name!r}"
    unread = f"; not readable: {'; '.join(map(str, broken))}" if broken else ""
    return NotFound(f"no network {name!r} in {directory}", there + unread)
