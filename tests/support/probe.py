"""A plugin of ours that writes down the world it finds itself in, for the executors that run it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cni_plugins
from cni_plugins.sdk import launcher
from cni_plugins.sdk.executor import Spawn

ENV = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/gone", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
STDIN = b'{"cniVersion": "1.1.0", "name": "net", "type": "probe"}'

PROBE = '''
"""A plugin that writes down the world it finds itself in, into the file that PROBE_REPORT names."""
import gc, json, os, sys
from cni_plugins.sdk.main import Plugin
from cni_plugins.spec.result import Result

def status_lines(*keys):
    with open("/proc/self/status") as file:
        return {line.partition(":")[0]: line.split()[1] for line in file if line.startswith(keys)}

def open_descriptors():
    listed = [int(fd) for fd in os.listdir("/proc/self/fd")]
    return [fd for fd in listed if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]

def add(request):
    gc.collect()
    others = open_descriptors()
    with open(os.environ["PROBE_REPORT"], "w") as report:
        json.dump({
            "env": dict(os.environ),
            "child_env": os.popen("env").read().splitlines(),
            "argv": sys.argv,
            "fds": {fd: os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in (0, 1, 2)},
            "others": others,
            "signals": status_lines("SigBlk", "SigIgn", "SigCgt"),
            "group": os.getpgrp() == os.getpid(),
            "cwd": os.getcwd(),
            "has_pytest": "pytest" in sys.modules,
            "request": [request.container_id, request.network, request.stdin.decode()],
        }, report)
    if os.environ.get("PROBE_PRINTS"):
        print("said by print")
    if os.environ.get("PROBE_RAISES"):
        raise RuntimeError("as asked")
    return Result()

PLUGIN = Plugin("probe", add=add, delete=lambda request: None, check=lambda request: None)
'''


# LC_CTYPE is the executed interpreter's own (PEP 538), `_` the shell's, and the terminal's size is what the readline
# library, which pytest loads, puts into the C library's environment behind Python's back.
NOISE = ("LC_CTYPE=", "_=", "COLUMNS=", "LINES=")
_numbers = itertools.count()
INTERNAL = 3 << 31  # signals 32 and 33 are the C library's own; its posix_spawn leaves them ignored


class Probe:
    """The probe as a launcher in a folder, and as a module that a fork of this process finds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "modules").mkdir()
        name = f"probe_{next(_numbers)}"  # a fork may find modules that an earlier one had loaded here
        self.module = folder / "modules" / f"{name}.py"
        self.module.write_text(PROBE, encoding="utf-8")
        modules = str(folder / "modules")
        monkeypatch.setitem(launcher.NAMES, "probe", name)
        monkeypatch.setattr(cni_plugins, "__path__", [*cni_plugins.__path__, modules])
        original: Callable[[str], bytes] = launcher.text
        more = f"import cni_plugins\ncni_plugins.__path__.append({modules!r})\nfrom cni_plugins.sdk.main".encode()
        monkeypatch.setattr(launcher, "text", lambda name: original(name).replace(b"from cni_plugins.sdk.main", more))
        self.program = folder / "probe"
        self.program.write_bytes(launcher.text("probe"))
        self.program.chmod(0o755)
        self.report = folder / "report"

    def run(self, executor: Spawn, **env: str) -> tuple[Any, dict[str, Any]]:
        """The outcome, and the world as the plugin saw it."""
        outcome = executor.run(str(self.program), ENV | {"PROBE_REPORT": str(self.report)} | env, STDIN, timeout=20)
        report: dict[str, Any] = json.loads(self.report.read_bytes())
        report["env"].pop("LC_CTYPE", None)
        report["child_env"] = sorted(line for line in report["child_env"] if not line.startswith(NOISE))
        report["signals"] = {kind: int(mask, 16) & ~INTERNAL for kind, mask in report["signals"].items()}
        return outcome, report
