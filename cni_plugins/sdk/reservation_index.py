"""What the store of reservations would otherwise have to read every file for: an owner's addresses, the next free one.

The store (`reservations.py`) is a folder that other programs may change, under its lock but without telling us. So the
index must notice, and may be lost: it lives in /run, is named after the folder's device and inode, and holds a stamp,
the modification time that we gave the folder when we left it, two seconds in the past, and the boot. Whoever makes or
removes a reservation moves that time to the present, and so does a run of ours that was cut short. Stamp and folder
differ then, and everything is read again, once.

    <device>-<inode>/stamp           nanoseconds, 20 digits; machine and boot
                    /o<8 hex>        owners by checksum: a line `address container ifname` each (no ifname: old format)
                    /t<4|6>-<hex>    a bit for each of 65536 addresses: taken. Missing means all free
"""

from __future__ import annotations

import os
from binascii import crc32
from time import time_ns

from cni_plugins.sdk import fdio
from cni_plugins.sdk.records import Owner, read_file
from cni_plugins.spec.ip import Address, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "/run/cni/host-local"
_BLOCK = 1 << 16  # addresses; 8 KiB of bits
_PAST = 2_000_000_000  # ns: more than the coarsest clock that file systems keep time by


class Index:
    """The index of `store`, a folder that exists. Only to be used while the store's lock is held."""

    def __init__(self, store: str, boot: str = "", root: str = ROOT) -> None:
        self._store = store
        self._boot = boot.encode()
        status = os.stat(store)
        self._mtime = status.st_mtime_ns
        self._may_be_empty = False
        self._folder = os.path.join(root, f"{status.st_dev:x}-{status.st_ino}")

    def current(self) -> bool:
        """Whether nobody has changed the store since `seal`."""
        return self._read("stamp") == self._stamp(self._mtime)

    def seal(self) -> None:
        """Say that the index tells what the store holds. One that has become empty goes away altogether."""
        if self._may_be_empty and self._removed():
            return
        past = time_ns() - _PAST
        os.utime(self._store, ns=(past, past))
        fd = self._open("stamp", os.O_WRONLY)  # over the old one, which is as long within a boot
        try:
            fdio.write(fd, self._stamp(os.stat(self._store).st_mtime_ns))
        finally:
            os.close(fd)

    def _stamp(self, time: int) -> bytes:
        return b"%020d %s" % (time, self._boot)

    def _removed(self) -> bool:
        """Remove the index unless it holds more than a stamp."""
        try:
            os.unlink(self._path("stamp"))
        except FileNotFoundError:
            pass  # it was made in this very call
        try:
            os.rmdir(self._folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def rebuild(self, reservations: Iterable[tuple[Address, Owner]]) -> None:
        """Forget everything and learn it anew."""
        self.drop()
        owners: dict[str, list[bytes]] = {}
        taken: dict[str, bytearray] = {}
        for address, owner in reservations:
            owners.setdefault(_bucket(owner), []).append(_line(address, owner))
            name, bit = _place(address)
            taken.setdefault(name, bytearray(_BLOCK // 8))[bit >> 3] |= 1 << (bit & 7)
        for bucket, lines in owners.items():
            self._write(bucket, b"".join(lines))
        for name, bits in taken.items():
            self._write(name, bits)
        self._may_be_empty = not owners

    def drop(self) -> None:
        try:
            for name in os.listdir(self._folder):
                os.unlink(self._path(name))
            os.rmdir(self._folder)
        except FileNotFoundError:
            pass  # there was none

    def addresses(self, owner: Owner) -> list[Address]:
        """What `owner` holds, exactly so spelled."""
        lines = (line.split(b" ") for line in self._read(_bucket(owner)).splitlines())
        wanted = [owner.container_id.encode(), owner.ifname.encode()]
        return [parse_address(address.decode()) for address, *rest in lines if rest == wanted]

    def add(self, address: Address, owner: Owner) -> None:
        fd = self._open(_bucket(owner), os.O_WRONLY | os.O_APPEND)
        try:
            fdio.write(fd, _line(address, owner))
        finally:
            os.close(fd)
        self._mark(address, True)

    def remove(self, address: Address, owner: Owner) -> None:
        bucket = _bucket(owner)
        rest = self._read(bucket).replace(_line(address, owner), b"", 1)
        if rest:
            self._write(bucket, rest)
        else:
            os.unlink(self._path(bucket))
        self._mark(address, False)

    def free(self, first: Address, end: Address) -> Address | None:
        """The first address from `first` to `end`, both included, that is not taken."""
        value = first.value
        while value <= end.value:
            name, bit = _place(Address(first.family, value))
            taken = int.from_bytes(self._read(name), "little") >> bit
            # The lowest bit that is not set: adding one carries through all that are.
            ahead = (~taken & (taken + 1)).bit_length() - 1
            value += ahead
            if ahead < _BLOCK - bit:
                break
        return Address(first.family, value) if value <= end.value else None

    def _mark(self, address: Address, taken: bool) -> None:
        name, bit = _place(address)
        fd = self._open(name, os.O_RDWR)
        try:
            bits = int.from_bytes(os.pread(fd, 1, bit >> 3), "little")
            bits = bits | 1 << (bit & 7) if taken else bits & ~(1 << (bit & 7))
            os.pwrite(fd, bytes((bits,)), bit >> 3)
            empty = not bits and not any(fdio.read(fd))
        finally:
            os.close(fd)
        if empty:
            os.unlink(self._path(name))
            self._may_be_empty = True

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _read(self, name: str) -> bytes:
        return read_file(self._path(name)) or b""

    def _write(self, name: str, text: bytes | bytearray) -> None:
        """Not atomically: a write cut short leaves no stamp that fits, so nobody will read it."""
        fd = self._open(name, os.O_WRONLY | os.O_TRUNC)
        try:
            fdio.write(fd, text)
        finally:
            os.close(fd)

    def _open(self, name: str, flags: int) -> int:
        """The file, made if need be; the folder too."""
        flags |= os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(self._path(name), flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self._folder, mode=0o700)
            return os.open(self._path(name), flags, 0o600)


def _bucket(owner: Owner) -> str:
    """Owners that share a checksum share a file; container ids may be longer than file names."""
    return f"o{crc32(f'{owner.container_id} {owner.ifname}'.encode()):08x}"


def _line(address: Address, owner: Owner) -> bytes:
    return f"{address} {owner.container_id} {owner.ifname}\n".encode()


def _place(address: Address) -> tuple[str, int]:
    """The file that has the address's bit, and which bit it is."""
    return f"t{address.family}-{address.value // _BLOCK:x}", address.value % _BLOCK
