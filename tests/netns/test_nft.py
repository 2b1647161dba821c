"""Elements and tables in a real kernel. The judge is the nft program."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support.machine import Machine
from support.topology import inside

from cni_plugins.sdk import program
from cni_plugins.sdk.elements import Element, Field, address, link, port, protocol, question, subnet
from cni_plugins.sdk.netlink import NETLINK_NETFILTER, NLM_F_ACK, Message, frame
from cni_plugins.sdk.nfnl import GENERIC, NFPROTO_INET, NFT_MSG_GETSETELEM, Change, Nftables, Refused
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_address, parse_cidr

pytestmark = pytest.mark.leaves("nft *")

TABLE = Table(
    "shop",
    (
        "map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }",
        "set links { type ifname . ipv6_addr; }",
        "set nets { type ipv4_addr; flags interval; }",
        "set nets6 { type ipv6_addr; flags interval; }",
        "set pairs { type ipv4_addr . ipv4_addr; flags interval; }",
        "set pairs6 { type ipv6_addr . ipv6_addr; flags interval; }",
        "set services { type inet_service; }",
    ),
    (Chain("input", "filter hook input priority 0", ("ip saddr @nets accept", "tcp dport @services accept")),),
)


def mapped(number: int, target: str = "10.1.0.5", comment: str = "web c1 eth0") -> Element:
    value = (address(parse_address(target)), port(8000))
    return Element("shop", "ports", (protocol("tcp"), port(number)), value, comment)


def nets(cidr: str, name: str = "nets") -> Element:
    fields: tuple[Field, ...] = (subnet(parse_cidr(cidr)),)
    return Element("shop", name, fields * (2 if "pairs" in name else 1), interval=True)


def creates(*elements: Element) -> list[Change]:
    return [Change("create", element) for element in elements]


def deletes(*elements: Element) -> list[Change]:
    return [Change("delete", element) for element in elements]


@pytest.fixture
def nftables(machine: Machine) -> Iterator[Nftables]:
    machine.run("nft", "-f", "-", input=str(TABLE))
    with Nftables() as opened:
        yield opened


def listed(machine: Machine) -> set[str]:
    """Every element in nft's own words."""
    text = machine.run("nft", "list", "table", "inet", "shop").stdout
    inner = [part.partition("}")[0] for part in text.split("elements = {")[1:]]
    return {" ".join(item.split()) for part in inner for item in part.split(",")}


ONE_OF_EACH = {
    'tcp . 80 comment "web c1 eth0" : 10.1.0.5 . 8000': mapped(80),
    '"cni0" . fd00::5': Element("shop", "links", (link("cni0"), address(parse_address("fd00::5")))),
    "10.1.0.0/16": nets("10.1.0.0/16"),
    "192.0.2.1": nets("192.0.2.1/32"),
    "240.0.0.0/4": nets("240.0.0.0/4"),
    "fd00:1::/64": nets("fd00:1::/64", "nets6"),
    "ff00::/8": nets("ff00::/8", "nets6"),
    "10.1.0.0/16 . 10.1.0.0/16": nets("10.1.0.0/16", "pairs"),
    "10.2.0.4/30 . 10.2.0.4/30": nets("10.2.0.4/30", "pairs"),
    "fd00::/64 . fd00::/64": nets("fd00::/64", "pairs6"),
    "443": Element("shop", "services", (port(443),)),
}


def test_elements_of_every_kind_are_what_nft_lists(machine: Machine, nftables: Nftables) -> None:
    nftables.commit(*creates(*ONE_OF_EACH.values()))
    assert listed(machine) == set(ONE_OF_EACH)
    assert all(
        stored is not None and stored.fits(element)
        for element, stored in zip(ONE_OF_EACH.values(), nftables.lookup(*ONE_OF_EACH.values()), strict=True)
    )
    nftables.commit(*deletes(*ONE_OF_EACH.values()))
    assert listed(machine) == set()


def test_what_nft_adds_is_found_and_deleted(machine: Machine, nftables: Nftables) -> None:
    machine.run("nft", 'add element inet shop ports { tcp . 80 comment "by hand" : 10.1.0.5 . 8000 }')
    machine.run("nft", "add element inet shop nets { 10.1.0.0/16 }")
    machine.run("nft", "add element inet shop pairs6 { fd00::/64 . fd00::/64 }")
    wanted = (mapped(80), nets("10.1.0.0/16"), nets("fd00::/64", "pairs6"))
    found = nftables.lookup(*wanted, mapped(81))
    assert [stored and stored.comment for stored in found] == ["by hand", "", "", None]
    assert all(stored is not None and stored.fits(element) for element, stored in zip(wanted, found, strict=False))
    nftables.commit(*deletes(*wanted))
    assert listed(machine) == set()


def test_a_refused_change_undoes_its_transaction_and_is_named(machine: Machine, nftables: Nftables) -> None:
    nftables.commit(*creates(mapped(80), mapped(82)))
    before = listed(machine)
    with pytest.raises(Refused) as caught:
        nftables.commit(*creates(mapped(79), mapped(80), mapped(81), mapped(82, "10.1.0.6")))
    assert [change.element for change, _error in caught.value.refusals] == [mapped(80), mapped(82, "10.1.0.6")]
    assert "create element inet shop ports { tcp . 80 " in str(caught.value)
    assert "File exists" in str(caught.value)
    assert listed(machine) == before


def test_to_add_what_is_there_and_to_delete_what_is_not_is_fine(machine: Machine, nftables: Nftables) -> None:
    everything = ONE_OF_EACH.values()
    for _ in range(2):
        nftables.commit(*(Change("add", element) for element in everything))
    assert listed(machine) == set(ONE_OF_EACH)
    nftables.commit(*deletes(mapped(80), mapped(81)), *creates(mapped(82)))
    for _ in range(2):
        nftables.commit(*deletes(mapped(82), *everything))
    assert listed(machine) == set()


def test_an_element_may_be_replaced_within_a_transaction(machine: Machine, nftables: Nftables) -> None:
    nftables.commit(*creates(mapped(80)))
    nftables.commit(*deletes(mapped(80)), *creates(mapped(80, "10.1.0.6", "web c2 eth0")))
    assert listed(machine) == {'tcp . 80 comment "web c2 eth0" : 10.1.0.6 . 8000'}


def test_a_transaction_of_thousands_is_one(machine: Machine, nftables: Nftables) -> None:
    many = [mapped(number) for number in range(1, 3001)]
    nftables.commit(*creates(*many))
    assert len(machine.elements()) == 3000
    with pytest.raises(Refused) as caught:
        nftables.commit(*creates(mapped(4000), *many))
    assert len(caught.value.refusals) == 3000
    assert None not in nftables.lookup(*many)
    nftables.commit(*deletes(*many, mapped(5000)))
    assert machine.elements() == []


def test_where_there_is_no_table_nothing_is_found_or_deleted(machine: Machine) -> None:
    with Nftables() as nftables:
        assert nftables.lookup(mapped(80), nets("10.1.0.0/16")) == [None, None]
        nftables.commit(*deletes(mapped(80)))
        assert nftables.rules("shop") == []
        with pytest.raises(Refused) as caught:
            nftables.commit(*creates(mapped(80)))
        assert caught.value.ruleset_missing
    assert machine.nft() == []


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_missing_table_is_made_with_the_first_element_and_gets_its_old_ones_back(machine: Machine) -> None:
    with Nftables() as nftables:
        TABLE.commit(
            nftables, *creates(mapped(80)), restore=lambda: [Change("add", mapped(number)) for number in (1, 2)]
        )
        assert len(listed(machine)) == 3
        assert TABLE.complete(nftables)
        TABLE.commit(nftables, *creates(mapped(81)), restore=lambda: pytest.fail("nothing was missing"))
        machine.run("nft", "flush", "chain", "inet", "shop", "input")
        assert not TABLE.complete(nftables)


@pytest.mark.usefixtures("machine")
def test_what_was_taken_meanwhile_is_not_restored() -> None:
    """An ADD that ran between the making of the table and the restoring of its elements keeps its port."""
    quick = mapped(80, "10.1.0.6", "web quick eth0")

    def restore() -> list[Change]:
        with Nftables() as other:
            other.commit(*creates(quick))
        return [Change("add", mapped(79)), Change("add", mapped(80))]

    with Nftables() as nftables:
        TABLE.commit(nftables, *creates(mapped(81)), restore=restore)
        assert [stored and stored.comment for stored in nftables.lookup(mapped(79), mapped(80), mapped(81))] == [
            "web c1 eth0",
            "web quick eth0",
            "web c1 eth0",
        ]


def test_a_table_that_is_something_else_is_an_error_with_a_hint(machine: Machine) -> None:
    machine.run("nft", "add table inet shop")
    with Nftables() as nftables, pytest.raises(CniError) as caught:
        TABLE.commit(nftables, *creates(mapped(80)))
    assert "cannot make nftables table inet shop" in caught.value.msg
    assert "File exists" in caught.value.msg
    assert "nft delete table inet shop" in caught.value.details


@pytest.mark.usefixtures("machine")
def test_rules_that_nft_does_not_understand_are_quoted_from_it() -> None:
    with Nftables() as nftables, pytest.raises(CniError, match="syntax error"):
        Table("shop", ("set nonsense", *TABLE.sets), TABLE.chains).commit(nftables, *creates(mapped(80)))


@pytest.mark.usefixtures("machine")
def test_a_missing_nft_program_is_an_error_that_says_where_it_was_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "FOLDERS", ("/nowhere",))
    monkeypatch.setenv("PATH", "/no/where:/nor/here")
    with Nftables() as nftables, pytest.raises(CniError) as caught:
        TABLE.commit(nftables, *creates(mapped(80)))
    assert caught.value.code == 50
    assert caught.value.msg == "the nft program is missing"
    assert caught.value.details == "install the nftables package (looked in /nowhere, /no/where, /nor/here)"


RACER = """
import sys
from cni_plugins.sdk.nfnl import Change, Nftables
from tests.netns.test_nft import TABLE, mapped
number = int(sys.argv[1])
sys.stdin.read()
with Nftables() as nftables:
    TABLE.commit(nftables, Change("create", mapped(number)))
"""


def test_of_several_that_make_a_table_at_once_each_gets_its_element_and_the_rules_stand_once(machine: Machine) -> None:
    search = os.pathsep.join(path for path in sys.path if path)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(number)], stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": search}
        )
        for number in range(1, 7)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    assert [racer.wait(60) for racer in racers] == [0] * 6
    assert len(listed(machine)) == 6
    assert len([item for item in machine.nft() if "rule" in item]) == 2


# --- a socket that a runtime lends ------------------------------------------------------------------------------------


def netfilter() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)


def lent(sock: socket.socket) -> dict[str, str]:
    return {"CNI_NFNL_FD": str(sock.fileno())}


def port_of(nftables: Nftables) -> int:
    """The netlink port, by which a socket is known."""
    nftables.lookup(mapped(1))
    return int(nftables.netlink.socket.getsockname()[0])


@pytest.mark.usefixtures("nftables")
def test_a_lent_socket_is_used_and_stays_open() -> None:
    with netfilter() as sock:
        sock.bind((0, 0))
        with Nftables(lent(sock)) as nftables:
            assert port_of(nftables) == sock.getsockname()[0]
        with Nftables(lent(sock)) as again:
            assert port_of(again) == sock.getsockname()[0]


def test_answers_that_a_former_owner_left_unread_are_not_taken_for_ours(nftables: Nftables) -> None:
    nftables.commit(*creates(mapped(80)))
    with netfilter() as sock:
        body = GENERIC.pack(NFPROTO_INET, 0, 0) + question(mapped(80))
        for number in range(8):  # the worst case: the numbers that the new owner will begin with
            sock.send(frame(Message(NFT_MSG_GETSETELEM, NLM_F_ACK, body), (os.getpid() << 8 & 0x7FFFFFFF) + number))
        with Nftables(lent(sock)) as heir:
            assert heir.lookup(mapped(81)) == [None]


@pytest.mark.parametrize("kind", ["closed", "file", "rtnetlink", "elsewhere", "words"])
def test_a_socket_that_is_not_what_it_should_be_is_left_alone(machine: Machine, nftables: Nftables, kind: str) -> None:
    machine.netns("elsewhere")
    if kind == "elsewhere":
        with inside("elsewhere"):
            other: Any = netfilter()
    elif kind == "rtnetlink":
        other = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    else:
        other = open(os.devnull)  # noqa: SIM115  # closed below
    name = {"words": "three", "closed": "987"}.get(kind, str(other.fileno()))
    with Nftables({"CNI_NFNL_FD": name}) as own:
        own.commit(*creates(mapped(80)))
        assert port_of(own) != (other.getsockname()[0] if isinstance(other, socket.socket) else 0)
    os.fstat(other.fileno())
    other.close()
    assert nftables.lookup(mapped(80)) != [None]
    nftables.commit(*deletes(mapped(80)))
    assert json.dumps(machine.elements()) == "[]"
