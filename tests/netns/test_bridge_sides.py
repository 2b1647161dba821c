"""The bridge plugin and the reference's: what both promise, asked of both. What they differ in is in test_pains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import SHARED
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, IPV6, Site

pytestmark = pytest.mark.leaves(*SHARED, "nft *")

THIRD = "fd00:3::/64"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")  # those that both sides speak
RICH = VERSIONS[2:]
SUBNETS = {"IPv4": (IPV4,), "IPv6": (IPV6,), "both": (IPV4, IPV6), "three": (IPV4, IPV6, THIRD)}


@pytest.fixture
def site(side: Plugins) -> Iterator[Site]:
    made = Site(side.machine, side)
    for name in ("web", "db"):
        made.box(name)
    yield made
    made.close()


def conf(site: Site, *subnets: str, version: str = "1.0.0", **keys: Any) -> dict[str, Any]:
    return site.conf(*subnets, version=version, **keys)


def gateways(subnets: tuple[str, ...]) -> set[str]:
    return {subnet.replace("0/24", "1/24").replace("::/", "::1/") for subnet in subnets}


@pytest.mark.parametrize(
    ("version", "subnets"), [*(("1.0.0", each) for each in SUBNETS), *((version, "three") for version in RICH[:-1])]
)
def test_P5_P7_an_attachment_is_what_the_result_says(site: Site, version: str, subnets: str) -> None:
    made = conf(site, *SUBNETS[subnets], version=version, isDefaultGateway=True)
    result = site.add(made)
    bridge, port, end = result["interfaces"]
    assert result["cniVersion"] == version
    assert [bridge["name"], end["name"], end.get("sandbox")] == ["cni0", "eth0", "/run/netns/web"]
    assert port["name"].startswith("veth")
    assert not (bridge.get("sandbox") or port.get("sandbox"))
    macs = [site.link("cni0")["address"], site.link(port["name"])["address"], site.link("eth0", "web")["address"]]
    assert [item["mac"] for item in result["interfaces"]] == macs
    assert len({*macs}) == 3
    assert site.machine.links() == {"lo", "cni0", port["name"]}
    assert "UP" in site.link("eth0", "web")["flags"]
    assert {ip["address"] for ip in result["ips"]} == site.machine.addresses("eth0", "web")
    assert {ip["interface"] for ip in result["ips"]} == {2}
    assert site.machine.addresses("cni0") == gateways(SUBNETS[subnets])
    for ip in result["ips"][:2]:  # of two subnets of a family the first is the way out
        assert ("default", ip["gateway"]) in site.routes(family=6 if ":" in ip["address"] else 4)
    assert len(site.leases()) == len(SUBNETS[subnets])
    if version in ("0.4.0", "1.0.0"):
        site.check(made, result).done()
    site.delete(made)
    assert site.machine.links() == {"lo", "cni0"}
    assert site.machine.links("web") == {"lo"}
    assert (site.leases(), site.link("cni0")["address"]) == (set(), bridge["mac"])


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_the_oldest_versions_have_one_address_a_family(site: Site, version: str) -> None:
    made = conf(site, IPV4, IPV6, version=version)
    result = site.add(made)
    assert [result["ip4"]["ip"], result["ip6"]["ip"]] == ["10.1.0.2/24", "fd00:1::2/64"]
    site.delete(made)
    three = conf(site, *SUBNETS["three"], version=version)
    assert "more than 1 address per family" in site.call("ADD", three).error["msg"]
    assert site.leases() == set()


@pytest.mark.parametrize("version", VERSIONS)
def test_without_ipam_there_are_no_addresses(site: Site, version: str) -> None:
    made = conf(site, version=version)
    answer = site.call("ADD", made)
    if version in RICH:
        assert not answer.result.get("ips")
        assert site.machine.addresses("eth0", "web") == set()
        assert "UP" in site.link("eth0", "web")["flags"]
    else:
        assert "no valid IP addresses" in answer.error["msg"]
    site.delete(made)
    assert site.ports() == set()


def test_a_bridge_that_is_there_is_used_and_stays(site: Site) -> None:
    site.machine.run("ip", "link", "add", "cni0", "address", "02:00:00:00:00:05", "type", "bridge")
    index = site.link("cni0")["ifindex"]
    made = conf(site, IPV4)
    assert site.add(made)["interfaces"][0]["mac"] == "02:00:00:00:00:05"
    site.add(made, "db")
    site.delete(made)
    site.delete(made, "db")
    assert (site.link("cni0")["ifindex"], site.link("cni0")["address"]) == (index, "02:00:00:00:00:05")


def test_containers_reach_each_other_and_the_host(site: Site) -> None:
    made = conf(site, IPV4, IPV6, isDefaultGateway=True)
    for name in ("web", "db"):
        site.add(made, name)
    site.serve("web", "10.1.0.2")
    assert site.reaches("db", "10.1.0.2", 8080) == "10.1.0.3"
    for place, address in (("db", "10.1.0.1"), ("", "10.1.0.3")):
        assert site.reaches(place, address) == "refused"
    for name in ("web", "db"):
        site.delete(made, name)


MAC = "02:42:00:00:00:0{}"
PLACES: dict[str, dict[str, Any]] = {
    "CNI_ARGS": {},
    "args": {"args": {"cni": {"mac": MAC.format(2)}}},
    "runtimeConfig": {"args": {"cni": {"mac": MAC.format(2)}}, "runtimeConfig": {"mac": MAC.format(3)}},
}


@pytest.mark.parametrize("place", range(3), ids=list(PLACES))
def test_B11_of_three_hardware_addresses_the_strongest_counts(site: Site, place: int) -> None:
    made = conf(site, IPV4, capabilities={"mac": True}) | list(PLACES.values())[place]
    result = site.add(made, args=f"IgnoreUnknown=1;MAC={MAC.format(1)}")
    assert result["interfaces"][2]["mac"] == site.link("eth0", "web")["address"] == MAC.format(place + 1)
    site.delete(made)


def test_del_of_what_was_never_added_and_twice(site: Site) -> None:
    made = conf(site, IPV4, IPV6, ipMasq=True)
    site.delete(made)
    site.add(made)
    for _twice in range(2):
        site.delete(made)
    assert (site.ports(), site.leases(), site.machine.links("web")) == (set(), set(), {"lo"})
    assert "10.1.0." not in site.machine.text("nft", "list", "ruleset")


def test_another_networks_address_is_in_the_way_until_it_may_be_replaced(site: Site) -> None:
    first, other = conf(site, IPV4), conf(site, "10.2.0.0/24", name="other")
    site.add(first)
    assert "already has an IP address different" in site.call("ADD", other, "db").error["msg"]
    assert (site.leases("other"), site.machine.addresses("cni0")) == (set(), {"10.1.0.1/24"})
    site.delete(other, "db")
    site.add(other | {"forceAddress": True}, "db")
    assert site.machine.addresses("cni0") == {"10.2.0.1/24"}
    site.delete(first)
    site.delete(other, "db")


def test_hairpin_and_promiscuity_are_as_asked_and_not_both(site: Site) -> None:
    for key in ("hairpinMode", "promiscMode"):
        made = conf(site, IPV4) | {key: True}
        port = site.add(made)["interfaces"][1]["name"]
        assert site.link(port)["linkinfo"]["info_slave_data"]["hairpin"] is (key == "hairpinMode")
        assert ("PROMISC" in site.link("cni0")["flags"]) is (key == "promiscMode")
        site.delete(made)
    assert site.call("ADD", conf(site, IPV4, hairpinMode=True, promiscMode=True)).exit != 0


@pytest.mark.parametrize("vlan", [-100, 5000])
def test_a_vlan_that_is_none_is_refused(site: Site, vlan: int) -> None:
    assert str(vlan) in site.call("ADD", conf(site, IPV4, vlan=vlan)).error["msg"]
    assert (site.ports(), site.leases()) == (set(), set())


def with_dns(site: Site, folder: Path) -> dict[str, Any]:
    """Of a name server that IPAM knows."""
    (folder / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    made = conf(site, IPV4)
    made["ipam"]["resolvConf"] = str(folder / "resolv.conf")
    return made


@reference_fails("throws IPAM's DNS away")
def test_dns_is_ipams_where_there_is_no_own_one(site: Site, tmp_path: Path) -> None:
    made = with_dns(site, tmp_path)
    assert site.add(made)["dns"] == {"nameservers": ["192.0.2.53"]}
    site.delete(made)


@pytest.mark.parametrize("own", [{"nameservers": []}, {"domain": "own.example"}])
def test_any_field_of_an_own_dns_takes_the_place_of_ipams(site: Site, tmp_path: Path, own: dict[str, Any]) -> None:
    made = with_dns(site, tmp_path) | {"dns": own}
    dns = site.add(made).get("dns", {})
    assert (dns.get("nameservers", []), dns.get("domain", "")) == ([], own.get("domain", ""))
    site.delete(made)


def test_several_ways_to_one_destination_are_all_programmed(site: Site) -> None:
    made = conf(site, IPV4)
    made["ipam"]["routes"] = [{"dst": "10.9.0.0/16", "gw": f"10.1.0.{host}"} for host in (7, 8)]
    result = site.add(made)
    assert site.routes() >= {("10.9.0.0/16", "10.1.0.7"), ("10.9.0.0/16", "10.1.0.8")}
    site.check(made, result).done()
    site.delete(made)
