"""`--step`: a stop before each step, at the terminal: what to look at in another one, and a shell inside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TextIO

from minirt.errors import UsageError
from minirt.explain import glossary
from minirt.explain.account import Item
from minirt.explain.text import broken

_WATCH, _FURTHER = "      watch in another terminal: ", "          "
_KEYS = "[Enter] do it   [s] shell in the container's network   [c] go on without stops   [q] give up: "


class Pause:
    """Stops before each command. Reads keys from the terminal itself: standard input is the container's."""

    def __init__(self, write: Callable[[Item], None], terminal: TextIO, shell: str = "") -> None:
        self._write = write
        self._terminal = terminal
        self._shell = shell or os.environ.get("SHELL", "/bin/sh")
        self._going = False

    @classmethod
    def at_terminal(cls, write: Callable[[Item], None]) -> Pause:
        """Raises UsageError where there is none."""
        try:
            return cls(write, open("/dev/tty"))  # it lives as long as the process
        except OSError:
            raise UsageError(
                "--step asks at the terminal, and there is none", "--explain tells without asking"
            ) from None

    def __call__(self, items: list[Item], netns: str, pid: int) -> None:
        """Show the commands of a step, and wait for leave to take it. Raises KeyboardInterrupt."""
        for item in items:
            self._write(item)
        if self._going:
            return
        for look in dict.fromkeys(glossary.look(item.text, pid) for item in items):
            if look:
                sys.stderr.write("".join(f"{line}\n" for line in broken(look, _WATCH, _FURTHER)))
        while (answer := self._answer()) == "s":
            self._inside(netns)
        self._going = answer != ""
        if answer == "q":
            sys.stderr.write("      given up\n")
            raise KeyboardInterrupt  # what is taken back now is told, and not asked for

    def _answer(self) -> str:
        """One of the keys, empty for Enter. The end of input, and an interrupt, give up."""
        while True:
            sys.stderr.write(f"      {_KEYS}")
            sys.stderr.flush()
            try:
                answer = self._terminal.readline()
            except KeyboardInterrupt:
                answer = ""
            if not answer:
                sys.stderr.write("\n")
                return "q"
            if (key := answer.strip()) in ("", "s", "c", "q"):
                return key

    def _inside(self, netns: str) -> None:
        if not (netns and os.path.exists(netns)):
            sys.stderr.write("      there is no network namespace yet\n")
            return
        sys.stderr.write("      a shell in the container's network namespace; 'exit' comes back here\n")
        subprocess.run(["nsenter", f"--net={netns}", self._shell], stdin=self._terminal, check=False)  # noqa: S603, S607
