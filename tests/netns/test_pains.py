"""What users of the reference plugins suffer from, each asked of both sides (U: the numbers of docs/conformance.md)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, IPV6, LEASES, Site

pytestmark = pytest.mark.leaves(*SHARED, "nft *", "file *")

ONE = {"type": "host-local", "ranges": [[{"subnet": IPV4, "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}]]}
PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


@pytest.fixture
def site(side: Plugins) -> Iterator[Site]:
    made = Site(side.machine, side)
    yield made
    for name in ("web", "db"):
        if Path(f"/run/netns/{name}").exists():
            side.machine.run("ip", "netns", "del", name)


def bridge(site: Site, *subnets: str, **keys: Any) -> dict[str, Any]:
    """In the version that both sides speak."""
    return site.conf(*subnets, version="1.0.0", **keys)


def ruleset(site: Site) -> str:
    return site.machine.text("nft", "list", "ruleset")


def published(result: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """A portmap behind a bridge whose ADD gave `result`."""
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "portmap", "prevResult": result}
    return conf | {"runtimeConfig": {"portMappings": PORTS}} | keys


@reference_fails("takes the file for a reservation, and the address is lost", "p#498")
def test_U2_an_empty_reservation_blocks_nothing(site: Site) -> None:
    site.box()
    (LEASES / "net").mkdir(parents=True)
    (LEASES / "net" / "10.1.0.2").touch()
    conf = bridge(site) | {"ipam": ONE}
    site.add(conf)
    site.delete(conf)


@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_U3_without_its_namespace_an_attachment_gives_its_address_back(site: Site, netns: str) -> None:
    conf = bridge(site, IPV4)
    site.box()
    site.add(conf)
    site.machine.run("ip", "netns", "del", "web")
    site.plugins.call("DEL", conf, netns, container="web").done()
    assert site.leases() == set()


@reference_fails("refuses the path, and keeps the link and the address", "p#685, c#1167")
def test_U3_a_namespace_whose_file_the_unmount_left_behind_is_gone(site: Site) -> None:
    conf = bridge(site, IPV4)
    path = site.box()
    site.add(conf)
    site.machine.run("umount", path)
    site.delete(conf)
    os.unlink(path)
    assert site.leases() == set()


@reference_fails("leaves its rules", "p#810")
def test_U4_without_its_namespace_an_attachment_leaves_no_masquerade(site: Site) -> None:
    conf = bridge(site, IPV4, ipMasq=True)
    site.box()
    site.add(conf)
    assert "10.1.0." in ruleset(site)
    site.machine.run("ip", "netns", "del", "web")
    site.plugins.call("DEL", conf, "", container="web").done()
    assert "10.1.0." not in ruleset(site)


def test_U7_without_ports_portmap_needs_no_program(site: Site) -> None:
    conf = bridge(site, IPV4)
    path = site.box()
    bare = published(site.add(conf), runtimeConfig={})
    for verb in ("ADD", "DEL"):
        assert site.plugins.call(verb, bare, path, PATH="/nowhere").exit == 0, verb
    site.delete(conf)


def test_U8_a_held_xtables_lock_keeps_nobody_waiting(site: Site) -> None:
    conf = bridge(site, IPV4, ipMasq=True)
    path = site.box()
    with open("/run/xtables.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = site.add(conf)
        ports = published(result)
        site.plugins.add(ports, path)
        site.plugins.delete(ports, path)
        site.delete(conf)


def test_U9_many_at_once_on_a_fresh_host_are_all_connected(site: Site) -> None:
    conf = bridge(site, IPV4, ipMasq=True)
    names = [f"box{number}" for number in range(6)]
    paths = {name: site.box(name) for name in names}
    calls = [site.plugins.start("ADD", conf, paths[name], container=name) for name in names]
    results = [site.plugins.finish(call).result for call in calls]
    assert len({result["ips"][0]["address"] for result in results}) == len(names)
    for name in names:
        site.delete(conf, name)
        site.machine.run("ip", "netns", "del", name)


def test_U10_the_same_attachment_may_be_deleted_by_many_at_once(machine: Machine, tmp_path: Path) -> None:
    """The reference mostly fails: not always, so it is not asked."""
    plugins = Plugins(machine, tmp_path / "bin")
    site = Site(machine, plugins)
    conf = bridge(site, IPV4, ipMasq=True)
    path = site.box()
    ports = published(site.add(conf))
    plugins.add(ports, path)
    for each in (ports, conf):
        calls = [plugins.start("DEL", each, path) for _ in range(6)]
        for call in calls:
            plugins.finish(call).done()
    assert site.leases() == set()
    machine.run("ip", "netns", "del", "web")


@reference_fails("has the newcomer's port go to the one before", "p#752")
def test_U12_a_host_port_is_given_once(site: Site) -> None:
    results = {}
    conf = bridge(site, IPV4)
    for name in ("web", "db"):
        site.box(name)
        results[name] = site.add(conf, name)
    site.plugins.add(published(results["web"]), "/run/netns/web", container="web")
    refused = site.plugins.call("ADD", published(results["db"]), "/run/netns/db", container="db")
    assert "8080" in refused.error["msg"]
    for name in ("web", "db"):
        site.plugins.call("DEL", published(results[name]), "", container=name).done()
        site.delete(conf, name)
    assert "8080" not in ruleset(site)


@reference_fails("finds everything in order", "p#512")
def test_U13_check_notices_that_the_masquerade_was_flushed(site: Site) -> None:
    conf = bridge(site, IPV4, ipMasq=True)
    site.box()
    result = site.add(conf)
    site.machine.run("nft", "flush", "ruleset")
    assert site.check(conf, result).exit == 1
    site.delete(conf)


def test_U14_an_ipv6_address_is_there_and_usable_at_once(site: Site) -> None:
    conf = bridge(site, IPV6)
    site.box()
    begun = time.monotonic()
    site.add(conf)
    assert time.monotonic() - begun < 1.0
    shown = site.machine.ip("-6", "addr", "show", "dev", "eth0", "scope", "global", netns="web")
    assert not any(address.get("tentative") for address in shown[0]["addr_info"])
    site.delete(conf)


@reference_fails("leaves them to chance, and so to udev", "systemd#3374")
def test_U16_every_link_has_an_address_that_was_set(site: Site) -> None:
    conf = bridge(site, IPV4)
    site.box()
    result = site.add(conf)
    outer = [item["name"] for item in result["interfaces"][:2]]
    for inside, link in (((), outer[0]), ((), outer[1]), (("ip", "netns", "exec", "web"), "eth0")):
        assert site.machine.text(*inside, "cat", f"/sys/class/net/{link}/addr_assign_type") == "3\n", link
    site.delete(conf)


@reference_fails("draws a new one each time", "p#250")
def test_U17_a_container_has_its_own_address_again_and_another_on_another_machine(site: Site, tmp_path: Path) -> None:
    def address() -> str:
        conf = bridge(site, IPV4)
        site.box()
        result = site.add(conf)
        site.delete(conf)
        site.machine.run("ip", "netns", "del", "web")
        return str(result["interfaces"][2]["mac"])

    first, again = address(), address()
    other = tmp_path / "machine-id"
    other.write_text("0123456789abcdef0123456789abcdef\n")
    site.machine.run("mount", "--bind", str(other), "/etc/machine-id")
    elsewhere = address()
    site.machine.run("umount", "/etc/machine-id")
    assert first == again != elsewhere


@reference_fails("leaves the pair, and the container cannot be added again", "p#29")
def test_U20_no_link_is_left_when_no_address_was(site: Site) -> None:
    conf = bridge(site) | {"ipam": ONE}
    for name in ("web", "db"):
        site.box(name)
    site.add(conf)
    refused = site.call("ADD", conf, "db").error
    assert "no IP addresses available" in refused["msg"]
    assert site.machine.links("db") == {"lo"}
    assert len(site.ports()) == 1
    site.delete(conf)


MACVLAN = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "macvlan",
    "master": "lan0",
    "ipam": {"type": "host-local", "subnet": IPV4},
}


@reference_fails("looks for the parent, and keeps the address", "p#953")
def test_U21_when_its_parent_has_gone_an_attachment_can_be_deleted(site: Site) -> None:
    path = site.box()
    site.machine.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    site.plugins.add(MACVLAN, path)
    site.machine.run("ip", "link", "del", "lan0")
    site.plugins.delete(MACVLAN | {"mtu": 99999}, path)
    assert site.leases() == set()


@reference_fails("refuses the ADD", "c#560, c#109")
def test_U23_arguments_that_nobody_knows_are_no_error(site: Site) -> None:
    conf = bridge(site, IPV4)
    site.box()
    site.add(conf, args="K8S_POD_NAME=web;IgnoreNothing=1")
    site.delete(conf, args="K8S_POD_NAME=web;IgnoreNothing=1")


@reference_fails("takes the host's lo down", "p#714")
def test_U24_the_hosts_own_namespace_is_not_touched(site: Site) -> None:
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "loopback"}
    answer = site.plugins.call("DEL", conf, "/proc/self/ns/net", ifname="lo")
    assert "UP" in site.link("lo")["flags"]
    assert answer.error["code"] == 8
