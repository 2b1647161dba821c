"""Who the workload runs as, from the container's own /etc/passwd and /etc/group (passwd(5), group(5)).

The files are parsed by hand, through descriptors: the C library's getpwnam would load modules from the container into
our process (CVE-2019-14271). `-u` is strict: a name, or a number, and nothing half-way (CVE-2026-30892). Digits are a
number even where somebody is named so (CVE-2016-3697).
"""

from __future__ import annotations

import os
import stat

from cni_plugins.spec.record import record
from minirt.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWD, GROUP = "/etc/passwd", "/etc/group"

_LARGEST = 0xFFFFFFFE  # (uid_t) -1 means "leave as it is" to setresuid(2)
_SHAPE = "expected USER[:GROUP], each a name or a number"
_LONGEST_FILE = 16 << 20


@record
class User:
    """Ids as the kernel wants them, and the home directory."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def check(text: str) -> None:
    """Refuse what no container could resolve. Raises UsageError."""
    name, colon, group = text.partition(":")
    if not text:
        return
    if not name or (colon and not group) or ":" in group or any(char.isspace() or char == "\0" for char in text):
        raise UsageError(f"invalid user {text!r}", _SHAPE)
    for part in filter(None, (name, group)):
        if (number := _number(part)) is not None and number > _LARGEST:
            raise UsageError(f"invalid user {text!r}: {part} is above {_LARGEST}", _SHAPE)


def resolve(text: str, passwd: bytes, group: bytes) -> User:
    """The user that `text` means, by the contents of the two files; root when it is empty.

    As docker has it: the group is the one asked for and then the only one, else the user's own (0 when it has no
    entry) and all that list the user as a member. Raises UsageError, NotFound.
    """
    check(text)
    name, _, group_name = (text or "0").partition(":")
    entry = _entry(passwd, name)
    uid = _number(name) if entry is None else int(entry[2])
    if uid is None:
        raise NotFound(f"no user {name!r} in the container's {PASSWD}", "give its number, or a name that is there")
    gid = int(entry[3]) if entry else 0
    home = (entry[5] if entry else "") or "/"
    if group_name:
        return User(uid, _group_id(group, group_name), (), home)
    return User(uid, gid, tuple(_memberships(group, entry[0])) if entry else (), home)


def read(path: str) -> bytes:
    """The contents of `path` in the root we are in; empty when it is missing or no ordinary file."""
    try:
        # A fifo in its place would otherwise hold us for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with open(fd, "rb") as file:
        return file.read(_LONGEST_FILE)


def _number(text: str) -> int | None:
    """`text` as a number, whose size is right as far as `_LARGEST` reaches; None when it is none."""
    return int(text.lstrip("0")[:11] or "0") if text.isascii() and text.isdigit() else None


def _lines(text: bytes, fields: int) -> Iterator[list[str]]:
    """Entries with as many fields as they should have; others are comments or mistakes, which libc skips too."""
    for line in text.decode(errors="surrogateescape").split("\n"):
        entry = line.split(":")
        if len(entry) == fields and "\0" not in line:
            yield entry


def _valid(*numbers: str) -> bool:
    return all((value := _number(text)) is not None and value <= _LARGEST for text in numbers)


def _entry(passwd: bytes, name: str) -> list[str] | None:
    """The first entry of the user of this name, or of this number."""
    number = _number(name)
    for entry in _lines(passwd, 7):
        if _valid(entry[2], entry[3]) and (entry[0] == name if number is None else int(entry[2]) == number):
            return entry
    return None


def _group_id(group: bytes, name: str) -> int:
    number = _number(name)
    if number is not None:
        return number
    for entry in _lines(group, 4):
        if entry[0] == name and _valid(entry[2]):
            return int(entry[2])
    raise NotFound(f"no group {name!r} in the container's {GROUP}", "give its number, or a name that is there")


def _memberships(group: bytes, user: str) -> Iterator[int]:
    for entry in _lines(group, 4):
        if user in entry[3].split(",") and _valid(entry[2]):
            yield int(entry[2])
