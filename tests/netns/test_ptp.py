"""The ptp plugin as a program: what ADD makes and DEL takes away, and packets over what it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, LEASES, Site

pytestmark = pytest.mark.leaves(*FOLDERS, *TABLES)

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
ANYWHERE = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
OUTSIDE = (("192.0.2.1", "192.0.2.2", 24), ("fd00:ffff::1", "fd00:ffff::2", 64))


def conf(*subnets: str, version: str = "1.1.0", routes: list[dict[str, Any]] | None = None, **keys: Any) -> Any:
    """A pair with the host as its router, and a host-local range a subnet."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets], "routes": routes or []}
    return {"cniVersion": version, "name": "net", "type": "ptp", "ipam": ipam} | keys


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


@pytest.fixture
def outside(site: Site) -> Iterator[str]:
    """A host that knows nothing of the containers' addresses, on a wire to ours."""
    name = "outside"
    site.box(name)
    site.machine.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", name)
    site.machine.run("ip", "link", "set", "wire", "up")
    site.machine.run("ip", "-n", name, "link", "set", "wire", "up")
    for ours, theirs, length in OUTSIDE:
        nodad = ("nodad",) if ":" in ours else ()
        site.machine.run("ip", "addr", "add", f"{ours}/{length}", "dev", "wire", *nodad)
        site.machine.run("ip", "-n", name, "addr", "add", f"{theirs}/{length}", "dev", "wire", *nodad)
    yield name
    site.machine.run("ip", "link", "del", "wire")


def nothing_is_left(site: Site) -> bool:
    inside = site.machine.links("web")
    return (site.machine.links(), site.leases(), site.machine.elements(), inside) == ({"lo"}, set(), [], {"lo"})


# --- ADD and DEL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_P5_P7_an_attachment_is_what_the_result_says(site: Site, version: str) -> None:
    site.box()
    made = conf(IPV4, IPV6, version=version, routes=[{"dst": "10.99.0.0/16"}, {"dst": "::/0"}], mtu=1400)
    result = site.add(made)
    port, end = result["interfaces"]
    assert (end["name"], end["sandbox"], "sandbox" in port) == ("eth0", "/run/netns/web", False)
    assert site.machine.links() == {"lo", port["name"]}
    assert site.link(port["name"])["address"] == port["mac"] != end["mac"] == site.link("eth0", "web")["address"]
    assert [site.link(port["name"])["mtu"], site.link("eth0", "web")["mtu"]] == [1400, 1400]
    if version == "1.1.0":
        assert [item["mtu"] for item in result["interfaces"]] == [1400, 1400]
    assert {(ip["address"], ip["gateway"], ip["interface"]) for ip in result["ips"]} == {
        ("10.1.0.2/24", "10.1.0.1", 1),
        ("fd00:1::2/64", "fd00:1::1", 1),
    }
    assert site.machine.addresses("eth0", "web") == {"10.1.0.2/24", "fd00:1::2/64"}
    assert site.machine.addresses(port["name"]) == {"10.1.0.1/32", "fd00:1::1/128"}
    site.delete(made)
    assert nothing_is_left(site)


def test_the_container_takes_nobody_for_a_neighbour_but_the_host(site: Site) -> None:
    site.box()
    made = conf(IPV4, IPV6, routes=ANYWHERE)
    port = site.add(made)["interfaces"][0]["name"]
    assert site.routes() == {("10.1.0.1", ""), ("10.1.0.0/24", "10.1.0.1"), ("default", "10.1.0.1")}
    assert site.routes(family=6) >= {("fd00:1::1", ""), ("fd00:1::/64", "fd00:1::1"), ("default", "fd00:1::1")}
    assert ("fd00:1::/64", "") not in site.routes(family=6)
    sources = {way["dst"]: way.get("prefsrc") for way in site.machine.ip("route", "show", netns="web")}
    assert sources == {"10.1.0.1": "10.1.0.2", "10.1.0.0/24": "10.1.0.2", "default": None}
    for family, address in (("-4", "10.1.0.2"), ("-6", "fd00:1::2")):
        (way,) = site.machine.ip(family, "route", "show", address)
        assert way["dev"] == port
    site.delete(made)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_versions_know_addresses_only(site: Site, version: str) -> None:
    site.box()
    made = conf(IPV4, version=version)
    assert site.add(made) == {
        "cniVersion": version,
        "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"},
        "dns": {},
    }
    site.delete(made)


@pytest.mark.parametrize(
    ("own", "given"), [({}, {"domain": "ipam.example"}), ({"search": []}, {}), ({"domain": "own.example"},) * 2]
)
def test_dns_is_ipams_unless_any_field_of_it_is_configured(site: Site, own: Any, given: Any) -> None:
    site.box()
    ipam = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "dns": {"domain": "ipam.example"}}
    made = conf(ipam=ipam, **({"dns": own} if own else {}))
    assert site.add(made).get("dns", {}) == given
    site.delete(made)


def test_an_address_without_a_gateway_gets_the_first_of_its_subnet(site: Site) -> None:
    site.box()
    made = conf(ipam={"type": "static", "addresses": [{"address": "10.1.0.2/24"}]})
    assert site.add(made)["ips"] == [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 1}]
    assert site.reaches("web", "10.1.0.1") == "refused"
    site.delete(made)


def test_an_address_of_32_bits_is_reached_by_its_gateway(site: Site) -> None:
    site.box()
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.1.0.2/32", "gateway": "169.254.1.1"}],
        "routes": ANYWHERE[:1],
    }
    made = conf(ipam=ipam)
    site.add(made)
    assert site.routes() == {("169.254.1.1", ""), ("default", "169.254.1.1")}
    assert site.reaches("", "10.1.0.2") == "refused"
    site.delete(made)


# --- packets --------------------------------------------------------------------------------------------------------


def test_containers_and_host_reach_each_other_as_soon_as_add_returns(site: Site) -> None:
    made = conf(IPV4, IPV6)
    for name in ("web", "db"):
        site.box(name)
    site.add(made)
    site.serve("web", "10.1.0.2")
    site.serve("web", "fd00:1::2")
    site.add(made, "db")
    assert site.reaches("db", "fd00:1::2", 8080) == "fd00:1::3"
    assert site.reaches("db", "10.1.0.2", 8080) == "10.1.0.3"
    for place, address in (("db", "10.1.0.1"), ("web", "fd00:1::1"), ("", "10.1.0.3"), ("", "fd00:1::3")):
        assert site.reaches(place, address) == "refused"
    site.delete(made)  # the other one's gateway has the same address, and stays
    assert site.reaches("db", "10.1.0.1") == "refused"
    assert site.reaches("", "fd00:1::3") == "refused"
    site.delete(made, "db")


def test_what_leaves_has_the_hosts_address_and_nothing_else_has(site: Site, outside: str) -> None:
    made = conf(IPV4, IPV6, routes=ANYWHERE, ipMasq=True)
    for name in ("web", "db"):
        site.box(name)
        site.add(made, name)
    for ours, theirs, _length in OUTSIDE:
        site.serve(outside, theirs)
        assert site.reaches("web", theirs, 8080) == ours
    site.serve("web", "10.1.0.2")
    assert site.reaches("db", "10.1.0.2", 8080) == "10.1.0.3"
    for name in ("web", "db"):
        site.delete(made, name)
    assert site.machine.elements() == []


def test_B8_two_interfaces_of_one_container_on_one_network(site: Site) -> None:
    site.box()
    made = conf(IPV4, ipMasq=True)
    for ifname in ("eth0", "eth1"):
        site.add(made, ifname=ifname)
    elements = site.machine.elements()
    site.delete(made)
    assert site.machine.links("web") == {"lo", "eth1"}
    assert (site.leases(), site.machine.elements()) == ({"10.1.0.3"}, elements)
    assert site.reaches("", "10.1.0.3") == "refused"
    site.delete(made, ifname="eth1")
    assert nothing_is_left(site)


# --- what goes wrong ------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no address left": (
        {"ipam": {"type": "host-local", "subnet": IPV4, "rangeEnd": "10.1.0.1"}},
        "no IP addresses available",
    ),
    "a route by way of nowhere": (
        conf(IPV4, routes=[{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]),
        "route prepend 10.9.0.0/16 via 192.0.2.1 dev eth0: ",
    ),
    "an MTU that no link has": ({"mtu": 12}, "link add veth"),
    "a backend that we do not have": ({"ipMasqBackend": "iptables"}, 'ipMasqBackend: "iptables" is not supported'),
    "an MTU of the wrong type": ({"mtu": "1400"}, 'mtu: expected an integer, got "1400"'),
    "no IPAM": ({"ipam": {}}, "ipam.type: missing"),
    "a slip of the pen": ({"ipMask": True}, "ipMask: unknown key"),
    "an address that is its gateway": (
        {"ipam": {"type": "static", "addresses": [{"address": "10.1.0.1/24", "gateway": "10.1.0.1"}]}},
        "10.1.0.1 both as address and as its gateway",
    ),
    "no room for a gateway": (
        {"ipam": {"type": "static", "addresses": [{"address": "10.1.0.1/32"}]}},
        "10.1.0.1/32 without a gateway",
    ),
}


@pytest.mark.parametrize(("keys", "said"), FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("masquerade", [False, True])
def test_nothing_is_left_after(site: Site, keys: dict[str, Any], said: str, masquerade: bool) -> None:
    site.box()
    error = site.call("ADD", conf(IPV4, ipMasq=masquerade) | keys).error
    assert said in error["msg"]
    assert "not undone" not in error.get("details", "")
    assert nothing_is_left(site)


def test_P6_B4_add_twice_is_an_error_that_changes_nothing(site: Site) -> None:
    for name in ("web", "other"):
        site.box(name)
    made = conf(IPV4, ipMasq=True)
    result = site.add(made)
    before = (site.machine.links(), site.leases(), site.machine.elements(), site.routes())
    assert site.call("ADD", made).error["msg"] == "/run/netns/web already has an interface eth0"
    error = site.plugins.call("ADD", made, "/run/netns/other", container="web").error
    assert "'cni net web eth0'" in error["details"]
    assert (site.machine.links(), site.leases(), site.machine.elements(), site.routes()) == before
    site.check(made, result).done()
    site.delete(made)


def test_an_address_to_which_the_host_has_a_way_is_refused(site: Site) -> None:
    """Two networks whose addresses overlap: the newcomer must not get the other's packets."""
    for name in ("web", "far"):
        site.box(name)
    other = conf(IPV4, name="other")
    site.add(other, "far")
    before = site.machine.links()
    assert "route add 10.1.0.2/32 dev veth" in site.call("ADD", conf(IPV4)).error["msg"]
    assert (site.machine.links(), site.leases()) == (before, set())
    assert site.reaches("", "10.1.0.2") == "refused"
    site.delete(other, "far")


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", "/run/netns/file"])
@pytest.mark.parametrize("ipam", [True, False], ids=["ipam", "broken"])
def test_P9_P11_B3_del_needs_neither_namespace_nor_a_good_configuration(site: Site, netns: str, ipam: bool) -> None:
    site.box()
    Path("/run/netns/file").touch()
    made = conf(IPV4, IPV6, ipMasq=True)
    site.add(made)
    broken = made if ipam else made | {"mtu": "1400", "ipMasqBackend": "iptables"}
    for _twice in range(2):
        site.plugins.delete(broken, netns, container="web")
        assert nothing_is_left(site)
    Path("/run/netns/file").unlink()


def test_P10_del_of_what_was_never_added(site: Site) -> None:
    site.box()
    site.delete(conf(IPV4, ipMasq=True))
    assert nothing_is_left(site)


def test_a_link_that_has_come_to_have_the_same_name_is_left_alone(site: Site) -> None:
    site.box()
    made = conf(IPV4)
    port = site.add(made)["interfaces"][0]["name"]
    site.machine.run("ip", "link", "set", port, "alias", "somebody else's")
    site.plugins.delete(made, "", container="web")
    assert (site.machine.links(), site.leases()) == ({"lo", port}, set())
    site.machine.run("ip", "link", "del", port)


def test_B3_what_an_add_that_was_killed_has_made_is_taken_down(site: Site) -> None:
    """At one moment or another: its records are written before what they tell of."""
    site.box()
    made = conf(IPV4, IPV6, ipMasq=True)
    for milliseconds in range(10, 60, 5):
        adding = site.plugins.start("ADD", made, "/run/netns/web")
        time.sleep(milliseconds / 1000)
        adding.kill()
        site.plugins.finish(adding)
        site.plugins.delete(made, "", container="web")
        site.delete(made)  # before the host's end has a name on it, the container's is all there is
        assert nothing_is_left(site), milliseconds


# --- CHECK, GC, STATUS ----------------------------------------------------------------------------------------------

Breaker = Callable[[Site, str], object]


def host(command: str) -> Breaker:
    return lambda site, port: site.machine.run(*command.replace("PORT", port).split())


def inside(command: str) -> Breaker:
    return lambda site, _port: site.machine.run("ip", "-n", "web", *command.split())


BROKEN: list[tuple[Breaker, str]] = [
    (inside("addr del 10.1.0.2/24 dev eth0"), "eth0 in /run/netns/web does not have the address 10.1.0.2/24"),
    (inside("addr del fd00:1::2/64 dev eth0"), "does not have the address fd00:1::2/64"),
    (inside("route del default"), "there is no route to 0.0.0.0/0 via 10.1.0.1 by eth0 in /run/netns/web"),
    (inside("route del 10.1.0.0/24"), "there is no route to 10.1.0.0/24 via 10.1.0.1 by eth0"),
    (inside("link set eth0 down"), "eth0 in /run/netns/web is down"),
    (inside("link set eth0 address 02:00:00:00:00:99"), "has the hardware address 02:00:00:00:00:99, not "),
    (inside("link del eth0"), "there is no link eth0 in /run/netns/web"),
    (host("ip link set PORT down"), "is down"),
    (host("ip addr del 10.1.0.1/32 dev PORT"), "does not have the address 10.1.0.1/32"),
    (host("ip addr del fd00:1::1/128 dev PORT"), "does not have the address fd00:1::1/128"),
    (host("ip route del 10.1.0.2"), "there is no route to 10.1.0.2/32 by veth"),
    (host("ip -6 route del fd00:1::2"), "there is no route to fd00:1::2/128 by veth"),
    (host("sysctl -qw net/ipv4/ip_forward=0"), "net/ipv4/ip_forward is 0"),
    (host("nft flush ruleset"), "nftables: "),
    (host("ip link set PORT mtu 1300"), "has the MTU 1300, not 1500"),
    (lambda _site, _port: (LEASES / "net" / "10.1.0.2").unlink(), "10.1.0.2"),
]


@pytest.mark.parametrize(("broken", "said"), BROKEN, ids=[said for _broken, said in BROKEN])
def test_P14_B5_check_names_what_is_broken(site: Site, broken: Breaker, said: str) -> None:
    made = conf(IPV4, IPV6, routes=ANYWHERE, ipMasq=True)
    site.box()
    result = site.add(made)
    site.check(made, result).done()
    broken(site, result["interfaces"][0]["name"])
    assert said in site.check(made, result).error["msg"]
    site.delete(made)


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_P15_check_passes_after_add_and_after_a_later_plugin(site: Site, version: str) -> None:
    site.box()
    made = conf(IPV4, IPV6, version=version, routes=ANYWHERE)
    result = site.add(made)
    site.check(made, result).done()
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    site.machine.run("ip", "-n", "web", "route", "del", "default")
    site.machine.run("ip", "-n", "web", "route", "add", "default", "via", "10.1.0.1", "dev", "eth0", "table", "100")
    result["interfaces"][1]["mac"] = "02:00:00:00:00:99"
    site.check(made, result).done()
    site.delete(made)


def test_P18_P19_B1_gc_takes_away_what_belongs_to_nobody_alive(site: Site) -> None:
    made, other = conf(IPV4, IPV6, ipMasq=True), conf("10.2.0.0/24", name="other")
    for name in ("web", "db"):
        site.box(name)
        site.add(made, name)
    site.box("far")
    kept = site.add(other, "far")["interfaces"][0]["name"]
    site.plugins.call("GC", made | {"cni.dev/valid-attachments": [{"containerID": "web", "ifname": "eth0"}]}).done()
    assert len(site.ports() - {kept}) == 1
    assert site.machine.links("db") == {"lo"}
    assert site.leases() == {"10.1.0.2", "fd00:1::2"}
    site.plugins.call("GC", made | {"cni.dev/valid-attachments": []}).done()
    assert (site.ports(), site.leases(), site.leases("other"), site.machine.elements()) == (
        {kept},
        set(),
        {"10.2.0.2"},
        [],
    )
    site.delete(other, "far")


def test_P16_P17_B2_status_is_the_ipams_and_the_configurations(site: Site) -> None:
    full = conf(ipam={"type": "host-local", "subnet": IPV4, "rangeEnd": "10.1.0.2"})
    site.plugins.call("STATUS", full).done()
    site.box()
    site.add(full)
    assert site.plugins.call("STATUS", full).error["code"] == 50
    assert site.plugins.call("STATUS", conf(ipam={})).error["code"] == 7
    site.delete(full)
