"""Plugins called as a runtime calls them: programs, with environment and standard input in, exit code and JSON out.

The same calls work on the Go plugins: `Plugins(machine, GO)`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_plugins.sdk import launcher
from support.machine import Machine

GO = "/usr/lib/cni"


@dataclass
class Answer:
    """`document` is the result or the error object; None when nothing was printed."""

    exit: int
    document: Any
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        assert self.exit == 0, self
        assert isinstance(self.document, dict)
        return self.document

    @property
    def error(self) -> dict[str, Any]:
        assert self.exit != 0, self
        assert isinstance(self.document, dict)
        return self.document

    def done(self) -> None:
        """It succeeded, and had nothing to say."""
        assert (self.exit, self.document) == (0, None), self


class Plugins:
    """The plugins of one folder, or with ours in a folder that is written for the test."""

    def __init__(self, machine: Machine, folder: str | Path) -> None:
        self.machine = machine
        self.folder = str(folder)
        if not Path(folder).exists():
            launcher.write(self.folder)

    def start(
        self,
        command: str,
        conf: dict[str, Any],
        netns: str = "",
        container: str = "web",
        ifname: str = "eth0",
        args: str = "",
        **env: str,
    ) -> subprocess.Popen[str]:
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": self.folder,
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        process = subprocess.Popen(
            [f"{self.folder}/{conf['type']}"],
            env=variables | env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(conf))
        process.stdin.close()
        process.stdin = None
        return process

    def finish(self, process: subprocess.Popen[str]) -> Answer:
        stdout, stderr = process.communicate(timeout=60)
        return Answer(process.returncode, json.loads(stdout) if stdout.strip() else None, stderr)

    def call(self, command: str, conf: dict[str, Any], netns: str = "", **more: str) -> Answer:
        return self.finish(self.start(command, conf, netns, **more))

    def add(self, conf: dict[str, Any], netns: str, **more: str) -> dict[str, Any]:
        """The result of an ADD that works."""
        return self.call("ADD", conf, netns, **more).result

    def delete(self, conf: dict[str, Any], netns: str = "", **more: str) -> None:
        self.call("DEL", conf, netns, **more).done()

    def check(self, conf: dict[str, Any], result: dict[str, Any], netns: str, **more: str) -> Answer:
        return self.call("CHECK", conf | {"prevResult": result}, netns, **more)
