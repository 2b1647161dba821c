"""What the bridge plugin would do, as lists of steps: no kernel is touched and no root is needed."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.bridge import Config, Found, addressed, after, before, configure
from cni_plugins.sdk import naming
from cni_plugins.sdk.hostends import Ends
from cni_plugins.sdk.links import AddBridge, AddVeth, SetLink, SetPort, Together
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtnl import Link
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.sdk.vlans import Vlans
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.result import Dns, Ip, Result, Route
from cni_plugins.spec.steps import Step

HOST, INSIDE = Namespace(""), Namespace("/run/netns/web")
ENDS = Ends(HOST, "veth0a1b2c3d", "02:00:00:00:00:01", "cni net web eth0", INSIDE, "eth0", "02:00:00:00:00:02")
THERE = Link(7, "cni0", "bridge", flags=1, mac="02:00:00:00:00:07")
GATEWAY = Config(gateway=True, layer3=True)


def request(conf: dict[str, Any], args: dict[str, str] | None = None) -> Request:
    return Request("ADD", "web", INSIDE.path, "eth0", args or {}, (), View(conf), "1.1.0", "net", None, b"", {})


def configured(conf: dict[str, Any], **args: str) -> Config:
    return configure(request(conf, args))


def commands(steps: list[Step]) -> list[str]:
    return [line for step in steps for line in step.describe().splitlines()]


def ip(address: str, gateway: str = "") -> Ip:
    return Ip(parse_cidr(address), parse_address(gateway) if gateway else None)


# --- the configuration ----------------------------------------------------------------------------------------------


def test_an_empty_configuration_is_layer_2_on_cni0() -> None:
    assert configured({}) == Config(bridge="cni0")


def test_every_key_is_read() -> None:
    conf = {
        "bridge": "br9",
        "isDefaultGateway": True,
        "forceAddress": True,
        "ipMasq": True,
        "ipMasqBackend": "nftables",
        "mtu": 1400,
        "hairpinMode": True,
        "ipam": {"type": "host-local"},
        "dns": {"domain": "example.org"},
    }
    assert configured(conf) == Config(
        bridge="br9",
        gateway=True,
        default_gateway=True,
        force_address=True,
        masquerade=True,
        mtu=1400,
        hairpin=True,
        layer3=True,
        dns=Dns(domain="example.org"),
    )


def test_keys_match_whatever_their_case_as_in_go() -> None:
    assert configured({"ipmasq": True, "ISGATEWAY": True}) == Config(masquerade=True, gateway=True)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"mtu": "1400"}, "mtu: expected an integer"),
        ({"mtu": -1}, "mtu: expected an integer from 0 to 65535"),
        ({"ipMasq": "yes"}, "ipMasq: expected true or false"),
        ({"isGateway": 1}, "isGateway: expected true or false"),
        ({"bridge": "a/b"}, "bridge: invalid interface name 'a/b'"),
        ({"bridge": "sixteen-bytes-xx"}, "bridge: invalid interface name"),
        ({"hairpinMode": True, "promiscMode": True}, "hairpinMode and promiscMode"),
        ({"ipMasqBackend": "pf"}, 'ipMasqBackend: expected "nftables"'),
        ({"args": {"cni": {"mac": "01:00:5e:00:00:01"}}}, "args.cni.mac: '01:00:5e:00:00:01' is not the hardware"),
        ({"runtimeConfig": {"mac": "zz"}}, "runtimeConfig.mac: 'zz' is not a hardware address"),
        ({"dns": {"nameservers": "1.1.1.1"}}, "dns.nameservers: expected a list"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as caught:
        configured(conf)
    assert caught.value.code == INVALID_CONFIG
    assert caught.value.msg.startswith(said)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"vlan": "100"}, "vlan: expected an integer"),
        ({"vlan": False}, "vlan: expected an integer"),
        ({"vlan": -100}, "vlan: expected an integer from 0 to 4094"),
        ({"vlan": 5000}, "vlan: expected an integer from 0 to 4094"),
        ({"vlanTrunk": {}}, "vlanTrunk: expected a list"),
        ({"vlanTrunk": [101]}, "vlanTrunk[0]: expected an object"),
        ({"vlanTrunk": [{"id": 1}, {}]}, "vlanTrunk[1]: names no VLAN"),
        ({"vlanTrunk": [{"id": 0}]}, "vlanTrunk[0].id: expected an integer from 1 to 4094"),
        ({"vlanTrunk": [{"id": 4095}]}, "vlanTrunk[0].id: expected an integer from 1 to 4094"),
        ({"vlanTrunk": [{"minID": 5}]}, "vlanTrunk[0]: minID stands alone"),
        ({"vlanTrunk": [{"maxID": 5}]}, "vlanTrunk[0]: maxID stands alone"),
        ({"vlanTrunk": [{"minID": 0, "maxID": 5}]}, "vlanTrunk[0].minID: expected an integer from 1 to 4094"),
        ({"vlanTrunk": [{"minID": 5, "maxID": 4095}]}, "vlanTrunk[0].maxID: expected an integer from 1 to 4094"),
        ({"vlanTrunk": [{"minID": 9, "maxID": 5}]}, "vlanTrunk[0]: minID 9 is greater than maxID 5"),
        ({"preserveDefaultVlan": 1}, "preserveDefaultVlan: expected true or false"),
        ({"macspoofchk": "on"}, "macspoofchk: expected true or false"),
        ({"isGatway": True}, "isGatway: unknown key"),
        ({"ipam": {"type": "host-local"}, "disableContainerInterface": True}, "disableContainerInterface and ipam"),
        (
            {"ipam": {"type": "static"}, "isGateway": True, "vlan": 4094, "bridge": "a-long-name"},
            "bridge: 'a-long-name.4094', the gateway's name on this VLAN, is longer",
        ),
    ],
)
def test_a_mistake_about_vlans_and_ports_is_named_with_its_path(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as caught:
        configured(conf)
    assert caught.value.code == INVALID_CONFIG
    assert caught.value.msg.startswith(said)


def test_a_backend_that_is_not_served_is_refused_and_named() -> None:
    with pytest.raises(CniError) as caught:
        configured({"ipMasqBackend": "iptables"})
    assert caught.value.code == UNSUPPORTED_FIELD
    assert caught.value.msg.startswith("ipMasqBackend: ")


@pytest.mark.parametrize(
    "conf",
    [
        {"vlan": 0, "vlanTrunk": [], "macspoofchk": False, "portIsolation": False, "enabledad": False},
        {"disableContainerInterface": False, "preserveDefaultVlan": False},
        {"vlan": None, "vlanTrunk": None},
    ],
)
def test_keys_that_ask_for_nothing_are_no_trouble(conf: dict[str, Any]) -> None:
    assert configured(conf) == Config()


@pytest.mark.parametrize(
    ("conf", "vlans"),
    [
        ({"vlan": 100}, Vlans(100)),
        ({"vlanTrunk": [{"id": 101}]}, Vlans(0, ((101, 101),))),
        ({"vlanTrunk": [{"minID": 200, "maxID": 210}, {"id": 5}]}, Vlans(0, ((200, 210), (5, 5)))),
        ({"vlanTrunk": [{"id": 5, "minID": 7, "maxID": 7}]}, Vlans(0, ((5, 5), (7, 7)))),
        ({"vlan": 3, "vlanTrunk": [{"id": 4}], "preserveDefaultVlan": True}, Vlans(3, ((4, 4),), True)),
    ],
)
def test_vlans_are_read(conf: dict[str, Any], vlans: Vlans) -> None:
    assert configured(conf).vlans == vlans


def test_a_hardware_address_is_taken_from_the_strongest_place() -> None:
    weak, middle, strong = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
    in_args = {"args": {"cni": {"mac": middle}}}
    assert configured({}, MAC=weak).mac == weak
    assert configured(in_args, MAC=weak).mac == middle
    assert configured(in_args | {"runtimeConfig": {"mac": strong.upper()}}, MAC=weak).mac == strong


def test_an_empty_list_of_nameservers_counts_as_given() -> None:
    assert configured({"dns": {"nameservers": []}}).dns == Dns()
    assert configured({"dns": {}}).dns is None


# --- the links ------------------------------------------------------------------------------------------------------


def test_the_commands_are_those_that_a_person_would_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "machine_id", lambda: "0123456789abcdef")
    given = addressed(
        Config(default_gateway=True, gateway=True, layer3=True), Result(ips=(ip("10.1.0.2/24"), ip("fd00:1::2/64")))
    )
    config = Config(default_gateway=True, gateway=True, layer3=True, mtu=1400, hairpin=True)
    assert commands([*before(config, ENDS, Found()), *after(config, ENDS, Found(), given)]) == [
        "ip link add cni0 address 4e:b0:20:81:f9:b4 mtu 1400 type bridge",
        "sysctl -w net/ipv6/conf/cni0/accept_ra=0",
        "sysctl -w net/ipv6/conf/cni0/accept_dad=0",
        "ip link set cni0 up",
        "ip link add veth0a1b2c3d up address 02:00:00:00:00:01 mtu 1400 master cni0 "
        "type veth peer name eth0 address 02:00:00:00:00:02 mtu 1400 netns web",
        "ip link set veth0a1b2c3d alias 'cni net web eth0'",
        "ip link set veth0a1b2c3d type bridge_slave hairpin on",
        "sysctl -w net/ipv6/conf/veth0a1b2c3d/accept_ra=0",
        "ip addr add 10.1.0.1/24 dev cni0 brd +",
        "ip addr add fd00:1::1/64 dev cni0 nodad",
        "sysctl -w net/ipv4/ip_forward=1",
        "sysctl -w net/ipv6/conf/all/forwarding=1",
        "ip netns exec web sysctl -w net/ipv4/conf/eth0/arp_notify=1",
        "ip netns exec web sysctl -w net/ipv6/conf/eth0/ndisc_notify=1",
        "ip netns exec web sysctl -w net/ipv6/conf/eth0/accept_dad=0",
        "ip netns exec web sysctl -w net/ipv6/conf/eth0/disable_ipv6=0",
        "ip netns exec web sysctl -w net/ipv6/conf/lo/disable_ipv6=0",
        "ip netns exec web sysctl -w net/ipv6/conf/eth0/keep_addr_on_down=1",
        "ip -n web addr add 10.1.0.2/24 dev eth0 brd +",
        "ip -n web addr add fd00:1::2/64 dev eth0 nodad",
        "ip -n web link set eth0 up",
        "ip -n web route prepend default via 10.1.0.1 dev eth0",
        "ip -n web -6 route prepend default via fd00:1::1 dev eth0",
    ]


def test_a_bridge_that_is_there_is_left_as_it_is() -> None:
    assert before(Config(), ENDS, Found(THERE)) == [
        Together(
            HOST,
            (
                AddVeth(HOST, ENDS.port, ENDS.port_mac, INSIDE, "eth0", ENDS.mac, "cni0", 0),
                SetLink(HOST, ENDS.port, alias=ENDS.alias),
            ),
        ),
        SetSysctl(HOST, f"net/ipv6/conf/{ENDS.port}/accept_ra", "0", optional=True),
    ]


def test_a_bridge_that_is_down_is_raised_and_made_promiscuous_where_asked() -> None:
    down = Link(7, "cni0", "bridge", flags=0)
    assert before(Config(promisc=True), ENDS, Found(down))[0] == SetLink(HOST, "cni0", up=True, promisc=True)
    assert before(Config(promisc=True), ENDS, Found(THERE))[0] == SetLink(HOST, "cni0", promisc=True)


def test_the_pair_is_one_batch_and_hairpin_is_part_of_it() -> None:
    pair = next(step for step in before(Config(hairpin=True), ENDS, Found(THERE)) if isinstance(step, Together))
    assert [type(step) for step in pair.steps] == [AddVeth, SetLink, SetPort]


def test_the_bridges_hardware_address_is_given_and_follows_from_its_name() -> None:
    macs = set()
    for name in ("cni0", "cni0", "cni1"):
        made = before(Config(bridge=name), ENDS, Found())[0]
        assert isinstance(made, AddBridge)
        macs.add(made.mac)
    assert len(macs) == 2


def test_a_port_of_vlans_is_told_so_and_its_bridge_too() -> None:
    config = Config(vlans=Vlans(100, ((101, 101), (200, 210))), isolated=True)
    port = f"dev {ENDS.port}"
    lines = commands(before(config, ENDS, Found()))
    assert "ip link set cni0 type bridge vlan_filtering 1" in lines
    assert lines.index("ip link set cni0 type bridge vlan_filtering 1") < lines.index("ip link set cni0 up")
    assert f"ip link set {ENDS.port} type bridge_slave isolated on" in lines
    assert [line for line in lines if line.startswith("bridge")] == [
        f"bridge vlan del {port} vid 1-4094",
        f"bridge vlan add {port} vid 101",
        f"bridge vlan add {port} vid 200-210",
        f"bridge vlan add {port} vid 100 pvid untagged",
    ]


def test_a_trunk_alone_has_vlan_1_without_a_tag_and_a_default_may_stay() -> None:
    config = Config(vlans=Vlans(0, ((7, 7),), keep_default=True))
    assert [line for line in commands(before(config, ENDS, Found())) if line.startswith("bridge")] == [
        f"bridge vlan add dev {ENDS.port} vid 7",
        f"bridge vlan add dev {ENDS.port} vid 1 pvid untagged",
    ]


def test_a_bridge_of_somebody_elses_is_not_made_to_filter_vlans() -> None:
    with pytest.raises(CniError, match="cni0 does not filter VLANs, and it was not made by this plugin") as caught:
        before(Config(vlans=Vlans(7)), ENDS, Found(THERE))
    assert "ip link set cni0 type bridge vlan_filtering 1" in caught.value.details
    ours = Link(7, "cni0", "bridge", flags=1, mac=naming.derived_mac("bridge", "cni0"))
    assert commands(before(Config(vlans=Vlans(7)), ENDS, Found(ours)))[0].endswith("type bridge vlan_filtering 1")


def test_detection_of_duplicates_asks_when_frames_pass_and_waits_for_the_answer() -> None:
    given = Result(ips=(ip("10.1.0.2/24"), ip("fd00:1::2/64")))
    lines = commands(after(Config(layer3=True, detect=True), ENDS, Found(), given))
    inside = "ip netns exec web sysctl -w net/ipv6/conf/eth0/"
    assert {f"{inside}accept_dad=1", f"{inside}enhanced_dad=1"} <= set(lines)
    assert lines[-5:] == [
        f"sh -c 'until ip link show dev {ENDS.port} | grep -q \"state UP\"; do sleep 0.02; done'",
        "ip -n web addr add 10.1.0.2/24 dev eth0 brd +",
        "ip -n web addr add fd00:1::2/64 dev eth0",
        "ip -n web link set eth0 up",
        "sh -c 'while ip -n web -6 addr show dev eth0 tentative | grep -q inet6; do sleep 0.1; done'",
    ]


def test_an_interface_that_is_to_stay_down_is_not_raised() -> None:
    assert after(Config(disabled=True), ENDS, Found(), Result()) == []


def test_a_link_of_the_bridges_name_that_is_none_is_an_error() -> None:
    with pytest.raises(CniError, match="cni0 exists and is not a bridge, but of kind dummy"):
        before(Config(), ENDS, Found(Link(7, "cni0", "dummy")))


def test_without_ipam_the_interface_is_raised_and_nothing_else() -> None:
    assert after(Config(), ENDS, Found(), Result()) == [SetLink(INSIDE, "eth0", up=True)]


# --- the addresses of the bridge ------------------------------------------------------------------------------------


def on_the_bridge(there: tuple[str, ...], wanted: str, force: bool = False) -> list[str]:
    config = Config(gateway=True, layer3=True, force_address=force)
    steps = after(
        config, ENDS, Found(THERE, tuple(map(parse_cidr, there))), addressed(config, Result((), (ip(wanted),)))
    )
    return [line for line in commands(steps) if "dev cni0" in line]


@pytest.mark.parametrize(
    ("there", "wanted", "added"),
    [
        ((), "10.1.0.2/24", ["ip addr add 10.1.0.1/24 dev cni0 brd +"]),
        (("10.1.0.1/24",), "10.1.0.2/24", []),
        (("10.1.0.1/24",), "10.1.0.77/24", []),
        (("fd00:1::1/64",), "fd00:2::2/64", ["ip addr add fd00:2::1/64 dev cni0 nodad"]),
        (("fd00:1::1/64",), "10.1.0.2/24", ["ip addr add 10.1.0.1/24 dev cni0 brd +"]),
    ],
)
def test_the_gateways_address_is_added_where_it_is_missing(
    there: tuple[str, ...], wanted: str, added: list[str]
) -> None:
    assert on_the_bridge(there, wanted) == added


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (("10.2.0.1/24",), "10.1.0.2/24"),
        (("10.1.0.1/16",), "10.1.0.2/24"),
        (("10.1.0.9/24",), "10.1.0.2/24"),
        (("fd00:1::9/64",), "fd00:1::2/64"),
        (("fd00:1::1/48",), "fd00:1::2/64"),
    ],
)
def test_another_address_in_the_way_is_an_error_unless_it_may_be_replaced(there: tuple[str, ...], wanted: str) -> None:
    with pytest.raises(CniError, match=f"cni0 already has an IP address different from .*: {there[0]}") as caught:
        on_the_bridge(there, wanted)
    assert caught.value.code == INTERNAL
    assert "forceAddress" in caught.value.details
    replaced = on_the_bridge(there, wanted, force=True)
    assert replaced[0] == f"ip addr del {there[0]} dev cni0"
    assert len(replaced) == 2


def test_two_subnets_of_one_network_are_not_in_each_others_way() -> None:
    given = addressed(GATEWAY, Result((), (ip("10.1.0.2/24"), ip("10.2.0.2/24"))))
    there = (parse_cidr("10.1.0.1/24"), parse_cidr("10.2.0.1/24"))
    for found in (Found(THERE), Found(THERE, there[:1]), Found(THERE, there)):
        lines = commands(after(GATEWAY, ENDS, found, given))
        assert sum("addr add" in line and "cni0" in line for line in lines) == 2 - len(found.addresses)


def test_a_bridge_that_others_made_keeps_its_hardware_address_once_it_is_a_gateway() -> None:
    given = addressed(GATEWAY, Result((), (ip("10.1.0.2/24"),)))
    pinned = SetLink(HOST, "cni0", mac=THERE.mac)
    assert pinned in after(GATEWAY, ENDS, Found(THERE), given)
    assert pinned not in after(GATEWAY, ENDS, Found(), given)


# --- gateways and default routes ------------------------------------------------------------------------------------

DEFAULT = Config(gateway=True, default_gateway=True, layer3=True)
ANY, ANY6 = parse_cidr("0.0.0.0/0"), parse_cidr("::/0")
ONE, OTHER = parse_address("10.1.0.1"), parse_address("10.1.0.254")


def routes(given: tuple[Route, ...], *ips: Ip) -> tuple[Route, ...]:
    return addressed(DEFAULT, Result((), ips or (ip("10.1.0.2/24"),), given)).routes


def test_a_default_route_is_added_for_each_family() -> None:
    assert routes((), ip("10.1.0.2/24"), ip("fd00::2/64", "fd00::9")) == (
        Route(ANY, ONE),
        Route(ANY6, parse_address("fd00::9")),
    )


def test_ipams_default_route_without_a_gateway_is_not_a_second_one() -> None:
    assert routes((Route(ANY),)) == (Route(ANY, ONE),)


def test_ipams_default_route_with_a_gateway_stands() -> None:
    assert routes((Route(ANY, OTHER),)) == (Route(ANY, OTHER),)


def test_a_default_route_of_another_table_or_metric_does_not_count() -> None:
    assert routes((Route(ANY, table=100),)) == (Route(ANY, table=100), Route(ANY, ONE))
    assert routes((Route(ANY, priority=50),)) == (Route(ANY, ONE, priority=50), Route(ANY, ONE))


def test_without_gateway_keys_what_ipam_gave_stands() -> None:
    given = Result((), (ip("10.1.0.2/24"),), (Route(ANY),))
    assert addressed(Config(layer3=True), given) == given


def test_an_ipam_without_addresses_is_an_error() -> None:
    with pytest.raises(CniError, match="gave no IP address"):
        addressed(GATEWAY, Result())
