"""`--step`: a stop before each step, at the terminal: what to look at in another one, and a shell inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import TextIO

from minirt.errors import UsageError
from minirt.explain.account import Item

# Pattern of a command -> what shows its effect. `{netns}` is the container's, `{1}` the pattern's first group.
_LOOKS: tuple[tuple[str, str], ...] = (
    (r"ip netns (?:add|delete) (\S+)", "ip netns; lsns -t net"),
    (r"ip -n (\S+) (?:-6 )?route", "ip -n {1} route; ip -n {1} -6 route"),
    (r"ip -n (\S+) (?:-6 )?rule", "ip -n {1} rule"),
    (r"ip -n (\S+) ", "ip -n {1} addr"),
    (r"ip link add (\S+)", "ip -d link show {1}"),
    (r"ip link (?:set|del) (\S+)", "ip -d link show {1}; bridge link"),
    (r"ip (?:-6 )?addr .* dev (\S+)", "ip addr show {1}"),
    (r"ip (?:-6 )?route", "ip route"),
    (r"(.*)sysctl -w '?([^=']+)", "{1}sysctl {2}"),
    (r"nft .*(inet|ip|ip6|bridge|netdev) (cni_\w+)", "nft list table {1} {2}"),
    (r"nft ", "nft list ruleset"),
    (r"tc ", "tc qdisc; tc filter show"),
    (r"(?:mkdir -p|rmdir|echo 0 >) (/sys/fs/cgroup/\S+)", "ls {1}"),
    (r"(?:CNI_COMMAND|mkdir|echo)", "ls /var/lib/cni/networks /run/cni"),
    (r"mount|cd |ln |touch ", "findmnt"),
    (r"unshare|hostname|nsenter|setpriv", "lsns"),
)
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

    def __call__(self, item: Item, netns: str) -> None:
        """Show the command that comes, and wait for leave. Raises KeyboardInterrupt."""
        self._write(item)
        if self._going:
            return
        if look := looks(item.text, netns):
            sys.stderr.write(f"      watch in another terminal: {look}\n")
        while True:
            sys.stderr.write(f"      {_KEYS}")
            sys.stderr.flush()
            answer = self._terminal.readline()
            if not answer or answer.strip() == "q":
                self._going = True  # what is taken back now is told, and not asked for
                raise KeyboardInterrupt
            if answer.strip() == "s":
                self._inside(netns)
                continue
            self._going = answer.strip() == "c"
            return

    def _inside(self, netns: str) -> None:
        if not (netns and os.path.exists(netns)):
            sys.stderr.write("      there is no network namespace yet\n")
            return
        sys.stderr.write("      a shell in the container's network namespace; 'exit' comes back here\n")
        subprocess.run(["nsenter", f"--net={netns}", self._shell], stdin=self._terminal, check=False)  # noqa: S603, S607


def looks(command: str, netns: str = "") -> str:
    """The command that shows what `command` changes."""
    for pattern, look in _LOOKS:
        if found := re.match(pattern, command):
            groups = ("", *found.groups(), "", "")
            return look.replace("{1}", groups[1] or "").replace("{2}", groups[2] or "").replace("{netns}", netns)
    return ""
