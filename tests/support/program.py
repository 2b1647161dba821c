"""A plugin as a program: host-local with a store of the test's own, ours and the Go one. Ours keeps an index in /run.

program = Program("ours", tmp_path)
program("ADD").code             0, or the error object's code
program("ADD", CNI_IFNAME=None) a variable left out
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cni_plugins.sdk import launcher
from support.plugins import GO

MAKERS = ("ours", "go")
ENV = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/none", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}


@dataclass(frozen=True)
class Said:
    """How a call ended: `document` is what it printed, None when that was nothing."""

    exit: int
    document: Any
    stderr: str

    @property
    def code(self) -> int:
        """0 for success, else the error object's code."""
        assert (self.exit == 0) is not (isinstance(self.document, dict) and "code" in self.document), self
        return 0 if self.exit == 0 else int(self.document["code"])

    @property
    def msg(self) -> str:
        return "" if self.exit == 0 else str(self.document["msg"])


class Program:
    """One plugin (host-local unless another is named), called as often as the test likes."""

    def __init__(self, maker: str, folder: Path, name: str = "host-local") -> None:
        if maker == "ours":
            launcher.write(str(folder / "bin"))
        self.path = f"{folder}/bin/{name}" if maker == "ours" else f"{GO}/{name}"
        self.store = folder / "store"
        ipam = {"type": name, "ranges": [[{"subnet": "10.1.0.0/24"}]], "dataDir": str(self.store)}
        self.conf: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "type": name, "ipam": ipam}

    def __call__(self, command: str | None, conf: object = None, **env: str | None) -> Said:
        """Call it. `conf` is a document, or the bytes of standard input."""
        text = conf if isinstance(conf, bytes) else json.dumps(self.conf if conf is None else conf).encode()
        return self._said(command, env, input=text)

    def fed(self, command: str, stdin: int) -> Said:
        """Call it with a descriptor for standard input."""
        return self._said(command, {}, stdin=stdin)

    def _said(self, command: str | None, more: dict[str, str | None], **feed: Any) -> Said:
        variables: dict[str, str | None] = {**ENV, "CNI_COMMAND": command, **more}
        env = {key: value for key, value in variables.items() if value is not None}
        done = subprocess.run([self.path], env=env, capture_output=True, timeout=30, check=False, **feed)
        return Said(done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr.decode())

    def leases(self) -> list[str]:
        folder = self.store / "net"
        return sorted(name for name in os.listdir(folder) if name[0].isdigit()) if folder.exists() else []
