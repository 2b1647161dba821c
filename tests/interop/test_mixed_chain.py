"""One list, carried out by plugins of both sides: what each hands to the next is the contract's, and nobody's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.cnilab import cached, leases
from support.command import Command, serving
from support.peers import GO_PLUGINS

from cni_plugins.sdk import launcher

MIXED = Path("/run/plugins")
RANGES = [[{"subnet": "10.50.0.0/24"}]]
PLUGINS: list[dict[str, Any]] = [
    {
        "type": "bridge",
        "bridge": "cni-lab",
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": RANGES},
    },
    {"type": "portmap", "capabilities": {"portMappings": True}},
    {"type": "firewall", "backend": "iptables"},
    {"type": "tuning", "mtu": 1400},
    {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
]
LEAVES = (
    *("link cni-lab", "address * dev cni-lab", "file /run/xtables.lock", f"file {MIXED}/*"),
    *("nft table ip* filter", "nft chain ip* filter *", "nft table ip* nat", "nft chain ip* nat *"),
    *("nft rule ip* filter *", "nft rule ip* nat *"),
)


@pytest.mark.parametrize("theirs", [("bridge", "firewall"), ("host-local", "tuning"), ("portmap", "bandwidth")])
def test_a_chain_of_both_sides_serves_a_published_port(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, theirs: tuple[str, ...]
) -> None:
    minirt.machine.leaves(*LEAVES, *leftovers.SHARED)
    launcher.write(str(MIXED))
    for name in theirs:
        (MIXED / name).unlink()
        (MIXED / name).symlink_to(os.path.join(GO_PLUGINS, name))
    monkeypatch.setenv("CNI_PATH", str(MIXED))
    minirt.network("lab", *PLUGINS)
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "host", "busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
    name = minirt.ok("exec", "web", "hostname")
    for url in ("http://10.50.0.2/hostname", "http://127.0.0.1:8080/hostname", "http://10.50.0.1:8080/hostname"):
        assert serving(minirt.machine, url).strip() == name
    assert "mtu 1400" in minirt.ok("exec", "web", "ip", "link", "show", "eth0")
    if "portmap" not in theirs:  # whose CHECK of 1.1.1 finds every published port broken
        minirt.ok("cni", "check", "lab", "--container", "web")
    minirt.ok("rm", "-f", "web")
    assert minirt.machine.links() == {"lo", "cni-lab"} and leases() == [] and cached() == []
    assert minirt.machine.elements() == []
    left = [line for line in minirt.machine.text("iptables-save").splitlines() if "10.50.0.2" in line]
    assert left == []
