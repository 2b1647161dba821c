"""Where recorded calls are run again: a network and a mount namespace of the replay's own, so that nothing of the host
changes. The process enters them and never comes back; they end with it.

    the network     an empty host with `lo` up; a link that a configuration names (`master`, `device`) has a stand-in
    /run, /var/lib/cni    empty: no store, no record, no daemon's socket; folders of programs are there
    dataDir               wherever a configuration has plugins keep things, an empty folder below /run instead
    /run/netns/…    a new network namespace for each that was recorded, under its own path where that is possible

What a plugin writes elsewhere is written. What the host's network would have given it (a default route, an address of
the parent link) is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from cni_plugins.spec.errors import CniError
from cni_plugins.spec.names import ifname
from cni_plugins.spec.names import network as network_name
from cni_plugins.spec.steps import Plan
from minirt import namespaces, sys
from minirt.errors import KernelRefused
from minirt.kernel import namespace_hint
from minirt.trace.reading import Call

HIDDEN = ("/run", "/var/lib/cni")
_LEASES = "/var/lib/cni/networks"
_STORES = (_LEASES, "/var/lib/cni/results", "/run/cni", "/run/minirt", namespaces.NETNS_DIR)
_LAST = "last_reserved_ip"
_LONGEST = 255  # characters of a folder's name
_OURS = "replay"  # begins the names of what has none of its own here
STORE = "dataDir"  # the key by which a configuration names a folder for plugins to keep things in
_LINK_KEYS = ("master", "device")


class Stage:
    """Entered at once: afterwards this process is there. `calls` are those that will be made there; `folders` stay to
    be seen. `spaces` says which path of a namespace stands for which recorded one, `stores` which folder. Raises
    KernelRefused."""

    def __init__(self, calls: Iterable[Call], folders: Iterable[str]) -> None:
        self.spaces: dict[str, str] = {}
        calls = list(calls)
        try:
            self._enter([folder for folder in dict.fromkeys(folders) if _kept(folder)])
        except OSError as error:
            raise KernelRefused("unshare --net --mount", error, namespace_hint(error, "net")) from error
        for path in dict.fromkeys(call.env.get("CNI_NETNS", "") for call in calls):
            if path:
                self._namespace(path)
        stores = dict.fromkeys(path for call in calls for path in _stores(call.stdin))
        self.stores = {path: f"/run/{_OURS}/store{number:04}" for number, path in enumerate(stores)}
        self._links(dict.fromkeys(name for call in calls for name in _links(call.stdin)))

    def _enter(self, folders: list[str]) -> None:
        sys.unshare(sys.CLONE_NEWNS | sys.CLONE_NEWNET)
        sys.mount("", "/", "none", sys.MS_REC | sys.MS_PRIVATE)
        kept = {folder: os.open(folder, os.O_PATH | os.O_CLOEXEC) for folder in folders if os.path.isdir(folder)}
        for path in HIDDEN:
            if not os.path.isdir(path):
                self._make_room(path)
            sys.mount("tmpfs", path, "tmpfs", 0)
        sys.mount("sysfs", "/sys", "sysfs", 0)  # it shows the network of whoever mounted it
        for folder, fd in kept.items():
            os.makedirs(folder, exist_ok=True)
            sys.mount(f"/proc/self/fd/{fd}", folder, "none", sys.MS_BIND)
            os.close(fd)
        os.makedirs(f"/run/{_OURS}", exist_ok=True)

    def _make_room(self, path: str) -> None:
        """For a folder that this host does not have, and shall not get: over its parent lies one of ours."""
        parent = os.path.dirname(path)
        upper, work = (f"/run/{_OURS}/{name}" for name in ("upper", "work"))
        os.makedirs(upper)
        os.makedirs(work)
        sys.mount("overlay", parent, "overlay", 0, f"lowerdir={parent},upperdir={upper},workdir={work}")
        os.mkdir(path)

    def _namespace(self, path: str) -> None:
        folder, name = os.path.split(_real(path))
        if folder != namespaces.NETNS_DIR or path != namespaces.path_of(name) or os.path.lexists(path):
            names = (f"{_OURS}{number:04}" for number in count())
            name = next(name for name in names if not os.path.lexists(namespaces.path_of(name)))
            self.spaces[path] = namespaces.path_of(name)
        Plan().do(*namespaces.network_steps(name))

    def _links(self, names: Iterable[str]) -> None:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        with IPRoute() as kernel:
            kernel.link("set", index=kernel.link_lookup(ifname="lo")[0], state="up")
            for number, name in enumerate(names):
                if kernel.link_lookup(ifname=name):
                    continue
                peer = f"{_OURS}{number}"
                try:
                    kernel.link("add", ifname=name, kind="veth", peer={"ifname": peer})
                    for each in (name, peer):
                        kernel.link("set", index=kernel.link_lookup(ifname=each)[0], state="up")
                except NetlinkError:
                    continue  # no name for a link: the plugin will say so

    def prepare(self, call: Call) -> None:
        """Let host-local give again what it gave: on a store of its own it would begin anew."""
        ipam = call.stdin.get("ipam")
        if call.command != "ADD" or not call.answer or not isinstance(ipam, dict) or ipam.get("type") != "host-local":
            return
        store, network = ipam.get(STORE), call.stdin.get("name")
        if not isinstance(network, str) or len(network) > _LONGEST or not _is(network_name, network):
            return  # the plugin will say so
        folder = f"{self.stores.get(store, _LEASES) if isinstance(store, str) else _LEASES}/{network}"
        for number, address in enumerate(_before(call.answer.document)):
            os.makedirs(folder, exist_ok=True)
            with open(f"{folder}/{_LAST}.{number}", "w", encoding="ascii") as file:
                file.write(address)


def _real(path: str) -> str:
    """Without symbolic links, as far as they can be read: those of /proc/PID/ns not by everybody."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path


def _kept(folder: str) -> bool:
    """Whether a folder of programs lies where it would be hidden. What plugins keep their things in holds none."""
    real = _real(folder)
    return real not in _STORES and any(real.startswith(f"{top}/") for top in HIDDEN)


def _links(config: Mapping[str, Any]) -> Iterator[str]:
    """The host's links that a configuration names."""
    for key in _LINK_KEYS:
        name = config.get(key)
        if isinstance(name, str) and _is(ifname, name):
            yield name


def _stores(config: Mapping[str, Any]) -> Iterator[str]:
    """The folders in which a configuration has plugins keep things."""
    for key, value in config.items():
        if key == STORE and isinstance(value, str) and value:
            yield value
        for inner in value if isinstance(value, list) else (value,):
            if isinstance(inner, dict):
                yield from _stores(inner)


def _before(result: Any) -> Iterator[str]:
    """The addresses before those of a result."""
    from ipaddress import ip_address

    ips = result.get("ips") if isinstance(result, dict) else None
    for item in ips if isinstance(ips, list) else ():
        if isinstance(item, dict) and isinstance(item.get("address"), str):
            try:
                yield str(ip_address(item["address"].partition("/")[0]) - 1)
            except ValueError:
                continue  # it is none, or the first of all


def _is(valid: Callable[[str], str], name: str) -> bool:
    """Whether the contract takes it for a name of the kind that `valid` is for."""
    try:
        return bool(valid(name))
    except CniError:
        return False
