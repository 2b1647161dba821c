"""Which plugins this host has: where each lies, and which versions of the contract it says that it speaks."""

from __future__ import annotations

from cni_plugins.spec import versions
from cni_plugins.spec.config import View
from cni_plugins.spec.record import record
from minirt.errors import ConfigError, MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.spec.config import NetworkList
    from minirt.cni.operations import Cni


@record
class Program:
    """One program. `path` is empty when there is none; `versions` when it did not say, and `problem` then says why.

    `behind` is the path of the program of the same name that is found before it, and so the one that is used.
    """

    name: str
    path: str
    versions: tuple[str, ...] = ()
    problem: str = ""
    behind: str = ""


def everything(cni: Cni) -> list[Program]:
    """Every program in the folders that are searched, by name, asked for its versions."""
    first: dict[str, str] = {}
    found = []
    for name, path in cni.executor.programs():
        taken = first.setdefault(name, path)
        found.append(_ask(cni, name, path, "" if taken == path else taken))
    return sorted(found, key=lambda program: program.name)


def of_network(cni: Cni, network: NetworkList) -> list[Program]:
    """The plugins of a list in its order, each followed by the IPAM plugin that it is told to ask."""
    types = []
    for plugin in network.plugins:
        types += [plugin["type"], View(plugin).view("ipam").string("type")]
    return [_look(cni, name) for name in dict.fromkeys(types) if name]


def common(network: NetworkList, programs: Sequence[Program]) -> str:
    """The version that all will be spoken to in: the highest that the list offers and each of them speaks.

    Raises ConfigError when there is none, naming who is in the way (libcni: ValidateNetworkList).
    """
    for version in network.versions:
        if all(version in program.versions for program in programs):
            return version
    newest = network.versions[0]
    lacking = [f"{it.name} {it.problem or _speaks(it)}" for it in programs if newest not in it.versions]
    offered = ", nor in ".join(network.versions)
    raise ConfigError(
        f"network {network.name!r} cannot be used in version {offered}: {'; '.join(lacking)}",
        'a list offers several versions by "cniVersions": ["0.4.0", "1.0.0"]',
        network.source,
    )


def _speaks(program: Program) -> str:
    return f"speaks {', '.join(sorted(program.versions, key=versions.parse))}"


def _look(cni: Cni, name: str) -> Program:
    try:
        path = cni.executor.find(name)
    except MinirtError as error:
        return Program(name, "", problem=str(error).removeprefix(f"plugin {name!r} "))
    return _ask(cni, name, path)


def _ask(cni: Cni, name: str, path: str, behind: str = "") -> Program:
    try:
        return Program(name, path, cni.version(name, path), behind=behind)
    except MinirtError as error:
        return Program(name, path, problem=f"did not say which versions it speaks: {error}", behind=behind)
