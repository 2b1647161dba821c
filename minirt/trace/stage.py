"""Where recorded calls are run again: a network and a mount namespace of the replay's own, so that nothing of the host
changes. The process enters them and never comes back; they end with it.

    the network     an empty host with `lo` up; a link that a configuration names (`master`, `device`) has a stand-in
    /run, /var/lib/cni    empty: no store, no record, no daemon's socket; folders of programs are there
    /run/netns/…    a new network namespace for each that was recorded, under its own path where that is possible

What a plugin writes elsewhere is written. What the host's network would have given it (a default route, an address of
the parent link) is not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cni_plugins.spec.steps import Plan
from minirt import namespaces, sys
from minirt.errors import KernelRefused
from minirt.kernel import namespace_hint
from minirt.trace.reading import Call

HIDDEN = ("/run", "/var/lib/cni")
_LEASES = "/var/lib/cni/networks"
_LAST = "last_reserved_ip"
_OURS = "replay"  # begins the names of what has none of its own here
_LINK_KEYS = ("master", "device")


class Stage:
    """Entered at once: afterwards this process is there. `calls` are those that will be made there; `folders` stay to
    be seen. `paths` says which path stands for which recorded one. Raises KernelRefused."""

    def __init__(self, calls: Iterable[Call], folders: Iterable[str]) -> None:
        self.paths: dict[str, str] = {}
        calls = list(calls)
        try:
            self._enter([folder for folder in dict.fromkeys(folders) if _hidden(folder)])
        except OSError as error:
            raise KernelRefused("unshare --net --mount", error, namespace_hint(error, "net")) from error
        for path in dict.fromkeys(call.env.get("CNI_NETNS", "") for call in calls):
            if path:
                self._namespace(path)
        for path in dict.fromkeys(path for call in calls for path in _stores(call.stdin)):
            if not _hidden(path):
                self.paths[path] = f"/run/{_OURS}/store{len(self.paths)}"
        self._links(dict.fromkeys(name for call in calls for name in _links(call.stdin)))

    def _enter(self, folders: list[str]) -> None:
        sys.unshare(sys.CLONE_NEWNS | sys.CLONE_NEWNET)
        sys.mount("", "/", "none", sys.MS_REC | sys.MS_PRIVATE)
        kept = {folder: os.open(folder, os.O_PATH | os.O_CLOEXEC) for folder in folders if os.path.isdir(folder)}
        for path in HIDDEN:
            if os.path.isdir(path):
                sys.mount("tmpfs", path, "tmpfs", 0)
        sys.mount("sysfs", "/sys", "sysfs", 0)  # it shows the network of whoever mounted it
        for folder, fd in kept.items():
            os.makedirs(folder, exist_ok=True)
            sys.mount(f"/proc/self/fd/{fd}", folder, "none", sys.MS_BIND)
            os.close(fd)
        os.makedirs(f"/run/{_OURS}", exist_ok=True)

    def _namespace(self, path: str) -> None:
        folder, name = os.path.split(os.path.realpath(path))
        if folder != namespaces.NETNS_DIR:
            name = f"{_OURS}{len(self.paths)}"
            self.paths[path] = namespaces.path_of(name)
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
        folder = ipam.get("dataDir") or _LEASES
        folder = f"{self.paths.get(folder, folder)}/{call.stdin.get('name', '')}"
        for number, address in enumerate(_given(call.answer.document)):
            os.makedirs(folder, exist_ok=True)
            with open(f"{folder}/{_LAST}.{number}", "w", encoding="ascii") as file:
                file.write(_before(address))


def _hidden(path: str) -> bool:
    real = os.path.realpath(path)
    return any(real == top or real.startswith(f"{top}/") for top in HIDDEN)


def _links(config: Mapping[str, Any]) -> Iterator[str]:
    """The host's links that a configuration names."""
    for key in _LINK_KEYS:
        name = config.get(key)
        if isinstance(name, str) and name:
            yield name


def _stores(config: Mapping[str, Any]) -> Iterator[str]:
    """The folders in which a configuration has plugins keep things."""
    for value in config.values():
        if isinstance(value, dict):
            yield from _stores(value)
    folder = config.get("dataDir")
    if isinstance(folder, str) and folder.startswith("/"):
        yield folder


def _given(result: Any) -> Iterator[str]:
    """The addresses in a result, without their prefixes."""
    ips = result.get("ips") if isinstance(result, dict) else None
    for item in ips if isinstance(ips, list) else ():
        if isinstance(item, dict) and isinstance(item.get("address"), str):
            yield item["address"].partition("/")[0]


def _before(address: str) -> str:
    """The address before it."""
    from ipaddress import ip_address

    try:
        return str(ip_address(address) - 1)
    except ValueError:
        return address
