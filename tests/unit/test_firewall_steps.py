"""What the firewall plugin does, as the commands that a person would type: no root, no kernel."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.firewall import configure
from cni_plugins.sdk import firewalld, guard, walls, xtables
from cni_plugins.sdk.links import SetPort
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.nfnl import Nftables
from cni_plugins.sdk.program import Said
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.walls import Wall
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address
from cni_plugins.spec.record import replace

A, A6 = parse_address("10.1.0.2"), parse_address("fd00::2")


class Made(Nftables):
    """A kernel that has our table already."""

    def rules(self, table: str, family: str = "inet") -> list[str]:
        return [f"{family} {table}"]


@pytest.fixture
def no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose iptables has no rule, and no chain."""
    monkeypatch.setattr(xtables, "_run", lambda *_: Said(1, ""))


WALL = Wall("net", Owner("web", "eth0"), "nftables", (A,), "same-bridge", "cni0")


def test_a_guarded_bridge_is_two_elements_and_an_isolated_one_three() -> None:
    words = guard.Guard(Made(), WALL).describe().split("\n")
    assert words == [
        "nft 'add element inet cni_firewall guarded { \"cni0\" }'",
        'nft \'add element inet cni_firewall inside { "cni0" . "cni0" }\'',
    ]
    isolated = guard.Guard(Made(), replace(WALL, policy="isolated")).describe().split("\n")
    assert isolated == [*words, 'nft \'add element inet cni_firewall closed { "cni0" . "cni0" }\'']


def test_a_port_of_an_isolated_bridge_is_isolated_and_no_other() -> None:
    assert [type(step).__name__ for step in guard.steps(WALL, Nftables())] == ["Guard"]
    *_, last = guard.steps(replace(WALL, policy="isolated", port="veth1"), Nftables())
    assert last == SetPort(Namespace(), "veth1", isolated=True)
    assert last.describe() == "ip link set veth1 type bridge_slave isolated on"


@pytest.mark.usefixtures("no_rules")
def test_what_iptables_is_told_is_what_a_person_types() -> None:
    wall = replace(WALL, backend="iptables", addresses=(A, A6), admin="SITE")
    lines = xtables.Accept(wall).describe().split("\n")
    assert [line for line in lines if line.startswith("iptables")] == [
        "iptables -w 2 -N CNI-FORWARD",
        "iptables -w 2 -I FORWARD 1 -m comment --comment 'CNI firewall plugin rules' -j CNI-FORWARD",
        "iptables -w 2 -N SITE",
        "iptables -w 2 -I CNI-FORWARD 1 -m comment --comment 'CNI firewall plugin admin overrides' -j SITE",
        "iptables -w 2 -A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "iptables -w 2 -A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT",
        "iptables -w 2 -A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate DNAT"
        " -m comment --comment 'CNI firewall plugin published ports' -j ACCEPT",
    ]
    assert len(lines) == 14
    assert lines[-2] == "ip6tables -w 2 -A CNI-FORWARD -s fd00::2/128 -j ACCEPT"


@pytest.mark.usefixtures("no_rules")
def test_a_bridge_is_guarded_before_anything_is_accepted() -> None:
    lines = xtables.GuardBridge(replace(WALL, backend="iptables")).describe().split("\n")
    comment = "-m comment --comment 'CNI firewall plugin rules (ingressPolicy: same-bridge)'"
    assert lines == [
        "iptables -w 2 -N CNI-ISOLATION-STAGE-2",
        "iptables -w 2 -N CNI-ISOLATION-STAGE-1",
        f"iptables -w 2 -I FORWARD 1 -j CNI-ISOLATION-STAGE-1 {comment}",
        "iptables -w 2 -I CNI-ISOLATION-STAGE-1 1 -i cni0 '!' -o cni0"
        f" -m conntrack '!' --ctstate RELATED,ESTABLISHED,DNAT -j CNI-ISOLATION-STAGE-2 {comment}",
        f"iptables -w 2 -I CNI-ISOLATION-STAGE-2 1 -o cni0 -j DROP {comment}",
    ]


def test_firewalld_is_asked_for_each_address_in_its_zone() -> None:
    wall = replace(WALL, backend="firewalld", addresses=(A, A6), zone="trusted")
    assert [step.describe() for step in firewalld.steps(wall, Nftables())] == [
        "firewall-cmd --zone=trusted --add-source=10.1.0.2/32",
        "firewall-cmd --zone=trusted --add-source=fd00::2/128",
    ]


def test_firewalld_guards_bridges_in_nftables() -> None:
    wall = replace(WALL, backend="firewalld", zone="trusted")
    steps = [type(step).__name__ for step in walls.steps(wall, Nftables())]
    assert steps == ["Remember", "AddSource", "Guard"]


def test_open_on_a_host_without_a_firewall_is_a_record_and_nothing_else() -> None:
    steps = walls.steps(replace(WALL, policy="open", bridge=""), Nftables())
    assert [step.describe() for step in steps] == [""]


@pytest.mark.parametrize("words", ["Call failed: ", "Error org.fedoraproject.FirewallD1.Exception: "])
def test_firewalld_gives_its_reason_by_a_name(words: str) -> None:
    with pytest.raises(CniError) as caught:
        firewalld._refused(f"{words}INVALID_ZONE: nowhere")
    assert (caught.value.code, caught.value.msg) == (7, "firewalld: INVALID_ZONE: nowhere")


@pytest.mark.parametrize(
    "words",
    ['Call failed: Name "org.fedoraproject.FirewallD1" does not exist', "Failed to connect to bus: No such file", ""],
)
def test_a_bus_that_has_no_firewalld_is_code_50(words: str) -> None:
    with pytest.raises(CniError) as caught:
        firewalld._refused(words)
    assert (caught.value.code, caught.value.msg) == (50, "firewalld cannot be reached")


@pytest.mark.parametrize("name", ["-X", "!", "a b", "a\tb", "x" * 29])
def test_a_chain_is_named_so_that_no_program_takes_it_for_anything_else(name: str) -> None:
    conf: dict[str, Any] = {"iptablesAdminChainName": name}
    with pytest.raises(CniError, match="iptablesAdminChainName: expected a name"):
        configure(View(conf))
