"""What was added, kept where libcni keeps it and as it writes it, so that either can tear down what the other set up.

`<root>/results/<network>-<container id>-<ifname>` holds one JSON object (kind "cniCacheV1"): the list's exact text in
base64, the namespace, the arguments, and the last plugin's result. libcni also reads an older form, the bare result.
Two things are done better: a file is written whole or not at all (libcni's zero-byte files after a crash block
teardown), and one that cannot be read counts as absent, with a warning, since DEL must work without it.

The name is ambiguous ("a-b" + "c" is "a" + "b-c"), so what is read is compared with what was asked for.
"""

from __future__ import annotations

import os
from binascii import a2b_base64, b2a_base64

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, loads
from cni_plugins.spec.record import record
from minirt import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

ROOT = "/var/lib/cni"
_KIND = "cniCacheV1"
_NOTHING: Mapping[str, Any] = {}


@record
class Entry:
    """One attachment as it was made. `config` is the list's text, empty in the old form; `result` the document as ADD
    gave it. `failure` is why the last DEL stopped: our own key, which libcni passes over."""

    network: str
    container_id: str
    ifname: str
    netns: str = ""
    config: str = ""
    args: tuple[tuple[str, str], ...] = ()
    capability_args: Mapping[str, Any] = _NOTHING
    result: Mapping[str, Any] = _NOTHING
    failure: str = ""

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Where its network namespace may be found: as it was asked for, which libcni has not always written down, and
        as the plugins said."""
        try:
            sandboxes = [item.string("sandbox") for item in View(dict(self.result)).views("interfaces")]
        except CniError:
            sandboxes = []  # whatever it is, it is no result of ours
        return tuple(dict.fromkeys(path for path in (self.netns, *sandboxes) if path))

    def to_json(self) -> dict[str, Any]:
        """Keys as libcni names them; those that it leaves out when empty are left out."""
        optional = {
            "netns": self.netns,
            "cniArgs": [list(pair) for pair in self.args],
            "capabilityArgs": dict(self.capability_args),
            "failure": self.failure,
        }
        return {
            "kind": _KIND,
            "containerId": self.container_id,
            "config": b2a_base64(self.config.encode(), newline=False).decode(),
            "ifName": self.ifname,
            "networkName": self.network,
            "result": dict(self.result),
        } | {key: value for key, value in optional.items() if value}


def _entry(view: View) -> Entry:
    """Raises CniError or ValueError for what is not an entry, or does not say whose it is."""
    for key in ("networkName", "containerId", "ifName"):
        if not view.string(key):
            raise ValueError(f"{key} is missing")
    return Entry(
        view.string("networkName"),
        view.string("containerId"),
        view.string("ifName"),
        view.string("netns"),
        a2b_base64(view.string("config"), strict_mode=True).decode(),
        tuple(_pair(pair) for pair in view.get("cniArgs") or ()),
        view.view("capabilityArgs").document,
        view.view("result").document,
        view.string("failure"),
    )


def _pair(pair: object) -> tuple[str, str]:
    match pair:
        case [str(key), str(value)]:
            return key, value
    raise ValueError(f"cniArgs: {pair!r} is not a pair")


class Cache:
    """The attachments of this host. `warn` is told of files that cannot be read."""

    def __init__(self, root: str = ROOT, warn: Callable[[str], None] = lambda _text: None) -> None:
        self.folder = f"{root}/results"
        self._warn = warn

    def path(self, network: str, container_id: str, ifname: str) -> str:
        return f"{self.folder}/{network}-{container_id}-{ifname}"

    def put(self, entry: Entry) -> None:
        """Write `entry`, durably. Raises OSError."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        files.write_json(self.path(entry.network, entry.container_id, entry.ifname), entry.to_json())

    def get(self, network: str, container_id: str, ifname: str) -> Entry | None:
        """What is known of this attachment, or None."""
        found = self._read(self.path(network, container_id, ifname))
        if isinstance(found, Entry):
            asked = (network, container_id, ifname)
            return found if (found.network, found.container_id, found.ifname) == asked else None
        return None if found is None else Entry(network, container_id, ifname, result=found)

    def remove(self, network: str, container_id: str, ifname: str) -> None:
        files.missing_ok(os.unlink, self.path(network, container_id, ifname))

    def entries(self, container_id: str = "") -> Iterator[Entry]:
        """Every attachment, or one container's, by file name; not the old form, which does not say whose it is."""
        for name in self._names():
            if f"-{container_id}" in name:
                found = self._read(f"{self.folder}/{name}")
                if isinstance(found, Entry) and container_id in ("", found.container_id):
                    yield found

    def doubtful(self, network: str) -> Iterator[tuple[str, str]]:
        """Container id and interface, as far as the file's name tells them, of what cannot be told to be alive or not:
        files of `network` that are damaged, or of the old form. An ambiguous name is read in every way."""
        for name in self._names():
            if name.startswith(f"{network}-") and not isinstance(self._read(f"{self.folder}/{name}"), Entry):
                parts = name.removeprefix(f"{network}-").split("-")
                for cut in range(1, len(parts)):
                    yield "-".join(parts[:cut]), "-".join(parts[cut:])

    def _names(self) -> list[str]:
        if not os.path.isdir(self.folder):
            return []
        with os.scandir(self.folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())

    def _read(self, path: str) -> Entry | dict[str, Any] | None:
        """An entry, the bare result of the old form, or None."""
        try:
            document = loads(files.read(path))
            if not isinstance(document, dict):
                raise ValueError("not an object")
            view = View(document)
            if view.string("kind") == _KIND:
                return _entry(view)
            if view.has("kind") or not view.has("cniVersion"):
                raise ValueError("neither an entry nor a result")
            return document
        except FileNotFoundError:
            return None
        except (OSError, CniError, JsonError, ValueError) as error:
            self._warn(f"{path}: unreadable, going on without it: {error}")
            return None
