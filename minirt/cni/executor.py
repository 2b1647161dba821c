"""The seam between runtime and plugins: where programs are looked for, and which executor runs them.

Plugins are executables to us, whoever wrote them. The fork executor runs those that are launchers of ours in a fork of
this interpreter, which saves their start-up; the plain one starts them like any other. Nothing else of minirt imports
from `cni_plugins` more than the wire.
"""

from __future__ import annotations

import os
import sys

from cni_plugins.sdk import launcher
from cni_plugins.sdk.call import ExecutorError, StoppedError
from cni_plugins.sdk.executor import Fork, NotFoundError, Spawn, StartError, find
from cni_plugins.sdk.main import Outcome
from cni_plugins.spec.errors import CniError
from minirt.errors import ConfigError, Conflict, KernelRefused, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cni_plugins.sdk.call import Ear

__all__ = ["FOREIGN", "Executor", "bundled", "install", "program", "search_path"]
__all__ += ["ExecutorError", "Outcome", "StartError", "StoppedError"]  # how a call ends, for `call`

FOREIGN = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")  # where distributions and runtimes put plugins


class Executor:
    """Finds plugins in `directories` and runs them; `plain` starts bundled ones as programs too."""

    def __init__(self, directories: Sequence[str], plain: bool = False) -> None:
        self.directories = tuple(directories)
        self._plain = plain
        self._executor: Spawn = Spawn() if plain else Fork()

    def preferring(self, directory: str) -> Executor:
        """The same, but that it looks into `directory` first."""
        return Executor((directory, *self.directories), self._plain)

    def find(self, plugin_type: str) -> str:
        """The path of the program. Raises NotFound, ConfigError for a type that can be no program's name."""
        try:
            return find(plugin_type, self.directories)
        except NotFoundError as error:
            raise NotFound(str(error), _where_to_get(plugin_type)) from None
        except CniError as error:
            raise ConfigError(str(error)) from None

    def programs(self) -> Iterator[tuple[str, str]]:
        """Name and path of every program in the folders, in the order in which they are searched."""
        for directory in dict.fromkeys(self.directories):
            for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.access(path, os.X_OK):
                    yield name, path

    def run(
        self,
        path: str,
        env: Mapping[str, str],
        stdin: bytes,
        timeout: float | None,
        keep_fds: Sequence[int],
        ear: Ear | None = None,
    ) -> Outcome:
        """Run the program to its end. Raises ExecutorError (StoppedError when it had to be killed).

        `ear` is a descriptor to watch meanwhile, and what to do when something can be read there.
        """
        return self._executor.run(path, env, stdin, timeout, keep_fds, ear)


def search_path(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The folders of CNI_PATH, or else the bundled one and those where others put plugins.

    The bundled folder is written when it is missing or lacks a plugin. Raises KernelRefused when it cannot be.
    """
    folders = tuple(folder for folder in environ.get("CNI_PATH", "").split(":") if folder)
    if folders:
        return folders
    ours = bundled()
    if not launcher.complete(ours):
        install(ours)
    return (ours, *FOREIGN)


def bundled() -> str:
    """The folder of the bundled plugins' launchers: `<prefix>/libexec/minirt/cni`.

    With -S the interpreter does not look whether it is a virtual environment's, so we do (PEP 405).
    """
    prefix = os.path.dirname(os.path.dirname(sys.executable))
    return os.path.join(
        prefix if os.path.exists(os.path.join(prefix, "pyvenv.cfg")) else sys.prefix, "libexec", "minirt", "cni"
    )


def program(name: str) -> str:
    """The path of a bundled plugin's program, which is written when it is missing. Raises KernelRefused."""
    path = os.path.join(bundled(), name)
    if not launcher.is_ours(name, path):
        install(bundled())
    return path


def is_ours(path: str) -> bool:
    """Whether the program at `path` is a launcher of ours, which tells of its steps. Read once: an account asks at
    every call, and the fork executor looks for itself."""
    if path not in _ours:
        _ours[path] = launcher.is_ours(os.path.basename(path), path)
    return _ours[path]


_ours: dict[str, bool] = {}


def install(folder: str, force: bool = False) -> list[str]:
    """Write the launchers of the bundled plugins into `folder`; the paths that changed.

    Raises Conflict for a program of that name which is none of ours (unless `force`), KernelRefused.
    """
    try:
        return launcher.write(folder, force)
    except FileExistsError as error:
        if error.filename == folder:
            raise Conflict(f"{folder} is not a folder", "choose another, or remove it first") from None
        raise Conflict(
            f"{error.filename} {error.strerror}", "choose another folder, or replace it with --force"
        ) from None
    except OSError as error:
        hint = "'minirt plugin install DIR' writes the plugins elsewhere; name that DIR in CNI_PATH then"
        raise KernelRefused(f"install plugins {folder}", error, hint) from error


def _where_to_get(plugin_type: str) -> str:
    if plugin_type in launcher.NAMES:
        return f"it is bundled: 'minirt plugin install' writes it to {bundled()}; CNI_PATH replaces that folder"
    return (
        f"bundled are {', '.join(sorted(launcher.NAMES))}; the distribution's package is often called "
        "containernetworking-plugins; folders can be named in CNI_PATH, with ':' between them"
    )
