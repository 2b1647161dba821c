"""The ptp plugin and the reference's: what both promise, asked of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, IPV6, Site

pytestmark = pytest.mark.leaves(*FOLDERS, *TABLES, "nft * ip nat*", "nft * ip6 nat*", "file /run/cni/*")

ANYWHERE = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def conf(*subnets: str, **keys: Any) -> dict[str, Any]:
    """In the version that both sides speak."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets], "routes": ANYWHERE}
    ipam["routes"] = [route for route in ANYWHERE if any((":" in route["dst"]) == (":" in one) for one in subnets)]
    return {"cniVersion": "1.0.0", "name": "net", "type": "ptp", "ipam": ipam} | keys


@pytest.fixture
def site(side: Plugins) -> Iterator[Site]:
    made = Site(side.machine, side)
    for name in ("web", "db"):
        made.box(name)
    yield made
    made.close()


def rules(site: Site) -> str:
    """All that translates addresses, however it is spelled."""
    text = site.machine.text("nft", "list", "ruleset")
    return "\n".join(line for line in text.splitlines() if "10.1.0." in line or "fd00:1:" in line)


def test_containers_and_host_reach_each_other(site: Site) -> None:
    made = conf(IPV4)
    results = [site.add(made, name) for name in ("web", "db")]
    assert [[len(result["interfaces"]), result["ips"][0]["interface"]] for result in results] == [[2, 1], [2, 1]]
    site.serve("web", "10.1.0.2")
    assert site.reaches("db", "10.1.0.2", 8080) == "10.1.0.3"
    for place, address in (("db", "10.1.0.1"), ("", "10.1.0.3")):
        assert site.reaches(place, address) == "refused"
    for name, result in zip(("web", "db"), results, strict=True):
        site.check(made, result, name).done()
        site.delete(made, name)
    assert (site.leases(), site.machine.links()) == (set(), {"lo"})


def test_del_twice_and_of_what_was_never_added(site: Site) -> None:
    made = conf(IPV4, ipMasq=True)
    site.delete(made)
    site.add(made)
    for _twice in range(2):
        site.delete(made)
    assert (site.leases(), site.machine.links(), rules(site)) == (set(), {"lo"}, "")


@reference_fails("keeps the masquerade of a container whose namespace is gone", "p#810")
@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_U4_del_without_a_namespace_leaves_no_masquerade(site: Site, netns: str) -> None:
    made = conf(IPV4, IPV6, ipMasq=True)
    site.add(made)
    assert rules(site)
    site.machine.run("ip", "netns", "del", "web")
    site.plugins.delete(made, netns, container="web")
    assert (site.leases(), rules(site)) == (set(), "")


@reference_fails("leaves the pair of an ADD that fails at its routes")
def test_U20_an_add_that_fails_leaves_no_link(site: Site) -> None:
    made = conf(IPV4)
    made["ipam"]["routes"] = [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]
    assert site.call("ADD", made).exit != 0
    assert (site.leases(), site.machine.links(), site.machine.links("web")) == (set(), {"lo"}, {"lo"})


@reference_fails("lets the newcomer take the packets of who has the address")
def test_an_address_to_which_the_host_has_a_way_is_refused(site: Site) -> None:
    site.add(conf(IPV4, name="other"), "db")
    site.serve("db", "10.1.0.2")
    assert site.call("ADD", conf(IPV4)).exit != 0
    assert site.reaches("", "10.1.0.2", 8080) == "10.1.0.1"
    site.delete(conf(IPV4, name="other"), "db")


@reference_fails("cannot give a container a second interface of one network")
def test_B8_two_interfaces_of_one_container_have_nothing_in_common(site: Site) -> None:
    made = conf(IPV4, ipMasq=True)
    made["ipam"]["routes"] = []
    for ifname in ("eth0", "eth1"):
        site.add(made, ifname=ifname)
    before = rules(site)
    site.delete(made)
    assert rules(site) == before
    assert site.reaches("", "10.1.0.3") == "refused"
    site.delete(made, ifname="eth1")


@reference_fails("does not look at the host's end")
def test_B5_check_looks_at_the_hosts_end(site: Site) -> None:
    made = conf(IPV4)
    result = site.add(made)
    port = result["interfaces"][0]["name"]
    site.machine.run("ip", "addr", "del", "10.1.0.1/32", "dev", port)
    assert site.check(made, result).exit != 0
    site.delete(made)


@reference_fails("states no MTU")
def test_B6_the_result_states_the_mtu(site: Site) -> None:
    result = site.add(conf(IPV4, mtu=1400))
    assert [link.get("mtu") for link in result["interfaces"]] == [1400, 1400]
    site.delete(conf(IPV4))
