"""What a bridge's port may and may not do: send in another's name, speak to its neighbours, come up; with packets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, IPV6, Site
from support.topology import inside

from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.spoofing import AddGuard, RemoveGuard

pytestmark = pytest.mark.leaves(*leftovers.SHARED)

# Sends one frame of a protocol that nobody speaks, from a hardware address, to everybody.
SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
wire.send(b"\\xff" * 6 + bytes.fromhex(sys.argv[1].replace(":", "")) + b"\\x88\\xb5" + b"hello".ljust(50))
"""

NOBODYS = 0x88B5  # the number of that protocol: all else that passes by is not looked at
OTHER_MAC = "02:00:00:00:00:99"


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    place = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield place
    place.close()


@pytest.fixture
def both(machine: Machine, side: Plugins) -> Iterator[Site]:
    place = Site(machine, side)
    yield place
    place.close()


def passes(site: Site, mac: str, sender: str = "web", neighbour: str = "db") -> bool:
    """Whether a neighbour gets what a container sends from `mac`."""
    with inside(neighbour), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(NOBODYS)) as wire:
        wire.bind(("eth0", NOBODYS))
        wire.settimeout(0.2)  # a bridge has passed it on when send(2) returns
        site.machine.run("ip", "netns", "exec", sender, "/usr/bin/python3", "-ISc", SEND, mac)
        try:
            return bool(wire.recv(100))
        except TimeoutError:
            return False


def pair(site: Site, **keys: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Two containers of one network: its configuration and both results."""
    conf = site.conf(version="1.0.0", **keys)
    made = []
    for name in ("web", "db"):
        site.box(name)
        made.append(site.add(conf, name))
    return conf, made[0], made[1]


def end(site: Site, conf: dict[str, Any]) -> None:
    for name in ("web", "db"):
        site.delete(conf, name)


def own_mac(result: dict[str, Any]) -> str:
    mac: str = result["interfaces"][2]["mac"]
    return mac


# --- spoofed addresses ----------------------------------------------------------------------------------------------


@pytest.mark.leaves("nft table bridge nat", "nft chain bridge nat *")  # the reference's furniture
def test_frames_from_another_hardware_address_are_dropped(both: Site) -> None:
    conf, web, _db = pair(both, macspoofchk=True)
    assert passes(both, own_mac(web))
    assert not passes(both, OTHER_MAC)
    end(both, conf)
    assert both.machine.elements() == []


def test_without_the_check_they_pass(both: Site) -> None:
    conf, _web, _db = pair(both)
    assert passes(both, OTHER_MAC)
    end(both, conf)


@reference_fails("leaves its chains behind for good", "p#810")
def test_U4_del_without_a_namespace_forgets_the_check_of_a_port(both: Site) -> None:
    conf, _web, _db = pair(both, macspoofchk=True)
    for name in ("web", "db"):
        both.plugins.delete(conf, "", container=name)
    rules = [item["rule"] for item in both.machine.nft() if "rule" in item]
    assert both.machine.elements() == [] and len(rules) <= 1


def test_U25_the_check_is_one_rule_however_many_there_are_and_two_elements_each(site: Site) -> None:
    conf, _web, _db = pair(site, macspoofchk=True)
    rules = [item["rule"] for item in site.machine.nft() if "rule" in item]
    assert [(rule["family"], rule["table"]) for rule in rules] == [("bridge", "cni_spoofing")]
    assert len(site.machine.elements()) == 4
    end(site, conf)


def test_gc_forgets_the_checks_of_those_who_are_gone(site: Site) -> None:
    conf, web, _db = pair(site, macspoofchk=True)
    newer = conf | {"cniVersion": "1.1.0"}
    alive = [{"containerID": "web", "ifname": "eth0"}]
    site.plugins.call("GC", newer | {"cni.dev/valid-attachments": alive}).done()
    assert len(site.machine.elements()) == 2
    site.check(conf, web).done()
    site.plugins.call("GC", newer | {"cni.dev/valid-attachments": []}).done()
    assert site.machine.elements() == []


def test_check_of_a_network_sees_that_the_spoof_check_is_gone_and_the_next_add_brings_it_back(site: Site) -> None:
    conf, web, _db = pair(site, macspoofchk=True)
    site.check(conf, web).done()
    site.machine.run("nft", "flush", "ruleset")
    assert "is missing" in site.check(conf, web).error["msg"]
    assert passes(site, OTHER_MAC)
    site.box("third")
    site.add(conf, "third")
    site.check(conf, web).done()
    assert not passes(site, OTHER_MAC)
    site.delete(conf, "third")
    end(site, conf)


def test_an_add_that_fails_leaves_no_check_behind(site: Site) -> None:
    site.box()
    routes = [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]
    conf = site.conf(macspoofchk=True, ipam={"type": "host-local", "subnet": IPV4, "routes": routes})
    assert "route prepend" in site.call("ADD", conf).error["msg"]
    assert site.machine.elements() == []
    assert site.machine.links() == {"lo"}


# --- isolation, and an interface that stays down --------------------------------------------------------------------


@pytest.mark.parametrize("isolated", [False, True])
def test_isolated_containers_do_not_hear_each_other_but_the_host(site: Site, isolated: bool) -> None:
    conf = site.conf(IPV4, portIsolation=isolated)
    results = {}
    for name in ("web", "db"):
        site.box(name)
        results[name] = site.add(conf, name)
    address = results["db"]["ips"][0]["address"].partition("/")[0]
    heard = site.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W1", address, check=False).returncode == 0
    assert heard is not isolated
    site.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W1", "10.1.0.1")
    site.check(conf, results["web"]).done()
    end(site, conf)


def test_check_sees_a_port_that_is_isolated_no_more(site: Site) -> None:
    conf, web, _db = pair(site, portIsolation=True)
    site.check(conf, web).done()
    site.machine.run("ip", "link", "set", web["interfaces"][1]["name"], "type", "bridge_slave", "isolated", "off")
    assert "is not isolated from other ports" in site.check(conf, web).error["msg"]
    end(site, conf)


def test_an_interface_may_be_left_down_for_somebody_else_to_raise(site: Site) -> None:
    conf = site.conf(disableContainerInterface=True)
    site.box()
    result = site.add(conf)
    assert site.machine.ip("link", "show", "eth0", netns="web")[0]["operstate"] == "DOWN"
    site.check(conf, result).done()
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "up")
    site.check(conf, result).done()
    site.delete(conf)


# --- duplicate addresses --------------------------------------------------------------------------------------------

DAD: dict[str, Any] = {"enabledad": True, "ipam": {"type": "static", "addresses": [{"address": "fd00:1::5/64"}]}}


def test_a_duplicate_is_found_out_where_that_is_asked_for_and_nothing_is_left(site: Site) -> None:
    site.box("db")
    site.box()
    plain = site.conf(IPV4)
    site.add(plain, "db")
    site.machine.run("ip", "-n", "db", "addr", "add", "fd00:1::5/64", "dev", "eth0", "nodad")
    error = site.call("ADD", site.conf(**DAD)).error
    assert "fd00:1::5: a neighbour of eth0 has this address already" in error["msg"]
    assert site.machine.links("web") == {"lo"}
    site.delete(plain, "db")


def test_an_address_that_nobody_has_is_usable_when_add_returns(site: Site) -> None:
    site.box()
    conf = site.conf(**DAD)
    site.add(conf)
    (shown,) = site.machine.ip("-6", "addr", "show", "dev", "eth0", netns="web")
    (mine,) = (item for item in shown["addr_info"] if item["local"] == "fd00:1::5")
    assert "tentative" not in mine and "nodad" not in mine
    assert site.sysctl("net/ipv6/conf/eth0/accept_dad", "web") == "1"
    assert site.sysctl("net/ipv6/conf/eth0/enhanced_dad", "web") == "1"
    site.delete(conf)


def test_a_new_bridges_own_address_is_not_held_back(site: Site) -> None:
    site.box()
    conf = site.conf(IPV6)
    site.add(conf)
    (shown,) = site.machine.ip("-6", "addr", "show", "dev", "cni0")
    assert [item["local"] for item in shown["addr_info"] if item.get("tentative")] == []
    assert site.sysctl("net/ipv6/conf/cni0/accept_dad") == "0"
    site.delete(conf)


# --- the bridge that nobody uses ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [False, True])
def test_U19_an_unused_bridge_stays_unless_the_network_wants_it_cleaned_up(site: Site, clean: bool) -> None:
    conf = site.conf(IPV4, cleanupBridge=clean)
    for name in ("web", "db"):
        site.box(name)
        site.add(conf, name)
    site.delete(conf, "web")
    assert "cni0" in site.machine.links()
    site.delete(conf, "db")
    assert ("cni0" in site.machine.links()) is not clean


def test_a_bridge_of_somebody_elses_is_not_cleaned_up(site: Site) -> None:
    site.machine.run("ip", "link", "add", "cni0", "type", "bridge")
    conf = site.conf(IPV4, cleanupBridge=True)
    site.box()
    site.add(conf)
    site.delete(conf)
    assert site.machine.links() == {"lo", "cni0"}


def test_adds_that_fail_beside_those_that_work_take_no_bridge_from_them(site: Site) -> None:
    """The bridge is made by whoever comes first: when that is one that fails, it goes only if nobody else is there."""
    good = site.conf(IPV4, cleanupBridge=True)
    bad = site.conf(IPV4, name="other", ipam=good["ipam"] | {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]})
    names = [f"c{number}" for number in range(8)]
    for name in names:
        site.box(name)
    for _ in range(3):
        started = [
            site.plugins.start("ADD", bad if index % 2 else good, f"/run/netns/{name}", container=name)
            for index, name in enumerate(names)
        ]
        answers = [site.plugins.finish(process) for process in started]
        assert [answer.exit for answer in answers] == [0, 1] * 4, [answer.document for answer in answers]
        assert len(site.ports()) == 4
        for name in names[::2]:
            site.delete(good, name)
        assert site.machine.links() == {"lo"}


# --- what the kernel lacks ------------------------------------------------------------------------------------------


def test_vlans_on_a_kernel_whose_bridges_filter_none_are_told_before_and_leave_nothing(site: Site) -> None:
    words = ("link", "add", "judge", "type", "bridge", "vlan_filtering", "1")
    able = site.machine.run("ip", *words, check=False).returncode == 0
    site.machine.run("ip", "link", "del", "judge", check=False)
    site.box()
    conf = site.conf(vlan=100)
    answers = [site.plugins.call("STATUS", conf), site.call("ADD", conf)]
    site.delete(conf)
    assert [answer.exit == 0 for answer in answers] == [able, able]
    if not able:
        assert [answer.error["code"] for answer in answers] == [50, 999]
        assert {answer.error["msg"] for answer in answers} == {"this kernel's bridges do not filter VLANs"}
        assert site.machine.links() == {"lo"}


# --- commands -------------------------------------------------------------------------------------------------------


def test_what_the_spoof_check_describes_does_what_it_does(machine: Machine) -> None:
    """As a shell runs it: on a machine without the table, and back again."""
    with Nftables() as nftables:
        step = AddGuard(nftables, "net", "web", "eth0", "veth0a1b2c3d", "02:00:00:00:00:02")
        typed = step.describe()
        step.apply()
        made, taken = machine.nft(), RemoveGuard(nftables, "net", "web", "eth0")
        back = taken.describe()
        taken.apply()
        machine.run("nft", "flush", "ruleset")
        machine.run("sh", "-ec", typed)
        assert _plain(machine.nft()) == _plain(made)
        machine.run("sh", "-ec", back)
    assert machine.elements() == []


def _plain(ruleset: list[dict[str, Any]]) -> str:
    """Without the kernel's own numbers."""
    bodies = [
        {key: value for key, value in body.items() if key != "handle"} for item in ruleset for body in item.values()
    ]
    return json.dumps(bodies, sort_keys=True)
