"""What a container finds at /: the list of steps that build it, in order.

The image `host` is this machine's own files under a throw-away layer, with /run and /tmp fresh; other file systems than
the root's are left out, but for those that hold programs. Any other image is a directory, used as it is. On it come the
kernel's own file systems, a minimal /dev, volumes, and what docker hides or protects in /proc and /sys.
"""

from __future__ import annotations

import os
import stat

from cni_plugins.spec.record import record
from minirt.cgroup import MOUNT as CGROUP_MOUNT
from minirt.cgroup import NoCgroup
from minirt.errors import NotFound, UsageError
from minirt.mounts import (
    STAGE,
    Bind,
    BindRoot,
    Detach,
    Device,
    Freeze,
    Link,
    MaskFile,
    Mount,
    Pivot,
    ReadOnly,
    Stage,
    missing_source,
)
from minirt.spec import Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_plugins.spec.steps import Step

# Directories of the host that may be file systems of their own and hold programs or what they need.
_LAYERS = ("/usr", "/usr/local", "/opt", "/var")

_PRIVATE = ("nosuid", "nodev", "noexec")
_KERNEL = (
    Mount("proc", "/proc", _PRIVATE),
    # /sys shows the network namespace of the process that mounts it, so this comes after that was entered.
    Mount("sysfs", "/sys", ("ro", *_PRIVATE)),
)
_DEV = (
    Mount("tmpfs", "/dev", ("nosuid", "nodev", "mode=755", "size=65536k")),
    Device("null", 1, 3),
    Device("zero", 1, 5),
    Device("full", 1, 7),
    Device("random", 1, 8),
    Device("urandom", 1, 9),
    Device("tty", 5, 0),
    Mount("devpts", "/dev/pts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    Link("ptmx", "pts/ptmx"),
    Link("fd", "/proc/self/fd"),
    Link("stdin", "/proc/self/fd/0"),
    Link("stdout", "/proc/self/fd/1"),
    Link("stderr", "/proc/self/fd/2"),
    Mount("tmpfs", "/dev/shm", (*_PRIVATE, "mode=1777", "size=65536k")),  # noqa: S108  # a mount point
    Mount("mqueue", "/dev/mqueue", _PRIVATE),
)
_FRESH = (
    Mount("tmpfs", "/run", ("nosuid", "nodev", "mode=755")),
    Mount("tmpfs", "/tmp", ("nosuid", "nodev", "mode=1777")),  # noqa: S108  # a mount point
)

# docker's lists (moby, oci/defaults.go): what tells too much of the host, and what could change it.
_MASKED_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/devices/virtual/powercap", "/sys/firmware")
_MASKED_FILES = (
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_ATTRIBUTES = ("ro", "nosuid", "noexec")
_PROPAGATION = {"private": "private", "rprivate": "private", "slave": "slave", "rslave": "slave"}
_IGNORED = ("rw", "nodev", "rbind", "z", "Z")  # what is so anyway; z and Z ask for SELinux labels, which we do not make


@record
class Rootfs:
    """The root that is asked for. `directory` is empty for the image `host`.

    Of two volumes at one place the later one counts, so files that minirt provides come before what the user says.
    """

    directory: str = ""
    read_only: bool = False
    volumes: tuple[Volume, ...] = ()


def check(rootfs: Rootfs) -> None:
    """Look at the host for what the steps will need. Raises NotFound, UsageError."""
    if rootfs.directory:
        try:
            kind = os.stat(rootfs.directory).st_mode
        except FileNotFoundError:
            raise NotFound(
                f"no directory {rootfs.directory!r} to be the root", "--rootfs takes the path of an unpacked image"
            ) from None
        if not stat.S_ISDIR(kind):
            raise UsageError(f"{rootfs.directory!r} is not a directory", "--rootfs takes the path of an unpacked image")
    for volume in rootfs.volumes:
        if not os.path.exists(volume.source):
            raise missing_source(volume.source, volume.target)


def steps(rootfs: Rootfs, cgroup: NoCgroup, exists: Callable[[str], bool] = os.path.lexists) -> tuple[Step, ...]:
    """All steps from the new mount namespace to the new root. `exists` tells which files this kernel's /proc has.

    Raises UsageError for a volume that cannot be.
    """
    return (
        Detach(),
        *(_directory(rootfs.directory) if rootfs.directory else _host()),
        *_KERNEL,
        *_cgroup_view(cgroup),
        *_DEV,
        *(() if rootfs.directory else _FRESH),
        *_volumes(rootfs.volumes),
        *(Mount("tmpfs", path, ("ro",)) for path in _MASKED_DIRECTORIES if exists(path)),
        *(MaskFile(path) for path in _MASKED_FILES if exists(path)),
        *(ReadOnly(path) for path in _READ_ONLY if exists(path)),
        *((Freeze("/"),) if rootfs.read_only else ()),
        Pivot(),
    )


def _directory(path: str) -> tuple[Step, ...]:
    return Stage(("root",)), BindRoot(path)


def _host() -> tuple[Step, ...]:
    """An overlay of `/`, and one of each directory on a file system of its own: overlays do not look into those."""
    lower = ["/", *(path for path in _LAYERS if _is_separate(path))]
    names = [path.strip("/").replace("/", "-") or "root" for path in lower]
    places = [(f"upper-{name}", f"work-{name}") for name in names]
    overlays = (
        Mount("overlay", path, ("nodev", f"lowerdir={path}", f"upperdir={STAGE}/{upper}", f"workdir={STAGE}/{work}"))
        for path, (upper, work) in zip(lower, places, strict=True)
    )
    return Stage(("root", *(name for pair in places for name in pair))), *overlays


def _is_separate(path: str) -> bool:
    try:
        return os.lstat(path).st_dev != os.lstat(os.path.dirname(path)).st_dev
    except FileNotFoundError:
        return False


def _cgroup_view(cgroup: NoCgroup) -> Iterator[Step]:
    """The container's own groups, to look at: it is in a cgroup namespace."""
    if cgroup.unified:
        yield Mount("cgroup2", CGROUP_MOUNT, ("ro", *_PRIVATE))
    elif cgroup.hierarchies:
        yield Mount("tmpfs", CGROUP_MOUNT, (*_PRIVATE, "mode=755"))
        for name in cgroup.hierarchies:
            yield Mount("cgroup", f"{CGROUP_MOUNT}/{name}", ("ro", *_PRIVATE, name))
        yield Freeze(CGROUP_MOUNT)


def _volumes(volumes: tuple[Volume, ...]) -> list[Bind]:
    """What lies above comes first, or it would hide what lies below."""
    by_target = {bind.target: bind for bind in map(volume_step, volumes)}
    return sorted(by_target.values(), key=lambda bind: bind.target.count("/"))


def volume_step(volume: Volume) -> Bind:
    """The bind mount that a volume is. Raises UsageError."""
    place = os.path.normpath(volume.target)
    if not place.startswith("/") or place.strip("/") == "":
        raise UsageError(f"invalid volume target {volume.target!r}", "expected an absolute path, and not the root")
    if place == "/proc" or place.startswith("/proc/"):
        raise UsageError(f"invalid volume target {volume.target!r}", "nothing can be mounted in /proc")
    attributes, propagation, recursive = ["nodev"], "private", True
    for option in volume.options:
        if option in _ATTRIBUTES:
            attributes.append(option)
        elif option in _PROPAGATION:
            propagation = _PROPAGATION[option]
        elif option == "bind":
            recursive = False
        elif option == "dev":
            attributes.remove("nodev")
        elif option not in _IGNORED:
            raise UsageError(
                f"invalid volume option {option!r}",
                f"one of rw, dev, bind, {', '.join((*_ATTRIBUTES, *_PROPAGATION))}; what is mounted inside stays there",
            )
    return Bind(volume.source, f"/{place.lstrip('/')}", tuple(attributes), propagation, recursive)
