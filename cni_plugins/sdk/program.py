"""Other people's programs: found, run, and what they said. For what the kernel is not asked directly.

The law of this file: no shell, no standard input but what is given, both outputs into one text; and what a plugin's
`env` says of PATH comes after the folders where administration lives, for a runtime's may be bare.
"""

from __future__ import annotations

import os

from cni_plugins.spec.errors import NOT_AVAILABLE, CniError
from cni_plugins.spec.record import record

FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")  # and those of PATH, which may be bare
_SIGPIPE = 13


@record
class Said:
    """How a program ended (its exit code, or minus the signal's number), and what it said."""

    exit: int
    text: str

    @property
    def first(self) -> str:
        """The first line of it; where there is none, how it ended."""
        return self.text.strip().partition("\n")[0] or f"exit {self.exit}"


def present(name: str) -> str:
    """The path of the program `name`; empty where it is missing."""
    paths = (os.path.join(folder, name) for folder in _folders())
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def find(name: str, package: str) -> str:
    """The path of the program `name`. Raises CniError 50, which names the package that brings it."""
    path = present(name)
    if path:
        return path
    looked = ", ".join(_folders())
    raise CniError(
        NOT_AVAILABLE, f"the {name} program is missing", f"install the {package} package (looked in {looked})"
    )


def _folders() -> list[str]:
    return list(dict.fromkeys([*FOLDERS, *filter(None, os.environ.get("PATH", "").split(":"))]))


def run(path: str, *words: str, stdin: str = "") -> Said:
    """Run the program at `path` with arguments `words`, to its end. Raises OSError when it cannot be started."""
    text, text_end = os.pipe()
    answer, answer_end = os.pipe()
    try:
        os.write(text_end, stdin.encode())  # smaller than a pipe: it waits there for its reader
        actions = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in ((text, 0), (answer_end, 1), (answer_end, 2))]
        # Python ignores SIGPIPE, which the program would inherit.
        pid = os.posix_spawn(path, [path, *words], os.environ, file_actions=actions, setsigdef=[_SIGPIPE])
    except BaseException:
        os.close(answer)
        raise
    finally:
        for fd in (text, text_end, answer_end):
            os.close(fd)
    heard = _read(answer)
    status = os.waitpid(pid, 0)[1]
    return Said(os.waitstatus_to_exitcode(status), heard)


def _read(fd: int) -> str:
    """All that comes out of the pipe `fd`, which is closed then."""
    chunks = []
    try:
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode(errors="replace")
