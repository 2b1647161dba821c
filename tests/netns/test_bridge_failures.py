"""An ADD of the bridge plugin that fails leaves nothing, and says what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS, SHARED, TABLES
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, Site

pytestmark = pytest.mark.leaves(*FOLDERS, *TABLES)  # no bridge: it goes with the ADD that made it


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


def nothing_is_left(site: Site) -> bool:
    return (site.ports(), site.leases(), site.machine.elements(), site.machine.links("web")) == (
        set(),
        set(),
        [],
        {"lo"},
    )


def ipam(**keys: Any) -> dict[str, Any]:
    return {"ipam": {"type": "host-local", "subnet": IPV4} | keys}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an IPAM plugin that is nowhere": ({"ipam": {"type": "nowhere"}}, "nowhere"),
    "no address left": (ipam(rangeStart="10.1.0.1", rangeEnd="10.1.0.1"), "no IP addresses available"),
    "a gateway that cannot be reached": (
        ipam(routes=[{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]),
        "route prepend 10.9.0.0/16 via 192.0.2.1 dev eth0: ",
    ),
    "the same route twice": (
        ipam(routes=[{"dst": "10.9.0.0/16"}, {"dst": "10.9.0.0/16"}]),
        "route prepend 10.9.0.0/16 via 10.1.0.1 dev eth0: File exists",
    ),
    "an MTU that no link has": ({"mtu": 12}, "link add cni0 address "),
    "a bridge's name that is taken": ({"bridge": "lo"}, "lo exists and is not a bridge"),
}


@pytest.mark.parametrize(("keys", "said"), FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("masquerade", [False, True])
def test_nothing_is_left_after(site: Site, keys: dict[str, Any], said: str, masquerade: bool) -> None:
    site.box()
    conf = site.conf(IPV4, ipMasq=masquerade) | keys
    error = site.call("ADD", conf).error
    assert said in error["msg"]
    assert "details" not in error or "not undone" not in error["details"]
    assert nothing_is_left(site)
    assert site.machine.links() == {"lo"}


@pytest.mark.leaves(*SHARED)
def test_a_failure_after_everything_else_was_done_takes_everything_back(site: Site) -> None:
    """The masquerade comes last, and refuses a subnet that overlaps another network's."""
    for name in ("web", "far"):
        site.box(name)
    other = site.conf("10.1.0.0/16", name="other", bridge="cni1", ipMasq=True)
    site.add(other, "far")
    elements, ports = site.machine.elements(), site.ports()
    error = site.call("ADD", site.conf(IPV4, ipMasq=True, isDefaultGateway=True)).error
    assert "overlaps 10.1.0.0/16" in error["msg"]
    assert (site.ports(), site.leases(), site.machine.elements()) == (ports, set(), elements)
    assert site.machine.links("web") == {"lo"}
    assert "cni0" not in site.machine.links()
    site.delete(other, "far")


@pytest.mark.leaves(*TABLES, *FOLDERS)
def test_records_that_find_no_room_at_any_point_leave_nothing(site: Site) -> None:
    """A full /run: the file system takes one more file or folder each time, until there are enough."""
    site.box()
    conf = site.conf(IPV4, "fd00:1::/64", ipMasq=True, macspoofchk=True)
    room, records = 1, Path("/run/cni")
    records.mkdir()
    while True:
        room += 1
        site.machine.run("mount", "-t", "tmpfs", "-o", f"nr_inodes={room}", "tmpfs", str(records))
        answer = site.call("ADD", conf)
        if answer.exit == 0:
            site.delete(conf)
        left = [str(path) for path in records.rglob("*") if path.is_file()]
        site.machine.run("umount", str(records))
        assert left == []
        assert nothing_is_left(site)
        if answer.exit == 0:
            break
        assert "No space left on device" in answer.error["msg"]
    assert room > 10
    site.machine.run("ip", "link", "del", "cni0")


def test_a_bridge_that_was_there_before_stays(site: Site) -> None:
    site.machine.run("ip", "link", "add", "cni0", "type", "bridge")
    site.box()
    for keys, _said in (FAULTS["no address left"], FAULTS["the same route twice"]):
        assert site.call("ADD", site.conf(IPV4) | keys).exit == 1
        assert nothing_is_left(site)
        assert site.machine.links() == {"lo", "cni0"}
        assert site.machine.addresses("cni0") == set()
    site.machine.run("ip", "link", "del", "cni0")


@pytest.mark.leaves(*SHARED)
def test_a_bridge_that_others_use_stays_with_its_address(site: Site) -> None:
    for name in ("web", "db"):
        site.box(name)
    site.add(site.conf(IPV4, ipMasq=True), "db")
    elements, ports = site.machine.elements(), site.ports()
    for keys, _said in (FAULTS["no address left"], FAULTS["the same route twice"]):
        assert site.call("ADD", site.conf(IPV4, ipMasq=True) | keys).exit == 1
        assert site.machine.addresses("cni0") == {"10.1.0.1/24"}
        assert (site.ports(), site.machine.elements(), site.leases()) == (ports, elements, {"10.1.0.2"})
        assert site.machine.links("web") == {"lo"}
    site.delete(site.conf(IPV4), "db")


@pytest.mark.leaves(*SHARED)
def test_P6_B4_add_twice_is_an_error_that_changes_nothing(site: Site) -> None:
    for name in ("web", "other"):
        site.box(name)
    conf = site.conf(IPV4, ipMasq=True)
    result = site.add(conf)

    def state() -> list[object]:
        here = [site.machine.links(), site.machine.addresses("cni0"), site.leases(), site.machine.elements()]
        return [*here, site.machine.addresses("eth0", "web"), site.routes(), site.machine.links("other")]

    before = state()
    error = site.call("ADD", conf).error
    assert error["msg"] == "/run/netns/web already has an interface eth0"
    assert state() == before
    # The same attachment again, but in another namespace: the identity is what counts.
    error = site.plugins.call("ADD", conf, "/run/netns/other", container="web").error
    assert "'cni net web eth0'" in error["details"]
    assert state() == before
    site.check(conf, result).done()
    site.delete(conf)


def test_a_link_of_the_ports_name_is_not_taken_over(site: Site) -> None:
    site.box()
    port = site.add(site.conf())["interfaces"][1]["name"]
    site.delete(site.conf())
    site.machine.run("ip", "link", "del", "cni0")
    site.machine.run("ip", "link", "add", port, "type", "bridge")
    error = site.call("ADD", site.conf(IPV4)).error
    assert error["msg"] == f"the host already has a link {port}, which this attachment needs"
    assert site.machine.links() == {"lo", port}
    assert site.leases() == set()
    site.machine.run("ip", "link", "del", port)


@pytest.mark.parametrize("path", ["/run/netns/gone", "/run", "/proc/self/ns/mnt"])
def test_a_namespace_that_is_none_fails_before_anything_is_done(site: Site, path: str) -> None:
    error = site.plugins.call("ADD", site.conf(IPV4), path, container="web").error
    assert error["code"] == 8
    assert error["msg"].startswith(f"CNI_NETNS '{path}': ")
    assert site.machine.links() == {"lo"}
    assert site.leases() == set()


def test_S6_the_hosts_own_namespace_is_refused_before_anything_is_done(site: Site) -> None:
    before = site.machine.links()
    for command in ("ADD", "DEL"):
        assert site.plugins.call(command, site.conf(IPV4), "/proc/self/ns/net", container="web").error["code"] == 8
    assert site.machine.links() == before
    assert site.leases() == set()
