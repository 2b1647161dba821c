"""The bandwidth plugin on another kernel than the host's: answers about queues have changed between them."""

from __future__ import annotations

from pathlib import Path

from support.machine import Machine
from support.plugins import Plugins

BOX = "/run/netns/box"
CONF = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "bandwidth",
    "prevResult": {"interfaces": [{"name": "host0"}, {"name": "eth0", "sandbox": BOX}]},
}
LIMITS = {"ingressRate": 8_000_000, "ingressBurst": 2**31 - 1, "egressRate": 16000, "egressBurst": 24000}


def test_what_was_added_is_checked_and_deleted(machine: Machine, tmp_path: Path) -> None:
    plugins = Plugins(machine, tmp_path / "bin")
    machine.netns("box")
    machine.run(*"ip link add host0 up type veth peer name eth0 netns box".split())  # noqa: SIM905
    result = plugins.add(CONF | LIMITS, BOX)
    plugins.check(CONF | LIMITS, result, BOX).done()
    for key in ("ingressRate", "egressRate"):
        assert plugins.check(CONF | LIMITS | {key: 8_000_008}, result, BOX).error["code"] == 100
    plugins.delete(CONF | LIMITS, BOX)
    assert machine.links() == {"lo", "host0"}
    assert "tbf" not in machine.text("tc", "qdisc", "show")
    machine.run("ip", "link", "del", "host0")
    plugins.delete(CONF, BOX)
    machine.run("ip", "netns", "del", "box")
