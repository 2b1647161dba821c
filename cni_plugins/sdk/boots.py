"""In which boot of which machine a file was made, written on the file itself (xattr(7)).

Containers do not survive a reboot, but files below /var do. A file's text may be somebody else's format, and its times
are no witness, for clocks are set. An extended attribute is neither in the way of who does not know it, nor copied to
what is made anew under the same name: so what carries another boot's mark is from that boot, and what carries none is
left alone. The machine's id stands before it: a folder that two machines share is not cleared by the one for the other.
"""

from __future__ import annotations

import os

from cni_plugins.sdk.records import read_file

ATTRIBUTE = "user.cni.boot"
_MACHINE, _BOOT = "/etc/machine-id", "/proc/sys/kernel/random/boot_id"


def this_boot() -> str:
    """`<machine's id> <boot's id>`; empty where the kernel does not say."""
    boot = _text(_BOOT)
    return f"{_text(_MACHINE) or '-'} {boot}" if boot else ""


def _text(path: str) -> str:
    return (read_file(path) or b"").decode(errors="replace").strip()


def mark(target: str | int, boot: str) -> None:
    """Say that the file, a path or a descriptor, was there in `boot`. Where a file system has no room for it, nothing
    is said, and nothing will be known."""
    try:
        if boot:
            os.setxattr(target, ATTRIBUTE, boot.encode())
    except OSError:
        pass


def outlived(path: str, boot: str) -> bool:
    """Whether the file was made in an earlier boot of this machine. One that does not say is marked for the next."""
    try:
        made = os.getxattr(path, ATTRIBUTE).decode(errors="replace")
    except OSError:
        mark(path, boot)
        return False
    return bool(boot) and made != boot and made.partition(" ")[0] == boot.partition(" ")[0]
