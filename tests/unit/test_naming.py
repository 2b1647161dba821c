"""Names, aliases and hardware addresses that follow from what they stand for, and addresses as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_plugins.sdk import naming
from cni_plugins.spec.mac import mac_bytes, mac_text, unicast_mac
from cni_plugins.spec.names import MAX_IFNAME

NAMES = st.text("ab-._9", min_size=1, max_size=300)
WHO = st.tuples(NAMES, NAMES, st.text("eth01.", min_size=1, max_size=MAX_IFNAME))


@given(WHO)
def test_a_host_links_name_fits_and_stays(who: tuple[str, str, str]) -> None:
    name = naming.host_link(*who)
    assert name == naming.host_link(*who)
    assert name.startswith("veth")
    assert len(name) == 12


@given(WHO, WHO)
def test_no_two_attachments_share_an_alias(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (naming.alias(*one) == naming.alias(*other)) == (one == other)


@given(WHO)
def test_an_alias_fits_and_begins_with_its_network_where_there_is_room(who: tuple[str, str, str]) -> None:
    alias = naming.alias(*who)
    assert len(alias.encode()) <= 255
    if len(who[0]) < 100:
        assert alias.startswith(naming.alias_prefix(who[0]))


def test_the_prefix_of_one_network_is_not_that_of_a_longer_name() -> None:
    assert not naming.alias("net2", "web", "eth0").startswith(naming.alias_prefix("net"))


@given(WHO, WHO)
def test_derived_addresses_are_local_unicast_and_stay(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    mac = naming.derived_mac(*one)
    assert unicast_mac(mac) == mac
    assert mac_bytes(mac)[0] & 3 == 2
    assert (mac == naming.derived_mac(*other)) == (one == other)


def test_another_machine_derives_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    here = naming.derived_mac("bridge", "cni0")
    monkeypatch.setattr(naming, "machine_id", lambda: "another")
    assert naming.derived_mac("bridge", "cni0") != here


@pytest.mark.parametrize("text", ["02:42:AC:11:00:02", "02-42-ac-11-00-02", "0242.ac11.0002"])
def test_a_hardware_address_may_be_written_as_go_reads_it(text: str) -> None:
    assert unicast_mac(text) == "02:42:ac:11:00:02"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:42:ac:11:00",
        "02:42:ac:11:00:02:03",
        "02:42-ac:11:00:02",
        "2:42:ac:11:00:2",
        "0x:42:ac:11:00:02",
        "02:42:ac:11:00:\uff102",
    ],
)
def test_what_is_no_hardware_address_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not a hardware address") as caught:
        mac_bytes(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"])
def test_an_address_of_many_or_of_nobody_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="single interface"):
        unicast_mac(text)


@given(st.binary(min_size=6, max_size=6))
def test_bytes_and_text_are_the_same_address(packed: bytes) -> None:
    assert mac_bytes(mac_text(packed)) == packed
