"""`--explain` of plugins that tell nothing themselves: what they have changed, and nothing that others did."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import leftovers
from support.command import Command, bridge

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "link *", "address *", "nft *", "directory *", "file *")


def foreign(tmp_path: Path, script: str) -> str:
    """A folder with a plugin called `odd`, which runs `script` and answers."""
    program = tmp_path / "odd"
    answer = '{"cniVersion": "1.0.0", "interfaces": [], "ips": []}'
    program.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\necho '{answer}'\n")
    program.chmod(0o755)
    return str(tmp_path)


def told(stderr: str, who: str = "odd") -> list[str]:
    """What is said of a plugin, between its call and its answer."""
    items = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    first, *changes = [item["text"] for item in items if (item["kind"], item["who"]) == ("fact", who)]
    assert first == "not one of minirt's: what it changed is seen from outside"
    return changes


def attached(minirt: Command) -> list[str]:
    """What is said of `odd` when it attaches the namespace `box`."""
    minirt.network("lab", {"type": "odd"})
    return told(minirt("cni", "--explain=json", "add", "lab", minirt.machine.netns("box")).stderr)


def test_the_account_shows_what_it_changed(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNI_PATH", "/usr/lib/cni")
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24") | {"ipMasq": True})
    box = minirt.machine.netns("box")
    done = minirt("cni", "--explain=json", "add", "lab", box)
    lines = told(done.stderr, "bridge")
    for part in (
        "+ host: link cni-lab up type bridge address ",
        "+ host: address 10.50.0.1/24 on cni-lab",
        "+ container: link eth0 up type veth address ",
        "+ container: address 10.50.0.2/24 on eth0",
        "+ container: route 10.50.0.0/24 dev eth0 protocol kernel scope link",
        "+ host: table ip nat · chain CNI-",
    ):
        assert any(part in line for line in lines), (part, done.stderr)
    assert "masquerade" in done.stderr
    gone = minirt("cni", "--explain=json", "del", "lab", box)
    assert "- container: address 10.50.0.2/24 on eth0" in told(gone.stderr, "bridge")
    minirt.machine.run("nft", "flush", "ruleset")


def test_other_peoples_packets_are_not_its_doing(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CNI_PATH", foreign(tmp_path, "ping -c 2 -i 0.2 127.0.0.1 >/dev/null"))
    minirt.machine.run("nft", "table inet t { chain c { type filter hook output priority 0; counter accept; }; }")
    lines = attached(minirt)
    changed = "nothing is changed in links, addresses, routes, rules and nftables"
    assert lines == [f"{changed}; queues, sysctls and files are not looked at"]
    assert "counter packets 0" not in minirt.machine.text("nft", "list", "ruleset")  # they were counted
    minirt("cni", "del", "lab", "/run/netns/box")
    minirt.machine.run("nft", "flush", "ruleset")


def test_a_rule_is_told_with_its_chain_also_when_another_chain_has_the_same(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = "nft 'add chain inet t second; add rule inet t second accept; add rule inet t first accept'"
    monkeypatch.setenv("CNI_PATH", foreign(tmp_path, script))
    minirt.machine.run("nft", "table inet t { chain first { accept; }; }")
    lines = attached(minirt)
    assert lines == [f"+ host: table inet t · chain {name} · accept" for name in ("first", "second")]
    minirt("cni", "del", "lab", "/run/netns/box")
    minirt.machine.run("nft", "flush", "ruleset")


def test_rules_inside_of_the_container_are_told(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inside = 'nsenter --net="$CNI_NETNS"'
    script = f"{inside} nft 'add table ip inner'; {inside} ip rule add pref 7 table 7"
    monkeypatch.setenv("CNI_PATH", foreign(tmp_path, script))
    lines = attached(minirt)
    assert sorted(lines) == ["+ container: rule -4 priority 7 src all table 7", "+ container: table ip inner"]
    minirt("cni", "del", "lab", "/run/netns/box")
    minirt.machine.run("ip", "netns", "exec", "box", "nft", "flush", "ruleset")
    minirt.machine.run("ip", "-n", "box", "rule", "del", "pref", "7")


def test_what_cannot_be_seen_is_said(minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`nft` and `ip` are not there: no change is told, and that it could not be seen is."""
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("sh", "cat", "nsenter"):
        (bare / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("CNI_PATH", foreign(tmp_path, ":"))
    box = minirt.machine.netns("box")
    minirt.network("lab", {"type": "odd"})
    hidden = minirt.machine.run("mount", "-t", "tmpfs", "tmpfs", "/usr/sbin")
    assert hidden.returncode == 0
    try:
        done = minirt("cni", "--explain=json", "add", "lab", box, env=os.environ | {"PATH": str(bare)})
    finally:
        minirt.machine.run("umount", "/usr/sbin")
    assert done.returncode == 0, done.stderr
    assert "could not be seen: the program nft is missing" in done.stderr
    minirt("cni", "del", "lab", box)


@pytest.mark.parametrize("alias", [b"\xff", b"\x1b[31m", b"\xe2\x82"])
def test_what_others_have_named_stops_no_run(minirt: Command, monkeypatch: pytest.MonkeyPatch, alias: bytes) -> None:
    """A link of the host whose name for people is no text: it is only looked at."""
    monkeypatch.setenv("CNI_PATH", "/usr/lib/cni")
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"))
    subprocess.run([b"ip", b"link", b"set", b"lo", b"alias", alias], check=True)
    done = minirt("run", "--rm", "-q", "--explain", "host", "true")
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    minirt.machine.run("ip", "link", "set", "lo", "alias", "")


@pytest.mark.parametrize("says", ["nonsense", "[{}]", "[1]"])
def test_a_witness_that_talks_nonsense_is_told_and_stops_no_run(
    minirt: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    witness = tmp_path / "bin" / "ip"
    witness.parent.mkdir()
    witness.write_text(f"#!/bin/sh\necho '{says}'\n")
    witness.chmod(0o755)
    monkeypatch.setenv("CNI_PATH", foreign(tmp_path, ":"))
    minirt.network("lab", {"type": "odd"})
    box = minirt.machine.netns("box")
    done = minirt(
        "cni", "--explain", "add", "lab", box, env=os.environ | {"PATH": f"{witness.parent}:{os.environ['PATH']}"}
    )
    assert done.returncode == 0 and "could not be seen: what ip addr says is not understood" in done.stderr, done.stderr
    minirt("cni", "del", "lab", box)
