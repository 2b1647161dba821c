"""What the portmap plugin is told: mappings, keys, results; and what it answers to those that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS, TABLES
from support.machine import Machine
from support.portmap import Portmap, elements, plain, tcp
from support.topology import A, Topology

from cni_plugins.sdk import nfnl, program

pytestmark = pytest.mark.leaves(*TABLES, *FOLDERS)


@pytest.fixture
def net(machine: Machine) -> Iterator[Topology]:
    with Topology(machine) as topology:
        yield topology


@pytest.fixture
def portmap() -> Portmap:
    return Portmap()


@pytest.mark.usefixtures("net")
def test_the_result_is_passed_on(portmap: Portmap) -> None:
    assert portmap.ok("ADD", "a", tcp(8080, 80)) == portmap.result("a")
    portmap.ok("DEL", "a")


def test_nothing_is_done_without_mappings(net: Topology, portmap: Portmap) -> None:
    assert portmap.ok("ADD", "a") == portmap.result("a")
    portmap.ok("CHECK", "a")
    portmap.ok("DEL", "a")
    assert net.machine.nft() == []


def test_ports_are_published_for_a_container_without_ipv6(net: Topology, portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), prevResult=plain(A))
    assert set(elements(net.machine)) == {"any4", "snat4", "inside4"}
    portmap.ok("DEL", "a")


@pytest.mark.usefixtures("net")
def test_a_mapping_that_leads_nowhere_is_said(portmap: Portmap) -> None:
    outcome = portmap("ADD", "a", tcp(8080, 80, "::"), prevResult=plain(A))
    assert outcome.exit == 0
    portmap.ok("DEL", "a")


@pytest.mark.parametrize(
    ("keys", "code", "words"),
    [
        ({"backend": "iptables"}, 2, 'backend: "iptables"'),
        ({"backend": "ipset"}, 7, "backend"),
        ({"masqAll": 1}, 7, "masqAll: expected true or false"),
        ({"markMasqBit": 32}, 7, "markMasqBit: expected an integer from 0 to 31"),
        ({"conditionsV6": "ip6 saddr ::1"}, 7, "conditionsV6: expected a list"),
        ({"masqall_": True}, 7, "masqall_: unknown key"),
        ({"conditionV4": []}, 7, "conditionV4: unknown key"),
        ({"snat": "yes"}, 7, "snat: expected true or false"),
        ({"prevResult": None}, 7, "prevResult is missing"),
    ],
)
def test_keys_that_are_not_served_are_refused_by_name(
    machine: Machine, portmap: Portmap, keys: dict[str, Any], code: int, words: str
) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), **keys)
    assert error["code"] == code
    assert words in error["msg"]
    assert machine.nft() == []


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"hostPort": 0, "containerPort": 80}, "runtimeConfig.portMappings[1].hostPort: expected an integer from 1"),
        ({"hostPort": 65536, "containerPort": 80}, "runtimeConfig.portMappings[1].hostPort"),
        (
            {"hostPort": "80", "containerPort": 80},
            'runtimeConfig.portMappings[1].hostPort: expected an integer, got "80"',
        ),
        ({"hostPort": 80}, "runtimeConfig.portMappings[1].containerPort: expected a port, got nothing"),
        (
            tcp(80, 80) | {"protocol": "icmp"},
            'runtimeConfig.portMappings[1].protocol: expected tcp or udp or sctp, got "icmp"',
        ),
        (tcp(80, 80, "localhost"), "runtimeConfig.portMappings[1].hostIP: 'localhost' is not an IP address"),
        (tcp(80, 80, "::1"), "runtimeConfig.portMappings[1].hostIP: expected another address"),
        (
            tcp(8080, 81),
            "runtimeConfig.portMappings[1].hostPort: expected each once, but host port 8080/tcp stands twice",
        ),
    ],
)
def test_B9_mappings_that_make_no_sense_are_refused_with_their_path(
    machine: Machine, portmap: Portmap, mapping: dict[str, Any], words: str
) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80), mapping)
    assert error["code"] == 7
    assert words in error["msg"]
    assert machine.nft() == []


def test_localhost_alone_without_snat_is_refused(machine: Machine, portmap: Portmap) -> None:
    error = portmap.fails("ADD", "a", tcp(8080, 80, "127.0.0.1"), snat=False)
    assert "without snat" in error["msg"]
    assert machine.nft() == []


@pytest.mark.usefixtures("net")
def test_the_same_mapping_twice_counts_once(portmap: Portmap) -> None:
    portmap.ok("ADD", "a", tcp(8080, 80), tcp(8080, 80), tcp(8080, 80) | {"protocol": "TCP"})
    portmap.ok("DEL", "a")


def test_status_names_what_is_missing_or_wrong(
    machine: Machine, portmap: Portmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    portmap.ok("STATUS", "")
    assert portmap.fails("STATUS", "", snat=1)["code"] == 7
    assert portmap.fails("STATUS", "", backend="iptables")["code"] == 2
    with monkeypatch.context() as patch:

        def absent(*_: object) -> None:
            raise OSError(93, "Protocol not supported")

        patch.setattr(nfnl, "Netlink", absent)
        error = portmap.fails("STATUS", "")
        assert error["code"] == 50 and "the kernel has no nftables" in error["msg"]
    with monkeypatch.context() as patch:
        patch.setattr(program, "FOLDERS", ("/nowhere",))
        patch.setenv("PATH", "/nowhere")
        error = portmap.fails("STATUS", "")
        assert error["code"] == 50 and "nft program is missing" in error["msg"]
    assert machine.nft() == []
