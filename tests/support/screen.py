"""A terminal that a test types into and reads as a person does: tmux, with a server and a socket of its own."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


class Screen:
    """`command` on a terminal of the given size; `environment` is all that it finds there. Ended by the block's end."""

    def __init__(
        self,
        folder: Path,
        *command: str,
        columns: int = 100,
        rows: int = 30,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._socket = folder / "screen"
        self._status = folder / "status"
        settings = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TERM": "screen-256color", "LC_ALL": "C.UTF-8"}
        pairs = [f"{name}={value}" for name, value in {**settings, **environment}.items()]
        size = ("-x", str(columns), "-y", str(rows))
        # tmux 3.3 loses the exit code of one in ten panes: it is written down for it.
        line = f"{shlex.join(['env', '-i', *pairs, *command])}; echo $? >{self._status}"
        self._tmux("new-session", "-d", "-s", "s", *size, line, ";", "set-option", "-g", "remain-on-exit", "on")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._tmux("kill-server")

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def text(self) -> str:
        """What the screen shows now."""
        return self._tmux("capture-pane", "-p", "-t", "s")

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        self._tmux("send-keys", "-t", "s", "-l", line)
        self._tmux("send-keys", "-t", "s", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names for them: C-c, Tab."""
        self._tmux("send-keys", "-t", "s", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-t", "s", "-x", str(columns), "-y", str(rows))

    def until(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """Wait for the screen to show a regular expression (lines by ^ and $)."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text(), re.MULTILINE)):
            assert time.monotonic() < deadline, f"{pattern!r} was not shown within {seconds} s:\n{self.text()}"
            time.sleep(0.05)
        return found

    def ended(self, seconds: float = 20) -> int:
        """Wait for the command's end; its exit code."""
        deadline = time.monotonic() + seconds
        while not (self._status.exists() and (status := self._status.read_text())):
            assert time.monotonic() < deadline, f"it goes on:\n{self.text()}"
            time.sleep(0.05)
        return int(status)
