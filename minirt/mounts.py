"""The steps that a container's root is built of, before it becomes the root.

All of them work in a private mount namespace, on the tree at `ROOT`, so that whatever they do dies with that namespace:
none has an `undo`. Paths are those of the container. They are looked up by openat2(2) as descriptors that cannot leave
`ROOT`, and mounts are made on the descriptors: a path checked and then used again may have become a symbolic link
meanwhile (CVE-2021-30465, CVE-2024-45310). What minirt itself puts below /proc, /sys and /dev follows no link at all,
and only lies on the file system that it mounted there (CVE-2019-19921, CVE-2023-27561, CVE-2025-52881).
"""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, EINVAL, ELOOP, ENODEV, ENOTDIR, EPERM

from cni_plugins.spec.names import quoted
from cni_plugins.spec.record import record
from minirt import sys
from minirt.errors import NotFound, SetupFailed, UsageError
from minirt.kernel import KernelStep

STAGE = "/run/minirt/stage"
ROOT = f"{STAGE}/root"

_ATTRIBUTES = {
    "ro": sys.MOUNT_ATTR_RDONLY,
    "nosuid": sys.MOUNT_ATTR_NOSUID,
    "nodev": sys.MOUNT_ATTR_NODEV,
    "noexec": sys.MOUNT_ATTR_NOEXEC,
}
_FLAGS = {"ro": sys.MS_RDONLY, "nosuid": sys.MS_NOSUID, "nodev": sys.MS_NODEV, "noexec": sys.MS_NOEXEC}
_LIES_ON = {
    "/proc/": sys.PROC_SUPER_MAGIC,
    "/sys/fs/cgroup/": sys.TMPFS_MAGIC,
    "/sys/": sys.SYSFS_MAGIC,
    "/dev/": sys.TMPFS_MAGIC,
}
_MOST_LINKS = 40  # as many as the kernel follows
_MOST_RACES = 100
_NO_LINKS = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_SYMLINKS
_IN_ROOT = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS


def outside(path: str) -> str:
    """The container's `path` as the host spells it while the root is being built."""
    return f"{ROOT}{path}".rstrip("/")


def look_up(path: str, resolve: int = _IN_ROOT, flags: int = os.O_PATH) -> int:
    """A descriptor of the container's `path`; no link leads out of its root. Raises OSError."""
    root = os.open(ROOT, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_MOST_RACES):
            try:
                return sys.openat2(root, path, flags, resolve)
            except OSError as error:
                if error.errno != EAGAIN:  # EAGAIN: somebody renames directories on the way (openat2(2))
                    raise
        raise OSError(EAGAIN, os.strerror(EAGAIN))
    finally:
        os.close(root)


def own(path: str, make: bool = False) -> int:
    """A descriptor of a place of ours, such as /proc/sys, reached without any link; the directory is made on demand."""
    try:
        fd = target(path, True, _NO_LINKS) if make else look_up(path, _NO_LINKS)
    except OSError as error:
        if error.errno in (ELOOP, ENOTDIR):
            raise SetupFailed(
                f"{path} in the image is a symbolic link, or below one",
                "minirt mounts nothing through links there: they could lead anywhere",
            ) from error
        raise
    expected = next((kind for prefix, kind in _LIES_ON.items() if path.startswith(prefix)), None)
    if expected is not None and sys.filesystem(fd) != expected:
        os.close(fd)
        raise SetupFailed(f"{path} does not lie on the file system that was mounted there")
    return fd


def target(path: str, directory: bool, resolve: int = _IN_ROOT, links: int = _MOST_LINKS) -> int:
    """A descriptor of `path`, which is made if missing (a file, unless `directory`), with what leads to it.

    A dangling link is followed inside the root, as a link to something would be.
    """
    try:
        return look_up(path, resolve)
    except FileNotFoundError:
        pass
    above, _, name = path.rpartition("/")
    parent = target(above or "/", True, resolve, links)
    try:
        try:
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=parent))
        except FileExistsError:
            if not links or resolve & sys.RESOLVE_NO_SYMLINKS:
                raise OSError(ELOOP, os.strerror(ELOOP), path) from None
            return target(_beyond(above, name, parent), directory, resolve, links - 1)
        return sys.openat2(parent, name, os.O_PATH, sys.RESOLVE_BENEATH | sys.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(parent)


def _beyond(above: str, name: str, parent: int) -> str:
    """Where the link `name` in `parent`, which is at `above`, leads; itself if somebody has made a directory of it."""
    try:
        return os.path.normpath(os.path.join("/", above, os.readlink(name, dir_fd=parent)))
    except OSError as error:
        if error.errno != EINVAL:
            raise
        return f"{above}/{name}"


@record
class Detach(KernelStep):
    """Mounts from here on are nobody else's; what the host mounts may still arrive, for volumes that want it."""

    def describe(self) -> str:
        return "mount --make-rslave /"

    def change(self) -> None:
        sys.mount("", "/", "", sys.MS_SLAVE | sys.MS_REC)


@record
class Stage(KernelStep):
    """A tmpfs of our own to build on, with directories in it. The directory below it is all that the host sees."""

    directories: tuple[str, ...]

    def describe(self) -> str:
        inside = " ".join(f"{STAGE}/{name}" for name in self.directories)
        return f"mkdir -p {STAGE} && mount -t tmpfs tmpfs {STAGE} && mkdir {inside}"

    def change(self) -> None:
        os.makedirs(STAGE, exist_ok=True)
        sys.mount("tmpfs", STAGE, "tmpfs", 0, "mode=755")
        for name in self.directories:
            os.mkdir(f"{STAGE}/{name}", 0o755)


@record
class BindRoot(KernelStep):
    """A directory of the host, with what is mounted below it, as the root."""

    source: str

    def describe(self) -> str:
        return f"mount -o rbind,nodev --make-rprivate {quoted(self.source)} {ROOT}"

    def change(self) -> None:
        place = os.open(ROOT, os.O_PATH | os.O_CLOEXEC)
        tree = sys.open_tree(sys.AT_FDCWD, self.source, sys.AT_RECURSIVE)
        sys.mount_setattr(tree, sys.MOUNT_ATTR_NODEV, sys.MS_PRIVATE, sys.AT_RECURSIVE)
        _attach(tree, place)


@record
class Mount(KernelStep):
    """A new file system. `options` are those of mount(8): what is no flag goes to the file system."""

    kind: str
    target: str
    options: tuple[str, ...] = ()

    def describe(self) -> str:
        options = f" -o {','.join(self.options)}" if self.options else ""
        return f"mount -t {self.kind} --mkdir{options} {self.kind} {outside(self.target)}"

    def change(self) -> None:
        flags = sum(_FLAGS.get(option, 0) for option in self.options)
        data = ",".join(option for option in self.options if option not in _FLAGS)
        place = own(self.target, make=True)
        try:
            sys.mount(self.kind, f"/proc/self/fd/{place}", self.kind, flags, data)
        finally:
            os.close(place)

    def hint(self, error: OSError) -> str:
        if error.errno == ENODEV:
            return f"this kernel has no {self.kind} file system: see /proc/filesystems, try 'modprobe {self.kind}'"
        if self.kind == "overlay" and error.errno == EINVAL:
            return "the kernel's reason is the last line of 'dmesg'; with --rootfs no overlay is needed"
        if error.errno == EPERM:
            return "this needs root with CAP_SYS_ADMIN, which some containers and sandboxes withhold"
        return KernelStep.hint(self, error)


@record
class Bind(KernelStep):
    """A file or directory of the host, shown in the container. `recursive` takes along what is mounted below it."""

    source: str
    target: str
    options: tuple[str, ...] = ()
    propagation: str = "private"
    recursive: bool = True

    def describe(self) -> str:
        r = "r" if self.recursive else ""
        options = ",".join((f"{r}bind", *self.options))
        words = f"mount -o {options} --make-{r}{self.propagation} {quoted(self.source)} {quoted(outside(self.target))}"
        return f"{self._place()}{words}"

    def _place(self) -> str:
        """What makes the place to mount at, where there is none yet."""
        place = outside(self.target)
        if os.path.lexists(place) or not os.path.exists(self.source):
            return ""
        if os.path.isdir(self.source):
            return f"mkdir -p {quoted(place)} && "
        return f"mkdir -p {quoted(os.path.dirname(place))} && touch {quoted(place)} && "

    def change(self) -> None:
        below = sys.AT_RECURSIVE if self.recursive else 0
        try:
            tree = sys.open_tree(sys.AT_FDCWD, self.source, below)
        except FileNotFoundError:
            raise missing_source(self.source, self.target) from None
        # Slave is what everything has been since `Detach`.
        propagation = sys.MS_PRIVATE if self.propagation == "private" else sys.MS_SLAVE
        sys.mount_setattr(tree, sum(_ATTRIBUTES[option] for option in self.options), propagation, below)
        directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        place = target(self.target, directory)
        if stat.S_ISDIR(os.fstat(place).st_mode) != directory:
            raise UsageError(
                f"cannot mount {self.source!r} at {self.target!r}: one of them is a directory, the other is not",
            )
        if sys.filesystem(place) == sys.PROC_SUPER_MAGIC:
            raise UsageError(f"a volume at {self.target!r} would lie in /proc", "choose another place for it")
        _attach(tree, place)


@record
class MaskFile(KernelStep):
    """Reads as empty: /dev/null lies over it."""

    target: str

    def describe(self) -> str:
        return f"mount -o bind,ro /dev/null {outside(self.target)}"

    def change(self) -> None:
        place = own(self.target)
        _attach(host_device("/dev/null", 1, 3), place)


@record
class ReadOnly(KernelStep):
    """Can be read and not written, with the rest of its file system as it was."""

    target: str

    def describe(self) -> str:
        kept = "nosuid,nodev,noexec"  # of the file systems that such places are on; mount(8) would drop it
        return f"mount -o bind,ro,{kept} {outside(self.target)} {outside(self.target)}"

    def change(self) -> None:
        place = own(self.target)
        tree = sys.open_tree(place, "", sys.AT_RECURSIVE)
        sys.mount_setattr(tree, sys.MOUNT_ATTR_RDONLY, 0, sys.AT_RECURSIVE)
        _attach(tree, place)


@record
class Freeze(KernelStep):
    """A mount as it is becomes read-only; what is mounted on it keeps its own mode."""

    target: str

    def describe(self) -> str:
        return f"mount -o remount,bind,ro {outside(self.target)}"

    def change(self) -> None:
        place = look_up(self.target, _NO_LINKS)
        sys.mount_setattr(place, sys.MOUNT_ATTR_RDONLY)
        os.close(place)


@record
class Device(KernelStep):
    """A device of the host in /dev, which is itself mounted nodev.

    mknod(2) is among docker's capabilities, whose device group then refuses the disks of the host. Here every mount
    that the container may write to is nodev, and the few devices it is given lie on it as mounts of their own:
    read-only ones, so that nobody changes the modes of the host's files through them.
    """

    name: str
    major: int
    minor: int

    def describe(self) -> str:
        place = f"{outside('/dev')}/{self.name}"
        return f"touch {place} && mount -o bind,ro /dev/{self.name} {place}"

    def change(self) -> None:
        directory = own("/dev")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(self.name, flags, 0o666, dir_fd=directory))
        place = sys.openat2(directory, self.name, os.O_PATH, _NO_LINKS)
        os.close(directory)
        _attach(host_device(f"/dev/{self.name}", self.major, self.minor), place)


@record
class Link(KernelStep):
    """A symbolic link in /dev."""

    name: str
    to: str

    def describe(self) -> str:
        return f"ln -s {self.to} {outside('/dev')}/{self.name}"

    def change(self) -> None:
        directory = own("/dev")
        os.symlink(self.to, self.name, dir_fd=directory)
        os.close(directory)


@record
class Pivot(KernelStep):
    """The tree becomes the root, and the host's is out of reach.

    Old and new root are stacked on each other for a moment (pivot_root(2), "pivot_root(".", ".")"), so that no
    directory has to be there for the old one.
    """

    def describe(self) -> str:
        return f"cd {ROOT} && pivot_root . . && umount -l . && cd /"

    def change(self) -> None:
        os.chdir(ROOT)
        sys.pivot_root(".", ".")
        sys.umount2(".", sys.MNT_DETACH)
        os.chdir("/")

    def hint(self, error: OSError) -> str:
        if error.errno == EINVAL:
            return "minirt's own root must be a mount point that is not the initial ramfs: is this a chroot?"
        return ""


def missing_source(source: str, place: str) -> NotFound:
    return NotFound(f"no {source!r} on the host to mount at {place!r}", "make it first: minirt makes no volumes")


def host_device(path: str, major: int, minor: int) -> int:
    """A detached, read-only mount of a device of the host, which is the one it should be (CVE-2025-31133)."""
    tree = sys.open_tree(sys.AT_FDCWD, path)
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(major, minor):
        os.close(tree)
        raise SetupFailed(f"{path} of the host is not character device {major}:{minor}")
    sys.mount_setattr(tree, sys.MOUNT_ATTR_RDONLY, sys.MS_PRIVATE)
    return tree


def _attach(tree: int, place: int) -> None:
    """Attach a detached mount on a descriptor; both are closed."""
    try:
        sys.move_mount(tree, place)
    finally:
        os.close(tree)
        os.close(place)
