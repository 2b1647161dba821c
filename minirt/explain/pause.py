"""`--step`: a stop before each step, at the terminal: what to look at in another one, and a shell inside.

Whoever gives up, interrupts or goes away is not asked again: what is taken back then is told, and done.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Callable
from typing import TextIO

from minirt.errors import UsageError, because
from minirt.explain import glossary
from minirt.explain.account import Item
from minirt.explain.text import broken
from minirt.signals import signal
from minirt.supervise import interrupting
from minirt.terminal import tell

_MARGIN = "      "
_GIVEN_UP = f"\n{_MARGIN}given up\n"
_WATCH, _FURTHER = f"{_MARGIN}watch in another terminal: ", f"{_MARGIN}    "
_KEYS = f"{_MARGIN}[Enter] do it  [s] a shell inside  [n] on to the next one  [c] to the end  [q] give up: "


class Pause:
    """Stops before each step. Reads keys from the terminal itself: standard input is the container's."""

    def __init__(self, write: Callable[[Item], None], terminal: TextIO, shell: str = "") -> None:
        self._write = write
        self._terminal = terminal
        self._shell = shell or os.environ.get("SHELL", "/bin/sh")
        self._going = False
        self._skipped = ""  # who is not stopped any more

    @classmethod
    def at_terminal(cls, write: Callable[[Item], None]) -> Pause:
        """Raises UsageError where there is none."""
        try:
            return cls(write, open("/dev/tty", errors="replace"))  # it lives as long as the process
        except OSError:
            raise UsageError(
                "--step asks at the terminal, and there is none", "--explain tells without asking"
            ) from None

    def __call__(self, items: list[Item], netns: str, pid: int) -> None:
        """Show the commands of a step, and wait for leave to take it. Raises KeyboardInterrupt."""
        for item in items:
            self._write(item)
        if self._going or items[0].who == self._skipped:
            return
        for look in dict.fromkeys(glossary.look(item.text, pid) for item in items):
            if look:
                tell("".join(f"{line}\n" for line in broken(look, _WATCH, _FURTHER)))
        self._going = True  # unless Enter says otherwise: an interrupt ends the asking, too
        while (answer := self._answer()) == "s":
            self._inside(netns)
        if answer == "q":
            tell(_GIVEN_UP)
            raise KeyboardInterrupt
        self._going = answer == "c"
        self._skipped = items[0].who if answer == "n" else ""

    def _answer(self) -> str:
        """One of the keys, empty for Enter. A terminal that is gone gives up."""
        while True:
            try:
                with interrupting():  # also where signals are not listened to, as while a container is taken down
                    answer = self._asked()
            except OSError:
                answer = ""
            except BaseException:  # a signal, as whoever listens for them has it raised
                tell(_GIVEN_UP)
                raise
            if not answer:
                return "q"
            if (key := answer.strip()) in ("", "s", "n", "c", "q"):
                return key

    def _asked(self) -> str:
        """What is typed. Python's handlers run between its instructions: a signal that comes after the question and
        before the system call that waits for the answer would be seen when that has come, so something else waits, and
        is woken (signal.set_wakeup_fd)."""
        woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(wakes)
        try:
            tell(_KEYS)
            select.select((self._terminal.fileno(), woken), (), ())
            return self._terminal.readline()
        finally:
            signal.set_wakeup_fd(before)
            os.close(woken)
            os.close(wakes)

    def _inside(self, netns: str) -> None:
        if not (netns and os.path.exists(netns)):
            tell(f"{_MARGIN}there is no network namespace yet\n")
            return
        tell(f"{_MARGIN}a shell in the container's network namespace; 'exit' comes back here\n")
        try:
            subprocess.run(["nsenter", f"--net={netns}", self._shell], stdin=self._terminal, check=False)  # noqa: S603, S607
        except OSError as error:
            tell(f"{_MARGIN}no shell: {error.filename}: {because(error)}\n")
