"""Start-up is the cost: the modules that a plugin's ADD, CHECK and DEL import, beyond a bare interpreter's.

The plugins run as programs, bridge with host-local forked below it: what both import is counted. See also
tests/unit/test_startup.py and tests/system/test_startup_of_run.py.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.startup import C_MODULES, PYTHON, budget, imported, plugin

from cni_plugins.sdk import launcher

PLUGINS = "/run/plugins"
IPAM = {"type": "host-local", "ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00:5::/64"}]]}
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "parent0", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": "/run/netns/box"}],
    "ips": [{"address": "10.5.0.2/24", "gateway": "10.5.0.1", "interface": 1}],
}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "cni-box", "isGateway": True, "ipMasq": True, "hairpinMode": True, "ipam": IPAM},
    "firewall": {"prevResult": PREVIOUS},
    "host-local": {"ipam": IPAM},
    "loopback": {},
    "dhcp": {"ipam": {"type": "dhcp"}},
    "macvlan": {"master": "parent0", "ipam": IPAM},
    "tap": {"owner": 1000, "ipam": IPAM},
    "bandwidth": {"egressRate": 8000, "egressBurst": 80000, "prevResult": PREVIOUS},
    "portmap": {"runtimeConfig": PORTS, "prevResult": PREVIOUS},
    "sbr": {"table": 100, "prevResult": PREVIOUS},
    "tuning": {"sysctl": {"net.core.somaxconn": "512"}, "prevResult": PREVIOUS},
    "host-device": {"device": "parent1", "ipam": IPAM},
    "ptp": {"ipMasq": True, "ipam": IPAM},
    "static": {"ipam": {"type": "static", "addresses": [{"address": "10.5.0.2/24"}]}},
}

# What this machine's kernel may be without; they import what macvlan does.
OTHER_KERNEL = ("dummy", "ipvlan", "vlan", "vrf", "win-bridge", "win-overlay")

# Our own modules, for ADD and for DEL.
OURS = {
    "bridge": (49, 47),
    "firewall": (32, 28),
    "host-local": (26, 26),
    "loopback": (23, 23),
    "macvlan": (43, 43),
    "portmap": (34, 34),
    "tap": (44, 44),
    "tuning": (29, 29),
    "bandwidth": (29, 29),
    "sbr": (29, 29),
}
OURS |= {"host-device": (45, 45), "ptp": (49, 47), "static": (19, 19)}
OURS |= {"dhcp": (27, 27)}

# A daemon that has every answer ready: of the plugin alone there is to be told.
DAEMON = """
import os, socket
listening = socket.socket(socket.AF_UNIX)
listening.bind("/run/cni/dhcp.minirt.sock")
listening.listen()
for _ in range(2):
    connection, _ = listening.accept()
    connection.recv(4096)
    connection.sendall(b'{"address": "10.5.0.2", "options": {"1": "ffffff00", "3": "0a050001"}}\\n')
    connection.close()
os.unlink("/run/cni/dhcp.minirt.sock")
"""


@pytest.mark.leaves(*leftovers.SHARED, f"file {PLUGINS}/*", "in netns box: *", "link parent?")
@pytest.mark.parametrize("name", [name for name in launcher.NAMES if name not in OTHER_KERNEL])
def test_a_plugin_imports_what_its_budget_names(machine: Machine, name: str) -> None:
    launcher.write(PLUGINS)
    Path("/run/cni").mkdir()
    machine.run("ip", "link", "add", "parent0", "type", "veth", "peer", "name", "parent1")
    env = {
        "CNI_CONTAINERID": "box",
        "CNI_NETNS": machine.netns("box"),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": PLUGINS,
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    document = {"cniVersion": "1.0.0", "name": "net", "type": name, **CONFIGURATIONS[name]}
    if name in ("bandwidth", "sbr"):  # which work on what others have made
        machine.run("ip", "link", "set", "parent1", "netns", "box", "name", "eth0")
    daemon = subprocess.Popen([PYTHON, "-IS", "-c", DAEMON]) if name == "dhcp" else None
    while daemon is not None and not Path("/run/cni/dhcp.minirt.sock").exists():
        time.sleep(0.01)
    breaks = {}
    for command, ours in zip(("ADD", "DEL"), OURS[name], strict=True):
        found = imported(plugin(name), env | {"CNI_COMMAND": command}, json.dumps(document))
        breaks[command] = budget(found, C_MODULES, ours)
    assert breaks == {"ADD": [], "DEL": []}
    assert daemon is None or daemon.wait(timeout=20) == 0
