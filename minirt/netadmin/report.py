"""Networks as documents for people and scripts: docker's field names where it has one, and the list itself."""

from __future__ import annotations

from cni_plugins.spec.jsontext import loads
from minirt.netadmin import subnets
from minirt.netadmin.drivers import DRIVERS
from minirt.report import attachment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from minirt.netadmin.catalog import Entry, User
    from minirt.netadmin.subnets import Pool

BUILTIN = "(built-in)"


def driver(entry: Entry) -> str:
    """The first plugin: it makes the interface."""
    return plugins(entry)[0] if entry.network else ""


def plugins(entry: Entry) -> list[str]:
    return [plugin["type"] for plugin in entry.network.plugins] if entry.network else []


def pools(entry: Entry) -> list[Pool]:
    return subnets.pools(entry.network) if entry.network else []


def users(entry: Entry) -> list[str]:
    """Names of who is attached, each once."""
    return list(dict.fromkeys(user.name for user in entry.users))


def row(entry: Entry) -> dict[str, Any]:
    """One network of `network ls --format json`."""
    return {
        "Name": entry.network.name if entry.network else "",
        "Driver": driver(entry),
        "Subnets": [str(pool.subnet) for pool in pools(entry)],
        "Plugins": plugins(entry),
        "Containers": users(entry),
        "Default": entry.default,
        "File": entry.path or BUILTIN,
        "Error": entry.problem,
    }


def document(entry: Entry, network: NetworkList) -> dict[str, Any]:
    """One network of `network inspect`; `network` is the entry's."""
    mark, given = entry.mark, pools(entry)
    internal = mark.get("internal") is True
    return {
        "Name": network.name,
        "Created": str(mark.get("created", "")),
        "Scope": "local",
        "Driver": driver(entry),
        "EnableIPv6": any(pool.subnet.family == 6 for pool in given),
        "IPAM": {"Driver": _ipam(network), "Config": [_config(pool, internal) for pool in given]},
        "Internal": internal,
        "Containers": {user.container_id: _user(user) for user in reversed(entry.users)},
        "Options": _options(network.plugins[0]),
        "Labels": mark.get("labels", {}),
        "Default": entry.default,
        "File": entry.path or BUILTIN,
        "Plugins": plugins(entry),
        "CNIList": loads(network.text),
    }


def _ipam(network: NetworkList) -> str:
    """The IPAM plugin of the first plugin that has one."""
    for plugin in network.plugins:
        ipam = plugin.get("ipam")
        if isinstance(ipam, dict) and isinstance(ipam.get("type"), str):
            return str(ipam["type"])
    return "none"


def _config(pool: Pool, internal: bool) -> dict[str, str]:
    said = {"Subnet": str(pool.subnet)}
    said |= {"Gateway": pool.gateway} if pool.gateway and not internal else {}
    return said | ({"IPRange": f"{pool.first}-{pool.last}"} if pool.first or pool.last else {})


def _options(plugin: dict[str, Any]) -> dict[str, str]:
    """What the plugin's configuration says, in the words of -o."""
    known = DRIVERS[plugin["type"]].options if plugin["type"] in DRIVERS else {}
    said = {word: plugin.get(key) for word, (key, _read) in known.items()}
    return {word: str(value).lower() if value is True else str(value) for word, value in said.items() if value}


def _user(user: User) -> dict[str, str]:
    """An address with its prefix length, as docker has it here."""
    fields = attachment(user.attached)
    return {
        "Name": user.name,
        "Interface": user.attached.ifname,
        "MacAddress": fields["MacAddress"],
        "IPv4Address": _cidr(fields["IPAddress"], fields["IPPrefixLen"]),
        "IPv6Address": _cidr(fields["GlobalIPv6Address"], fields["GlobalIPv6PrefixLen"]),
    }


def _cidr(address: str, length: int) -> str:
    return f"{address}/{length}" if address else ""
