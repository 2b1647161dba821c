"""The store of reservations in trouble: what lies there that is none, and a disk that is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_plugins import host_local
from cni_plugins.sdk.main import Request, new_plan
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
        kept, others = store.sifted([A])
        assert ([address for address, _ in kept], others) == ([THREE], [store.path_of(NINE)])


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


def test_files_that_cannot_be_removed_are_all_tried_and_the_store_is_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that an error has made read-only, with thousands of reservations: all calls wait for the lock."""
    with store:
        for number in range(2, 50):
            store.reserve(parse_address(f"10.1.0.{number}"), Owner(f"c{number}", "eth0"), 0)
    tried: list[str] = []

    def read_only(path: str) -> None:
        tried.append(path)
        raise OSError(30, "Read-only file system", path)

    reads: list[Store] = []

    def read(here: Store, read: Callable[[Store], Any] = Store._read) -> Any:
        reads.append(here)
        return read(here)

    monkeypatch.setattr(Store, "_read", read)
    monkeypatch.setattr("os.unlink", read_only)
    monkeypatch.setattr(host_local, "_store", lambda _request: store)
    conf = View({"cni.dev/valid-attachments": []})
    with pytest.raises(OSError, match="Read-only"):
        host_local.gc(Request("GC", "", "", "", {}, (), conf, "1.1.0", "net", None, b"", {}))
    assert (len(tried), len(reads)) == (48, 1)
