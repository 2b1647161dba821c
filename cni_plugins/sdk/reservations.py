"""host-local's store: a file for every address that is taken, in the reference plugin's own format.

    <dataDir>/<network>/<address>              `<container id>\\r\\n<ifname>`; an old format has the id alone
                       /last_reserved_ip.<n>   the address that set n gave last
                       /lock                   flock(2), held for the length of a call

Both implementations can work on one folder: what counts is the files, whoever made them. Finding an owner's addresses
without reading them all is the index's part, and it knows when it must not be believed.

A reservation is one exclusive creation and one short write. It is not synced: what survives a power cut is of no use,
for no container does. A file that such a cut, or a full disk, has left empty or torn reserves nothing, and is removed
when met. That is safe under the lock, since nobody can be between creating and writing then. So is one that an earlier
boot has left: see `boots`. The index goes with /run at a reboot, so that is when all are read, once.
"""

from __future__ import annotations

import os
from errno import ENOTDIR, EROFS
from fcntl import LOCK_EX, LOCK_UN, flock

from cni_plugins.sdk import boots, fdio
from cni_plugins.sdk.main import do
from cni_plugins.sdk.records import Owner, read_file
from cni_plugins.sdk.reservation_index import ROOT, Index
from cni_plugins.sdk.reservation_steps import Discard, MakeFolder
from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import TypeAlias

    from cni_plugins.spec.ip import Address

    Reservations: TypeAlias = list[tuple[Address, Owner]]

DATA_DIR = "/var/lib/cni/networks"


class Store:
    """The reservations of one network, locked for the length of a `with`. Every method may raise OSError."""

    def __init__(self, network: str, data_dir: str = DATA_DIR, index_root: str = ROOT) -> None:
        self.folder = os.path.join(data_dir, network)
        self._index_root = index_root

    def exists(self) -> bool:
        """Whether anything was ever reserved; entering would make the folder."""
        return os.path.isdir(self.folder)

    def obstacle(self) -> str:
        """What would keep an ADD from making its files, in the system's words; empty when nothing does."""
        folder = self.folder
        while folder and not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        folder = folder or os.curdir
        for number, stands in ((ENOTDIR, os.path.isdir(folder)), (EROFS, os.access(folder, os.W_OK | os.X_OK))):
            if not stands:
                return f"{folder}: {os.strerror(number)}"
        return ""

    def __enter__(self) -> Store:
        if not self.exists():
            do(MakeFolder(self.folder))
        self._lock = os.open(self._path("lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            flock(self._lock, LOCK_EX)
            self._boot = boots.this_boot()
            self._index = Index(self.folder, self._boot, self._index_root)
            self._trusted = self._index.current()
        except BaseException:
            os.close(self._lock)
            raise
        self._changed = False  # the index is behind the files, or its stamp is
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            if self._changed and self._trusted:
                self._index.seal()
        except OSError:
            pass  # without its stamp the index is not believed, which costs time and nothing else
        finally:
            flock(self._lock, LOCK_UN)  # said aloud: a child just forked may have a copy of the descriptor
            os.close(self._lock)

    def addresses(self, owner: Owner) -> list[Address]:
        """What `owner` holds, reservations of the old format included, which name the container only."""
        index = self._learned()
        return index.addresses(owner) + index.addresses(Owner(owner.container_id, ""))

    def holder(self, address: Address) -> Owner | None:
        """Who has reserved `address`; a folder of that name is nobody's."""
        try:
            return _owner(read_file(self.path_of(address)))
        except IsADirectoryError:
            return None

    def free(self, first: Address, end: Address) -> Address | None:
        """The first address from `first` to `end`, both included, that nobody has reserved."""
        return self._learned().free(first, end)

    def path_of(self, address: Address) -> str:
        """The file that says that `address` is taken."""
        return self._path(str(address))

    def vacant(self, address: Address) -> bool:
        """Whether it can be reserved: nobody holds it, and no folder has its name."""
        return self.holder(address) is None and not os.path.isdir(self.path_of(address))

    def last_path(self, set_index: int) -> str:
        """The file that holds the address that the set gave last."""
        return self._path(f"last_reserved_ip.{set_index}")

    def last(self, set_index: int) -> Address | None:
        """The address that the set gave last."""
        text = read_file(self.last_path(set_index))
        return _address((text or b"").decode(errors="replace").strip())

    def reserve(self, address: Address, owner: Owner, set_index: int) -> bool:
        """Take `address`; False when somebody has it."""
        index = self._learned()
        path = self.path_of(address)
        fd = self._create(address)
        if fd < 0:
            return False
        self._trusted = False
        try:
            try:
                _write(fd, f"{owner.container_id}\r\n{owner.ifname}", path)
                boots.mark(fd, self._boot)
            finally:
                os.close(fd)
            index.add(address, owner)
            self._remember(address, set_index)
        except BaseException:  # a full disk, for one
            do(Discard(path))
            raise
        self._trusted = self._changed = True
        return True

    def held(self, owner: Owner) -> Reservations:
        """What `owner` holds, or else what its container does in the old format."""
        index = self._learned()
        for name in (owner, Owner(owner.container_id, "")):
            if held := index.addresses(name):
                return [(address, name) for address in held]
        return []

    def give_back(self, address: Address, owner: Owner) -> None:
        """Give back one address, if `owner` holds it."""
        index = self._learned()
        if self.holder(address) != owner:
            return
        os.unlink(self.path_of(address))
        self._trusted = False
        index.remove(address, owner)
        self._trusted = self._changed = True

    def sifted(self, valid: Collection[Owner]) -> tuple[Reservations, list[str]]:
        """What is held by somebody of `valid`; and the files of all else, to be removed before `learn`."""
        containers = {owner.container_id for owner in valid}
        found, others = self._read()
        kept: Reservations = []
        for address, owner in found:
            if owner in valid or (not owner.ifname and owner.container_id in containers):
                kept.append((address, owner))
            else:
                others.append(self.path_of(address))
        return kept, others

    def learn(self, reservations: Reservations) -> None:
        """These are all that there are: the index tells of them, then."""
        self._trusted = False
        self._index.rebuild(reservations)
        self._trusted = self._changed = True

    def reservations(self) -> Reservations:
        """All of them, read one by one."""
        return self._read()[0]

    def _read(self) -> tuple[Reservations, list[str]]:
        """All reservations; and the files that are none: torn ones, and those of an earlier boot."""
        found: Reservations = []
        void: list[str] = []
        for address in self.taken():
            path = self.path_of(address)
            owner = _owner(read_file(path))
            if owner is None or boots.outlived(path, self._boot):
                void.append(path)
            else:
                found.append((address, owner))
        return found, void

    def taken(self) -> Iterator[Address]:
        """The addresses that have a file, by a look at the names alone; a folder of such a name reserves nothing."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                address = _address(entry.name)
                if address is not None and str(address) == entry.name and not entry.is_dir():
                    yield address

    def _learned(self) -> Index:
        """The index, once it is known to be right."""
        if not self._trusted:
            found, void = self._read()
            do(*map(Discard, void))
            self.learn(found)
        return self._index

    def _create(self, address: Address) -> int:
        """A descriptor of the new file, or -1 when the address is reserved."""
        path = self.path_of(address)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileExistsError:
            if not self.vacant(address):
                return -1
        os.unlink(path)  # torn
        return os.open(path, flags, 0o600)

    def _remember(self, address: Address, set_index: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        path = self.last_path(set_index)
        fd = os.open(path, flags, 0o600)
        try:
            _write(fd, str(address), path)
        finally:
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)


def _write(fd: int, text: str, path: str) -> None:
    try:
        fdio.write(fd, text.encode())
    except OSError as error:
        error.filename = path  # a full disk: which one is it?
        raise


def _owner(text: bytes | None) -> Owner | None:
    """Whose reservation a file's text is; None for one that neither implementation can have written."""
    lines = (text or b"").decode(errors="replace").strip().split("\r\n")
    if "\0" in lines[-1]:  # what a file system puts where data did not arrive
        return None
    try:
        return Owner(names.container_id(lines[0]), names.ifname(lines[1]) if len(lines) > 1 else "")
    except CniError:
        return None


def _address(text: str) -> Address | None:
    try:
        return parse_address(text)
    except ValueError:
        return None
