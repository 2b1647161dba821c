"""The networks of this host with who is attached to them, and what a person does with them: create, remove, prune.

A created network is one file, `zz-NAME.conflist`. Other runtimes take the first file of the folder, in the order of
names, for everybody's default network: this one comes last, and minirt passes over lists that bear the mark. So
creating a network changes nothing for containers that name none.

Attached is what a container's record says is to be deleted, and what the CNI cache says was added by whomever.
"""

from __future__ import annotations

import os
import time

from cni_plugins.spec import convert, versions
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.record import record
from minirt import files
from minirt.cni import discovery
from minirt.cni.locks import Locks
from minirt.errors import ConfigError, Conflict, KernelRefused, NotFound
from minirt.netadmin import drivers, hostnet
from minirt.netadmin.placement import place
from minirt.report import instant
from minirt.state import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from minirt.cni import cache
    from minirt.cni.operations import Cni
    from minirt.netadmin.spec import NetworkSpec
    from minirt.shelf import Shelf

LAST = "zz-"  # sorts behind every name that anybody would think of
_FOLDER = ""  # as the name of a lock: no network is called so
_LIST = ".conflist"


@record
class User:
    """Who is attached by one interface. `name` is the id where it is no container of ours."""

    container_id: str
    name: str
    attached: Attached


@record
class Entry:
    """A file of the folder, or the built-in list (whose `path` is empty). `network` is None where the file cannot be
    used; `problem` says what ails it. `default` is what containers join that name no network."""

    path: str
    network: NetworkList | None
    problem: str = ""
    default: bool = False
    users: tuple[User, ...] = ()

    @property
    def mark(self) -> dict[str, Any]:
        """What `create` has noted in the list; empty for a list that people wrote."""
        return discovery.mark(self.network) if self.network else {}


class Catalog:
    """All networks of this host. `notice` is told, in a sentence each, what a person may want to know."""

    def __init__(
        self,
        containers: Shelf,
        cni: Cni,
        notice: Callable[[str], None],
        directory: str = discovery.DIRECTORY,
        locks: Locks | None = None,
    ) -> None:
        self._containers = containers
        self._cni = cni
        self._notice = notice
        self._directory = directory
        self._locks = locks or Locks()

    # --- looking -----------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Every network in the order in which a default is looked for, the default first; broken files last."""
        survey = discovery.survey(self._directory)
        users, default = self.users(), self._default()
        networks = [*survey.networks]
        if default is not None and default.source == discovery.BUILTIN:
            networks.insert(0, default)
        reached = _reached(networks)
        found = []
        for network in networks:
            first = reached[network.name]
            problem = "" if first == network.source else f"never used: {first} has the same name"
            found.append(self._entry(network, default, users, problem))
        return found + [Entry(_file(error), None, str(error)) for error in survey.broken]

    def find(self, name: str) -> Entry:
        """The network called `name`. Raises NotFound, or ConfigError when its file cannot be used."""
        return self._entry(discovery.by_name(name, self._directory).network, self._default(), self.users())

    def _entry(
        self, network: NetworkList, default: NetworkList | None, users: dict[str, list[User]], problem: str = ""
    ) -> Entry:
        path = "" if network.source == discovery.BUILTIN else network.source
        is_default = default is not None and default.source == network.source
        return Entry(path, network, problem, is_default, () if problem else tuple(users.get(network.name, ())))

    def _default(self) -> NetworkList | None:
        try:
            return discovery.default(self._directory).network
        except ConfigError:
            return None

    def users(self) -> dict[str, list[User]]:
        """Who is attached, by the network's name; its list may be gone."""
        found: dict[tuple[str, str, str], User] = {}
        names = {}
        for container in self._containers.all():
            names[container.id] = container.name
            for item in container.attached:
                found[item.network, container.id, item.ifname] = User(container.id, container.name, item)
        for entry in self._cni.cache.entries():
            item = Attached(entry.network, entry.ifname, "", entry.config, dict(entry.capability_args), _told(entry))
            user = User(entry.container_id, names.get(entry.container_id, entry.container_id), item)
            found.setdefault((entry.network, entry.container_id, entry.ifname), user)
        users: dict[str, list[User]] = {}
        for (network, *_), user in found.items():
            users.setdefault(network, []).append(user)
        return users

    # --- making ------------------------------------------------------------------------------------------------------

    def create(self, spec: NetworkSpec, ipv6: bool = False, force: bool = False) -> None:
        """Write the list of a new network. `ipv6` picks it an IPv6 subnet if it has none, `force` bears overlaps.

        Raises UsageError, Conflict, KernelRefused.
        """
        drivers.check(spec, ipv6)
        path = os.path.join(self._directory, f"{LAST}{spec.name}{_LIST}")
        with self._locks.network(_FOLDER, alone=True):  # two that pick a subnet must not pick the same
            self._refuse_taken(spec.name, path)
            survey = discovery.survey(self._directory)
            networks = (discovery.builtin(), *survey.networks)
            host = hostnet.look()
            document = drivers.document(place(spec, networks, host, ipv6, force), instant(time.time()))
            self._write(path, dumps(document, indent=2))
        self._remark(spec, document["plugins"], host)
        if not (survey.networks or survey.broken):
            self._notice(
                f"{path} is the first list there: containers of minirt that name no network go on joining "
                f"{networks[0].name!r}, but other runtimes take the first list they find for their default"
            )

    def _refuse_taken(self, name: str, path: str) -> None:
        try:
            where = discovery.by_name(name, self._directory).network.source
        except ConfigError as error:
            where = error.where
        except NotFound:
            where = discovery.BUILTIN if name == discovery.builtin().name else path if os.path.lexists(path) else ""
        if where:
            if where == discovery.BUILTIN:
                raise Conflict(f"the name {name!r} is taken by the built-in network", "choose another")
            raise Conflict(f"the name {name!r} is taken by {where}", "choose another, or remove that one first")

    def _write(self, path: str, text: str) -> None:
        try:
            os.makedirs(self._directory, mode=0o755, exist_ok=True)
            files.write(path, f"{text}\n".encode(), 0o644)
        except OSError as error:
            raise KernelRefused(f"write {path}", error) from error

    def _remark(self, spec: NetworkSpec, plugins: list[dict[str, Any]], host: hostnet.Host) -> None:
        """Say what is not there yet: it may come before the first container does."""
        parent = spec.options.get("master", "")
        if parent and parent not in host.links:
            self._notice(f"there is no link {parent!r} on this host yet")
        types = [plugin["type"] for plugin in plugins] + [plugins[0].get("ipam", {}).get("type")]
        for plugin_type in filter(None, types):
            try:
                self._cni.executor.find(plugin_type)
            except NotFound as error:
                self._notice(f"{error}; {error.hint}")

    # --- removing ----------------------------------------------------------------------------------------------------

    def remove(self, name: str) -> None:
        """Remove the file of a network that nobody is attached to. Raises NotFound, ConfigError, Conflict."""
        path = self.find(name).path
        if not path:
            raise Conflict(f"network {name!r} is built in", "it is no file, and is used where there are no others")
        with self._locks.network(name, alone=True):  # an ADD that has begun is waited for
            self._refuse_used(name, self.users().get(name, []))
            try:
                os.unlink(path)
            except OSError as error:
                raise KernelRefused(f"rm {path}", error) from error

    def _refuse_used(self, name: str, users: list[User]) -> None:
        if users:
            who = ", ".join(dict.fromkeys(user.name for user in users))
            hint = "'minirt stop' disconnects a container"
            if ids := [user.container_id for user in users if user.name == user.container_id]:
                hint += f"; {ids[0]} is none of minirt's: whoever has added it must delete it (CNI DEL)"
            raise Conflict(f"network {name!r} is used by {who}", hint)

    def unused(self) -> list[str]:
        """The created networks that nobody is attached to, nor would be when a stopped container is started."""
        wanted = {item.name for container in self._containers.all() for item in container.spec.networks}
        return [
            entry.network.name
            for entry in self.entries()
            if entry.network and entry.mark and not (entry.users or entry.problem or entry.network.name in wanted)
        ]


def _reached(networks: list[NetworkList]) -> dict[str, str]:
    """Which file is taken for a network that is asked for by name: lists before single plugins (see `discovery`)."""
    ordered = sorted(networks, key=lambda network: not network.source.endswith(_LIST))
    return {network.name: network.source for network in reversed(ordered)}


def _told(entry: cache.Entry) -> dict[str, Any]:
    """The remembered result in the shape of today, as `Attached` has it; empty for one that cannot be read."""
    try:
        return convert.encode(convert.decode(dict(entry.result), versions.ALL[0]), versions.NEWEST)
    except CniError:
        return {}


def _file(error: ConfigError) -> str:
    """The path in FILE:LINE:COLUMN."""
    path = error.where
    while path and not os.path.lexists(path):
        path = path.rpartition(":")[0]
    return path
