"""A host that was switched off and on again: /run is empty, the kernel knows nothing, /var is as it was."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import Command, bridge, eventually, serving

BOOT_ID = "/proc/sys/kernel/random/boot_id"
NAMES = ("web", "db")
SERVER = ("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def kill(first: Path) -> None:
    """A container with its supervisor, which is the parent of its first process."""
    os.kill(int((first / "stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    eventually(lambda: not (first / "exe").exists())


@pytest.fixture
def reboot(minirt: Command, tmp_path: Path) -> Iterator[Callable[[], None]]:
    (tmp_path / "boot_id").write_text("00000001-0000-4000-8000-000000000000\n")

    def switch_off_and_on() -> None:
        for name in NAMES:
            kill(Path(f"/proc/{minirt.inspect(name)['State']['Pid']}"))
        for path in Path("/run/netns").iterdir():
            minirt.machine.run("umount", str(path))
        minirt.machine.run("ip", "link", "del", "cni-lab")
        minirt.machine.run("nft", "flush", "ruleset")
        for folder in ("netns", "minirt", "cni"):
            for path in Path("/run", folder).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        minirt.machine.run("mount", "--bind", str(tmp_path / "boot_id"), BOOT_ID)

    yield switch_off_and_on
    minirt.machine.run("umount", BOOT_ID, check=False)


@pytest.mark.leaves("link cni-lab", "address * dev cni-lab")
def test_U1_after_a_reboot_containers_start_again_and_no_address_is_lost(
    minirt: Command, reboot: Callable[[], None]
) -> None:
    """The range has room for two, and both had an address of it."""
    range_of_two = {"subnet": "10.50.0.0/24", "rangeStart": "10.50.0.2", "rangeEnd": "10.50.0.3"}
    ipam = {"type": "host-local", "ranges": [[range_of_two]]}
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24", ipMasq=True, ipam=ipam), PORTMAP)
    for place, name in enumerate(NAMES):
        minirt.ok("run", "-d", "--name", name, "-p", f"{8080 + place}:80", "host", *SERVER)
    reboot()
    assert {line.split()[-1] for line in minirt.ok("ps", "-a").splitlines()[1:]} == {*NAMES}
    for place, name in enumerate(NAMES):
        minirt.ok("start", name)
        assert serving(minirt.machine, f"http://10.50.0.1:{8080 + place}/hostname")
    assert {minirt.address(name) for name in NAMES} == {"10.50.0.2", "10.50.0.3"}
    for name in NAMES:
        minirt.ok("rm", "-f", name)
    assert minirt.machine.elements() == []
