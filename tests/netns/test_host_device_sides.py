"""The host-device plugin and the reference's: what both promise, asked of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, Site

pytestmark = pytest.mark.leaves(*FOLDERS)

MAC = "02:11:22:33:44:55"
LEASE = {"type": "host-local", "subnet": IPV4}


def conf(**keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": "host-device", "device": "dev0"} | keys


@pytest.fixture
def site(side: Plugins) -> Iterator[Site]:
    """With a link dev0, up, whose other end is on a machine of its own."""
    made = Site(side.machine, side)
    for name in ("far", "web"):
        made.box(name)
    link = ("ip", "link", "add", "dev0", "address", MAC, "type", "veth", "peer", "name", "far0", "netns", "far")
    side.machine.run(*link)
    side.machine.run("ip", "link", "set", "dev0", "up")
    yield made
    side.machine.run("ip", "-n", "far", "link", "del", "far0", check=False)
    made.close()


@pytest.mark.parametrize("keys", [{}, {"device": "", "hwaddr": MAC}], ids=["device", "hwaddr"])
def test_the_device_goes_under_the_runtimes_name_and_comes_back_under_its_own(site: Site, keys: Any) -> None:
    (link,) = site.add(conf(**keys))["interfaces"]
    assert (link["name"], link["mac"], link["sandbox"]) == ("eth0", MAC, "/run/netns/web")
    inside = site.link("eth0", "web")
    assert (inside["address"], "UP" in inside["flags"], inside["ifalias"]) == (MAC, True, "dev0")
    assert site.machine.links() == {"lo"}
    site.delete(conf(**keys))
    assert (site.machine.links(), site.machine.links("web")) == ({"lo", "dev0"}, {"lo"})


def test_check_after_add_with_addresses(site: Site) -> None:
    made = conf(ipam=LEASE)
    result = site.add(made)
    assert site.machine.addresses("eth0", "web") == {"10.1.0.2/24"}
    site.check(made, result).done()
    site.delete(made)
    assert site.leases() == set()


@reference_fails("leaves the device in the container, under its own name")
def test_an_interface_of_that_name_is_an_error_and_the_device_stays(site: Site) -> None:
    site.machine.run("ip", "-n", "web", "link", "add", "eth0", "type", "bridge")
    assert site.call("ADD", conf()).exit != 0
    assert site.machine.links() == {"lo", "dev0"}
    site.machine.run("ip", "-n", "web", "link", "del", "eth0")


def test_a_name_that_is_taken_fails_del_until_it_is_free(site: Site) -> None:
    site.add(conf())
    site.machine.run("ip", "link", "add", "dev0", "type", "bridge")
    assert site.call("DEL", conf()).exit != 0
    assert "UP" in site.link("eth0", "web")["flags"]
    site.machine.run("ip", "link", "del", "dev0")
    site.delete(conf())
    assert site.machine.links() == {"lo", "dev0"}


@reference_fails("brings the device back down and without its addresses")
def test_the_device_comes_back_as_it_was(site: Site) -> None:
    site.machine.run("ip", "addr", "add", "192.0.2.7/24", "dev", "dev0")
    site.add(conf())
    site.delete(conf())
    assert "UP" in site.link("dev0")["flags"]
    assert site.machine.addresses("dev0") == {"192.0.2.7/24"}


@reference_fails("keeps the address, or fails", "p#1196")
@pytest.mark.parametrize("netns", ["", "/run/netns/gone"])
def test_U3_without_its_namespace_an_attachment_gives_its_address_back(site: Site, netns: str) -> None:
    made = conf(ipam=LEASE)
    site.add(made)
    site.plugins.delete(made, netns, container="web")
    assert (site.leases(), site.machine.links()) == (set(), {"lo", "dev0"})


@reference_fails("fails, for the link is no longer there")
def test_P10_B3_del_twice(site: Site) -> None:
    site.add(conf())
    for _twice in range(2):
        site.delete(conf())
    assert site.machine.links() == {"lo", "dev0"}


@reference_fails("keeps the device in the container when IPAM fails")
def test_U20_an_add_that_ipam_fails_leaves_the_device_on_the_host(site: Site) -> None:
    assert site.call("ADD", conf(ipam=LEASE | {"rangeEnd": "10.1.0.1"})).exit != 0
    assert (site.machine.links(), site.machine.links("web")) == ({"lo", "dev0"}, {"lo"})


@reference_fails("throws IPAM's DNS away")
def test_dns_is_ipams_where_there_is_no_own_one(site: Site) -> None:
    ipam = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "dns": {"domain": "ipam.example"}}
    assert site.add(conf(ipam=ipam))["dns"] == {"domain": "ipam.example"}
    site.delete(conf(ipam=ipam))
