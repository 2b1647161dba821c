"""`minirt cni version`: every plugin of the search path, what it speaks, where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.cnilab import scripted_plugins
from support.command import Command
from support.scripted import Answer, Scripted, fails, says

ONE = says({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})
TWO = says({"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]})


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


def rows(shown: str) -> list[list[str]]:
    """The table without its head, cell by cell."""
    head, *lines = shown.splitlines()
    assert head.split() == ["PLUGIN", "VERSIONS", "PATH"]
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines]


def test_ours_and_those_of_others_are_listed(minirt: Command) -> None:
    minirt.machine.leaves("file /opt/cni/bin/theirs")
    os.mkdir("/opt/cni/bin")
    os.symlink("/usr/lib/cni/vrf", "/opt/cni/bin/theirs")
    shown = rows(minirt.ok("cni", "version"))
    ours = next(row for row in shown if row[0] == "bridge")
    assert "1.1.0" in ours[1].split() and ours[2].endswith("/libexec/minirt/cni/bridge")
    assert ["theirs", "0.3.1 0.4.0 1.0.0", "/opt/cni/bin/theirs"] in shown
    hidden = [row for row in shown if row[0] == "bridge"][1]
    assert hidden[2] == f"/usr/lib/cni/bridge (behind {ours[2]})"


def test_what_says_nothing_of_versions_is_told_apart(minirt: Command, scripted: Scripted) -> None:
    scripted.write("good", VERSION=[ONE])
    scripted.write("oldest", VERSION=[fails(4, "unknown CNI_COMMAND: VERSION")])
    scripted.write("silent")
    scripted.write("slow", VERSION=[Answer(hang=30)])
    (scripted.folder / "README").write_text("no program")
    (scripted.folder / "folder").mkdir()
    done = minirt("cni", "version", "--timeout", "0.5")
    assert done.returncode == 0
    assert [row[:2] for row in rows(done.stdout)] == [
        ["good", "0.4.0 1.0.0"],
        ["oldest", "0.1.0"],
        ["silent", "?"],
        ["slow", "?"],
    ]
    assert "plugins/silent did not say which versions it speaks" in done.stderr and "0.5 s" in done.stderr
    (scripted.folder / "folder").rmdir()


def test_a_network_shows_its_plugins_and_their_ipam_and_that_they_can_be_used(
    minirt: Command, scripted: Scripted
) -> None:
    scripted.write("main", VERSION=[ONE])
    scripted.write("addresses", VERSION=[TWO])
    minirt.network("net", {"type": "main", "ipam": {"type": "addresses"}}, cniVersion="1.1.0", cniVersions=["1.0.0"])
    shown = rows(minirt.ok("cni", "version", "net"))
    assert shown == [
        ["main", "0.4.0 1.0.0", str(scripted.folder / "main")],
        ["addresses", "1.0.0 1.1.0", str(scripted.folder / "addresses")],
    ]


def test_a_network_whose_plugins_have_no_version_in_common_is_an_error(minirt: Command, scripted: Scripted) -> None:
    scripted.write("main", VERSION=[ONE])
    minirt.network("net", {"type": "main"}, {"type": "missing"}, cniVersion="1.1.0")
    error = minirt.fails(1, "cni", "version", "net")
    assert "network 'net' cannot be used in version 1.1.0: main speaks 0.4.0, 1.0.0" in error
    assert "missing not found in /run/scripted/plugins" in error and "cniVersions" in error
    assert Path("/etc/cni/net.d/net.conflist").exists()
