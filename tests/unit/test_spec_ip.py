"""Addresses and prefixes against `ipaddress`, for every address there is and for texts that are none."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import assume
from hypothesis import strategies as st
from support.properties import given

from cni_plugins.spec.ip import Address, Cidr, host_cidr, parse_address, parse_cidr, parse_network

addresses = st.ip_addresses()
prefixes = addresses.flatmap(lambda ip: st.integers(0, ip.max_prefixlen).map(lambda length: f"{ip}/{length}"))
nearly = st.text(alphabet="0123456789abcdef.:/ -+x\u0660", max_size=24)


@given(addresses)
def test_an_address_is_the_number_that_the_standard_library_reads(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    ours = parse_address(str(ip))
    assert (ours.family, ours.value, ours.packed) == (ip.version, int(ip), ip.packed)
    assert ipaddress.ip_address(str(ours)) == ip
    assert parse_address(ip.exploded) == ours


@given(nearly)
def test_a_text_is_an_address_exactly_when_the_standard_library_takes_it(text: str) -> None:
    try:
        expected = int(ipaddress.ip_address(text))
    except ValueError:
        with pytest.raises(ValueError, match="is not an IP address"):
            parse_address(text)
    else:
        assert parse_address(text).value == expected


@given(prefixes)
def test_a_prefix_has_the_bounds_that_the_standard_library_computes(text: str) -> None:
    ours, theirs = parse_cidr(text), ipaddress.ip_interface(text)
    network = theirs.network
    assert (ours.address.value, ours.length) == (int(theirs.ip), network.prefixlen)
    assert (ours.first.value, ours.last.value) == (int(network[0]), int(network[-1]))
    assert ours.hostmask == int(network.hostmask)
    assert ours.network == parse_cidr(str(network))
    assert ours.address in ours and ours.first in ours and ours.last in ours


@given(prefixes, addresses)
def test_a_prefix_holds_what_the_standard_library_says(
    text: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    network = ipaddress.ip_interface(text).network
    assert (parse_address(str(ip)) in parse_cidr(text)) is (ip.version == network.version and ip in network)


@given(prefixes)
def test_a_network_has_no_host_bits(text: str) -> None:
    network = ipaddress.ip_interface(text).network
    assume(str(network) != text)
    with pytest.raises(ValueError, match=r"has host bits set \(the network is "):
        parse_network(text)
    assert str(parse_network(str(network)).first) == str(parse_address(str(network[0])))


@given(addresses, st.text(alphabet="0123456789-+ /x\u0660", max_size=4))
def test_a_prefix_length_is_decimal_digits_in_bounds(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, length: str
) -> None:
    text = f"{ip}/{length}"
    if length.isascii() and length.isdigit() and int(length) <= ip.max_prefixlen:
        assert parse_cidr(text).length == int(length)
    else:
        with pytest.raises(ValueError):
            parse_cidr(text)


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::g", "1.2.3.4\0", "fe80::1%eth0", " 1.2.3.4", "::1/64"]
)
def test_texts_that_look_like_addresses_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        parse_address(text)


def test_an_address_alone_is_no_prefix() -> None:
    with pytest.raises(ValueError, match="has no prefix length"):
        parse_cidr("10.0.0.1")


def test_small_things_addresses_can_do() -> None:
    address = parse_address("10.0.0.255")
    assert str(address.plus(1)) == "10.0.1.0"
    assert str(host_cidr(address)) == "10.0.0.255/32"
    assert str(host_cidr(parse_address("::1"))) == "::1/128"
    assert parse_address("0.0.0.0").unspecified and parse_address("::").unspecified
    assert not address.unspecified
    assert Cidr(address, 24) == parse_cidr("10.0.0.255/24") != Cidr(address, 25)
    assert Address(4, 1) != Address(6, 1)
