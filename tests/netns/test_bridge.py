"""The bridge plugin as a program: what ADD makes and DEL takes away, as `ip` and `nft` show it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import GO, Plugins
from support.site import IPV4, IPV6, Site

pytestmark = pytest.mark.leaves(*SHARED)

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SET_BY_SOMEBODY = "3"  # NET_ADDR_SET of /sys/class/net/…/addr_assign_type: udev leaves such addresses alone


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("version", "subnets"), [("1.1.0", (IPV4,)), ("1.1.0", (IPV6,)), *((version, (IPV4, IPV6)) for version in VERSIONS)]
)
def test_P5_P7_an_attachment_is_what_the_result_says(site: Site, version: str, subnets: tuple[str, ...]) -> None:
    conf = site.conf(*subnets, version=version, isDefaultGateway=True)
    site.box()
    result = site.add(conf)

    assert result["cniVersion"] == version
    bridge, port, end = result["interfaces"]
    assert (bridge["name"], end["name"], end["sandbox"]) == ("cni0", "eth0", "/run/netns/web")
    assert "sandbox" not in bridge
    assert "sandbox" not in port
    assert site.machine.links() == {"lo", "cni0", port["name"]}
    assert site.link("cni0")["address"] == bridge["mac"]
    assert site.link(port["name"])["address"] == port["mac"]
    assert site.link("eth0", "web")["address"] == end["mac"]
    assert len({bridge["mac"], port["mac"], end["mac"]}) == 3
    assert site.link(port["name"])["master"] == "cni0"

    addresses = {ip["address"] for ip in result["ips"]}
    assert addresses == site.machine.addresses("eth0", "web")
    assert {ip["interface"] for ip in result["ips"]} == {2}
    gateways = {f"{ip['gateway']}/{ip['address'].partition('/')[2]}" for ip in result["ips"]}
    assert gateways == site.machine.addresses("cni0")
    for ip in result["ips"]:
        family = 6 if ":" in ip["address"] else 4
        assert ("default", ip["gateway"]) in site.routes(family=family)
    assert {route["dst"] for route in result["routes"]} == {"::/0" if ":" in one else "0.0.0.0/0" for one in subnets}
    assert len(site.leases()) == len(subnets)

    site.delete(conf)
    assert site.machine.links() == {"lo", "cni0"}
    assert site.machine.links("web") == {"lo"}
    assert site.leases() == set()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_versions_know_addresses_only(site: Site, version: str) -> None:
    site.box()
    conf = site.conf(IPV4, IPV6, version=version)
    result = site.add(conf)
    assert result == {
        "cniVersion": version,
        "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1"},
        "ip6": {"ip": "fd00:1::2/64", "gateway": "fd00:1::1"},
        "dns": {},
    }
    site.delete(conf)


def test_a_network_without_ipam_is_layer_2(site: Site) -> None:
    site.box()
    result = site.add(site.conf())
    assert "ips" not in result
    assert "UP" in site.link("eth0", "web")["flags"]
    assert site.machine.addresses("cni0") == set()
    site.check(site.conf(), result).done()
    site.delete(site.conf())
    assert site.ports() == set()


def test_a_layer_2_result_that_the_version_cannot_hold_leaves_nothing(site: Site) -> None:
    site.box()
    error = site.call("ADD", site.conf(version="0.2.0")).error
    assert error["msg"] == "cannot convert: no valid IP addresses"
    assert site.ports() == set()


def test_a_bridge_that_is_there_is_used(site: Site) -> None:
    site.machine.run("ip", "link", "add", "cni0", "type", "bridge")
    index = site.link("cni0")["ifindex"]
    site.box()
    site.add(site.conf(IPV4))
    assert site.link("cni0")["ifindex"] == index
    assert "UP" in site.link("cni0")["flags"]
    site.delete(site.conf(IPV4))


def test_hardware_addresses_are_given_and_stay(site: Site) -> None:
    conf = site.conf(IPV4)
    for name in ("web", "db"):
        site.box(name)
    first = site.add(conf)
    bridge, port, _end = first["interfaces"]
    for link in (bridge["name"], port["name"]):
        kind = site.machine.run("cat", f"/sys/class/net/{link}/addr_assign_type").stdout.strip()
        assert kind == SET_BY_SOMEBODY
    inside = site.machine.run(
        "ip", "netns", "exec", "web", "cat", "/sys/class/net/eth0/addr_assign_type"
    ).stdout.strip()
    assert inside == SET_BY_SOMEBODY
    other = site.add(conf, "db")
    assert site.link("cni0")["address"] == bridge["mac"] == other["interfaces"][0]["mac"]
    site.delete(conf)
    assert site.link("cni0")["address"] == bridge["mac"]
    again = site.add(conf)
    assert again["interfaces"] == first["interfaces"]
    assert other["interfaces"][2]["mac"] != first["interfaces"][2]["mac"]
    for name in ("web", "db"):
        site.delete(conf, name)
    assert site.link("cni0")["address"] == bridge["mac"]


def test_a_hardware_address_that_is_asked_for_is_given(site: Site) -> None:
    site.box()
    conf = site.conf(IPV4, args={"cni": {"mac": "02:42:00:00:00:0b"}})
    assert site.add(conf, args="MAC=02:42:00:00:00:0a")["interfaces"][2]["mac"] == "02:42:00:00:00:0b"
    assert site.link("eth0", "web")["address"] == "02:42:00:00:00:0b"
    site.delete(conf)


def test_mtu_hairpin_and_promiscuity_are_as_configured(site: Site) -> None:
    site.box()
    conf = site.conf(IPV4, mtu=1400, hairpinMode=True)
    result = site.add(conf)
    assert [item["mtu"] for item in result["interfaces"]] == [1400] * 3
    assert [site.link("cni0")["mtu"], site.link("eth0", "web")["mtu"]] == [1400] * 2
    assert site.link(result["interfaces"][1]["name"])["linkinfo"]["info_slave_data"]["hairpin"] is True
    site.delete(conf)
    conf = site.conf(IPV4, promiscMode=True)
    site.add(conf)
    assert "PROMISC" in site.link("cni0")["flags"]
    site.delete(conf)


def test_a_port_says_whose_it_is(site: Site) -> None:
    site.box()
    port = site.add(site.conf(IPV4))["interfaces"][1]["name"]
    assert site.link(port)["ifalias"] == "cni net web eth0"
    site.delete(site.conf(IPV4))


def test_routers_that_containers_play_are_not_believed(site: Site) -> None:
    site.box()
    port = site.add(site.conf(IPV6))["interfaces"][1]["name"]
    for link in ("cni0", port):
        assert site.sysctl(f"net/ipv6/conf/{link}/accept_ra") == "0"
    site.delete(site.conf(IPV6))


def test_ipv6_is_usable_at_once_and_survives_a_link_that_goes_down(site: Site) -> None:
    site.machine.run("ip", "netns", "add", "web")
    site.machine.run("ip", "netns", "exec", "web", "sysctl", "-qw", "net/ipv6/conf/default/disable_ipv6=1")
    site.add(site.conf(IPV6))
    shown = site.machine.ip("-6", "addr", "show", "dev", "eth0", "scope", "global", netns="web")
    assert not any(item.get("tentative") for entry in shown for item in entry["addr_info"])
    site.machine.run("ip", "-n", "web", "link", "set", "eth0", "down")
    assert site.machine.addresses("eth0", "web") == {"fd00:1::2/64"}
    site.delete(site.conf(IPV6))


def test_the_host_passes_packets_on_when_it_is_the_gateway(site: Site) -> None:
    keys = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")
    for key in keys:
        site.machine.run("sysctl", "-qw", f"{key}=0")
    site.box()
    conf = site.conf(IPV4, IPV6, isGateway=False)
    site.add(conf)
    assert [site.sysctl(key) for key in keys] == ["0", "0"]
    assert site.machine.addresses("cni0") == set()
    site.delete(conf)
    site.add(site.conf(IPV4))
    assert [site.sysctl(key) for key in keys] == ["1", "0"]
    site.delete(conf)


def test_B7_ipams_default_route_and_ours_are_one(site: Site) -> None:
    ipam = {"type": "host-local", "subnet": IPV4, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16"}]}
    conf = site.conf(IPV4, isDefaultGateway=True, ipam=ipam)
    site.box()
    assert site.add(conf)["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16"}]
    assert site.routes() >= {("default", "10.1.0.1"), ("10.9.0.0/16", "10.1.0.1")}
    site.delete(conf)


def test_what_a_route_says_of_itself_is_programmed(site: Site) -> None:
    more = {"mtu": 1300, "advmss": 1200, "priority": 50, "table": 77}
    ipam = {"type": "host-local", "subnet": IPV4, "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.7"} | more]}
    conf = site.conf(IPV4, ipam=ipam)
    site.box()
    result = site.add(conf)
    shown = site.machine.ip("route", "show", "table", "77", netns="web")
    assert [(way["dst"], way["gateway"], way["metric"], way["metrics"]) for way in shown] == [
        ("10.9.0.0/16", "10.1.0.7", 50, [{"mtu": 1300, "advmss": 1200}])
    ]
    site.check(conf, result).done()
    site.delete(conf)


@pytest.mark.parametrize(
    ("dns", "wanted"),
    [
        (None, {"nameservers": ["192.0.2.53"]}),
        ({"domain": "example.org"}, {"domain": "example.org"}),
        ({"nameservers": []}, None),
    ],
)
def test_the_configurations_dns_counts_instead_of_ipams(
    site: Site, tmp_path: Path, dns: object, wanted: object
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    ipam = {"type": "host-local", "subnet": IPV4, "resolvConf": str(tmp_path / "resolv.conf")}
    conf = site.conf(IPV4, ipam=ipam) | ({} if dns is None else {"dns": dns})
    site.box()
    assert site.add(conf).get("dns") == wanted
    site.delete(conf)


# --- more than one --------------------------------------------------------------------------------------------------


def test_B8_two_interfaces_of_one_container_on_one_network(site: Site) -> None:
    conf = site.conf(IPV4, ipMasq=True)
    site.box()
    first, second = site.add(conf), site.add(conf, ifname="eth1")
    assert first["ips"] != second["ips"]
    assert site.machine.links("web") == {"lo", "eth0", "eth1"}
    site.delete(conf)
    assert site.machine.links("web") == {"lo", "eth1"}
    assert site.machine.elements() != []
    site.check(conf, second, ifname="eth1").done()
    site.delete(conf, ifname="eth1")
    assert (site.machine.links("web"), site.leases(), site.machine.elements()) == ({"lo"}, set(), [])


def test_P3_many_at_once_make_one_bridge(site: Site) -> None:
    conf = site.conf(IPV4, IPV6, ipMasq=True)
    names = [f"c{number}" for number in range(8)]
    paths = [site.box(name) for name in names]
    for command in ("ADD", "DEL"):
        started = [
            site.plugins.start(command, conf, path, container=name) for name, path in zip(names, paths, strict=True)
        ]
        answers = [site.plugins.finish(process) for process in started]
        assert [answer.exit for answer in answers] == [0] * len(names), answers
        if command == "ADD":
            results = [answer.result for answer in answers]
            assert len({result["interfaces"][0]["mac"] for result in results}) == 1
            assert len({ip["address"] for result in results for ip in result["ips"]}) == 2 * len(names)
            assert site.machine.addresses("cni0") == {"10.1.0.1/24", "fd00:1::1/64"}
            assert len(site.ports()) == len(names)
    assert (site.ports(), site.leases(), site.machine.elements()) == (set(), set(), [])


def test_an_address_of_another_network_on_the_bridge_is_replaced_where_that_is_allowed(site: Site) -> None:
    for name in ("web", "db"):
        site.box(name)
    site.add(site.conf(IPV4))
    other = site.conf("10.2.0.0/24", name="other")
    error = site.call("ADD", other, "db").error
    assert error["msg"] == "cni0 already has an IP address different from 10.2.0.1/24: 10.1.0.1/24"
    assert site.leases("other") == set()
    assert site.machine.addresses("cni0") == {"10.1.0.1/24"}
    site.add(other | {"forceAddress": True}, "db")
    assert site.machine.addresses("cni0") == {"10.2.0.1/24"}
    site.delete(site.conf(IPV4))
    site.delete(other, "db")


# --- DEL, whatever is left ------------------------------------------------------------------------------------------


def nothing_is_left(site: Site) -> bool:
    return (site.ports(), site.leases(), site.machine.elements()) == (set(), set(), [])


@pytest.mark.parametrize("path", ["", "/run/netns/gone", "/run/ordinary"], ids=["empty", "missing", "a file"])
def test_P9_P11_delete_needs_no_namespace(site: Site, path: str) -> None:
    conf = site.conf(IPV4, IPV6, ipMasq=True)
    site.box()
    site.add(conf)
    assert site.machine.elements() != []
    Path("/run/ordinary").touch()
    site.plugins.delete(conf, path, container="web")
    Path("/run/ordinary").unlink()
    assert nothing_is_left(site)
    assert site.machine.links("web") == {"lo"}


def test_P9_delete_after_the_namespace_has_died(site: Site) -> None:
    conf = site.conf(IPV4, ipMasq=True)
    path = site.box()
    site.add(conf)
    site.machine.run("ip", "netns", "del", "web")
    site.plugins.delete(conf, path, container="web")
    assert nothing_is_left(site)


def test_P10_delete_may_be_repeated_and_needs_no_add(site: Site) -> None:
    conf = site.conf(IPV4, ipMasq=True)
    site.box()
    site.delete(conf)
    site.add(conf)
    site.delete(conf)
    site.delete(conf)
    assert nothing_is_left(site)


def test_delete_does_not_mind_a_configuration_that_add_would_refuse(site: Site) -> None:
    conf = site.conf(IPV4, ipMasq=True)
    site.box()
    site.add(conf)
    site.delete(conf | {"mtu": "large", "vlan": 12, "ipMasqBackend": "iptables", "bridge": "a/b"})
    assert nothing_is_left(site)


def test_delete_leaves_a_link_that_is_not_its_own(site: Site) -> None:
    """The name can be another's by now; and an interface of another kind was never made by a bridge."""
    conf = site.conf(IPV4)
    site.box()
    port = site.add(conf)["interfaces"][1]["name"]
    site.delete(conf)
    site.machine.run("ip", "link", "add", port, "type", "bridge")
    site.machine.run("ip", "-n", "web", "link", "add", "eth0", "type", "bridge")
    site.delete(conf)
    assert port in site.machine.links()
    assert "eth0" in site.machine.links("web")
    site.machine.run("ip", "link", "del", port)


@pytest.mark.leaves("file /run/cni/host-local/*")  # our notes on a lease that the Go plugin has released
@pytest.mark.parametrize("ours_first", [True, False])
def test_the_go_plugin_and_ours_take_down_what_the_other_made(site: Site, ours_first: bool) -> None:
    conf = site.conf(IPV4, version="1.0.0")
    path = site.box()
    sides = [site.plugins, Plugins(site.machine, GO)]
    made, taken = sides if ours_first else reversed(sides)
    made.add(conf, path, container="web")
    taken.delete(conf, path, container="web")
    assert nothing_is_left(site)
    assert site.machine.links("web") == {"lo"}


# --- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ({"vlan": 4095}, 7, "vlan: expected an integer from 0 to 4094, got 4095"),
        ({"isGatway": True}, 7, "isGatway: unknown key"),
        ({"disableContainerInterface": True}, 7, "disableContainerInterface and ipam cannot be together"),
        ({"ipMasqBackend": "iptables"}, 2, 'ipMasqBackend: "iptables" is not supported'),
        ({"mtu": "1400"}, 7, 'mtu: expected an integer, got "1400"'),
        ({"hairpinMode": True, "promiscMode": True}, 7, "hairpinMode and promiscMode cannot both be true"),
    ],
)
def test_a_configuration_that_cannot_be_honoured_is_refused_before_anything_is_done(
    site: Site, keys: dict[str, Any], code: int, said: str
) -> None:
    site.box()
    error = site.call("ADD", site.conf(IPV4, **keys)).error
    assert (error["code"], error["msg"]) == (code, said)
    assert site.machine.links() == {"lo"}
    assert site.leases() == set()
