"""Plugins that give a container one link of its own: what any of them must do, whatever kind its links are of.

`Wired` is a machine whose link eth0 leads to a neighbour, the namespace "lan"; `Basics` and `Laws` are the tests, for a
class of a test file to inherit, which names the kinds that its kernel has in a fixture `kind`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, Site

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
RECORDS = Path("/run/cni")

# Type, the keys that it needs, and what `ip -d` calls its links.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "macvlan": ({"master": "eth0"}, "macvlan"),
    "ipvlan": ({"master": "eth0"}, "ipvlan"),
    "vlan": ({"master": "eth0", "vlanId": 5}, "vlan"),
    "dummy": ({}, "dummy"),
    "tap": ({}, "tun"),
}
ON_A_PARENT = ("macvlan", "ipvlan", "vlan")

# An IPAM plugin that kills whoever asked it, as soon as the link is there.
KILLER = """#!/bin/sh
until ip -n web link show eth0 >/dev/null 2>&1; do :; done
kill -9 $PPID
"""


class Wired(Site):
    """A machine with a parent, eth0, and the neighbour that it leads to. Containers are given an eth0 as well."""

    def wire(self) -> None:
        self.machine.netns("lan")
        self.machine.run("ip", "link", "add", "eth0", "up", "type", "veth", "peer", "name", "eth0", "netns", "lan")
        self.machine.run("ip", "-n", "lan", "link", "set", "eth0", "up")

    def neighbour(self, link: str = "eth0") -> None:
        """Give the neighbour its addresses, on its end of the wire or on a link of that."""
        for address in ("10.1.0.1/24", "fd00:1::1/64"):
            self.machine.run("ip", "-n", "lan", "addr", "add", address, "dev", link, *["nodad"] * (":" in address))

    def conf_of(self, kind: str, *subnets: str, version: str = "1.1.0", **keys: Any) -> dict[str, Any]:
        conf: dict[str, Any] = {"cniVersion": version, "name": "net", "type": kind} | KINDS[kind][0]
        if subnets:
            conf["ipam"] = {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets]}
        return conf | keys

    def records(self) -> list[Path]:
        return [path for path in RECORDS.rglob("*") if path.is_file()]

    def state(self, *names: str) -> list[object]:
        """What an attachment changes: links and addresses in those containers, leases, records."""
        inside = [(self.machine.links(name), self._addresses(name)) for name in names]
        return [inside, self.leases(), sorted(map(str, self.records()))]

    def _addresses(self, name: str) -> set[str]:
        return self.machine.addresses("eth0", name) if "eth0" in self.machine.links(name) else set()

    def pings(self, name: str, address: str) -> bool:
        argv = ("ip", "netns", "exec", name, "ping", "-c", "1", "-W", "2", "-i", "0.2", address)
        return self.machine.run(*argv, check=False).returncode == 0

    def close(self) -> None:
        super().close()
        self.machine.run("ip", "link", "del", "eth0", check=False)


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Wired]:
    made = Wired(machine, Plugins(machine, tmp_path / "bin"))
    made.wire()
    yield made
    made.close()


def faults(kind: str) -> dict[str, tuple[dict[str, Any], str]]:
    """What makes an ADD fail, and what it then says."""
    ipam = {"type": "host-local", "subnet": IPV4}
    found: dict[str, tuple[dict[str, Any], str]] = {
        "an IPAM plugin that is nowhere": ({"ipam": {"type": "nowhere"}}, "nowhere"),
        "no address left": ({"ipam": ipam | {"rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.1"}}, "no IP addresses"),
        "a gateway out of reach": (
            {"ipam": ipam | {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]}},
            "route prepend 10.9.0.0/16 via 192.0.2.1 dev eth0: ",
        ),
    }
    if kind in ON_A_PARENT:
        found["no such parent"] = ({"master": "eth7"}, "master: there is no link eth7 on this host")
        found["an MTU beyond the parent's"] = ({"mtu": 1501}, "mtu: expected an integer from 0 to 1500, got 1501")
    return found


class Basics:
    """What is asked of every kind on the kernel that has it."""

    versions: tuple[str, ...] = VERSIONS

    def test_P5_P7_an_attachment_is_what_the_result_says(self, site: Wired, kind: str) -> None:
        site.box()
        for version in self.versions:
            self._lives(site, kind, version)

    def _lives(self, site: Wired, kind: str, version: str) -> None:
        conf = site.conf_of(kind, IPV4, IPV6, version=version)
        conf["ipam"]["routes"] = [{"dst": "10.9.0.0/16"}, {"dst": "::/0", "gw": "fd00:1::1"}]
        result = site.add(conf)
        assert result["cniVersion"] == version
        (end,) = result["interfaces"]
        link = site.link("eth0", "web")
        assert (end["name"], end["sandbox"], end["mac"]) == ("eth0", "/run/netns/web", link["address"])
        assert end.get("mtu", 0 if version == "1.1.0" else link["mtu"]) == link["mtu"]
        assert link["linkinfo"]["info_kind"] == KINDS[kind][1]
        assert "UP" in link["flags"]
        assert {ip["address"] for ip in result["ips"]} == site.machine.addresses("eth0", "web")
        assert [ip["gateway"] for ip in result["ips"]] == ["10.1.0.1", "fd00:1::1"]
        assert {ip["interface"] for ip in result["ips"]} == {0}
        assert ("10.9.0.0/16", "10.1.0.1") in site.routes()
        assert ("default", "fd00:1::1") in site.routes(family=6)
        if version != "0.3.1":
            site.check(conf, result).done()
        site.delete(conf)
        assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_P9_P10_P11_U21_delete_needs_nothing_that_add_had(self, site: Wired, kind: str) -> None:
        """No namespace, no valid keys, no parent, no attachment; and it works twice."""
        site.box()
        conf = site.conf_of(kind, IPV4)
        broken = conf | {"mtu": "wide", "mode": "?", "vlanId": -1, "master": "eth7"}
        site.delete(broken)
        site.add(conf)
        for _ in range(2):
            site.plugins.delete(broken, container="web")  # the namespace is there, but nobody says where
            assert site.state("web") == [[({"lo"}, set())], set(), []]
        site.add(conf)
        site.machine.run("ip", "link", "del", "eth0")
        site.delete(broken)
        assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_P14_check_finds_what_was_taken_away_or_changed(self, site: Wired, kind: str) -> None:
        """One damage after the other, each of which is looked at before those that were done already."""
        site.box()
        conf = site.conf_of(kind, IPV4)
        conf["ipam"]["routes"] = [{"dst": "10.9.0.0/16"}]
        damages = {
            ("route", "del", "10.9.0.0/16"): "no route to 10.9.0.0/16 via 10.1.0.1",
            ("addr", "del", "10.1.0.2/24", "dev", "eth0"): "does not have the address 10.1.0.2/24",
            ("link", "set", "eth0", "mtu", "1300"): "has the MTU 1300, not 1500",
            ("link", "set", "eth0", "down"): "eth0 in /run/netns/web is down",
            ("link", "del", "eth0"): "there is no link eth0 in /run/netns/web",
        }
        result = site.add(conf)
        site.check(conf, result).done()
        for words, said in damages.items():
            site.machine.run("ip", "-n", "web", *words)
            error = site.check(conf, result).error
            assert said in error["msg"], error
        site.delete(conf)
        assert site.leases() == set()


class Laws(Basics):
    """What is the same piece of code for all of them."""

    def test_the_oldest_versions_know_addresses_only(self, site: Wired, kind: str) -> None:
        site.box()
        conf = site.conf_of(kind, IPV4, version="0.2.0")
        assert site.add(conf) == {
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"},
            "dns": {},
        }
        site.delete(conf)

    def test_P6_add_twice_is_an_error_that_changes_nothing(self, site: Wired, kind: str) -> None:
        conf = site.conf_of(kind, IPV4)
        for name in ("web", "other"):
            site.box(name)
        site.add(conf)
        before = site.state("web", "other")
        assert site.call("ADD", conf).error["msg"] == "/run/netns/web already has an interface eth0"
        assert site.state("web", "other") == before
        # The same attachment again, but in another namespace: the identity is what counts.
        error = site.plugins.call("ADD", conf, "/run/netns/other", container="web").error
        assert error["msg"] == "container web eth0 of network net is in /run/netns/web already"
        assert site.state("web", "other") == before
        site.delete(conf)

    def test_U20_an_add_that_fails_leaves_nothing(self, site: Wired, kind: str) -> None:
        site.box()
        before = site.machine.links()
        for keys, said in faults(kind).values():
            error = site.call("ADD", site.conf_of(kind, IPV4) | keys).error
            assert said in error["msg"], error
            assert "not undone" not in error.get("details", "")
            assert site.state("web") == [[({"lo"}, set())], set(), []]
        assert site.machine.links() == before

    def test_what_a_kill_in_the_middle_of_add_leaves_is_taken_down(self, site: Wired, kind: str) -> None:
        killer = Path(site.plugins.folder, "killer")
        killer.write_text(KILLER)
        killer.chmod(0o755)
        site.box()
        conf = site.conf_of(kind, ipam={"type": "killer"})
        assert site.call("ADD", conf).exit == -9
        assert "eth0" in site.machine.links("web")
        site.plugins.delete(site.conf_of(kind, IPV4), container="web")  # without CNI_NETNS, at that
        assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_P9_U3_delete_works_when_the_namespace_is_gone(self, site: Wired, kind: str) -> None:
        site.box("gone")
        conf = site.conf_of(kind, IPV4)
        site.add(conf, "gone")
        site.machine.run("ip", "netns", "del", "gone")
        for _ in range(2):
            site.delete(conf, "gone")
            assert site.state() == [[], set(), []]

    def test_delete_leaves_what_is_not_its_own(self, site: Wired, kind: str) -> None:
        """Another network's link of the same kind and name; and one that somebody else made by hand."""
        site.box()
        conf = site.conf_of(kind, IPV4)
        site.add(conf)
        before = site.machine.links("web")
        site.delete(conf | {"name": "other"})
        assert site.machine.links("web") == before
        site.delete(conf)
        site.machine.run("ip", "-n", "web", "link", "add", "eth0", "type", "veth", "peer", "name", "x0")
        site.delete(conf)
        assert site.machine.links("web") == {"lo", "eth0", "x0"}
        site.machine.run("ip", "-n", "web", "link", "del", "eth0")

    def test_a_record_that_is_lost_or_broken_keeps_nobody_from_deleting(self, site: Wired, kind: str) -> None:
        site.box()
        conf = site.conf_of(kind, IPV4)
        for text in (None, "", "[]", '{"netns": 7}'):
            site.add(conf)
            (record,) = [path for path in site.records() if kind in path.parts]
            record.unlink()
            if text is not None:
                record.write_text(text)
            site.delete(conf)
            assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_P18_gc_removes_what_is_of_no_valid_attachment(self, site: Wired, kind: str) -> None:
        valid = {"containerID": "db", "ifname": "eth0"}
        conf = {name: site.conf_of(kind, IPV4) for name in ("web", "db")}
        if kind == "vlan":  # of which a parent has each once
            conf["web"]["vlanId"] = 6
        for name in conf:
            site.box(name)
            site.add(conf[name], name)
        site.plugins.call("GC", conf["web"] | {"cni.dev/valid-attachments": [valid]}).done()
        assert site.machine.links("web") == {"lo"}
        assert site.machine.links("db") == {"lo", "eth0"}
        assert (site.leases(), len([path for path in site.records() if kind in path.parts])) == ({"10.1.0.3"}, 1)
        site.plugins.call("GC", conf["web"] | {"cni.dev/valid-attachments": []}).done()
        assert site.state("web", "db") == [[({"lo"}, set())] * 2, set(), []]

    def test_gc_leaves_who_has_come_to_have_the_namespace_of_one_that_is_gone(self, site: Wired, kind: str) -> None:
        conf = site.conf_of(kind, IPV4)
        site.box()
        site.add(conf)
        site.machine.run("ip", "netns", "del", "web")
        site.box()
        site.plugins.add(conf, "/run/netns/web", container="new")
        valid = [{"containerID": "new", "ifname": "eth0"}]
        site.plugins.call("GC", conf | {"cni.dev/valid-attachments": valid}).done()
        assert site.machine.links("web") == {"lo", "eth0"}
        assert (site.leases(), len([path for path in site.records() if kind in path.parts])) == ({"10.1.0.3"}, 1)
        # Nor does a late DEL of the one that is gone hit it, though it names the same path.
        site.delete(conf)
        assert site.machine.links("web") == {"lo", "eth0"}
        site.plugins.delete(conf, "/run/netns/web", container="new")
        assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_many_are_added_and_deleted_at_once(self, site: Wired, kind: str) -> None:
        conf = site.conf_of(kind, IPV4)
        boxes = {f"box{number}": site.box(f"box{number}") for number in range(6)}
        calls = [site.plugins.start("ADD", conf, path, container=name) for name, path in boxes.items()]
        given = [site.plugins.finish(call).result["ips"][0]["address"] for call in calls]
        assert len(set(given)) == len(boxes)
        calls = [site.plugins.start("DEL", conf, path, container=name) for name, path in boxes.items()]
        for call in calls:
            site.plugins.finish(call).done()
        assert site.state(*boxes) == [[({"lo"}, set())] * len(boxes), set(), []]

    def test_P13_U22_check_tolerates_what_later_plugins_have_recorded(self, site: Wired, kind: str) -> None:
        site.box()
        conf = site.conf_of(kind, IPV4)
        result = site.add(conf)
        site.machine.run("ip", "-n", "web", "link", "set", "eth0", "mtu", "1300")
        result["interfaces"][0]["mtu"] = 1300
        if kind != "ipvlan":  # whose hardware address nobody can change
            site.machine.run("ip", "-n", "web", "link", "set", "eth0", "address", "02:00:00:00:00:09")
            assert "hardware address" in site.check(conf, result).error["msg"]
            result["interfaces"][0]["mac"] = "02:00:00:00:00:09"
        result["interfaces"].append({"name": "ifb0", "mac": "02:00:00:00:00:0a"})
        site.check(conf, result).done()
        site.delete(conf)

    def test_P16_P17_status_says_what_add_would_miss(self, site: Wired, kind: str) -> None:
        site.box()
        conf = site.conf_of(kind, IPV4)
        site.plugins.call("STATUS", conf).done()
        assert site.plugins.call("STATUS", conf | {"ipam": {"type": "nowhere"}}).exit == 1
        conf["ipam"] = {"type": "host-local", "subnet": IPV4, "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}
        site.add(conf)
        assert site.plugins.call("STATUS", conf).error["code"] == 50
        if kind in ON_A_PARENT:
            error = site.plugins.call("STATUS", conf | {"master": "eth7"}).error
            assert (error["code"], error["msg"]) == (50, "master: there is no link eth7 on this host")
            assert site.plugins.call("STATUS", conf | {"mtu": 1501}).error["code"] == 7
        site.delete(conf)

    def test_two_interfaces_of_one_container_on_one_network(self, site: Wired, kind: str) -> None:
        site.box()
        first, second = site.conf_of(kind, IPV4), site.conf_of(kind, IPV4)
        if kind == "vlan":
            second["vlanId"] = 6
        one, two = site.add(first), site.add(second, ifname="eth1")
        if kind not in ("ipvlan", "vlan"):  # which have their parent's
            assert one["interfaces"][0]["mac"] != two["interfaces"][0]["mac"]
        site.delete(second, ifname="eth1")
        assert site.machine.links("web") == {"lo", "eth0"}
        site.check(first, one).done()
        site.delete(first)
        assert site.state("web") == [[({"lo"}, set())], set(), []]

    def test_U17_the_hardware_address_is_the_same_when_a_container_comes_back(self, site: Wired, kind: str) -> None:
        site.box()
        conf = site.conf_of(kind, IPV4)
        first = site.add(conf)
        site.delete(conf)
        again = site.add(conf)
        assert again["interfaces"] == first["interfaces"]
        site.delete(conf)

    def test_dns_is_ipams_unless_there_is_an_own_one(self, site: Wired, kind: str) -> None:
        site.box()
        resolv = Path("/run/resolv.conf")
        resolv.write_text("nameserver 192.0.2.53\n")
        conf = site.conf_of(kind, IPV4)
        conf["ipam"]["resolvConf"] = str(resolv)
        assert site.add(conf)["dns"] == {"nameservers": ["192.0.2.53"]}
        site.delete(conf)
        assert site.add(conf | {"dns": {"domain": "lan.test"}})["dns"] == {"domain": "lan.test"}
        site.delete(conf)
        os.unlink(resolv)
