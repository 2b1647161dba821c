"""Every plugin, called with configurations that are nearly right: an answer or an error of the contract, and nothing
left. Each begins with the plugin's own example list.

The plugins are called in this process, as a runtime's fork would run them. The container's namespace is not there, so
that nothing can be made; what is wrong in a configuration has to be found before that is.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from support.examples import example
from support.leftovers import SHARED
from support.machine import Machine
from support.mutations import VALUES, mutations
from support.properties import given

from cni_plugins.sdk import launcher
from cni_plugins.sdk.main import dispatch

PREVIOUS: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "cni0"}, {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/none"}],
    "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}, {"address": "fd00::2/64"}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
}
SPARE = ("name", "type", "dataDir", "cniVersion", "daemonSocketPath")
COMMANDS = ("STATUS", "ADD", "CHECK", "DEL")
NOT_FORESEEN = re.compile(r"[A-Z]\w*(Error|Exception|Interrupt)\b")


@pytest.mark.parametrize("name", launcher.NAMES)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_S5_no_configuration_makes_a_plugin_fail_in_a_way_that_it_has_no_words_for(
    machine: Machine, tmp_path: Path, name: str, data: st.DataObject
) -> None:
    machine.leaves(*SHARED)
    launcher.write(str(tmp_path / "bin"))
    good = {"cniVersion": "1.1.0", "name": "net", **example(name), "prevResult": PREVIOUS}
    keys = sorted({*good, *good.get("ipam", {}), "mtu", "runtimeConfig", "args", "dns", "ipam", "capabilities"})
    conf = data.draw(mutations(good, keys, SPARE))
    if data.draw(st.booleans()):
        conf |= {data.draw(st.sampled_from([key for key in keys if key not in SPARE])): data.draw(VALUES)}
    env = {
        "CNI_CONTAINERID": "web",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(tmp_path / "bin"),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    plugin = importlib.import_module(f"cni_plugins.{launcher.NAMES[name]}").PLUGIN
    text = json.dumps(conf).encode()
    for command in COMMANDS:
        outcome = dispatch(plugin, env | {"CNI_COMMAND": command}, lambda: text)
        said = json.loads(outcome.stdout or b"{}")
        assert (outcome.exit == 0) is ("code" not in said), (command, said)
        if outcome.exit:
            assert said["msg"] and not NOT_FORESEEN.match(said["msg"]), (command, conf, said)
