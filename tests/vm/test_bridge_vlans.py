"""The bridge plugin's VLANs, with real packets: who is in the same one hears the other, who is not does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails

pytestmark = pytest.mark.leaves(*leftovers.SHARED)

NET = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": "cni0"}


class Lan:
    """Containers on one bridge, each called by the last number of its address."""

    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine, self.plugins = machine, plugins
        self._there: list[tuple[dict[str, Any], str]] = []

    def connect(self, number: int, **keys: Any) -> dict[str, Any]:
        """A container on layer 2, given its address by hand; the result of its ADD."""
        name = f"c{number}"
        path = self.machine.netns(name)
        conf = NET | keys
        result = self.plugins.add(conf, path, container=name)
        self._there.append((conf, name))
        self.machine.run("ip", "-n", name, "addr", "add", f"10.1.0.{number}/24", "dev", "eth0")
        return result

    def hears(self, caller: int, called: int) -> bool:
        """Whether a ping is answered; nobody who is alone on the wire waits for long."""
        words = ("ip", "netns", "exec", f"c{caller}", "ping", "-c1", "-W1", f"10.1.0.{called}")
        return self.machine.run(*words, check=False).returncode == 0

    def vlans(self, port: str) -> set[tuple[int, bool]]:
        """(VLAN, whether untagged) as bridge(8) shows them."""
        shown = json.loads(self.machine.text("bridge", "-j", "vlan", "show", "dev", port))
        return {
            (number, "Egress Untagged" in entry.get("flags", ()))
            for entry in shown[0]["vlans"]
            for number in range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1)
        }

    def close(self) -> None:
        for conf, name in self._there:
            self.plugins.delete(conf, f"/run/netns/{name}", container=name)
            self.machine.run("ip", "netns", "del", name)


@pytest.fixture
def lan(side: Plugins, machine: Machine) -> Iterator[Lan]:
    place = Lan(machine, side)
    yield place
    place.close()


@pytest.fixture
def ours(machine: Machine, tmp_path: Path) -> Iterator[Lan]:
    place = Lan(machine, Plugins(machine, tmp_path / "bin"))
    yield place
    place.close()


def test_containers_of_one_vlan_hear_each_other_and_no_other(lan: Lan) -> None:
    ports = [lan.connect(number, vlan=vlan)["interfaces"][1]["name"] for number, vlan in ((2, 100), (3, 100), (4, 101))]
    assert [(vlan, True) in lan.vlans(port) for port, vlan in zip(ports, (100, 100, 101), strict=True)] == [True] * 3
    assert lan.hears(2, 3)
    assert not lan.hears(2, 4)


@reference_fails("has no trunks in version 1.1.1, and leaves vlanTrunk out of account")
def test_a_trunk_carries_its_vlans_with_their_tags(lan: Lan) -> None:
    trunk = lan.connect(2, vlanTrunk=[{"id": 101}, {"minID": 200, "maxID": 202}])["interfaces"][1]["name"]
    assert lan.vlans(trunk) == {(1, True), (101, False), (200, False), (201, False), (202, False)}
    lan.connect(3, vlan=201)
    lan.connect(4, vlan=203)
    assert not lan.hears(2, 3), "without a tag it is in VLAN 1"
    for tag in (201, 203):
        lan.machine.run(
            "ip", "-n", "c2", "link", "add", "link", "eth0", "name", f"t{tag}", "type", "vlan", "id", str(tag)
        )
        lan.machine.run("ip", "-n", "c2", "link", "set", f"t{tag}", "up")
    lan.machine.run("ip", "-n", "c2", "addr", "flush", "dev", "eth0")
    lan.machine.run("ip", "-n", "c2", "addr", "add", "10.1.0.2/24", "dev", "t201")
    assert lan.hears(2, 3)
    lan.machine.run("ip", "-n", "c2", "addr", "flush", "dev", "t201")
    lan.machine.run("ip", "-n", "c2", "addr", "add", "10.1.0.2/24", "dev", "t203")
    assert not lan.hears(2, 4), "203 is not in the trunk"


def test_a_vlan_that_the_trunk_has_too_is_still_the_one_without_a_tag(ours: Lan) -> None:
    port = ours.connect(2, vlan=100, vlanTrunk=[{"minID": 99, "maxID": 101}])["interfaces"][1]["name"]
    assert ours.vlans(port) == {(99, False), (100, True), (101, False)}


@pytest.mark.parametrize("kept", [False, True])
def test_the_default_vlan_stays_where_that_is_asked_for(ours: Lan, kept: bool) -> None:
    port = ours.connect(2, vlan=100, preserveDefaultVlan=kept)["interfaces"][1]["name"]
    assert ours.vlans(port) == {(100, True)} | ({(1, True)} if kept else set())


def test_a_network_without_vlans_joins_a_bridge_that_filters_and_one_with_them_teaches_it(ours: Lan) -> None:
    for number in (2, 3):
        ours.connect(number)
    assert ours.hears(2, 3)
    ours.connect(4, vlan=100)
    ours.connect(5, vlan=100)
    (bridge,) = ours.machine.ip("link", "show", "cni0")
    assert bridge["linkinfo"]["info_data"]["vlan_filtering"] == 1
    assert ours.hears(2, 3) and ours.hears(4, 5)
    assert not ours.hears(2, 4)


@reference_fails("connects the container to a bridge that heeds no VLAN, and says nothing")
def test_a_bridge_of_somebody_elses_that_heeds_no_vlan_is_an_error_and_left_alone(
    side: Plugins, machine: Machine
) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    path = machine.netns("web")
    said = side.call("ADD", NET | {"vlan": 100}, path)
    side.call("DEL", NET | {"vlan": 100}, path)
    assert "cni0 does not filter VLANs" in said.error["msg"]
    assert machine.links() == {"lo", "cni0"}
    assert side.call("STATUS", NET | {"cniVersion": "1.1.0", "vlan": 100}).error["code"] == 50
    machine.run("ip", "link", "del", "cni0")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("bridge", "vlan", "add", "dev", "PORT", "vid", "101", "pvid", "untagged"), "is in VLAN 101"),
        (("bridge", "vlan", "del", "dev", "PORT", "vid", "100"), "is not in VLAN 100"),
        (("ip", "link", "set", "cni0", "type", "bridge", "vlan_filtering", "0"), "cni0 does not filter VLANs"),
    ],
)
def test_check_sees_that_vlans_have_changed(ours: Lan, command: tuple[str, ...], said: str) -> None:
    result = ours.connect(2, vlan=100)
    port = result["interfaces"][1]["name"]
    conf, path = NET | {"vlan": 100}, "/run/netns/c2"
    ours.plugins.check(conf, result, path, container="c2").done()
    ours.machine.run(*(port if word == "PORT" else word for word in command))
    assert said in ours.plugins.check(conf, result, path, container="c2").error["msg"]


def test_an_address_that_is_not_the_containers_own_is_dropped_here_too(ours: Lan) -> None:
    """nftables has no other family than bridge on this kernel."""
    ours.connect(2, vlan=100, macspoofchk=True)
    ours.connect(3, vlan=100)
    assert ours.hears(2, 3)
    for words in ("down", "address 02:00:00:00:00:99", "up"):
        ours.machine.run("ip", "-n", "c2", "link", "set", "eth0", *words.split())
    ours.machine.run("ip", "-n", "c3", "neigh", "flush", "dev", "eth0")
    assert not ours.hears(2, 3)


def test_this_kernel_is_ready_for_vlans(ours: Lan) -> None:
    ours.plugins.call("STATUS", NET | {"cniVersion": "1.1.0", "vlan": 100}).done()


# --- the gateway of a VLAN ------------------------------------------------------------------------------------------


def gateway(vlan: int = 100, **keys: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00:5::/64"}]]
    return NET | {"isGateway": True, "vlan": vlan, "ipam": {"type": "host-local", "ranges": ranges}} | keys


@reference_fails("leaves cni0.100 behind for good", "p#282")
def test_U19_the_gateway_of_a_vlan_comes_with_its_first_user_and_goes_with_its_last(
    side: Plugins, machine: Machine
) -> None:
    conf = gateway()
    results = {name: side.add(conf, machine.netns(name), container=name) for name in ("a", "b")}
    assert [item["name"] for item in results["b"]["interfaces"]][::3] == ["cni0", "cni0.100"]
    assert machine.addresses("cni0.100") == {"10.5.0.1/24", "fd00:5::1/64"}
    assert machine.addresses("cni0") == set()
    for name, far in (("a", "10.5.0.1"), ("a", "10.5.0.3"), ("b", "fd00:5::1")):
        machine.run("ip", "netns", "exec", name, "ping", "-c1", "-W2", far)
    for name in ("a", "b"):
        side.check(conf, results[name], f"/run/netns/{name}", container=name).done()
    side.delete(conf, "/run/netns/a", container="a")
    machine.run("ip", "netns", "exec", "b", "ping", "-c1", "-W2", "10.5.0.1")
    side.delete(conf, "/run/netns/b", container="b")
    assert machine.links() == {"lo", "cni0"}


def test_gc_takes_the_gateway_of_a_vlan_when_nobody_valid_uses_it(ours: Lan) -> None:
    conf, machine = gateway(), ours.machine
    for name in ("a", "b"):
        ours.plugins.add(conf, machine.netns(name), container=name)
    for valid, left in (["b"], {"cni0.100"}), ([], set[str]()):
        alive = [{"containerID": name, "ifname": "eth0"} for name in valid]
        ours.plugins.call("GC", conf | {"cniVersion": "1.1.0", "cni.dev/valid-attachments": alive}).done()
        assert machine.links() & {"cni0.100"} == left


def test_an_add_that_fails_takes_back_the_gateway_that_it_made_and_no_other(ours: Lan) -> None:
    machine, good = ours.machine, gateway()
    bad = gateway(ipam=good["ipam"] | {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]})
    machine.netns("a")
    ours.plugins.call("ADD", bad, "/run/netns/a", container="a").error  # noqa: B018
    assert machine.links() == {"lo"}
    ours.plugins.add(good, machine.netns("b"), container="b")
    ours.plugins.call("ADD", bad, "/run/netns/a", container="a").error  # noqa: B018
    assert machine.addresses("cni0.100") == {"10.5.0.1/24", "fd00:5::1/64"}
    ours.plugins.delete(good, "", container="b")
    assert machine.links() == {"lo", "cni0"}


def test_check_sees_that_the_gateway_of_a_vlan_is_gone(ours: Lan) -> None:
    conf, path = gateway(), ours.machine.netns("a")
    result = ours.plugins.add(conf, path, container="a")
    ours.machine.run("ip", "addr", "flush", "dev", "cni0.100", "scope", "global")
    assert "cni0.100 does not have the address" in ours.plugins.check(conf, result, path, container="a").error["msg"]
    ours.machine.run("ip", "link", "del", "cni0.100")
    assert "there is no link cni0.100" in ours.plugins.check(conf, result, path, container="a").error["msg"]
    ours.plugins.delete(conf, path, container="a")
    assert ours.machine.links() == {"lo", "cni0"}


def test_a_link_that_has_the_gateways_name_is_nobodys_but_its_owners(ours: Lan) -> None:
    ours.machine.run("ip", "link", "add", "cni0.100", "type", "dummy")
    said = ours.plugins.call("ADD", gateway(), ours.machine.netns("a"), container="a").error
    assert "cni0.100 exists and does not lead to cni0" in said["msg"]
    assert ours.machine.links() == {"lo", "cni0.100"}
    ours.machine.run("ip", "link", "del", "cni0.100")
