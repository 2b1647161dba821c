"""Elements as messages, as pyroute2's own classes read them, and as the words that a person would type."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from cni_plugins.sdk.elements import Element, Stored, address, link, port, protocol, read, subnet, whole
from cni_plugins.sdk.netlink import Message, frame
from cni_plugins.sdk.nfnl import NFT_MSG_NEWSETELEM, Change, Nftables
from cni_plugins.sdk.nft import Chain, Table
from cni_plugins.spec.ip import parse_address, parse_cidr

INET = b"\x01\0\0\0"
TEN, FD = parse_cidr("10.1.0.0/16"), parse_cidr("fd00::/64")
WEB = address(parse_address("10.88.0.5"))


def decoded(element: Element) -> dict[str, Any]:
    """Table, set, and the attributes of each element that is in the message."""
    message = nft_set_elem_list_msg(frame(Message(NFT_MSG_NEWSETELEM, 0, INET + whole(element)), 1))
    message.decode()
    found = dict(message["attrs"])
    return {
        "in": (found["NFTA_SET_ELEM_LIST_TABLE"], found["NFTA_SET_ELEM_LIST_SET"]),
        "elements": [
            {name.removeprefix("NFTA_SET_ELEM_"): _plain(value) for name, value in item["attrs"]}
            for item in found["NFTA_SET_ELEM_LIST_ELEMENTS"]
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "attrs" in value:
        return {name: _plain(item) for name, item in value["attrs"]}
    return value


def data(digits: str) -> dict[str, bytes]:
    return {"NFTA_DATA_VALUE": bytes.fromhex(digits)}


CASES = [
    (
        Element("t", "any4", (protocol("tcp"), port(8080)), (WEB, port(80)), "web c1 eth0"),
        'any4 { tcp . 8080 comment "web c1 eth0" : 10.88.0.5 . 80 }',
        [{"KEY": data("060000001f900000"), "DATA": data("0a58000500500000")}],
    ),
    (
        Element("t", "host6", (address(parse_address("fd00::1")), protocol("udp"), port(53)), (WEB, port(53))),
        "host6 { fd00::1 . udp . 53 : 10.88.0.5 . 53 }",
        [{"KEY": data(f"fd00{'0' * 27}11100000000350000"), "DATA": data("0a58000500350000")}],
    ),
    (Element("t", "s", (port(443),)), "s { 443 }", [{"KEY": data("01bb")}]),
    (
        Element("t", "links", (link("cni0"), WEB)),
        'links { "cni0" . 10.88.0.5 }',
        [{"KEY": data(f"636e6930{'0' * 24}0a580005")}],
    ),
    (
        Element("t", "nets", (subnet(TEN),), interval=True),
        "nets { 10.1.0.0/16 }",
        [{"KEY": data("0a010000")}, {"KEY": data("0a020000"), "FLAGS": {1}}],
    ),
    (
        Element("t", "nets", (subnet(parse_cidr("255.0.0.0/8")),), interval=True),
        "nets { 255.0.0.0/8 }",
        [{"KEY": data("ff000000")}],
    ),
    (
        Element("t", "pairs", (subnet(TEN), subnet(TEN)), interval=True),
        "pairs { 10.1.0.0/16 . 10.1.0.0/16 }",
        [{"KEY": data("0a0100000a010000"), "KEY_END": data("0a01ffff0a01ffff")}],
    ),
    (
        Element("t", "pairs6", (subnet(FD), subnet(FD)), interval=True),
        "pairs6 { fd00::/64 . fd00::/64 }",
        [
            {
                "KEY": data(f"fd00{'0' * 28}" * 2),
                "KEY_END": data(f"fd00{'0' * 12}{'f' * 16}" * 2),
            }
        ],
    ),
]


@pytest.mark.parametrize(("element", "words", "attributes"), CASES, ids=[case[1] for case in CASES])
def test_an_element_is_what_its_words_say(element: Element, words: str, attributes: list[dict[str, Any]]) -> None:
    found = decoded(element)
    comments = [item.pop("USERDATA", []) for item in found["elements"]]
    assert found == {"in": ("t", element.set), "elements": attributes}
    assert comments[0] == ([("NFTNL_UDATA_SET_ELEM_COMMENT", element.comment.encode())] if element.comment else [])
    assert str(element) == words


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=60))
def test_a_comment_comes_back_as_it_was_written(comment: str) -> None:
    element = Element("t", "any4", (protocol("tcp"), port(80)), (WEB, port(80)), comment)
    (stored,) = read(whole(element), 0)
    assert stored.comment == comment
    assert stored.fits(element)


def test_what_is_stored_fits_the_very_same_element_only() -> None:
    pair = Element("t", "pairs", (subnet(TEN), subnet(TEN)), interval=True)
    narrow = parse_cidr("10.1.0.0/24")
    (stored,) = read(whole(pair), 0)
    assert stored.fits(pair)
    assert not stored.fits(Element("t", "pairs", (subnet(narrow), subnet(narrow)), interval=True))
    mapping = Element("t", "any4", (protocol("tcp"), port(80)), (WEB, port(80)))
    assert not next(read(whole(mapping), 0)).fits(Element("t", "any4", mapping.key, (WEB, port(81))))
    assert not Stored(b"\0").fits(mapping)


def test_a_change_is_the_command_that_a_person_would_type() -> None:
    element = Element("ports", "any4", (protocol("tcp"), port(80)), (WEB, port(80)))
    assert str(Change("create", element)) == "nft 'create element inet ports any4 { tcp . 80 : 10.88.0.5 . 80 }'"


def test_a_table_is_text_for_nft() -> None:
    chains = (Chain("inner", "", ("accept",)), Chain("outer", "filter hook input priority 0", ("jump inner", "drop")))
    assert str(Table("t", ("set s { type ipv4_addr; }",), chains)) == (
        "create table inet t\n"
        "table inet t {\n"
        "\tset s { type ipv4_addr; }\n"
        "\tchain inner {\n\t\taccept\n\t}\n"
        "\tchain outer {\n\t\ttype filter hook input priority 0;\n\t\tjump inner\n\t\tdrop\n\t}\n"
        "}\n"
    )


def test_steps_that_hold_the_kernels_nftables_compare_equal() -> None:
    assert Nftables() == Nftables({"CNI_NFNL_FD": "3"})
    assert hash(Nftables()) == hash(Nftables())
    assert Nftables() != object()
