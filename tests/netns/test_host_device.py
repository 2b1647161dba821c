"""The host-device plugin as a program: a link of the host goes into a container, and comes back as it was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, Site

pytestmark = pytest.mark.leaves(*FOLDERS)

MAC = "02:11:22:33:44:55"
RECORDS = Path("/run/cni/host-device/net")
STATIC = {"type": "static", "addresses": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]}
LEASE = {"type": "host-local", "subnet": IPV4, "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.254"}]}


def conf(version: str = "1.1.0", **keys: Any) -> dict[str, Any]:
    return {"cniVersion": version, "name": "net", "type": "host-device", "device": "dev0"} | keys


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    """With a link dev0 whose other end, far0, is on a machine of its own; that has the address 10.1.0.254."""
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    made.box("far")
    made.box()
    machine.run(
        *("ip", "link", "add", "dev0", "address", MAC, "mtu", "1400", "type", "veth", "peer", "name", "far0"),
        *("netns", "far"),
    )
    machine.run("ip", "-n", "far", "link", "set", "far0", "up")
    machine.run("ip", "-n", "far", "addr", "add", "10.1.0.254/24", "dev", "far0")
    yield made
    machine.run("ip", "-n", "far", "link", "del", "far0", check=False)
    made.close()


def as_it_is(site: Site, name: str = "dev0", netns: str = "") -> dict[str, Any]:
    """All of a link that may not change by a journey."""
    link = site.link(name, netns)
    known = {key: link.get(key) for key in ("ifname", "address", "mtu", "ifalias")}
    return known | {"up": "UP" in link["flags"], "addresses": site.machine.addresses(name, netns)}


def used(site: Site) -> dict[str, Any]:
    """dev0 as a host has it that uses it."""
    site.machine.run("ip", "link", "set", "dev0", "up", "alias", "uplink of the rack")
    site.machine.run("ip", "addr", "add", "192.0.2.7/24", "dev", "dev0")
    site.machine.run("ip", "addr", "add", "fd00:7::7/64", "dev", "dev0", "nodad")
    return as_it_is(site)


# --- there and back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_P5_P7_the_device_is_what_the_result_says_and_comes_back_as_it_was(site: Site, version: str) -> None:
    before = used(site)
    result = site.add(conf(version))
    (link,) = result["interfaces"]
    mtu = {"mtu": 1400} if version in ("1.0.0", "1.1.0") else {}
    assert link == {"name": "eth0", "mac": MAC, "sandbox": "/run/netns/web"} | mtu
    assert site.machine.links() == {"lo"}
    inside = as_it_is(site, "eth0", "web")
    assert inside == {
        "ifname": "eth0",
        "address": MAC,
        "mtu": 1400,
        "ifalias": "dev0",
        "up": True,
        "addresses": set(),
    }
    site.delete(conf(version))
    assert as_it_is(site) == before
    assert site.machine.links("web") == {"lo"}
    assert not RECORDS.exists()


def test_a_device_that_was_down_and_had_no_alias_comes_back_like_that(site: Site) -> None:
    before = as_it_is(site)
    assert (before["up"], before["ifalias"]) == (False, None)
    site.add(conf())
    site.delete(conf())
    assert as_it_is(site) == before


def test_addresses_of_ipam_work_at_once_and_are_given_back(site: Site) -> None:
    made = conf(ipam=LEASE)
    result = site.add(made)
    assert result["ips"] == [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}]
    assert site.machine.addresses("eth0", "web") == {"10.1.0.2/24"}
    assert site.routes() == {("10.1.0.0/24", ""), ("default", "10.1.0.254")}
    assert site.reaches("web", "10.1.0.254") == "refused"
    site.check(made, result).done()
    site.delete(made)
    assert (site.leases(), site.machine.addresses("dev0")) == (set(), set())


def test_what_a_later_plugin_changed_is_changed_back(site: Site) -> None:
    before = used(site)
    site.add(conf())
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "address", "02:00:00:00:00:99", "mtu", "1300")
    site.delete(conf())
    assert as_it_is(site) == before


@pytest.mark.parametrize(
    ("own", "given"), [({}, {"domain": "ipam.example"}), ({"search": []}, {}), ({"domain": "own.example"},) * 2]
)
def test_dns_is_ipams_unless_any_field_of_it_is_configured(site: Site, own: Any, given: Any) -> None:
    made = conf(ipam=STATIC | {"dns": {"domain": "ipam.example"}}, **({"dns": own} if own else {}))
    assert site.add(made).get("dns", {}) == given
    site.delete(made)


def test_names_may_be_taken_where_the_device_goes_and_where_it_comes_from(site: Site) -> None:
    """The container has a dev0 of its own, and the host an eth0: the device is neither for a moment."""
    site.machine.run("ip", "-n", "web", "link", "add", "dev0", "type", "bridge")
    site.machine.run("ip", "link", "add", "eth0", "type", "bridge")
    before = used(site)
    site.add(conf())
    assert site.machine.links("web") == {"lo", "dev0", "eth0"}
    assert as_it_is(site, "eth0", "web")["address"] == MAC
    site.delete(conf())
    assert as_it_is(site) == before
    site.machine.run("ip", "link", "del", "eth0")
    site.machine.run("ip", "-n", "web", "link", "del", "dev0")


def test_a_device_may_keep_its_name(site: Site) -> None:
    before = used(site)
    site.add(conf(), ifname="dev0")
    assert site.machine.links("web") == {"lo", "dev0"}
    site.delete(conf(), ifname="dev0")
    assert as_it_is(site) == before


def test_B8_two_devices_of_one_container_on_one_network(site: Site) -> None:
    site.machine.run("ip", "link", "add", "dev1", "type", "veth", "peer", "name", "far1", "netns", "far")
    site.add(conf())
    site.add(conf(device="dev1"), ifname="eth1")
    assert site.machine.links("web") == {"lo", "eth0", "eth1"}
    site.delete(conf())
    assert site.machine.links() == {"lo", "dev0"}
    site.delete(conf(device="dev1"), ifname="eth1")
    assert site.machine.links() == {"lo", "dev0", "dev1"}
    site.machine.run("ip", "link", "del", "dev1")


# --- how a device is named ------------------------------------------------------------------------------------------


@pytest.fixture
def buses(site: Site) -> Iterator[Path]:
    """/sys as on a machine with such devices: a tree of ours in the place of the kernel's."""
    for path in ("/sys/bus", "/sys/devices/platform"):
        site.machine.run("mount", "-t", "tmpfs", "tmpfs", path)
    pci = Path("/sys/bus/pci/devices")
    for folder in ("0000:03:00.0/net/dev0", "0000:04:00.0/virtio3/net/dev0", "0000:05:00.0", "0000:06:00.0"):
        (pci / folder).mkdir(parents=True)
    Path("/sys/bus/auxiliary/devices/mlx5_core.sf.4/net/dev0").mkdir(parents=True)
    Path("/sys/devices/platform/nic/net/dev0").mkdir(parents=True)
    Path("/sys/devices/platform/nic/net/bonding_masters").touch()
    for device, driver in (("0000:03:00.0", "e1000e"), ("0000:05:00.0", "vfio-pci")):
        Path("/sys/bus/pci/drivers", driver).mkdir(parents=True)
        (pci / device / "driver").symlink_to(f"../../drivers/{driver}")
    yield pci
    for path in ("/sys/bus", "/sys/devices/platform"):
        site.machine.run("umount", path)


NAMED: list[tuple[dict[str, Any], str]] = [
    ({"hwaddr": MAC.upper()}, ""),
    ({"hwaddr": MAC.replace(":", "-")}, ""),
    ({"kernelpath": "/sys/devices/platform/nic"}, ""),
    ({"pciBusID": "0000:03:00.0"}, "0000:03:00.0"),
    ({"pciBusID": "0000:04:00.0"}, "0000:04:00.0"),
    ({"runtimeConfig": {"deviceID": "0000:03:00.0"}}, "0000:03:00.0"),
    ({"pciBusID": "0000:09:00.0", "runtimeConfig": {"deviceID": "0000:03:00.0"}}, "0000:03:00.0"),
    ({"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}}, ""),
    ({"device": "dev0", "hwaddr": "02:00:00:00:00:01", "kernelpath": "/sys/devices/none"}, ""),  # the first counts
]


@pytest.mark.usefixtures("buses")
@pytest.mark.parametrize(("keys", "pci"), NAMED, ids=[str(keys) for keys, _pci in NAMED])
def test_a_device_is_found_by(site: Site, keys: dict[str, Any], pci: str) -> None:
    made = conf(device="") | keys
    site.plugins.call("STATUS", made).done()
    (link,) = site.add(made)["interfaces"]
    assert (link["mac"], link.get("pciID", "")) == (MAC, pci)
    site.delete(made)
    assert site.machine.links() == {"lo", "dev0"}


@pytest.mark.usefixtures("buses")
@pytest.mark.parametrize("keys", [{"pciBusID": "0000:05:00.0"}, {"runtimeConfig": {"deviceID": "0000:05:00.0"}}])
def test_a_device_that_a_program_works_without_the_kernel_has_addresses_and_no_link(
    site: Site, keys: dict[str, Any]
) -> None:
    made = conf(device="", ipam=LEASE) | keys
    result = site.add(made)
    assert result["interfaces"] == [{"name": "eth0", "sandbox": "/run/netns/web", "pciID": "0000:05:00.0"}]
    assert result["ips"] == [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}]
    assert site.machine.links("web") == {"lo"}
    site.check(made, result).done()
    site.plugins.call("STATUS", made).done()
    site.delete(made)
    assert site.leases() == set()
    assert site.add(conf(device="") | keys)["interfaces"] == result["interfaces"]
    site.delete(conf(device="") | keys)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"device": ""}, 7, "one of device, hwaddr, kernelpath and pciBusID is needed"),
    ({"device": 7}, 7, "device: expected a string, got 7"),
    ({"device": "a b"}, 7, "device: "),
    ({"device": "", "hwaddr": "nine"}, 7, "hwaddr: 'nine' is not a hardware address"),
    ({"device": "", "kernelpath": "/sys/class/net"}, 7, "kernelpath: '/sys/class/net' must be absolute and begin with"),
    ({"device": "", "kernelpath": "/sys/devices/../class/x"}, 7, "must be absolute and begin with /sys/devices/"),
    ({"device": "", "pciBusID": "../net"}, 7, "pciBusID: expected a device's name on its bus"),
    ({"devices": "dev0"}, 7, "devices: unknown key"),
    ({"device": "dev9"}, 50, "device dev9: there is no such link on this host"),
    ({"device": "", "hwaddr": "02:00:00:00:00:01"}, 50, "hwaddr 02:00:00:00:00:01: there is no such link"),
    ({"device": "", "kernelpath": "/sys/devices/none"}, 50, "kernelpath /sys/devices/none: there is no such link"),
    ({"device": "", "pciBusID": "0000:06:00.0"}, 50, "pciBusID 0000:06:00.0: there is no such link"),
    ({"runtimeConfig": {"deviceID": "0000:09:00.0"}}, 50, "runtimeConfig.deviceID: 0000:09:00.0 is neither"),
]


@pytest.mark.usefixtures("buses")
@pytest.mark.parametrize(("keys", "code", "said"), WRONG, ids=[said for _keys, _code, said in WRONG])
def test_P16_B2_status_names_what_is_wrong_and_so_does_add(
    site: Site, keys: dict[str, Any], code: int, said: str
) -> None:
    error = site.plugins.call("STATUS", conf(ipam=LEASE) | keys).error
    assert (error["code"], said in error["msg"]) == (code, True), error
    error = site.call("ADD", conf(ipam=LEASE) | keys).error
    assert (error["code"] in (7, 999), said in error["msg"]) == (True, True), error
    assert (site.machine.links(), site.leases(), RECORDS.exists()) == ({"lo", "dev0"}, set(), False)


def test_P17_B2_a_device_that_is_lent_is_not_available(site: Site) -> None:
    site.box("db")
    site.add(conf())
    for answer in (site.plugins.call("STATUS", conf()), site.call("ADD", conf(), "db")):
        assert answer.error["details"] == "container web eth0 of network net has it"
    site.delete(conf())


# --- what goes wrong ------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no address left": (LEASE | {"rangeEnd": "10.1.0.1"}, "no IP addresses available"),
    "a route by way of nowhere": (
        LEASE | {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]},
        "route prepend 10.9.0.0/16 via 192.0.2.1 dev eth0: ",
    ),
    "an IPAM plugin that is nowhere": ({"type": "nowhere"}, "nowhere"),
    "no address": ({"type": "static"}, "gave no IP address"),
}


@pytest.mark.parametrize(("ipam", "said"), FAULTS.values(), ids=list(FAULTS))
def test_after_an_add_that_fails_the_device_is_as_it_was(site: Site, ipam: dict[str, Any], said: str) -> None:
    before = used(site)
    error = site.call("ADD", conf(ipam=ipam)).error
    assert said in error["msg"]
    assert "not undone" not in error.get("details", "")
    assert as_it_is(site) == before
    assert (site.leases(), site.machine.links("web"), RECORDS.exists()) == (set(), {"lo"}, False)


def test_an_interface_of_that_name_is_an_error_before_anything_is_done(site: Site) -> None:
    site.machine.run("ip", "-n", "web", "link", "add", "eth0", "type", "bridge")
    before = used(site)
    assert site.call("ADD", conf(ipam=LEASE)).error["msg"] == "/run/netns/web already has an interface eth0"
    assert (as_it_is(site), site.leases()) == (before, set())
    site.machine.run("ip", "-n", "web", "link", "del", "eth0")


def test_P6_B4_add_twice_is_an_error_that_changes_nothing(site: Site) -> None:
    before = used(site)
    site.box("other")
    site.machine.run("ip", "link", "add", "dev1", "type", "veth", "peer", "name", "far1", "netns", "far")
    result = site.add(conf(ipam=LEASE))
    assert site.call("ADD", conf(ipam=LEASE)).error["msg"] == "/run/netns/web already has an interface eth0"
    again = conf(device="dev1", ipam=LEASE)
    error = site.plugins.call("ADD", again, "/run/netns/other", container="web").error
    assert error["msg"] == "container web eth0 of network net has dev0 in /run/netns/web already"
    assert site.machine.links() == {"lo", "dev1"}
    site.check(conf(ipam=LEASE), result).done()
    site.delete(conf(ipam=LEASE))
    assert as_it_is(site) == before
    site.machine.run("ip", "link", "del", "dev1")


def test_a_link_that_cannot_leave_is_said_by_the_kernel(site: Site) -> None:
    error = site.call("ADD", conf(device="lo")).error
    assert error["msg"].startswith("ip link set lo netns web name eth0 alias lo: ")
    assert not RECORDS.exists()


def test_a_name_that_is_taken_fails_del_and_harms_nothing_until_it_is_free(site: Site) -> None:
    before = used(site)
    made = conf(ipam=STATIC)
    result = site.add(made)
    site.machine.run("ip", "link", "add", "dev0", "type", "bridge")
    error = site.call("DEL", made).error
    assert error["msg"] == ("eth0 in /run/netns/web cannot become dev0 again: the host has another link of that name")
    site.check(made, result).done()
    site.machine.run("ip", "link", "del", "dev0")
    site.delete(made)
    assert as_it_is(site) == before


# --- DEL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_P9_P11_B3_del_needs_neither_the_namespaces_path_nor_a_good_configuration(site: Site, netns: str) -> None:
    before = used(site)
    site.add(conf(ipam=LEASE))
    for _twice in range(2):
        site.plugins.delete(conf(ipam=LEASE, device=7), netns, container="web")
        assert (as_it_is(site), site.leases(), RECORDS.exists()) == (before, set(), False)


def test_P10_del_of_what_was_never_added_touches_nothing(site: Site) -> None:
    site.machine.run("ip", "-n", "web", "link", "add", "eth0", "type", "bridge")
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "alias", "cni net web eth0")
    site.delete(conf())
    assert site.machine.links("web") == {"lo", "eth0"}
    site.machine.run("ip", "-n", "web", "link", "del", "eth0")


def test_P9_a_virtual_link_dies_with_its_namespace_and_del_frees_the_address(site: Site) -> None:
    site.add(conf(ipam=LEASE))
    site.machine.run("ip", "netns", "del", "web")
    site.delete(conf(ipam=LEASE))
    assert (site.leases(), RECORDS.exists()) == (set(), False)
    site.machine.run("ip", "link", "del", "dev0", check=False)  # the kernel takes its time


@pytest.mark.parametrize("name", ["eth0", "dev7", "dev0"])
def test_what_the_kernel_has_put_back_is_made_what_it_was(site: Site, name: str) -> None:
    """It does so for devices, whose namespace goes: down, under some name, with the alias. tests/vm has a real one."""
    before = used(site)
    site.add(conf(ipam=LEASE))
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "down")
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "name", name, "netns", str(os.getpid()))
    site.machine.run("ip", "netns", "del", "web")
    site.delete(conf(ipam=LEASE))
    assert (as_it_is(site), site.leases(), RECORDS.exists()) == (before, set(), False)


def test_what_was_killed_in_the_middle_is_taken_down(site: Site) -> None:
    """The record is written first. What follows has not happened, or half."""
    before = used(site)
    site.add(conf(ipam=LEASE))
    record = next(RECORDS.iterdir()).read_bytes()
    site.delete(conf(ipam=LEASE))
    RECORDS.mkdir(parents=True)
    (RECORDS / "web:eth0").write_bytes(record)  # killed before the device was moved
    site.delete(conf(ipam=LEASE))
    assert (as_it_is(site), RECORDS.exists()) == (before, False)
    RECORDS.mkdir(parents=True)
    (RECORDS / "web:eth0").write_bytes(record)  # and a DEL killed while it gave the device back
    site.machine.run("ip", "link", "set", "dev0", "down", "alias", "dev0")  # which takes IPv6's addresses
    site.delete(conf(ipam=LEASE))
    assert (as_it_is(site), RECORDS.exists()) == (before, False)


def test_B3_what_an_add_that_was_killed_has_made_is_taken_down(site: Site) -> None:
    """At one moment or another; DEL is not told the namespace."""
    before = used(site)
    for milliseconds in range(10, 100, 10):
        adding = site.plugins.start("ADD", conf(ipam=LEASE), "/run/netns/web")
        time.sleep(milliseconds / 1000)
        adding.kill()
        site.plugins.finish(adding)
        site.plugins.delete(conf(ipam=LEASE), "", container="web")
        records = list(RECORDS.iterdir()) if RECORDS.exists() else []
        assert (as_it_is(site), site.leases(), records) == (before, set(), []), milliseconds


def test_an_address_that_somebody_renews_is_not_made_one_for_ever(site: Site) -> None:
    """Its DHCP client is there still, and gives it again; a router's does of itself."""
    site.machine.run("ip", "link", "set", "dev0", "up")
    site.machine.run("ip", "addr", "add", "192.0.2.7/24", "dev", "dev0")
    site.machine.run("ip", "addr", "add", "192.0.2.8/24", "dev", "dev0", "valid_lft", "600", "preferred_lft", "600")
    site.add(conf())
    site.delete(conf())
    assert site.machine.addresses("dev0") == {"192.0.2.7/24"}


# --- CHECK and GC ---------------------------------------------------------------------------------------------------

BROKEN = [
    ("addr del 10.1.0.2/24 dev eth0", "eth0 in /run/netns/web does not have the address 10.1.0.2/24"),
    ("route del default", "there is no route to 0.0.0.0/0 via 10.1.0.254 by eth0 in /run/netns/web"),
    ("link set eth0 down", "eth0 in /run/netns/web is down"),
    ("link set eth0 address 02:00:00:00:00:99", "has the hardware address 02:00:00:00:00:99, not "),
    ("link set eth0 mtu 1300", "eth0 in /run/netns/web has the MTU 1300, not 1400"),
    ("link set eth0 down name eth9", "there is no link eth0 in /run/netns/web"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[said for _broken, said in BROKEN])
def test_P14_B5_check_names_what_is_broken(site: Site, broken: str, said: str) -> None:
    made = conf(ipam=LEASE)
    result = site.add(made)
    site.check(made, result).done()
    site.machine.run("ip", "-n", "web", *broken.split())
    assert said in site.check(made, result).error["msg"]
    site.delete(made)
    site.machine.run("ip", "-n", "web", "link", "del", "eth9", check=False)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_P15_check_passes_after_add(site: Site, version: str) -> None:
    for made in (conf(version), conf(version, ipam=LEASE)):
        site.check(made, site.add(made)).done()
        site.delete(made)


def test_P18_P19_B1_gc_brings_home_what_belongs_to_nobody_alive(site: Site) -> None:
    before = used(site)
    made = conf(ipam=LEASE)
    result = site.add(made)
    site.plugins.call("GC", made | {"cni.dev/valid-attachments": [{"containerID": "web", "ifname": "eth0"}]}).done()
    site.check(made, result).done()
    site.plugins.call("GC", made | {"cni.dev/valid-attachments": []}).done()
    assert (as_it_is(site), site.leases(), RECORDS.exists()) == (before, set(), False)
