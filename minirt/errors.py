"""What can go wrong, told to the person at the terminal. Every failure that minirt expects is one of these:

    MinirtError               125  anything below; `message` says what and why, `hint` what to do about it
     ├ UsageError             125  the command line: a bad name, port, address, volume, user
     ├ ConfigError            125  a file: network list, settings; `where` is file:line:column or file:json-path
     ├ NotFound               125  no such container, network, plugin, image, directory
     ├ Conflict               125  a name or port is taken, a container runs (or does not), an address is in use
     ├ KernelRefused          125  an OSError with its intent; `step` is the command that a person would have typed
     ├ Damaged                125  a state file of ours cannot be read; `name` is whose it is
     ├ SetupFailed            125  process 1 could not be prepared, and no system call says why
     ├ PluginError            125  what a plugin answered: plugin, command, code, msg, details, stderr
     ├ CommandNotExecutable   126  the command is there and cannot be run
     └ CommandNotFound        127  the container has no such command

The three numbers are chroot(1)'s, as docker and podman use them. The kinds that matter to a reader are the user's
mistake (Usage, Config, NotFound, Conflict), the plugin's bad answer, and the kernel's refusal.

Messages are lower case, have no full stop, quote what the user wrote with `!r`, chain with ": "; `show` prints them.
Wrappers of system calls raise OSError; whoever knows what the call was for turns it into KernelRefused, `from` it.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class MinirtError(Exception):
    """A failure with a sentence for the user. `str()` is the message alone."""

    exit_code = 125

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def show(self) -> None:
        """Print the failure to standard error, as every minirt command does. Notes say what could not be undone."""
        from minirt.terminal import tell  # for failures alone

        notes = "".join(f"minirt: {note}\n" for note in getattr(self, "__notes__", ()))
        hint = f"hint: {self.hint}\n" if self.hint else ""
        tell(f"minirt: error: {self.message}\n{notes}{hint}")


class UsageError(MinirtError):
    """The command line asks for something that cannot be."""


class ConfigError(MinirtError):
    """A file says something that cannot be. `where` goes in front of the message: FILE:LINE:COLUMN, or FILE: .key."""

    def __init__(self, message: str, hint: str = "", where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, hint)
        self.where = where


class NotFound(MinirtError):
    """What the user named is not there."""


class Conflict(MinirtError):
    """What the user asked for is there and in the way, or in a state that forbids it."""


class KernelRefused(MinirtError):
    """A system call failed. `step` says what was tried, as the command a person would have typed."""

    def __init__(self, step: str, error: OSError, hint: str = "") -> None:
        self.step = step
        self.errno = error.errno or 0
        reason = error.strerror or str(error)
        super().__init__(f"the kernel refused `{step}`: {reason} ({errno.errorcode.get(self.errno, self.errno)})", hint)


class Damaged(MinirtError):
    """A state file of ours does not say what it should. `name` is the id of the container whose it is."""

    def __init__(self, message: str, hint: str, name: str) -> None:
        super().__init__(message, hint)
        self.name = name


class SetupFailed(MinirtError):
    """Process 1 gave up before its command could run."""


_SHOWN = 2000  # characters of what a plugin says that a person is shown; there are plugins that never stop


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _end(log: str) -> str:
    """The last lines: what a program says before it gives up is why."""
    if len(log) <= _SHOWN:
        return log
    last = log[-_SHOWN:]
    return f"…{last[last.find(chr(10)) :]}" if "\n" in last else f"…{last}"


class PluginError(MinirtError):
    """A plugin's failure, with all that it said about it; its message, though, has not more than a person reads.

    `plugin` is its type, `command` the verb, `code` the contract's (0 when it gave no error object), `stderr` whatever
    it wrote there, and `network` the list it stands in.
    """

    def __init__(
        self,
        plugin: str,
        command: str,
        msg: str,
        *,
        code: int = 0,
        details: str = "",
        stderr: str = "",
        network: str = "",
        hint: str = "",
    ) -> None:
        self.plugin, self.command, self.code, self.network = plugin, command, code, network
        self.msg, self.details, self.stderr = msg, details, stderr
        head = f"network {network!r}: " if network else ""
        number = f" (code {code})" if code else ""
        said = [f"{head}plugin {plugin!r} failed on {command}{number}: {_beginning(msg)}", _beginning(details)]
        parts = [*said, _end(stderr.strip())]
        super().__init__(": ".join(part for part in parts if part), hint)


class CommandNotExecutable(MinirtError):
    """The command exists in the container and cannot be executed."""

    exit_code = 126


class CommandNotFound(MinirtError):
    """The container has no such command."""

    exit_code = 127


def exit_code(error: BaseException) -> int:
    """The exit status of a minirt command that ends with `error`."""
    return error.exit_code if isinstance(error, MinirtError) else MinirtError.exit_code


def because(error: OSError) -> str:
    """The kernel's reason alone, in the manner of our messages: `permission denied`."""
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return reason[:1].lower() + reason[1:]


def to_json(error: MinirtError) -> dict[str, object]:
    """The error as it crosses from one process to another; of a class that another file adds, the nearest of ours."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == __name__)
    notes = getattr(error, "__notes__", [])
    return {"kind": kind, "message": error.message, "hint": error.hint, "notes": list(notes)}


def from_json(document: dict[str, Any]) -> MinirtError:
    """What `to_json` was given: same words, same exit code."""
    error = MinirtError(document["message"], document["hint"])
    error.exit_code = globals()[document["kind"]].exit_code
    for note in document["notes"]:
        error.add_note(note)
    return error
