"""The object under test for minirt/cni, with scripted plugins in its folder and files of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cni_plugins.spec.config import parse_list
from minirt.cni.cache import Cache
from minirt.cni.executor import Executor
from minirt.cni.locks import Locks
from minirt.cni.operations import Cni
from minirt.cni.request import Attachment
from support.scripted import Scripted, fails, says


def result(address: str, version: str = "1.0.0") -> dict[str, Any]:
    return {"cniVersion": version, "ips": [{"address": address}]}


ONE, TWO = result("10.1.0.2/24"), result("10.1.0.3/24")
REFUSED = fails(1, "incompatible CNI versions", "config is 1.1.0, plugin supports 1.0.0")


class Bench:
    """A folder of scripted plugins, and the object under test that is given it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plugins = Scripted(folder)
        self.cache = Cache(str(folder / "cache"))

    def cni(self, **options: Any) -> Cni:
        return Cni(
            Executor((str(self.plugins.folder),)),
            cache_root=str(self.folder / "cache"),
            locks=Locks(str(self.folder / "lock")),
            **({"retry_after": (0.0, 0.0), "environ": {"PATH": "/bin", "HOME": "/h"}} | options),
        )

    def attachment(
        self, *types: str, ifname: str = "eth0", text: dict[str, Any] | None = None, **more: Any
    ) -> Attachment:
        document = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": name} for name in types]} | (text or {})
        fields = {"container_id": "c1", "netns": str(self.folder), "ifname": ifname} | more
        return Attachment(parse_list(json.dumps(document), "net.conflist"), **fields)

    def order(self) -> list[str]:
        return self.plugins.order()

    def cached(self) -> list[str]:
        folder = self.folder / "cache" / "results"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def added(self, *names: str, **more: Any) -> Attachment:
        """An attachment made by plugins that all succeed, and whose calls so far are forgotten."""
        attachment = self.attachment(*names, **more)
        for name in names:
            self.plugins.write(name, ADD=[says(TWO)])
        self.cni().add(attachment)
        self.plugins.log.unlink()
        return attachment
