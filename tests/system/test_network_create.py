"""Networks made by `minirt network create`, with containers in them: who reaches whom, and who does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, serving
from support.machine import Machine
from support.world import HERE, HERE6, WORLD, WORLD6, add_world

LISTS = Path("/etc/cni/net.d")
GO = "/usr/lib/cni"
SERVER = ("host", "python3", "-m", "http.server", "-d", "/usr/share/doc", "--bind", "::", "80")
SLEEP = ("host", "sleep", "600")
PING = ("busybox", "ping", "-c1", "-W2")


@pytest.fixture(autouse=True)
def furniture(machine: Machine) -> None:
    """Networks that were created stay, and so do their bridges."""
    machine.leaves(f"file {LISTS}/*", f"directory {LISTS}", "link cni-*", "address * dev cni-*")


def ranges(name: str) -> list[str]:
    """The subnets in the file of a created network."""
    document: Any = json.loads((LISTS / f"zz-{name}.conflist").read_text())
    return [pool[0]["subnet"] for pool in document["plugins"][0]["ipam"]["ranges"]]


def test_a_network_of_both_families_has_neighbours_a_world_and_published_ports(minirt: Command) -> None:
    add_world(minirt.machine)
    assert minirt.ok("network", "create", "--ipv6", "blue") == "blue"
    minirt.ok("run", "-d", "--network", "blue", "--name", "web", "-p", "8080:80", *SERVER)
    minirt.ok("run", "-d", "--network", "blue", "--name", "other", *SLEEP)
    for family in (4, 6):
        minirt.ok("exec", "other", *PING, minirt.address("web", family))
    minirt.ok("exec", "web", *PING, WORLD)  # which has no route back: masquerade makes it work
    minirt.ok("exec", "web", *PING, WORLD6)
    for address in ("127.0.0.1", HERE, f"[{HERE6}]"):
        assert "Directory listing" in serving(minirt.machine, f"http://{address}:8080/")
    assert "Directory listing" in serving(minirt.machine, f"http://{HERE}:8080/", "world")
    assert "Directory listing" in minirt.ok("exec", "web", "curl", "-sS", "-m2", f"http://{HERE}:8080/")
    minirt.ok("rm", "-f", "web", "other")


def test_an_internal_network_has_neighbours_and_no_way_out(minirt: Command) -> None:
    add_world(minirt.machine)
    minirt.ok("network", "create", "--internal", "--ipv6", "inner")
    for name in ("one", "two"):
        minirt.ok("run", "-d", "--network", "inner", "--name", name, *SLEEP)
    for family in (4, 6):
        minirt.ok("exec", "one", *PING, minirt.address("two", family))
    for address in (WORLD, WORLD6, HERE):
        done = minirt("exec", "one", *PING, address)
        assert done.returncode == 1 and "nreachable" in done.stdout + done.stderr
    error = minirt.fails(125, "run", "--rm", "--network", "inner", "-p", "8080:80", *SLEEP)
    assert "--publish is not possible on network 'inner'" in error
    minirt.ok("rm", "-f", "one", "two")


def test_addresses_come_from_the_range_and_can_be_asked_for(minirt: Command) -> None:
    line = ("--subnet", "10.9.0.0/24", "--ip-range", "10.9.0.64/26", "--gateway", "10.9.0.9", "green")
    minirt.ok("network", "create", "-o", "mtu=1400", "-o", "bridge=br-green", *line)
    minirt.machine.leaves("link br-green", "address * dev br-green")
    shown = minirt.ok("run", "--rm", "--network", "green", "host", "sh", "-c", "ip -4 addr show eth0; ip -4 route")
    assert "inet 10.9.0.64/24" in shown and "mtu 1400" in shown and "default via 10.9.0.9" in shown
    assert minirt.machine.addresses("br-green") >= {"10.9.0.9/24"}
    wish = "green:ip=10.9.0.99,mac=02:00:00:00:00:99"
    shown = minirt.ok("run", "--rm", "--network", wish, "host", "ip", "addr", "show", "eth0")
    assert "10.9.0.99/24" in shown and "02:00:00:00:00:99" in shown
    assert "not in range" in minirt.fails(125, "run", "--rm", "--network", "green:ip=10.9.0.5", *SLEEP)


def test_networks_that_are_picked_keep_clear_of_each_other_and_of_the_host(minirt: Command) -> None:
    machine = minirt.machine
    machine.run("ip", "link", "add", "uplink", "type", "bridge")
    machine.leaves("link uplink", "address * dev uplink", "route * uplink")
    machine.run("ip", "addr", "add", "10.144.0.7/24", "dev", "uplink")
    machine.run("ip", "link", "set", "uplink", "up")
    machine.run("ip", "route", "add", "10.144.2.0/24", "via", "10.144.0.1")
    started = [minirt.start("network", "create", name, stdout=-3, stderr=-3) for name in ("a", "b", "c", "d")]
    assert [process.wait(timeout=30) for process in started] == [0] * 4
    picked = sorted(subnet for name in ("a", "b", "c", "d") for subnet in ranges(name))
    assert picked == ["10.144.1.0/24", "10.144.3.0/24", "10.144.4.0/24", "10.144.5.0/24"]
    for subnet, words in (
        ("10.144.1.128/25", "10.144.1.0/24 of network"),
        ("10.144.0.0/24", "address 10.144.0.7/24 of uplink"),
        ("10.144.2.0/25", "route 10.144.2.0/24 by uplink"),
        ("10.143.0.0/24", "10.143.0.0/20 of network 'minirt'"),
    ):
        error = minirt.fails(1, "network", "create", "--subnet", subnet, "late")
        assert f"subnet {subnet} overlaps {words}" in error and "--force" in error
    minirt.ok("network", "create", "--subnet", "10.144.2.0/25", "--force", "late")


def test_a_created_network_is_nobodys_default(minirt: Command) -> None:
    done = minirt("network", "create", "aaa")
    assert done.returncode == 0 and "other runtimes take the first list" in done.stderr
    (path,) = LISTS.iterdir()
    assert path.name == "zz-aaa.conflist" and path.stat().st_mode & 0o777 == 0o644
    show = ("host", "ip", "-br", "-4", "addr", "show", "eth0")
    assert "10.143." in minirt.ok("run", "--rm", *show)
    assert "10.144." in minirt.ok("run", "--rm", "--network", "aaa", *show)
    assert "10.143." in minirt.ok("run", "--rm", "--network", "minirt", *show)
    assert minirt("network", "create", "bbb").stderr == ""
    plugin = {"type": "bridge", "bridge": "cni-mine", "ipam": {"type": "host-local", "subnet": "10.7.0.0/24"}}
    minirt.network("mine", plugin)
    assert "10.7.0." in minirt.ok("run", "--rm", *show)


def test_a_name_is_taken_once_and_nothing_is_left_of_a_failure(minirt: Command) -> None:
    LISTS.mkdir()
    (LISTS / "10-broken.conflist").write_text('{"name": "broken", oops}')
    minirt.ok("network", "create", "blue")
    before = {path.name: path.read_text() for path in LISTS.iterdir()}
    for name, words in (
        ("blue", "the name 'blue' is taken by /etc/cni/net.d/zz-blue.conflist"),
        ("broken", "the name 'broken' is taken by /etc/cni/net.d/10-broken.conflist"),
        ("minirt", "the name 'minirt' is taken by the built-in network"),
        ("host", "a network cannot be called 'host'"),
    ):
        assert words in minirt.fails(1, "network", "create", name)
    assert {path.name: path.read_text() for path in LISTS.iterdir()} == before


def test_a_created_network_is_served_by_other_peoples_plugins_too(minirt: Command) -> None:
    minirt.ok("network", "create", "blue")
    minirt.machine.leaves("nft * nat*", "nft * filter*")
    env = {"CNI_PATH": GO, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    minirt.ok("run", "-d", "--network", "blue", "--name", "web", "-p", "8080:80", *SERVER, env=env)
    assert "Directory listing" in serving(minirt.machine, "http://127.0.0.1:8080/")
    minirt.ok("rm", "-f", "web", env=env)


@pytest.mark.parametrize("folder", ["", GO], ids=["ours", "go"])
@pytest.mark.parametrize("driver", ["macvlan", "ptp"])
def test_a_driver_is_served_by_whoever_has_it(minirt: Command, driver: str, folder: str) -> None:
    machine = minirt.machine
    add_world(machine)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | ({"CNI_PATH": folder} if folder else {})
    machine.leaves("nft * nat*", "nft * filter*")
    lan = ("-o", "parent=uplink", "-o", "mode=bridge", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.64/26")
    minirt.ok("network", "create", "-d", driver, *(lan if driver == "macvlan" else ()), "net", env=env)
    minirt.ok("run", "-d", "--network", "net", "--name", "box", *SLEEP, env=env)
    minirt.ok("exec", "box", *PING, WORLD, env=env)
    assert minirt.address("box").startswith("192.0.2.64" if driver == "macvlan" else "10.144.0.")
    minirt.ok("rm", "-f", "box", env=env)


def test_a_macvlan_network_gives_the_addresses_that_are_asked_for(minirt: Command) -> None:
    add_world(minirt.machine)
    lan = ("-o", "parent=uplink", "--subnet", "192.0.2.0/24", "--ip-range", "192.0.2.64/26")
    minirt.ok("network", "create", "-d", "macvlan", *lan, "net")
    wishes = ("--ip", "192.0.2.77", "--mac-address", "02:42:00:00:00:07")
    minirt.ok("run", "-d", "--network", "net", "--name", "box", *wishes, *SLEEP)
    minirt.ok("exec", "box", *PING, WORLD)
    assert minirt.address("box") == "192.0.2.77"
    (known,) = minirt.machine.ip("neigh", "show", "192.0.2.77", netns="world")
    assert known["lladdr"] == "02:42:00:00:00:07"
    minirt.ok("rm", "-f", "box")
    minirt.ok("network", "create", "-d", "macvlan", "-o", "parent=uplink", "--ipam-driver", "none", "wire")
    assert "inet 1" not in minirt.ok("run", "--rm", "--network", "wire", "host", "ip", "address", "show", "eth0")
    minirt.ok("network", "create", "-d", "macvlan", "-o", "parent=eth7", "--subnet", "10.9.0.0/24", "nowhere")
    assert "there is no link eth7 on this host" in minirt.fails(125, "run", "--rm", "--network", "nowhere", *SLEEP)


def test_what_a_network_will_need_and_is_not_there_is_said_at_once(minirt: Command) -> None:
    done = minirt(
        "network", "create", "-d", "vlan", "-o", "parent=eth7", "-o", "vlan=110", "--ipam-driver", "dhcp", "lan"
    )
    assert (done.returncode, done.stdout) == (0, "lan\n")
    assert "there is no link 'eth7' on this host yet" in done.stderr
    done = minirt("network", "create", "blue", env={"CNI_PATH": "/nowhere", "PATH": "/usr/sbin:/usr/bin"})
    assert done.returncode == 0
    for plugin in ("bridge", "portmap", "host-local"):
        assert f"'{plugin}'" in done.stderr
