"""From the flags of `minirt network create` to the list: what each asks for, and what is refused and why."""

from __future__ import annotations

import ipaddress
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_plugins.spec.config import parse_list
from cni_plugins.spec.ip import parse_cidr
from minirt.cli import network, verbs
from minirt.cli.verb import read
from minirt.errors import Conflict, UsageError
from minirt.netadmin import drivers
from minirt.netadmin.hostnet import Host
from minirt.netadmin.placement import place
from minirt.netadmin.subnets import Claim

BUILTIN = Path(__file__).parents[2] / "configs" / "minirt.conflist"
EMPTY = Host({"lo": ""}, (), ())


def made(line: str, *lists: dict[str, Any], host: Host = EMPTY) -> dict[str, Any]:
    """The list that a command line makes, as JSON has it, beside other lists."""
    found = verbs.split(shlex.split(f"network create {line}"))
    assert found is not None
    values = read(*found)
    assert values is not None
    spec = network.asked(values)
    drivers.check(spec, values["ipv6"])
    others = [parse_list(json.dumps(item), f"{item['name']}.conflist") for item in lists]
    placed = place(spec, others, host, values["ipv6"], values["force"])
    document: dict[str, Any] = json.loads(json.dumps(drivers.document(placed, "2026-01-31T12:00:00Z")))
    return document


def main(line: str, *lists: dict[str, Any], host: Host = EMPTY) -> dict[str, Any]:
    """The plugin that makes the interface."""
    plugin: dict[str, Any] = made(line, *lists, host=host)["plugins"][0]
    return plugin


def claims(*texts: str, link: str = "eth0") -> tuple[Claim, ...]:
    return tuple(Claim(parse_cidr(text), f"address {text} of {link}", link) for text in texts)


def bridge(name: str, subnet: str, **keys: Any) -> dict[str, Any]:
    plugin = {
        "type": "bridge",
        "bridge": f"cni-{name}",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]},
    }
    return {"cniVersion": "1.0.0", "name": name, "plugins": [plugin | keys]}


# --- bridge ---


def test_a_network_that_is_asked_for_nothing_is_like_the_built_in_one() -> None:
    builtin, ours = json.loads(BUILTIN.read_text()), made("blue --ipv6")
    assert [ours[key] for key in ("cniVersion", "cniVersions", "name")] == ["1.0.0", builtin["cniVersions"], "blue"]
    for one, other in zip(builtin["plugins"], ours["plugins"], strict=True):
        differ = ("bridge", "ipam")
        assert {k: v for k, v in one.items() if k not in differ} == {k: v for k, v in other.items() if k not in differ}
    assert ours["plugins"][0]["bridge"] == "cni-blue"
    ranges = ours["plugins"][0]["ipam"]["ranges"]
    assert [len(pool) for pool in ranges] == [1, 1]
    assert ranges[0] == [{"subnet": "10.144.0.0/24"}]
    picked = ipaddress.IPv6Network(ranges[1][0]["subnet"])
    assert picked.subnet_of(ipaddress.IPv6Network("fd00::/8")) and picked.prefixlen == 64


def test_what_we_know_of_it_stands_where_no_plugin_looks() -> None:
    document = made("blue --label team=net --label plain --internal")
    mark = document["minirt"]
    assert mark == {"created": "2026-01-31T12:00:00Z", "internal": True, "labels": {"team": "net", "plain": ""}}
    assert "minirt" not in json.dumps(document["plugins"])


def test_subnets_of_both_families_with_gateways_and_ranges() -> None:
    line = (
        "blue --subnet 10.9.0.0/24 --subnet fd00:9::/64 --gateway fd00:9::5 --gateway 10.9.0.9 "
        "--ip-range 10.9.0.64/26 --ip-range fd00:9::100/120"
    )
    assert main(line)["ipam"]["ranges"] == [
        [{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.64", "rangeEnd": "10.9.0.127", "gateway": "10.9.0.9"}],
        [{"subnet": "fd00:9::/64", "rangeStart": "fd00:9::100", "rangeEnd": "fd00:9::1ff", "gateway": "fd00:9::5"}],
    ]


@pytest.mark.parametrize(
    ("pool", "bounds"),
    [
        ("10.9.0.0/26", ["10.9.0.1", "10.9.0.63"]),  # not the network's own address
        ("10.9.0.192/26", ["10.9.0.192", "10.9.0.254"]),  # nor its broadcast
        ("10.9.0.0/24", ["10.9.0.1", "10.9.0.254"]),
        ("10.9.0.77/32", ["10.9.0.77", "10.9.0.77"]),
    ],
)
def test_a_range_holds_no_address_that_no_host_can_have(pool: str, bounds: list[str]) -> None:
    ((item,),) = main(f"blue --subnet 10.9.0.0/24 --ip-range {pool}")["ipam"]["ranges"]
    assert [item["rangeStart"], item["rangeEnd"]] == bounds


def test_an_IPv6_network_has_no_IPv4_unless_it_is_asked_for() -> None:
    assert main("blue --subnet fd00:9::/64")["ipam"]["ranges"] == [[{"subnet": "fd00:9::/64"}]]
    assert main("blue --subnet fd00:9::/64 --ipv6")["ipam"]["ranges"] == [[{"subnet": "fd00:9::/64"}]]


def test_an_internal_network_has_nothing_that_leads_out() -> None:
    document = made("blue --internal --subnet 10.9.0.0/24")
    (plugin,) = document["plugins"]
    assert plugin == {
        "type": "bridge",
        "bridge": "cni-blue",
        "capabilities": {"mac": True, "dns": True, "ips": True},
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
    }


def test_options_of_a_bridge_in_our_words_and_in_dockers() -> None:
    ours = "blue -o bridge=br9 -o mtu=1400 -o masquerade=false -o vlan=7"
    docker = (
        "blue -o com.docker.network.bridge.name=br9 -o com.docker.network.driver.mtu=1400 "
        "-o com.docker.network.bridge.enable_ip_masquerade=false --opt vlan=7"
    )
    plugin = main(ours)
    assert [plugin[key] for key in ("bridge", "mtu", "ipMasq", "vlan")] == ["br9", 1400, False, 7]
    assert main(docker) == plugin


@pytest.mark.parametrize(
    ("ipam", "expected", "gateway", "wishes"),
    [
        ("static", {"type": "static"}, True, {"mac", "dns", "ips"}),
        ("dhcp", {"type": "dhcp"}, False, {"mac", "dns"}),
        ("none", None, False, {"mac", "dns"}),
    ],
)
def test_a_bridge_routes_for_addresses_that_it_can_have_a_gateway_for(
    ipam: str, expected: Any, gateway: bool, wishes: set[str]
) -> None:
    document = made(f"blue --ipam-driver {ipam}")
    plugin, *others = document["plugins"]
    assert plugin.get("ipam") == expected
    assert plugin.get("isDefaultGateway", False) is plugin.get("ipMasq", False) is gateway
    assert [other["type"] for other in others] == (["portmap"] if gateway else [])
    assert {name for name, wanted in plugin["capabilities"].items() if wanted} == wishes


# --- the other drivers ---


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("-d macvlan -o parent=eth0 -o mode=vepa -o mtu=1400", {"master": "eth0", "mode": "vepa", "mtu": 1400}),
        ("-d macvlan -o parent=eth0 -o macvlan_mode=private", {"master": "eth0", "mode": "private"}),
        ("-d ipvlan -o parent=eth0 -o ipvlan_mode=l3s", {"master": "eth0", "mode": "l3s"}),
        ("-d vlan -o parent=eth0 -o vlan=110", {"master": "eth0", "vlanId": 110}),
    ],
)
def test_a_driver_on_a_parent_takes_its_words(line: str, keys: dict[str, Any]) -> None:
    document = made(f"lan {line} --subnet 192.0.2.0/24 --subnet 2001:db8::/64 --gateway 192.0.2.254")
    (plugin,) = document["plugins"]  # the host does not route for it: there is nothing to publish or to masquerade
    assert {key: plugin[key] for key in keys} == keys
    assert "ipMasq" not in plugin
    assert plugin["ipam"]["ranges"][0] == [{"subnet": "192.0.2.0/24", "gateway": "192.0.2.254"}]
    assert plugin["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def test_ptp_is_routed_masqueraded_and_published() -> None:
    plugin, portmap = made("point -d ptp --subnet 10.9.0.0/24 -o mtu=1400")["plugins"]
    assert (plugin["type"], plugin["ipMasq"], plugin["mtu"]) == ("ptp", True, 1400)
    assert plugin["ipam"]["routes"] == [{"dst": "0.0.0.0/0"}]
    assert portmap == {"type": "portmap", "capabilities": {"portMappings": True}}


def test_without_a_way_out_there_is_no_default_route() -> None:
    assert "routes" not in main("lan -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 --internal")["ipam"]
    (plugin,) = made("point -d ptp --internal")["plugins"]
    assert "routes" not in plugin["ipam"] and "ipMasq" not in plugin


def test_addresses_that_are_asked_for_go_by_the_gateway_that_is_named() -> None:
    plugin = main("lan -d macvlan -o parent=eth0 --ipam-driver static --gateway 192.0.2.1 --gateway 2001:db8::1")
    assert plugin["ipam"] == {
        "type": "static",
        "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0", "gw": "2001:db8::1"}],
    }
    assert main("lan -d macvlan --ipam-driver dhcp")["ipam"] == {"type": "dhcp"}
    assert "ipam" not in main("lan -d macvlan --ipam-driver none")


def test_only_what_a_plugin_takes_is_declared() -> None:
    """A wish that is declared and not granted would be lost in silence."""
    declared = {driver: set(drivers.DRIVERS[driver].capabilities) for driver in drivers.DRIVERS}
    takes_mac = {driver for driver, wishes in declared.items() if "mac" in wishes}
    assert takes_mac == {"bridge", "macvlan"}  # CONVENTIONS.md, "mac": tuning, bridge, macvlan, tap


# --- refusals ---


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("none", "a network cannot be called 'none'"),
        ("../x", "invalid network name '../x'"),
        ("x -d overlay", "no driver 'overlay'"),
        ("x --subnet 10.0.0.0", "--subnet: '10.0.0.0' has no prefix length"),
        ("x --subnet 10.0.0.1/24", "host bits set (the network is 10.0.0.0/24)"),
        ("x --subnet 10.0.0.0/33", "no valid prefix length"),
        ("x --subnet 10.0.0.0/31", "too small"),
        ("x --subnet fd00::/127", "too small"),
        ("x --subnet 127.1.0.0/16", "127.0.0.0/8 has a meaning of its own"),
        ("x --subnet 0.0.0.0/0", "has a meaning of its own"),
        ("x --subnet fe80::/64", "fe80::/10 has a meaning of its own"),
        ("x --subnet 10.0.0.0/24 --subnet 10.1.0.0/24", "both IPv4"),
        ("x --subnet 10.0.0.0/24 --gateway 10.0.1.1", "--gateway 10.0.1.1 is not in 10.0.0.0/24"),
        ("x --subnet 10.0.0.0/24 --gateway fd00::1", "--gateway fd00::1 is not in 10.0.0.0/24"),
        ("x --subnet 10.0.0.0/24 --gateway 10.0.0.0", "is no host's address"),
        ("x --subnet 10.0.0.0/24 --gateway 10.0.0.255", "is no host's address"),
        ("x --subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2", "are both of 10.0.0.0/24"),
        ("x --subnet 10.0.0.0/24 --gateway nonsense", "'nonsense' is not an IP address"),
        ("x --gateway 10.0.0.1", "needs a --subnet"),
        ("x --ip-range 10.0.0.0/25", "needs a --subnet"),
        ("x --subnet 10.0.0.0/24 --ip-range 10.0.1.0/25", "is not in 10.0.0.0/24"),
        ("x --subnet 10.0.0.0/24 --ip-range 10.0.0.0/23", "larger than its subnet"),
        ("x --subnet 10.0.0.0/24 --ip-range 10.0.0.1/32", "10.0.0.1 is the gateway"),
        ("x --subnet 10.0.0.0/24 --ip-range 10.0.0.0/32", "has no address to give"),
        ("x --subnet 10.0.0.0/24 --ip-range 10.0.0.0/26 --ip-range 10.0.0.64/26", "given twice"),
        ("x -o parent=eth0", "invalid option 'parent=eth0' of driver bridge"),
        ("x -o mtu", "invalid option 'mtu'"),
        ("x -o mtu=67", "invalid option 'mtu=67'"),
        ("x -o mtu=1400 -o mtu=1500", "option mtu is given twice"),
        ("x -o bridge=much-too-long-a-name", "invalid option"),
        ("x -o masquerade=maybe", "invalid option"),
        ("x -o masquerade=true --internal", "for a network that the host routes for"),
        ("x -d macvlan -o mode=l2", "invalid option 'mode=l2'"),
        ("x -d vlan -o parent=eth0", "driver vlan needs -o vlan="),
        ("x -d vlan -o parent=eth0 -o vlan=4095", "invalid option 'vlan=4095'"),
        ("x -d ptp --ipam-driver dhcp", "--ipam-driver dhcp does not serve --driver ptp"),
        ("x -d vlan -o parent=eth0 -o vlan=1 --ipam-driver none", "does not serve"),
        ("x --ipam-driver nonsense", "does not serve"),
        ("x --ipam-driver dhcp --subnet 10.0.0.0/24", "of no use with --ipam-driver dhcp"),
        ("x --ipam-driver none --ipv6", "of no use with --ipam-driver none"),
        ("x --ipam-driver static --gateway 10.0.0.1", "needs a --subnet"),
        ("x -d macvlan --ipam-driver static --gateway 10.0.0.1 --gateway 10.0.0.2", "given twice for IPv4"),
        ("x --label =value", "invalid label"),
    ],
)
def test_what_cannot_be_is_a_usage_error_that_names_it(line: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(line)
    assert words in caught.value.message


# --- its place among others ---


def test_a_subnet_is_picked_that_no_list_no_address_and_no_route_has() -> None:
    host = Host({}, claims("10.144.1.7/24"), claims("10.144.2.0/23"))
    assert main("x", bridge("blue", "10.144.0.0/24"), host=host)["ipam"]["ranges"] == [[{"subnet": "10.144.4.0/24"}]]


def test_a_way_to_everywhere_is_in_nobodys_way() -> None:
    host = Host({}, (), claims("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "8000::/1", "e000::/3"))
    ranges = main("x --ipv6", host=host)["ipam"]["ranges"]
    assert ranges[0] == [{"subnet": "10.144.0.0/24"}] and len(ranges) == 2


def test_when_one_block_of_private_addresses_is_taken_the_next_is_used() -> None:
    host = Host({}, (), claims("10.0.0.0/8"))
    assert main("x", host=host)["ipam"]["ranges"] == [[{"subnet": "172.16.0.0/24"}]]
    taken = claims("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    with pytest.raises(Conflict, match="no /24 is free"):
        main("x", host=Host({}, (), taken))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**20 - 1), st.integers(12, 30)).map(
            lambda drawn: str(ipaddress.IPv4Network((0x0A900000 | drawn[0], drawn[1]), strict=False))
        ),
        max_size=30,
    )
)
def test_what_is_picked_overlaps_nothing(taken: list[str]) -> None:
    """Judged by ipaddress."""
    (item,) = main("x", host=Host({}, (), claims(*taken)))["ipam"]["ranges"][0]
    picked = ipaddress.ip_network(item["subnet"])
    assert not any(picked.overlaps(ipaddress.ip_network(other)) for other in taken)


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (bridge("blue", "10.9.0.0/16"), "overlaps 10.9.0.0/16 of network 'blue' (blue.conflist)"),
        (bridge("blue", "10.9.1.128/25"), "overlaps 10.9.1.128/25 of network 'blue'"),
        (
            bridge("old", "10.0.0.0/8", ipam={"type": "host-local", "subnet": "10.9.1.0/24"}),
            "overlaps 10.9.1.0/24 of network 'old'",
        ),
        (
            bridge("fixed", "", ipam={"type": "static", "addresses": [{"address": "10.9.1.7/24"}]}),
            "overlaps 10.9.1.0/24 of network 'fixed'",
        ),
    ],
)
def test_a_subnet_of_another_network_is_refused_unless_one_insists(taken: dict[str, Any], words: str) -> None:
    for driver in ("bridge", "macvlan", "ptp"):
        with pytest.raises(Conflict) as caught:
            made(f"x -d {driver} --subnet 10.9.1.0/24", taken)
        assert words in caught.value.message and "--force" in caught.value.hint
        assert made(f"x -d {driver} --subnet 10.9.1.0/24 --force", taken)["name"] == "x"


def test_a_subnet_that_the_host_is_in_or_goes_to_is_refused_where_it_would_route_for_it() -> None:
    for host in (Host({}, claims("10.9.0.1/16"), ()), Host({}, (), claims("10.9.0.0/16"))):
        for driver in ("bridge", "ptp"):
            with pytest.raises(Conflict, match=r"subnet 10\.9\.1\.0/24 overlaps address .* of eth0"):
                made(f"x -d {driver} --subnet 10.9.1.0/24", host=host)
        assert made("x -d macvlan -o parent=eth0 --subnet 10.9.0.0/16", host=host)["name"] == "x"


def test_lists_whose_IPAM_nobody_can_read_do_not_stand_in_the_way() -> None:
    odd = [
        bridge("a", "10.9.0.0/16", ipam={"type": "host-local", "ranges": "10.9.0.0/16"}),
        bridge("b", "10.9.0.0/16", ipam={"type": "host-local", "ranges": [[7]]}),
        bridge("c", "10.9.0.0/16", ipam={"type": "host-local", "subnet": "nonsense"}),
        bridge("d", "10.9.0.0/16", ipam=[]),
    ]
    assert made("x --subnet 10.9.0.0/16", *odd)["name"] == "x"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blue", "cni-blue"),
        ("a.b_c", "cni-a.b_c"),
        ("a-very-long-name", "cni-a-very-long"),
        ("twelve-chars", "cni-twelve-char"),
    ],
)
def test_the_bridge_is_called_after_the_network(name: str, expected: str) -> None:
    assert main(name)["bridge"] == expected


def test_a_bridge_is_one_networks_own() -> None:
    taken = bridge("blue", "10.9.0.0/24", bridge="cni-a-very-long")
    assert main("a-very-long-name", taken)["bridge"] == "cni-a-very-lon1"
    with pytest.raises(Conflict, match="bridge cni-a-very-long belongs to network 'blue'"):
        main("x -o bridge=cni-a-very-long", taken)
    assert main("x -o bridge=cni-a-very-long --force", taken)["bridge"] == "cni-a-very-long"
    with pytest.raises(Conflict, match="bridge cni0 belongs to network 'blue'"):  # the plugin's default
        main("x -o bridge=cni0", bridge("blue", "10.9.0.0/24", bridge=""))
    with pytest.raises(Conflict, match="link eth0 exists and is not a bridge"):
        main("x -o bridge=eth0", host=Host({"eth0": ""}, (), ()))


def test_a_bridge_that_an_earlier_network_left_is_used_again_if_it_has_no_other_address() -> None:
    left = Host({"cni-x": "bridge"}, claims("10.9.0.1/24", link="cni-x"), claims("10.9.0.0/24", link="cni-x"))
    assert main("x --subnet 10.9.0.0/24", host=left)["bridge"] == "cni-x"
    other = main("x --subnet 10.8.0.0/24", host=left)
    assert (other["bridge"], other["ipam"]["ranges"]) == ("cni-x1", [[{"subnet": "10.8.0.0/24"}]])
    assert main("x", host=Host({"cni-x": "veth"}, (), ()))["bridge"] == "cni-x1"


def test_a_bridge_that_people_made_keeps_its_address_as_the_gateway() -> None:
    theirs = Host({"br0": "bridge"}, claims("192.0.2.9/24", link="br0"), claims("192.0.2.0/24", link="br0"))
    with pytest.raises(Conflict, match=r"bridge br0 has the address 192\.0\.2\.9/24") as caught:
        main("x -o bridge=br0 --subnet 192.0.2.0/24", host=theirs)
    assert main(f"x -o bridge=br0 {caught.value.hint.partition(' makes')[0]}", host=theirs)["bridge"] == "br0"
    assert main("x -o bridge=br0 --ipam-driver dhcp", host=theirs)["bridge"] == "br0"
