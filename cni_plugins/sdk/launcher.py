"""Launchers: the few lines of text that make a plugin module a program in a folder of CNI_PATH.

A launcher names the real interpreter (never a virtual environment's or a shim's), starts it with `-IS`, which leaves
out the site machinery (5 ms and the user's environment), and adds the one folder that holds the `cni_plugins`
package, behind the standard library so that nothing there can shadow it. Which folder launchers are written to is the
caller's business: this package can be installed alone, under /opt/cni/bin for instance.

The text is also the identity that the fork executor goes by: a program of CNI_PATH is one of ours when it is, byte
for byte, what this very interpreter would write.
"""

from __future__ import annotations

import os
import sys

from cni_plugins.sdk.records import read_file, write_file

# Plugin type, as configurations and CNI_PATH spell it, and the module of cni_plugins that is it.
NAMES = {
    "bandwidth": "bandwidth",
    "bridge": "bridge",
    "dhcp": "dhcp",
    "dummy": "dummy",
    "firewall": "firewall",
    "host-device": "host_device",
    "host-local": "host_local",
    "ipvlan": "ipvlan",
    "loopback": "loopback",
    "macvlan": "macvlan",
    "portmap": "portmap",
    "ptp": "ptp",
    "sbr": "sbr",
    "static": "static",
    "tap": "tap",
    "tuning": "tuning",
    "vlan": "vlan",
    "vrf": "vrf",
    "win-bridge": "windows",
    "win-overlay": "windows",
}

_MARK = "# A launcher of the cni_plugins package."  # by it a launcher is known that another interpreter wrote
_LONGEST_SHEBANG = 255  # BINPRM_BUF_SIZE less one (linux/binfmts.h): the kernel reads no further


def home() -> str:
    """The folder that holds the cni_plugins package we run from."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def text(plugin_type: str) -> bytes:
    """The launcher of `plugin_type`. Raises KeyError for a plugin that we do not have, ValueError as `_shebang`."""
    return "\n".join(
        (
            _shebang(os.path.realpath(sys.executable)),
            _MARK,
            "import sys",
            f"sys.path.append({home()!r})",
            "from cni_plugins.sdk.main import main",
            f"from cni_plugins.{NAMES[plugin_type]} import PLUGIN",
            "main(PLUGIN)",
            "",
        )
    ).encode()


def _shebang(interpreter: str) -> str:
    """Raises ValueError for a path that the kernel cannot read from a first line (execve(2), "Interpreter scripts")."""
    line = f"#!{interpreter} -IS"
    if any(char.isspace() for char in interpreter) or len(os.fsencode(line)) > _LONGEST_SHEBANG:
        raise ValueError(f"the interpreter's path {interpreter!r} cannot stand in a script's first line")
    return line


def is_ours(plugin_type: str, path: str) -> bool:
    """Whether the program at `path` is exactly the launcher that we would write for `plugin_type`. Raises OSError."""
    return plugin_type in NAMES and read_file(path) == text(plugin_type)


def complete(folder: str) -> bool:
    """Whether `folder` holds a launcher of every plugin. They are written together: one is read, the others are there.

    A folder of an earlier version lacks those that have come since, and others' plugins would be taken in their place.
    """
    probe = next(iter(NAMES))
    return is_ours(probe, os.path.join(folder, probe)) and NAMES.keys() <= set(os.listdir(folder))


def write(folder: str, force: bool = False) -> list[str]:
    """Write a launcher for every plugin into `folder`, making it if need be; returns the paths that changed.

    A file that is right already is left alone. One that is not a launcher raises FileExistsError before anything is
    written, unless `force` says to replace it. Raises OSError.
    """
    os.makedirs(folder, mode=0o755, exist_ok=True)
    present = {name: read_file(os.path.join(folder, name)) for name in NAMES}
    if not force:
        for name, found in present.items():
            if found is not None and _MARK.encode() not in found:
                raise FileExistsError(17, "is another program, not a launcher of ours", os.path.join(folder, name))
    changed = []
    for name, found in present.items():
        path = os.path.join(folder, name)
        if found != text(name) or not os.access(path, os.X_OK):
            write_file(path, text(name), 0o755)
            changed.append(path)
    return changed
