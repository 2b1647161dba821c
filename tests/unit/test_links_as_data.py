"""Kinds of links, and plugins that are one of them: keys, steps and messages. No kernel is touched."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from cni_plugins.sdk import kinds, rtmsg, taps
from cni_plugins.sdk.kinds import AddLink, Kind, Spot
from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.main import Request
from cni_plugins.sdk.netlink import frame, u32
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtnl import Link
from cni_plugins.sdk.single import Wish
from cni_plugins.sdk.taps import AddTap
from cni_plugins.spec import convert
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.steps import Step

HOST, INSIDE = Namespace(""), Namespace("/run/netns/web")
SPOT = Spot(HOST, INSIDE, "eth0", "eth1")
ALONE = Spot(INSIDE, INSIDE, "eth0")
MAC = "02:00:00:00:00:07"
IPAM: dict[str, Any] = {"ipam": {"type": "host-local"}}


def wished(kind: str, command: str = "ADD", said: dict[str, str] | None = None, **conf: Any) -> Wish:
    before = convert.decode(conf["prevResult"], "1.1.0") if "prevResult" in conf else None
    request = Request(command, "web", INSIDE.path, "eth0", said or {}, (), View(conf), "1.1.0", "net", before, b"", {})
    return importlib.import_module(f"cni_plugins.{kind}").configure(request)  # type: ignore[no-any-return]


def commands(steps: list[Step]) -> list[str]:
    return [step.describe() for step in steps]


# --- steps and messages ---------------------------------------------------------------------------------------------


def test_a_link_is_born_by_what_a_person_would_type() -> None:
    assert commands(kinds.macvlan("vepa", 9).birth(SPOT, MAC, 1400)) == [
        f"ip link add eth0 link eth1 address {MAC} mtu 1400 netns web type macvlan mode vepa bcqueuelen 9"
    ]
    assert commands(kinds.ipvlan("l3s").birth(SPOT, "", 0)) == [
        "ip link add eth0 link eth1 netns web type ipvlan mode l3s"
    ]
    inside = Spot(INSIDE, INSIDE, "eth0", "eth1")
    assert commands(kinds.vlan(7).birth(inside, "", 0)) == ["ip -n web link add eth0 link eth1 type vlan id 7"]
    assert commands(kinds.DUMMY.birth(ALONE, MAC, 0)) == [f"ip -n web link add eth0 address {MAC} type dummy"]


def test_one_that_has_its_parents_address_is_given_another_afterwards() -> None:
    kind = kinds.macvlan("passthru")
    assert kind.birth(SPOT, "", 0) == [AddLink(HOST, INSIDE, "eth0", kind, "eth1")]
    assert kind.birth(SPOT, MAC, 0) == [AddLink(HOST, INSIDE, "eth0", kind, "eth1"), SetLink(INSIDE, "eth0", mac=MAC)]


def test_a_tap_is_made_and_then_set() -> None:
    tap = taps.tap(1000, 100, multi_queue=True, bridge="br0")
    assert commands(tap.birth(ALONE, MAC, 1400)) == [
        "ip netns exec web ip tuntap add dev eth0 mode tap user 1000 group 100 multi_queue",
        f"ip -n web link set eth0 address {MAC} master br0 mtu 1400",
    ]
    assert commands(taps.tap(None, None).birth(ALONE, "", 0)) == ["ip netns exec web ip tuntap add dev eth0 mode tap"]
    labelled = AddTap(INSIDE, "eth0", taps.tap(None, None, label="system_u:system_r:c_t:s0"))
    assert labelled.describe() == ("ip netns exec web runcon system_u:system_r:c_t:s0 ip tuntap add dev eth0 mode tap")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (kinds.macvlan("private", 9), {"IFLA_MACVLAN_MODE": "private"}),
        (kinds.ipvlan("l3"), {"IFLA_IPVLAN_MODE": 1}),
        (kinds.vlan(4094), {"IFLA_VLAN_ID": 4094}),
    ],
    ids=str,
)
def test_pyroute2_reads_the_message_as_it_is_meant(kind: Kind, data: dict[str, Any]) -> None:
    sent = rtmsg.link_add("eth0", kind.name, kind.data, mac=MAC, mtu=1400, parent=7, netns=5, index=9)
    read = ifinfmsg(frame(sent, 1))
    read.decode()
    attributes = {key: read.get_attr(key) for key in ("IFLA_IFNAME", "IFLA_LINK", "IFLA_NET_NS_FD", "IFLA_MTU")}
    assert attributes == {"IFLA_IFNAME": "eth0", "IFLA_LINK": 7, "IFLA_NET_NS_FD": 5, "IFLA_MTU": 1400}
    assert (read["index"], read.get_attr("IFLA_ADDRESS")) == (9, MAC)
    info = read.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == kind.name
    known = info.get_attr("IFLA_INFO_DATA")
    assert {key: known.get_attr(key) for key in data} == data


def test_a_link_that_is_not_as_it_was_told_is_found_out() -> None:
    kind = kinds.macvlan("bridge", 9)
    assert kind.problem(INSIDE, Link(2, "eth0", "macvlan", data=kind.data)) == ""
    more = kind.data + u32(8, 1000)  # the kernel says more than it was told
    assert kind.problem(INSIDE, Link(2, "eth0", "macvlan", data=more)) == ""
    for other in (kinds.macvlan("vepa", 9), kinds.macvlan("bridge", 8), kinds.macvlan("bridge")):
        said = kind.problem(INSIDE, Link(2, "eth0", "macvlan", data=other.data))
        assert said == "is not of type macvlan mode bridge bcqueuelen 9"
    assert kind.problem(INSIDE, Link(2, "eth0", "ipvlan", data=kind.data)) != ""


# --- the keys -------------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_the_references_meaning() -> None:
    wish = wished("macvlan")
    assert (wish.kind, wish.parent, wish.layer3, wish.mtu) == (kinds.macvlan("bridge"), "", False, 0)
    assert wished("ipvlan", **IPAM).kind == kinds.ipvlan("l2")
    assert wished("vlan", master="eth1", **IPAM).kind == kinds.vlan(0)
    assert wished("dummy", **IPAM).parent is None
    assert wished("tap").kind == taps.tap(None, None)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("macvlan", {"mode": "brigde"}, 'mode: expected one of bridge, private, vepa, passthru, got "brigde"'),
    ("macvlan", {"mtu": "1400"}, 'mtu: expected an integer, got "1400"'),
    ("macvlan", {"mtu": -1}, "mtu: expected an integer from 0 to 65535, got -1"),
    ("macvlan", {"bcqueuelen": True}, "bcqueuelen: expected an integer, got true"),
    ("macvlan", {"linkInContainer": "yes"}, 'linkInContainer: expected true or false, got "yes"'),
    ("macvlan", {"master": "a/b"}, "master: invalid interface name 'a/b'"),
    ("macvlan", {"mac": "01:00:00:00:00:01"}, "mac: '01:00:00:00:00:01' is not the hardware address of a single"),
    ("macvlan", {"mastre": "eth1"}, "mastre: unknown key"),
    ("ipvlan", {"mode": "l4"} | IPAM, 'mode: expected one of l2, l3, l3s, got "l4"'),
    ("ipvlan", {}, "ipam.type: missing"),
    ("vlan", IPAM, "master: missing"),
    ("vlan", {"master": "eth1"}, "ipam.type: missing"),
    ("vlan", {"master": "eth1", "vlanId": 4095} | IPAM, "vlanId: expected an integer from 0 to 4094, got 4095"),
    ("vlan", {"master": "eth1", "vlanId": "110"} | IPAM, 'vlanId: expected an integer, got "110"'),
    ("vlan", {"master": "eth1", "vlanid_": 5} | IPAM, "vlanid_: unknown key"),
    ("dummy", {}, "dummy interface requires an IPAM configuration"),
    ("tap", {"owner": "root"}, 'owner: expected an integer, got "root"'),
    ("tap", {"group": 2**32}, "group: expected an integer from 0 to 4294967295, got 4294967296"),
    ("tap", {"multiqeue": True}, "multiqeue: unknown key"),
]


@pytest.mark.parametrize(("kind", "conf", "said"), WRONG, ids=[said for _kind, _conf, said in WRONG])
def test_a_wrong_value_is_named_with_its_path(kind: str, conf: dict[str, Any], said: str) -> None:
    with pytest.raises(CniError) as told:
        wished(kind, **conf)
    assert told.value.code == INVALID_CONFIG
    assert told.value.msg.startswith(said)


def test_a_selinux_context_is_refused_where_there_is_no_selinux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taps, "SELINUX", "/nowhere")
    with pytest.raises(CniError) as told:
        wished("tap", selinuxContext="system_u:system_r:c_t:s0")
    assert told.value.code == UNSUPPORTED_FIELD
    monkeypatch.setattr(taps, "SELINUX", "/")
    kind = wished("tap", selinuxContext="system_u:system_r:c_t:s0").kind
    assert isinstance(kind, taps.Tap)
    assert kind.label == "system_u:system_r:c_t:s0"


def test_hardware_addresses_are_derived_asked_for_or_the_parents() -> None:
    derived = wished("macvlan").mac
    assert derived == wished("macvlan").mac == wished("tap").mac != ""
    places: list[dict[str, Any]] = [{"mac": "02:00:00:00:00:01"}, {"args": {"cni": {"mac": "02:00:00:00:00:03"}}}]
    assert wished("macvlan", **places[0]).mac == "02:00:00:00:00:01"
    assert wished("macvlan", said={"MAC": "02:00:00:00:00:02"}, **places[0]).mac == "02:00:00:00:00:02"
    assert wished("macvlan", said={"MAC": "02:00:00:00:00:02"}, **places[1]).mac == "02:00:00:00:00:03"
    assert wished("macvlan", mode="passthru").mac == ""
    assert wished("ipvlan", **IPAM).mac == ""


def test_a_chained_ipvlan_stands_on_what_the_plugin_before_made() -> None:
    before = {"interfaces": [{"name": "ens1"}], "ips": [{"address": "10.1.0.7/24", "interface": 0}]}
    wish = wished("ipvlan", prevResult=before)
    assert (wish.parent, wish.given is not None) == ("ens1", True)
    assert wished("ipvlan", prevResult=before, **IPAM).given is None
    assert wished("ipvlan", prevResult=before, master="ens2").parent == "ens2"
    # CHECK is given what ipvlan itself made, and STATUS nothing at all.
    assert wished("ipvlan", command="CHECK", prevResult=before).parent == ""
    assert wished("ipvlan", command="STATUS").parent is None
    for interfaces in ([], [{"name": "a"}, {"name": "b"}]):
        others = {"interfaces": interfaces, "ips": [{"address": "10.1.0.7/24"}]}
        with pytest.raises(CniError, match="master is not given, and the plugin before has"):
            wished("ipvlan", prevResult=others)
