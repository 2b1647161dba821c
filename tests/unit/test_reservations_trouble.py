"""The store of reservations in trouble: what lies there that is none, and a disk that is full."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cni_plugins import host_local
from cni_plugins.sdk.main import new_plan
from cni_plugins.sdk.ranges import parse_set
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.reservations import Store
from cni_plugins.spec.config import View
from cni_plugins.spec.ip import parse_address

A, B = Owner("a", "eth0"), Owner("b", "eth0")
TWO, THREE, NINE = map(parse_address, ("10.1.0.2", "10.1.0.3", "10.1.0.9"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("net", str(tmp_path / "data"), str(tmp_path / "index"))


def test_a_folder_of_an_addresss_name_is_nobodys_and_keeps_the_address_from_being_given(
    store: Store, tmp_path: Path
) -> None:
    with store:
        assert store.reserve(NINE, B, 0)
    Path(store.folder, "10.1.0.2").mkdir()
    shutil.rmtree(tmp_path / "index")
    with store:
        assert store.addresses(B) == [NINE]
        assert not store.reserve(TWO, A, 0)
        assert store.reserve(THREE, A, 0)
        for address, owner in store.stale([A]):
            store.give_back(address, owner)
        assert [address for address, _ in store.reservations()] == [THREE]


def test_a_reservation_that_a_full_disk_has_no_room_for_is_told_with_its_path_and_leaves_no_file(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with store:
        store.reserve(TWO, A, 0)
        with monkeypatch.context() as patch:
            patch.setattr("cni_plugins.sdk.reservations.fdio.write", full)
            with pytest.raises(OSError, match=r"No space left on device: '.*/10\.1\.0\.3'"):
                store.reserve(THREE, B, 0)
        assert not Path(store.path_of(THREE)).exists()
        assert store.addresses(B) == []
        assert store.reserve(THREE, B, 0)


def test_an_address_that_somebody_takes_who_does_not_heed_the_lock_is_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = parse_set([View({"subnet": "10.1.0.0/24"})], "ranges[0]")
    with store:
        store.reserve(TWO, B, 1)
        monkeypatch.setattr(Store, "free", lambda _store, first, _end: first)
        looks, vacant = [True], Store.vacant  # a moment ago it was
        monkeypatch.setattr(Store, "vacant", lambda here, address: looks.pop() if looks else vacant(here, address))
        assert host_local._take(new_plan(), store, pool, 0, A, ()).address.address == THREE
        assert store.addresses(A) == [THREE]
