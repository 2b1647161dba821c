"""System calls that Python 3.11 lacks, each a thin wrapper: OSError with errno, no policy, no sentence for the user.

Called through `_ctypes`, the C half of ctypes (the package around it costs 5 ms of imports). Calls that glibc does not
wrap go by number; all of those are above 423 and so have one number on every architecture, but for keyctl(2).
Of prctl(2), python-prctl serves what it knows (see caps.py); this file has the raw call for the rest.

Flags are named and valued as in the kernel's headers (linux/{sched,mount,openat2,prctl,magic}.h).
"""

from __future__ import annotations

import _ctypes
import os
from _struct import pack
from errno import EINVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AT_EMPTY_PATH = 0x1000
AT_FDCWD = -100
AT_RECURSIVE = 0x8000

CLONE_INTO_CGROUP = 0x200000000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWUTS = 0x04000000
CLONE_PIDFD = 0x00001000

CLOSE_RANGE_CLOEXEC = 4

MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08

MOVE_MOUNT_F_EMPTY_PATH = 0x04
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MS_RDONLY = 0x01
MS_NOSUID = 0x02
MS_NODEV = 0x04
MS_NOEXEC = 0x08
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

OPEN_TREE_CLOEXEC = os.O_CLOEXEC
OPEN_TREE_CLONE = 1

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

CGROUP2_SUPER_MAGIC = 0x63677270
DEVPTS_SUPER_MAGIC = 0x1CD1
PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
TMPFS_MAGIC = 0x01021994

_CAPABILITY_VERSION_3 = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING = 1
_NR_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
_NR_OPEN_TREE, _NR_MOVE_MOUNT, _NR_CLONE3, _NR_CLOSE_RANGE = 428, 429, 435, 436
_NR_OPENAT2, _NR_MOUNT_SETATTR = 437, 442
_SIGCHLD = 17


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _UInt(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "I"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Text(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "z"


class _Statfs(_ctypes.Array):  # type: ignore[type-arg]
    """struct statfs(2); its first word is f_type."""

    _type_ = _Long
    _length_ = 32


class _CapData(_ctypes.Array):  # type: ignore[type-arg]
    """The two of struct __user_cap_data_struct: effective, permitted, inheritable; low words, then high ones."""

    _type_ = _UInt
    _length_ = 6


class _Function(_ctypes.CFuncPtr):
    """A function that returns an int, -1 for an error."""

    # C calls (1) that keep the interpreter's lock (4: a clone must not return without it) and errno (8).
    _flags_ = 1 | 4 | 8
    _restype_: type = _Int

    def checked(self, *args: object) -> int:
        result: int = self(*args)
        if result == -1:
            number = _ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class _Syscall(_Function):
    _flags_ = _Function._flags_
    _restype_: type = _Long


_LIBC = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: this program itself, libc included


def _function(name: str, *types: type, kind: type[_Function] = _Function) -> Callable[..., int]:
    function = kind(_ctypes.dlsym(_LIBC, name))
    function.argtypes = types
    return function.checked


def _system_call(*types: type) -> Callable[..., int]:
    return _function("syscall", _Long, *types, kind=_Syscall)


_mount = _function("mount", _Text, _Text, _Text, _Long, _Text)
_umount2 = _function("umount2", _Text, _Int)
_pivot_root = _function("pivot_root", _Text, _Text)
_sethostname = _function("sethostname", _Text, _Long)
_fstatfs = _function("fstatfs", _Int, _Statfs)
_capget = _function("capget", _Text, _CapData)
_capset = _function("capset", _Text, _Text)
_prctl = _function("prctl", _Int, *(_Long,) * 4)
_openat2 = _system_call(_Int, _Text, _Text, _Long)
_open_tree = _system_call(_Int, _Text, _Int)
_move_mount = _system_call(_Int, _Text, _Int, _Text, _Int)
_mount_setattr = _system_call(_Int, _Text, _Int, _Text, _Long)
_clone3 = _system_call(_Text, _Long)
_close_range = _system_call(_Int, _Int, _Int)
_keyctl = _system_call(_Int, _Text)

unshare = _function("unshare", _Int)
setns = _function("setns", _Int, _Int)


def _encoded(text: str) -> bytes:
    """As C reads it. A NUL would end it early, and name another file than the one that was meant."""
    if "\0" in text:
        raise OSError(EINVAL, os.strerror(EINVAL))
    return os.fsencode(text)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _mount(_encoded(source), _encoded(target), _encoded(kind), flags, _encoded(data))


def umount2(target: str, flags: int = 0) -> None:
    _umount2(_encoded(target), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    _pivot_root(_encoded(new_root), _encoded(put_old))


def sethostname(name: str) -> None:
    raw = _encoded(name)
    _sethostname(raw, len(raw))


def filesystem(fd: int) -> int:
    """The magic number of the file system that `fd` lies on (f_type of statfs(2))."""
    found = _Statfs()
    _fstatfs(fd, found)
    return int(found[0])


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2); `resolve` is a sum of RESOLVE_…. The descriptor is closed on exec."""
    return _openat2(_NR_OPENAT2, directory, _encoded(path), pack("QQQ", flags | os.O_CLOEXEC, mode, resolve), 24)


def open_tree(directory: int, path: str, flags: int = 0) -> int:
    """A detached copy of the mount at `path` (open_tree(2)); an empty `path` means `directory` itself."""
    return _open_tree(
        _NR_OPEN_TREE, directory, _encoded(path), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | flags
    )


def move_mount(tree: int, target: int) -> None:
    """Attach the detached mount `tree` on what the descriptor `target` refers to."""
    _move_mount(_NR_MOVE_MOUNT, tree, b"", target, b"", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)


def mount_setattr(tree: int, attributes: int, propagation: int = 0, flags: int = 0) -> None:
    """Add MOUNT_ATTR_… to the mount at `tree`, keeping what it has; AT_RECURSIVE in `flags` for those below it too."""
    _mount_setattr(_NR_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | flags, pack("QQQQ", attributes, 0, propagation, 0), 32)


def clone3(flags: int, cgroup: int = -1) -> tuple[int, int]:
    """Fork by clone3(2): `(pid, pidfd)` for the parent, `(0, -1)` for the child, which should end by exec or _exit.

    `cgroup` is a descriptor of the v2 cgroup that the child is born in. Python's own hooks do not run in the child:
    the caller must be its process's only thread, and is to keep signals blocked meanwhile.
    """
    pidfd = _Int(-1)
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
    address = _ctypes.addressof(pidfd)
    arguments = pack("11Q", flags | CLONE_PIDFD, address, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, max(cgroup, 0))
    pid = _clone3(_NR_CLONE3, arguments, len(arguments))
    return (pid, pidfd.value) if pid else (0, -1)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """Close (or mark for closing on exec) every descriptor from `first` to `last`; -1 as `last` means all."""
    if last == -1 or first <= last:
        _close_range(_NR_CLOSE_RANGE, first, last, flags)


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    return _prctl(option, value, third, 0, 0)


def capget() -> int:
    """The permitted capabilities of this process, a bit a capability."""
    found = _CapData()
    _capget(pack("Ii", _CAPABILITY_VERSION_3, 0), found)
    return int(found[1]) | int(found[4]) << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """The capability sets of this process, a bit a capability. Unlike libcap's, sets that may name unknown ones."""
    low = [each & 0xFFFFFFFF for each in (effective, permitted, inheritable)]
    high = [each >> 32 for each in (effective, permitted, inheritable)]
    _capset(pack("Ii", _CAPABILITY_VERSION_3, 0), pack("6I", *low, *high))


def join_session_keyring() -> None:
    """A new, empty session keyring (keyctl(2)); nothing where this architecture's number is not known."""
    number = _NR_KEYCTL.get(os.uname().machine)
    if number is not None:
        _keyctl(number, _KEYCTL_JOIN_SESSION_KEYRING, None)
