"""The plugins alone, as programs: bridge with masquerade and host-local, ours beside the Go reference plugins.

Each round attaches a new network namespace; making and dropping it is not timed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from support.machine import Machine
from support.peers import GO_PLUGINS

from bench.measure import Command, Subject
from cni_plugins.sdk import launcher

FOLDER = Path("/run/peers")
OURS = str(FOLDER / "plugins")


def subjects(machine: Machine) -> list[Subject]:
    """Ours first, which the ratios are to. Each has a bridge and a subnet of its own."""
    FOLDER.mkdir(exist_ok=True)
    launcher.write(OURS)
    return [
        Subject("ours: bridge and host-local", Attachment(machine, OURS, "ours", 81)),
        Subject("Go: bridge and host-local", Attachment(machine, GO_PLUGINS, "go", 82)),
    ]


class Attachment:
    """VERSION, ADD, CHECK and DEL of one attachment, with the plugins of one folder."""

    def __init__(self, machine: Machine, folder: str, name: str, octet: int) -> None:
        self._machine = machine
        self._folder = folder
        self._name = name
        self._conf = {
            "cniVersion": "1.0.0",
            "name": name,
            "type": "bridge",
            "bridge": f"bench-{name}",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": f"10.{octet}.0.0/16"}]]},
        }

    def __call__(self) -> Mapping[str, float]:
        self._machine.run("ip", "netns", "add", self._name)
        taken: dict[str, float] = {}
        extra: dict[str, object] = {}
        for verb in ("VERSION", "ADD", "CHECK", "DEL"):
            taken[verb], answer = self._call(verb, extra)
            if verb == "ADD":
                extra = {"prevResult": json.loads(answer)}
        self._machine.run("ip", "netns", "del", self._name)
        return taken

    def _call(self, verb: str, extra: Mapping[str, object]) -> tuple[float, bytes]:
        conf = FOLDER / f"{self._name}.json"
        conf.write_text(json.dumps({**self._conf, **extra}), encoding="utf-8")
        return Command((f"{self._folder}/bridge",), self._env(verb), str(conf))()

    def _env(self, verb: str) -> dict[str, str]:
        return os.environ | {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": f"bench-{self._name}",
            "CNI_NETNS": f"/run/netns/{self._name}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self._folder,
        }
