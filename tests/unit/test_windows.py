"""win-bridge and win-overlay are answered by name: nothing of them can be done here, and nothing is there to undo."""

from __future__ import annotations

import json

import pytest

from cni_plugins.sdk import launcher
from cni_plugins.sdk.main import Outcome, dispatch
from cni_plugins.windows import PLUGIN

ENV = {"CNI_CONTAINERID": "web", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/none", "CNI_PATH": "/bin"}


def answer(command: str, name: str, version: str = "1.1.0") -> Outcome:
    conf = {"cniVersion": version, "name": "net", "type": name, "ipMasqNetwork": 7, "apiVersion": "2"}
    return dispatch(PLUGIN, ENV | {"CNI_COMMAND": command}, lambda: json.dumps(conf).encode())


@pytest.mark.parametrize("name", ["win-bridge", "win-overlay"])
def test_what_would_need_windows_says_so_by_name(name: str) -> None:
    assert launcher.NAMES[name] == "windows"
    for command in ("ADD", "CHECK", "STATUS"):
        outcome = answer(command, name)
        error = json.loads(outcome.stdout)
        assert (outcome.exit, error["code"]) == (1, 50)
        assert error["msg"] == f"{name} connects containers of Windows, and this is Linux"
    for command in ("DEL", "GC"):
        assert answer(command, name) == Outcome(0)
    assert json.loads(answer("ADD", name, "0.1.0").stdout)["cniVersion"] == "0.1.0"
    assert "1.1.0" in json.loads(answer("VERSION", name).stdout)["supportedVersions"]
