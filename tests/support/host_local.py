"""host-local as a runtime calls it, ours or the reference's, and its store as files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_plugins.sdk.executor import Fork

REFERENCE = "/usr/lib/cni/host-local"
DATA = "/var/lib/cni/networks"
FOLDER = f"{DATA}/net"

# What it leaves on purpose: the folders, the lock, the markers of the round robin; and what a test did not DEL.
LEAVES = ("directory /run/cni/host-local", "file /run/cni/host-local/*", f"file {DATA}*", f"directory {DATA}*")


class Refused(AssertionError):
    """The plugin answered with an error object."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document)
        self.code: int = document["code"]
        self.msg: str = document["msg"]


class HostLocal:
    """One implementation, called as a runtime calls it. `ipam` is the default configuration of a call."""

    def __init__(self, program: str, **ipam: Any) -> None:
        self.program = program
        self.ipam = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]} | ipam

    def config(self, **keys: Any) -> dict[str, Any]:
        return {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": self.ipam} | keys

    def environment(
        self, command: str, container: str = "c1", ifname: str = "eth0", cni_args: str = ""
    ) -> dict[str, str]:
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": ifname,
            "CNI_ARGS": cni_args,
            "CNI_PATH": os.path.dirname(self.program),
        }

    def call(self, command: str, container: str = "c1", ifname: str = "eth0", cni_args: str = "", **keys: Any) -> Any:
        env = self.environment(command, container, ifname, cni_args)
        outcome = Fork().run(self.program, env, json.dumps(self.config(**keys)).encode(), timeout=20)
        assert outcome.stderr == b"", "host-local has nothing to log"
        document: Any = json.loads(outcome.stdout) if outcome.stdout else None
        if outcome.exit:
            raise Refused(document)
        if document and not document.get("dns", True):
            del document["dns"]  # releases of the reference differ in whether they print an empty one
        return document

    def add(self, container: str = "c1", ifname: str = "eth0", **keys: Any) -> list[str]:
        """The addresses that were given."""
        result = self.call("ADD", container, ifname, **keys)
        return [ip["address"] for ip in result.get("ips", [])]

    def delete(self, container: str = "c1", ifname: str = "eth0", **keys: Any) -> None:
        assert self.call("DEL", container, ifname, **keys) is None

    def refused(self, command: str, container: str = "c1", ifname: str = "eth0", **keys: Any) -> Refused:
        with pytest.raises(Refused) as caught:
            self.call(command, container, ifname, **keys)
        return caught.value


def store(folder: str = FOLDER) -> dict[str, str]:
    """Every file of a store with its text, without the lock."""
    names = [name for name in os.listdir(folder) if name != "lock"] if os.path.isdir(folder) else []
    return {name: Path(folder, name).read_bytes().decode() for name in sorted(names)}


def take(*addresses: str, by: str = "other\r\neth0") -> None:
    """Somebody else's reservations."""
    os.makedirs(FOLDER, exist_ok=True)
    for address in addresses:
        Path(FOLDER, address).write_text(by, newline="", encoding="utf-8")


def mark(address: str, number: int = 0) -> None:
    os.makedirs(FOLDER, exist_ok=True)
    Path(FOLDER, f"last_reserved_ip.{number}").write_text(address, encoding="utf-8")
