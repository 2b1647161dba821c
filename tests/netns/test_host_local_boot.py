"""host-local and reboots: what an earlier boot has left is released, what this boot has made is not.

The kernel's boot id is another one when a file of ours is mounted over it. /run is emptied by a reboot; here it is
either, for a machine may keep it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.host_local import FOLDER, LEAVES, REFERENCE, HostLocal, store, take
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails

from cni_plugins.sdk import launcher

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*LEAVES)]

SMALL = {"ranges": [[{"subnet": "10.1.0.0/29"}]]}
BOOT_ID = "/proc/sys/kernel/random/boot_id"
Reboot = Callable[[], None]


@pytest.fixture
def ours(tmp_path: Path) -> HostLocal:
    launcher.write(str(tmp_path / "bin"))
    return HostLocal(str(tmp_path / "bin" / "host-local"), **SMALL)


@pytest.fixture
def theirs() -> HostLocal:
    return HostLocal(REFERENCE, **SMALL)


@pytest.fixture(params=["run is emptied", "run is kept"])
def reboot(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Iterator[Reboot]:
    """Calling it is a reboot, as far as host-local can see."""
    boots = 0

    def again() -> None:
        nonlocal boots
        boots += 1
        text = tmp_path / f"boot{boots}"
        text.write_text(f"{boots:08x}-0000-4000-8000-000000000000\n", encoding="utf-8")
        machine.run("mount", "--bind", str(text), BOOT_ID)
        if request.param == "run is emptied":
            shutil.rmtree("/run/cni", ignore_errors=True)

    yield again
    for _mounted in range(boots):
        machine.run("umount", BOOT_ID)


def held() -> dict[str, str]:
    """Who has which address, by the files."""
    return {name: text for name, text in store().items() if not name.startswith("last_")}


def test_U1_an_earlier_boot_holds_no_addresses(ours: HostLocal, reboot: Reboot) -> None:
    for name in ("a", "b", "c", "d", "e"):
        ours.add(name)
    assert "no IP addresses available" in ours.refused("ADD", "f").msg
    reboot()
    assert ours.add("f") == ["10.1.0.2/29"]
    assert held() == {"10.1.0.2": "f\r\neth0"}
    assert ours.add("a") == ["10.1.0.3/29"]


def test_U1_a_range_that_an_earlier_boot_has_filled_is_ready(ours: HostLocal, reboot: Reboot) -> None:
    for name in ("a", "b", "c", "d", "e"):
        ours.add(name)
    assert ours.refused("STATUS", cniVersion="1.1.0").code == 50
    reboot()
    assert ours.call("STATUS", cniVersion="1.1.0") is None
    assert ours.add("f") == ["10.1.0.2/29"]
    assert held() == {"10.1.0.2": "f\r\neth0"}


def test_what_this_boot_has_made_stays(ours: HostLocal, reboot: Reboot) -> None:
    ours.add("old")
    reboot()
    ours.add("new")
    shutil.rmtree("/run/cni")
    ours.add("newer")
    assert held() == {"10.1.0.3": "new\r\neth0", "10.1.0.4": "newer\r\neth0"}
    ours.delete("old")
    assert list(held()) == ["10.1.0.3", "10.1.0.4"]


def test_the_address_given_last_is_remembered_over_a_reboot(ours: HostLocal, reboot: Reboot) -> None:
    """So that neighbours that were not rebooted meet another address before they meet the same one."""
    ours.add("old")
    reboot()
    assert ours.add("new") == ["10.1.0.3/29"]


def test_what_the_reference_has_reserved_since_the_reboot_stays(
    ours: HostLocal, theirs: HostLocal, reboot: Reboot
) -> None:
    ours.add("old")
    reboot()
    theirs.add("theirs")
    theirs.delete("old")  # the address again, in a file made anew
    theirs.add("again", runtimeConfig={"ips": ["10.1.0.2"]})
    ours.add("new")
    kept = {"10.1.0.2": "again\r\neth0", "10.1.0.3": "theirs\r\neth0", "10.1.0.4": "new\r\neth0"}
    assert {name: text.strip() for name, text in held().items()} == kept


def test_what_the_reference_had_reserved_before_is_released_if_it_was_seen(
    ours: HostLocal, theirs: HostLocal, reboot: Reboot
) -> None:
    theirs.add("seen")
    ours.add("old")
    theirs.add("unseen")  # nobody can tell when that was made: GC, or its DEL, releases it
    reboot()
    ours.add("new")
    assert list(held()) == ["10.1.0.4", "10.1.0.5"]
    reboot()
    ours.add("newer")
    assert list(held()) == ["10.1.0.6"]


def test_a_machine_that_shares_the_folder_keeps_its_own(ours: HostLocal, reboot: Reboot) -> None:
    take("10.1.0.2", by="abroad\r\neth0")
    os.setxattr(f"{FOLDER}/10.1.0.2", "user.cni.boot", b"0123456789abcdef another-boot")
    reboot()
    assert ours.add("here") == ["10.1.0.3/29"]
    assert list(held()) == ["10.1.0.2", "10.1.0.3"]


def test_a_file_system_without_attributes_is_no_error(machine: Machine, ours: HostLocal, reboot: Reboot) -> None:
    machine.run("mount", "-t", "ramfs", "ramfs", "/var/lib/cni")
    with pytest.raises(OSError, match="not supported"):
        os.setxattr("/var/lib/cni", "user.cni.boot", b"")
    ours.add("old")
    reboot()
    assert ours.add("new") == ["10.1.0.3/29"]
    assert list(held()) == ["10.1.0.2", "10.1.0.3"]
    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "new", "ifname": "eth0"}]}
    ours.call("GC", cniVersion="1.1.0", **valid)
    assert list(held()) == ["10.1.0.3"]
    machine.run("umount", "/var/lib/cni")


def conf(**ipam: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "host-local", "ipam": {"type": "host-local", **SMALL} | ipam}


@reference_fails("keeps the addresses of containers that a reboot has ended, until the range is full", "p#252")
@pytest.mark.parametrize("reboot", ["run is emptied"], indirect=True)
def test_U1_a_container_comes_back_after_a_reboot(side: Plugins, reboot: Reboot) -> None:
    for _boot in range(3):
        assert side.call("ADD", conf(), "/run/netns/none").exit == 0
        assert len(held()) == 1
        reboot()


@reference_fails("takes a reservation that a full disk or a power cut has left empty for one of somebody's", "p#498")
def test_U2_an_empty_file_does_not_keep_its_address(side: Plugins) -> None:
    take(*(f"10.1.0.{number}" for number in range(2, 7)), by="")
    assert side.add(conf(), "/run/netns/none")["ips"][0]["address"] == "10.1.0.2/29"


@reference_fails("adds what is asked for in all three places together")
def test_B11_the_strongest_place_that_asks_counts_alone(side: Plugins) -> None:
    asked = {"runtimeConfig": {"ips": ["10.1.0.5"]}, "args": {"cni": {"ips": ["192.0.2.1"]}}}
    assert side.add(conf() | asked, "/run/netns/none")["ips"][0]["address"] == "10.1.0.5/29"


# --- STATUS of a store ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["/run/file", "/run/file/below", "/run/read-only/below"])
def test_P16_B2_status_says_that_reservations_cannot_be_made(machine: Machine, ours: HostLocal, place: str) -> None:
    machine.leaves("file /run/file")
    Path("/run/file").touch()
    Path("/run/read-only").mkdir()
    machine.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/run/read-only")
    ours.ipam["dataDir"] = place
    refused = ours.refused("STATUS", cniVersion="1.1.0")
    assert refused.code == 50
    assert refused.msg.startswith(f"reservations cannot be made in {place}/net: ")
    with pytest.raises(AssertionError):
        ours.add()
    machine.run("umount", "/run/read-only")
    Path("/run/read-only").rmdir()


@pytest.mark.parametrize(
    ("ipam", "where"),
    [
        ({"range": []}, "ipam.range: unknown key"),
        ({"ranges": [[{"subnet": "10.1.0.0/29", "rangestrat": "10.1.0.3"}]]}, "ipam.ranges[0][0].rangestrat: unknown"),
        ({"datadir_": "/x"}, "ipam.datadir_: unknown key"),
    ],
)
def test_a_slip_of_the_pen_is_told(ours: HostLocal, ipam: dict[str, Any], where: str) -> None:
    ours.ipam |= ipam
    assert ours.refused("ADD").msg.startswith(where)
    assert held() == {}
