"""What one plugin is given: its environment and the configuration on its standard input. Pure functions.

Source: SPEC.md 1.1.0, "Section 2: Execution Protocol" (parameters) and "Section 3: Execution of Network Configurations"
("Deriving execution configuration from plugin configuration").
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.record import record
from minirt.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from cni_plugins.spec.config import NetworkList

_NOTHING: Mapping[str, Any] = {}
_RESERVED = "cni.dev/"  # only the runtime makes keys that begin so
# Keys of a plugin's configuration that the runtime writes or keeps to itself; folded, as Go's decoder matches them.
_OURS = frozenset({"name", "cniversion", "capabilities", "prevresult"})
# The variables of the contract, and the descriptor of ours: what the runtime itself was started with says nothing.
_VARIABLES = ("COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH")
_CALLS = frozenset((*(f"CNI_{name}" for name in _VARIABLES), names.LENT_SOCKET))


@record
class Attachment:
    """A network to be joined: who joins it, where, and what is asked of it.

    `netns` is a path; it may be empty for DEL, when the namespace is gone. `args` are the pairs of CNI_ARGS.
    `capability_args` maps a capability's name (portMappings, ips, mac, …) to the value that CONVENTIONS.md gives it.
    """

    network: NetworkList
    container_id: str
    netns: str
    ifname: str
    args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = _NOTHING

    def __str__(self) -> str:
        return f"{self.ifname} of {self.container_id} on network {self.network.name}"


def unsupported(network: NetworkList, capability_args: Iterable[str]) -> list[str]:
    """The capabilities among `capability_args` that no plugin of `network` declares: asking for them would be vain."""
    declared = {name for plugin in network.plugins for name in network.capabilities(plugin)}
    return sorted(set(capability_args) - declared)


def validate(attachment: Attachment) -> None:
    """Refuse, before anything runs, what no plugin could serve. Raises ConfigError."""
    network = attachment.network
    try:
        names.container_id(attachment.container_id)
        names.network(network.name)
        names.ifname(attachment.ifname)
    except CniError as error:
        raise ConfigError(str(error)) from None
    for key, value in attachment.args:
        if not key or not value or set(key + value) & set("=;\0"):
            raise ConfigError(f"invalid CNI_ARGS pair {key}={value}", "both sides are needed, without '=' and ';'")
    if missing := unsupported(network, attachment.capability_args):
        raise ConfigError(
            f"network {network.name!r} does not take {', '.join(missing)}: no plugin of its list declares it",
            f'a plugin that can has "capabilities": {{"{missing[0]}": true}} in {network.source}',
        )


def environment(
    command: str, attachment: Attachment | None, path: Iterable[str], base: Mapping[str, str]
) -> dict[str, str]:
    """The plugin's environment: `base` with the variables of this call in the place of any it held (as libcni does).

    GC and STATUS have no attachment, and then no variables of one.
    """
    env = {key: value for key, value in base.items() if key not in _CALLS}
    env |= {"CNI_COMMAND": command, "CNI_PATH": ":".join(path)}
    if attachment is not None:
        env |= {
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.ifname,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in attachment.args),
        }
    return env


def configuration(
    network: NetworkList,
    plugin: Mapping[str, Any],
    version: str,
    capability_args: Mapping[str, Any] = _NOTHING,
    generated: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """What `plugin` reads: its own keys as they were written, known to us or not, and those that the runtime makes.

    `generated` holds the keys that belong to the call (prevResult, the valid attachments of GC). A `runtimeConfig`
    that stands in the file stays, unless there is something to put into it: then it is replaced whole, as libcni does.
    """
    config: dict[str, Any] = {"cniVersion": version, "name": network.name}
    config |= {key: value for key, value in plugin.items() if not _generated(key)}
    declared = network.capabilities(dict(plugin))
    wanted = {name: value for name, value in capability_args.items() if name in declared}
    if wanted:
        config = {key: value for key, value in config.items() if key.casefold() != "runtimeconfig"}
        config["runtimeConfig"] = wanted
    return config | dict(generated)


def _generated(key: str) -> bool:
    return key.casefold() in _OURS or key.startswith(_RESERVED)
