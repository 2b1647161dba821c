"""Who uses a thing that several attachments share, so that the last one to go can take it away.

A thing has a name ("10.88.0.0-16"); each attachment that uses it leaves an empty file,
/run/cni/<plugin>/.<kind>/<thing>/<network>/<container>:<ifname>, and a folder goes away with its last file. So "was
that the last one?" is answered by the kernel (rmdir(2)) and costs the same whether one attachment or a thousand share
the thing. The '.' keeps the folder apart from the networks' records: no network's name begins with one.
"""

from __future__ import annotations

import os

from cni_plugins.sdk.records import ROOT, LockedFolder, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Shares:
    """The things of one kind that attachments of one plugin share."""

    def __init__(self, plugin: str, kind: str, root: str = ROOT) -> None:
        self.folder = os.path.join(root, plugin, f".{kind}")
        self._lock = LockedFolder(self.folder)

    def locked(self) -> LockedFolder:
        """Nobody joins or leaves inside `with shares.locked():` but we."""
        return self._lock

    def join(self, thing: str, network: str, owner: Owner) -> None:
        """Note that `owner` uses `thing`; fine when it does already. Raises OSError."""
        with self._lock:
            users = os.path.join(self.folder, thing, network)
            os.makedirs(users, exist_ok=True)
            os.close(os.open(os.path.join(users, _file(owner)), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def leave(self, thing: str, network: str, owner: Owner) -> bool:
        """Forget that `owner` uses `thing`; whether nobody does any more. Raises OSError."""
        with self._lock:
            top = os.path.join(self.folder, thing)
            users = os.path.join(top, network)
            try:
                os.unlink(os.path.join(users, _file(owner)))
            except FileNotFoundError:
                pass  # it left before: what counts is who is still there
            for folder in (users, top):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass  # somebody is still there, or nobody ever was
            return not os.path.lexists(top)

    def things(self) -> list[str]:
        """The things that somebody uses."""
        return _list(self.folder)

    def users(self, thing: str) -> Iterator[tuple[str, Owner]]:
        """(network, attachment) of each that uses `thing`."""
        for network in _list(os.path.join(self.folder, thing)):
            for name in _list(os.path.join(self.folder, thing, network)):
                container_id, _colon, ifname = name.partition(":")
                yield network, Owner(container_id, ifname)

    def only(self, thing: str, network: str, owner: Owner) -> bool:
        """Whether `owner` uses `thing`, and nobody else does."""
        return list(self.users(thing)) == [(network, owner)]

    def owners(self, network: str) -> set[Owner]:
        """The attachments of a network that use something: its cost grows with the host."""
        return {owner for thing in self.things() for name, owner in self.users(thing) if name == network}


def _file(owner: Owner) -> str:
    return f"{owner.container_id}:{owner.ifname}"


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
