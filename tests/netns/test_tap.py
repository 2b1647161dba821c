"""The tap plugin as a program: its own keys, and what a program that opens the tap sees."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.single import Wired, site
from support.site import IPV4, IPV6

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)

MAC = "02:42:00:00:00:%02x"
NOBODY = 65534

# Opens a tap by its name, as another user, and prints the type and sender of the first frames that come out of it.
READER = """
import fcntl, os, struct, sys
user, name, frames, flags = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4], 16)
fd = os.open("/dev/net/tun", os.O_RDWR)
os.setgroups([]); os.setgid(user); os.setuid(user)
try:
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))
except OSError as error:
    print(error.strerror, flush=True)
    sys.exit()
print("open", flush=True)
for _ in range(frames):
    frame = os.read(fd, 2048)
    print(frame[6:12].hex(":"), frame[12:14].hex(), flush=True)
"""
TAP, MULTI_QUEUE = 0x1002, 0x0100


def opened(user: int = 0, frames: int = 0, flags: int = TAP) -> subprocess.Popen[str]:
    argv = ["ip", "netns", "exec", "web", "/usr/bin/python3", "-ISc", READER]
    argv += [str(user), "eth0", str(frames), hex(flags)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def says(**asked: int) -> str:
    return opened(**asked).communicate(timeout=10)[0].splitlines()[0]


def data(site: Wired) -> dict[str, Any]:
    found: dict[str, Any] = site.link("eth0", "web")["linkinfo"]["info_data"]
    return found


def test_a_program_that_opens_it_is_its_other_end(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap", IPV4)
    result = site.add(conf)
    assert "NO-CARRIER" in site.link("eth0", "web")["flags"]
    reader = opened(frames=1)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    asker = subprocess.Popen(["ip", "netns", "exec", "web", "ping", "-c1", "-W1", "10.1.0.9"], stdout=-3)
    frames = reader.communicate(timeout=10)[0].split()
    asker.kill()
    asker.wait()
    assert frames[0] == result["interfaces"][0]["mac"]
    site.check(conf, result).done()  # the program has gone, and the tap stayed
    site.delete(conf)


def test_it_is_made_as_asked_and_checked_to_be_so(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap", IPV4, multiQueue=True, owner=NOBODY, group=100, mtu=1400, mac=MAC % 1)
    result = site.add(conf)
    made = data(site)
    assert (made["type"], made["persist"], made["multi_queue"], made["pi"]) == ("tap", True, True, False)
    assert (made["user"], made["group"]) in ((NOBODY, 100), ("nobody", "users"))
    assert (site.link("eth0", "web")["mtu"], site.link("eth0", "web")["address"]) == (1400, MAC % 1)
    assert result["interfaces"] == [{"name": "eth0", "mac": MAC % 1, "mtu": 1400, "sandbox": "/run/netns/web"}]
    site.check(conf, result).done()
    for keys in ({"multiQueue": False}, {"owner": 1}, {"group": 1}):
        assert "is not of type tuntap mode tap" in site.check(conf | keys, result).error["msg"]
    site.delete(conf)


def test_its_owner_may_open_it_and_nobody_else(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap", owner=NOBODY)
    site.add(conf)
    assert says(user=NOBODY) == "open"
    assert says(user=NOBODY - 1) == "Operation not permitted"
    site.delete(conf)
    conf = site.conf_of("tap", owner=NOBODY, multiQueue=True)
    site.add(conf)
    assert says(user=NOBODY, flags=TAP | MULTI_QUEUE) == "open"
    assert says(user=NOBODY) == "Invalid argument"
    site.delete(conf)


def test_it_can_be_a_port_of_a_bridge_in_the_container(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap", bridge="br0")
    error = site.call("ADD", conf).error
    assert error["msg"] == "there is no link 'br0' in /run/netns/web"
    assert site.state("web") == [[({"lo"}, set())], set(), []]
    site.machine.run("ip", "-n", "web", "link", "add", "br0", "type", "bridge")
    result = site.add(conf)
    assert site.link("eth0", "web")["master"] == "br0"
    site.check(conf, result).done()
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "nomaster")
    assert site.check(conf, result).error["msg"] == "eth0 in /run/netns/web is no port of br0"
    site.delete(conf)
    site.machine.run("ip", "-n", "web", "link", "del", "br0")


def test_a_network_without_ipam_is_layer_2(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap")
    result = site.add(conf)
    assert "ips" not in result
    assert "UP" in site.link("eth0", "web")["flags"]
    site.check(conf, result).done()
    site.delete(conf)


@pytest.mark.parametrize("owner", [{}, {"owner": NOBODY, "group": NOBODY}])
def test_a_hardware_address_is_taken_from_the_strongest_of_its_places(site: Wired, owner: dict[str, int]) -> None:
    """Whoever the owner is: the reference plugin loses it where both owner and group are given."""
    site.box()
    conf = site.conf_of("tap", IPV4, mac=MAC % 1) | owner
    for number, (keys, args) in enumerate((({}, ""), ({}, MAC % 2), ({"runtimeConfig": {"mac": MAC % 3}}, MAC % 2)), 1):
        conf |= keys
        assert site.add(conf, args=f"MAC={args}" if args else "")["interfaces"][0]["mac"] == MAC % number
        assert site.link("eth0", "web")["address"] == MAC % number
        site.delete(conf)


def test_a_selinux_context_is_refused_where_there_is_no_selinux(site: Wired) -> None:
    site.box()
    conf = site.conf_of("tap", IPV4, selinuxContext="system_u:system_r:container_t:s0")
    for command in ("ADD", "STATUS"):
        error = site.call(command, conf).error
        assert (error["code"], "runs without SELinux" in error["msg"]) == (2, True)
    assert site.state("web") == [[({"lo"}, set())], set(), []]
    site.delete(conf)


def test_a_machine_without_taps_is_told_of_before_an_add_and_by_it(site: Wired) -> None:
    site.box()
    site.machine.run("mount", "-t", "tmpfs", "tmpfs", "/dev/net")
    conf = site.conf_of("tap", IPV4)
    told = "cannot make a tap: /dev/net/tun: No such file or directory"
    status, add = site.plugins.call("STATUS", conf).error, site.call("ADD", conf).error
    assert (status["code"], status["msg"], add["msg"]) == (50, told, told)
    assert site.state("web") == [[({"lo"}, set())], set(), []]
    site.delete(conf)
    site.machine.run("umount", "/dev/net")


def test_the_interfaces_of_the_host_do_not_matter(site: Wired) -> None:
    """Both have an eth0; and addresses of both families are usable at once."""
    site.box()
    conf = site.conf_of("tap", IPV4, IPV6)
    before = site.link("eth0")
    site.machine.run("ip", "-n", "web", "link", "set", "lo", "up")
    site.add(conf)
    assert site.reaches("web", "fd00:1::2") == "refused"
    assert site.link("eth0") == before
    site.delete(conf)
