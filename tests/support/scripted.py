"""A plugin that does what the test tells it and writes down what it was told: a stand-in for any plugin there may be.

    plugins = Scripted(tmp_path)
    plugins.write("first", ADD=[says(RESULT)], DEL=[fails(7, "no")])
    …
    plugins.calls() == [Call("first", "ADD", env, stdin), …]

A verb has a list of answers, one a call; the last one is repeated. A verb without answers exits 0 in silence.
"""

from __future__ import annotations

import ast
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = """#!/usr/bin/python3 -IS
import os, sys, time
PLAN, NAME, LOG = {plan!r}, {name!r}, {log!r}
command = os.environ.get("CNI_COMMAND", "")
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))
stdin = sys.stdin.buffer.read() if command != "VERSION" or not os.isatty(0) else b""
seen = 0
if os.path.exists(LOG):
    with open(LOG) as log:
        seen = sum(line.startswith(repr((NAME, command))[:-1]) for line in log)
def inode(path):
    return os.stat(path).st_ino if path and os.path.exists(path) else 0
spaces = (inode("/proc/self/ns/net"), inode(os.environ.get("CNI_NETNS")))
with open(LOG, "a") as log:
    log.write(repr((NAME, command, dict(os.environ), stdin, os.getpgrp() == os.getpid(), fds, spaces)) + "\\n")
answers = PLAN.get(command) or [{{}}]
answer = answers[min(seen, len(answers) - 1)]
def say(fd, text):
    while text:
        text = text[os.write(fd, text):]
say(2, answer.get("stderr", b""))
say(1, answer.get("stdout", b""))
for _ in range(answer.get("flood", 0)):
    say(1, b"x" * (1 << 20))
if answer.get("leave"):
    if os.fork() == 0:
        time.sleep(answer["leave"])
        os._exit(0)
if answer.get("hang"):
    if os.fork() == 0:
        with open(LOG + ".hanging", "a") as log:
            log.write(str(os.getpid()) + "\\n")
    time.sleep(answer["hang"])
if answer.get("signal"):
    os.kill(os.getpid(), answer["signal"])
os._exit(answer.get("exit", 0))
"""


@dataclass(frozen=True)
class Answer:
    """What the plugin does: `leave` and `hang` are seconds (a child left running; a wait, with a child that waits
    too), `flood` is MiB of output."""

    stdout: bytes = b""
    stderr: bytes = b""
    exit: int = 0
    signal: int = 0
    leave: float = 0
    hang: float = 0
    flood: int = 0


def says(document: Any, **more: Any) -> Answer:
    """Prints `document` as JSON; bytes as they are."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Answer(stdout=text, **more)


def fails(code: int, msg: str, details: str = "", **more: Any) -> Answer:
    """Exits with 1 and an error object."""
    return says({"code": code, "msg": msg} | ({"details": details} if details else {}), **({"exit": 1} | more))


@dataclass(frozen=True)
class Call:
    """One call as the plugin saw it."""

    plugin: str
    command: str
    env: dict[str, str] = field(repr=False)
    stdin: bytes = field(repr=False)
    leads_group: bool = field(repr=False)
    fds: list[int] = field(repr=False)
    spaces: tuple[int, int] = field(repr=False)  # inodes: the network namespace it ran in, and CNI_NETNS (0: none)

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads(self.stdin)
        return config


class Scripted:
    """A folder of scripted plugins, for CNI_PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "plugins"
        self.folder.mkdir()
        self.log = folder / "calls.log"

    def write(self, name: str, **plan: list[Answer]) -> Path:
        """Put a plugin called `name` into the folder, which answers by `plan`: verb -> answers."""
        told = {verb: [{k: v for k, v in asdict(a).items() if v} for a in answers] for verb, answers in plan.items()}
        program = self.folder / name
        program.write_text(PROGRAM.format(plan=told, name=name, log=str(self.log)), encoding="utf-8")
        program.chmod(0o755)
        return program

    def calls(self) -> list[Call]:
        """Every call of every plugin so far, in order."""
        if not self.log.exists():
            return []
        return [Call(*ast.literal_eval(line)) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def order(self) -> list[str]:
        """The calls as words: `first ADD`."""
        return [f"{call.plugin} {call.command}" for call in self.calls()]

    def hanging(self) -> list[int]:
        """The children of plugins that were told to hang."""
        path = Path(f"{self.log}.hanging")
        return [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []
