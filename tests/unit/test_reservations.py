"""The store of reservations: files are the truth, whoever wrote them, and the index never says otherwise."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cni_plugins.sdk import reservation_index
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.reservations import Store
from cni_plugins.spec.ip import Address, parse_address

A, B, C = Owner("a", "eth0"), Owner("b", "eth0"), Owner("a", "eth1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("net", str(tmp_path / "data"), str(tmp_path / "index"))


def ip(number: int) -> Address:
    return parse_address("10.1.0.0").plus(number)


def index_files(tmp_path: Path) -> list[str]:
    return sorted(name for _, _, names in os.walk(tmp_path / "index") for name in names)


def reserve(store: Store, number: int, owner: Owner) -> bool:
    with store:
        return store.reserve(ip(number), owner, 0)


def release(store: Store, owner: Owner) -> list[Address]:
    """What a DEL does under the lock; what it has given back."""
    held = store.held(owner)
    for address, name in held:
        store.give_back(address, name)
    return [address for address, _ in held]


def keep(store: Store, valid: set[Owner]) -> None:
    """What a GC does under the lock."""
    kept, others = store.sifted(valid)
    for path in others:
        os.unlink(path)
    store.learn(kept)


# --- the format, which is the reference plugin's ----------------------------------------------------------------------


def test_a_reservation_is_a_file_in_the_reference_format(store: Store, tmp_path: Path) -> None:
    with store:
        assert store.reserve(ip(2), A, 0)
        assert store.reserve(parse_address("fd00::2"), A, 1)
    folder = tmp_path / "data" / "net"
    assert sorted(os.listdir(folder)) == ["10.1.0.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]
    assert (folder / "10.1.0.2").read_bytes() == b"a\r\neth0"
    assert (folder / "last_reserved_ip.1").read_bytes() == b"fd00::2"
    assert (folder / "10.1.0.2").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_taken_address_cannot_be_reserved_and_its_holder_is_known(store: Store) -> None:
    assert reserve(store, 2, A)
    with store:
        assert not store.reserve(ip(2), B, 0)
        assert store.holder(ip(2)) == A
        assert str(store.holder(ip(2))) == "container a eth0"
        assert store.holder(ip(3)) is None
        assert store.last(0) == ip(2)
        assert store.last(7) is None


def test_release_gives_back_all_of_an_owner_and_nothing_of_others(store: Store, tmp_path: Path) -> None:
    for number, owner in ((2, A), (3, B), (4, C), (5, A)):
        reserve(store, number, owner)
    with store:
        assert release(store, A) == [ip(2), ip(5)]
        assert release(store, A) == []
        assert [store.addresses(owner) for owner in (A, B, C)] == [[], [ip(3)], [ip(4)]]
    assert not os.path.exists(tmp_path / "data" / "net" / "10.1.0.2")


def test_the_old_format_names_the_container_only(store: Store) -> None:
    reserve(store, 2, B)
    Path(store.folder, "10.1.0.9").write_bytes(b"a")
    with store:
        assert store.addresses(A) == [ip(9)]
        assert store.addresses(C) == [ip(9)]
        assert release(store, A) == [ip(9)]
        assert store.addresses(A) == []


def test_the_new_format_goes_first(store: Store) -> None:
    reserve(store, 2, A)
    Path(store.folder, "10.1.0.9").write_bytes(b"a")
    with store:
        assert release(store, A) == [ip(2)]
        assert release(store, A) == [ip(9)]


# --- crashes ----------------------------------------------------------------------------------------------------------

TORN = [b"", b"\r\n", b"\0\0\0\0", b"a\r\n\0\0", b"\xff\xfe", b"a b"]


@pytest.mark.parametrize("text", TORN)
def test_a_torn_file_reserves_nothing(store: Store, text: bytes) -> None:
    reserve(store, 9, B)
    torn = Path(store.folder, "10.1.0.2")
    torn.write_bytes(text)
    with store:
        assert store.holder(ip(2)) is None
        assert store.free(ip(2), ip(8)) == ip(2)
        assert not torn.exists()
        assert store.reserve(ip(2), A, 0)
        assert torn.read_bytes() == b"a\r\neth0"


def test_a_torn_file_that_appears_behind_the_index_gives_way_too(store: Store) -> None:
    reserve(store, 9, B)
    with store:
        store.addresses(B)
        Path(store.folder, "10.1.0.2").write_bytes(b"")
        assert store.reserve(ip(2), A, 0)


@pytest.mark.parametrize("text", [b"", b"junk", b"10.1.0.999", b"\xff"])
def test_a_torn_marker_is_no_marker(store: Store, text: bytes) -> None:
    reserve(store, 2, A)
    Path(store.folder, "last_reserved_ip.0").write_bytes(text)
    with store:
        assert store.last(0) is None


def test_an_index_that_cannot_be_written_is_not_believed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    reserve(store, 2, A)
    for change in (lambda: store.reserve(ip(3), B, 0), lambda: release(store, A)):
        with store:
            assert store.reserve(ip(9), Owner("z", "eth0"), 0)  # so that there is something to seal
            release(store, Owner("z", "eth0"))
            with monkeypatch.context() as patch:
                patch.setattr(reservation_index.Index, "_mark", full)
                with pytest.raises(OSError, match="No space"):
                    change()
            there = os.path.exists(os.path.join(store.folder, "10.1.0.2"))
        with store:
            assert store.addresses(A) == ([ip(2)] if there else [])
            assert store.addresses(B) == []
            assert store.free(ip(2), ip(9)) == (ip(3) if there else ip(2))


@pytest.mark.parametrize("moment", ["add", "seal", "_remember", "remove"])
def test_a_call_that_is_cut_short_anywhere_leaves_a_store_that_is_right(
    store: Store, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies in the middle: what the files say is what the next call sees."""
    reserve(store, 2, A)
    if os.fork() == 0:
        target = Store if moment == "_remember" else reservation_index.Index
        monkeypatch.setattr(target, moment, lambda *_: os._exit(0))
        with store:
            store.reserve(ip(3), B, 0)
            release(store, A)
        os._exit(0)
    os.wait()
    with store:
        for number, owner in ((2, A), (3, B)):
            there = os.path.exists(os.path.join(store.folder, str(ip(number))))
            assert store.addresses(owner) == ([ip(number)] if there else [])
            assert (store.free(ip(number), ip(number)) is None) is there


# --- the index --------------------------------------------------------------------------------------------------------


def test_the_index_goes_away_with_the_last_reservation(store: Store, tmp_path: Path) -> None:
    reserve(store, 2, A)
    reserve(store, 3, B)
    assert len(index_files(tmp_path)) == 4
    with store:
        release(store, A)
    assert len(index_files(tmp_path)) == 3
    with store:
        release(store, B)
    assert os.listdir(tmp_path / "index") == []


def test_reading_makes_no_index_where_there_is_nothing(store: Store, tmp_path: Path) -> None:
    with store:
        assert store.addresses(A) == []
    assert index_files(tmp_path) == []


def test_the_files_are_read_once_and_then_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 30):
        reserve(store, number, Owner(f"c{number}", "eth0"))
    read: list[str] = []
    original = Store.holder

    def holder(self: Store, address: Address) -> Owner | None:
        read.append(str(address))
        return original(self, address)

    monkeypatch.setattr(Store, "holder", holder)
    for _ in range(3):
        with store:
            assert store.addresses(Owner("c7", "eth0")) == [ip(7)]
            assert store.free(ip(2), ip(200)) == ip(30)
            assert store.reserve(ip(30), A, 0)
            release(store, A)
    assert read == ["10.1.0.30"] * 3, "the one file that is removed is looked at first"


@pytest.mark.parametrize("loss", ["all of it", "the stamp"])
def test_an_index_that_is_lost_is_made_again(store: Store, tmp_path: Path, loss: str) -> None:
    reserve(store, 2, A)
    if loss == "all of it":
        shutil.rmtree(tmp_path / "index")
    else:
        next((tmp_path / "index").rglob("stamp")).unlink()
    with store:
        assert store.addresses(A) == [ip(2)]
        assert store.free(ip(2), ip(9)) == ip(3)


def test_a_change_by_another_program_is_noticed_at_once(store: Store) -> None:
    """Many times over, because time stamps are coarse: a change right after ours must not look like none."""
    for turn in range(50):
        reserve(store, 2, A)
        other = Path(store.folder, "10.1.0.3")
        other.write_bytes(b"other\r\neth0")  # what the reference plugin does, a moment after we are done
        with store:
            assert store.addresses(Owner("other", "eth0")) == [ip(3)], turn
            assert store.free(ip(2), ip(9)) == ip(4)
        other.unlink()
        with store:
            assert store.addresses(Owner("other", "eth0")) == [], turn
            release(store, A)


def test_the_folder_is_left_with_a_time_that_no_change_can_have(store: Store) -> None:
    """Clocks of file systems tick every few milliseconds: two changes within a tick have the same time."""
    reserve(store, 2, A)
    assert time.time() - os.stat(store.folder).st_mtime > 1.5


def test_owners_of_any_length_and_with_one_checksum_are_kept_apart(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservation_index, "crc32", lambda _: 7)
    long, other = Owner("x" * 4000, "eth0"), Owner("x" * 4000, "eth00")
    with store:
        store.reserve(ip(2), long, 0)
        store.reserve(ip(3), other, 0)
        store.reserve(ip(4), A, 0)
    with store:
        assert [store.addresses(owner) for owner in (long, other, A, B)] == [[ip(2)], [ip(3)], [ip(4)], []]
        assert release(store, other) == [ip(3)]
        assert [store.addresses(owner) for owner in (long, other, A)] == [[ip(2)], [], [ip(4)]]


def test_the_next_free_address_is_found_across_blocks_and_families(store: Store) -> None:
    first = parse_address("10.0.255.254")
    for step in range(5):
        with store:
            free = store.free(first, first.plus(9))
            assert free == first.plus(step)
            assert free is not None and store.reserve(free, Owner(f"c{step}", "eth0"), 0)
    with store:
        assert store.free(first, first.plus(4)) is None
        assert store.free(parse_address("::ffff:10.0.255.254"), parse_address("::ffff:10.0.255.255")) is not None
        assert store.free(parse_address("255.255.255.255"), parse_address("255.255.255.255")) is not None


def test_two_stores_do_not_share_an_index(tmp_path: Path) -> None:
    one, other = (Store(name, str(tmp_path / "data"), str(tmp_path / "index")) for name in ("one", "other"))
    reserve(one, 2, A)
    with other:
        assert other.free(ip(2), ip(9)) == ip(2)
        assert other.addresses(A) == []


def test_gc_keeps_what_is_valid_and_its_index(store: Store, tmp_path: Path) -> None:
    for number, owner in ((2, A), (3, B), (4, C)):
        reserve(store, number, owner)
    Path(store.folder, "10.1.0.8").write_bytes(b"a")
    Path(store.folder, "10.1.0.9").write_bytes(b"gone")
    Path(store.folder, "10.1.0.10").write_bytes(b"")
    with store:
        keep(store, {A})
    assert sorted(os.listdir(store.folder)) == ["10.1.0.2", "10.1.0.8", "last_reserved_ip.0", "lock"]
    with store:
        assert (store.addresses(A), store.free(ip(3), ip(9))) == ([ip(2), ip(8)], ip(3))
        keep(store, set())
    assert index_files(tmp_path) == []


def test_files_that_are_no_addresses_are_left_alone(store: Store) -> None:
    reserve(store, 2, A)
    for name in ("README", "10.1.0.02", "::1.2.3.4.5", "FD00::1"):
        Path(store.folder, name).write_bytes(b"")
    with store:
        keep(store, set())
    assert {"README", "10.1.0.02", "FD00::1"} < set(os.listdir(store.folder))


# --- many at once -----------------------------------------------------------------------------------------------------


def test_processes_at_once_never_get_the_same_address(store: Store) -> None:
    children = []
    for number in range(6):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for turn in range(8):
                    with store:
                        free = store.free(ip(2), ip(250))
                        assert free is not None and store.reserve(free, Owner(f"c{number}-{turn}", "eth0"), 0)
                    if turn % 2:
                        with store:
                            assert len(release(store, Owner(f"c{number}-{turn}", "eth0"))) == 1
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 6
    with store:
        held = [
            address
            for number in range(6)
            for turn in range(0, 8, 2)
            for address in store.addresses(Owner(f"c{number}-{turn}", "eth0"))
        ]
        assert len(held) == len(set(held)) == 24
        assert sorted(map(str, held)) == sorted(map(str, store.taken()))


def test_the_lock_is_the_reference_plugins_and_held_throughout(store: Store) -> None:
    with store:
        pid = os.fork()
        if pid == 0:
            began = time.monotonic()
            with store:
                os._exit(0 if time.monotonic() - began > 0.1 else 1)
        time.sleep(0.2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- everything together ----------------------------------------------------------------------------------------------

numbers = st.integers(2, 9)
owners = st.sampled_from([A, B, C, Owner("d", "eth0")])


class Sharing(RuleBasedStateMachine):
    """We and another program change the same store; after each step it must look as the files do."""

    def __init__(self) -> None:
        super().__init__()
        self.top = tempfile.mkdtemp()
        self.store = Store("net", f"{self.top}/data", f"{self.top}/index")
        self.model: dict[Address, Owner] = {}
        with self.store:
            pass

    def teardown(self) -> None:
        shutil.rmtree(self.top)

    @rule(number=numbers, owner=owners)
    def we_reserve(self, number: int, owner: Owner) -> None:
        with self.store:
            assert self.store.reserve(ip(number), owner, 0) is (ip(number) not in self.model)
        self.model.setdefault(ip(number), owner)

    @rule(owner=owners)
    def we_release(self, owner: Owner) -> None:
        held = [address for address, holder in self.model.items() if holder == owner]
        old = [address for address, holder in self.model.items() if holder == Owner(owner.container_id, "")]
        with self.store:
            assert set(release(self.store, owner)) == set(held or old)
        for address in held or old:
            del self.model[address]

    @rule(number=numbers, owner=owners, old=st.booleans())
    def they_reserve(self, number: int, owner: Owner, old: bool) -> None:
        if ip(number) not in self.model:
            text = owner.container_id if old else f"{owner.container_id}\r\n{owner.ifname}"
            Path(self.store.folder, str(ip(number))).write_text(text, newline="", encoding="utf-8")
            self.model[ip(number)] = Owner(owner.container_id, "") if old else owner

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def they_release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.model, key=str)))
        os.unlink(os.path.join(self.store.folder, str(address)))
        del self.model[address]

    @rule(number=numbers)
    def somebody_crashes(self, number: int) -> None:
        if ip(number) not in self.model:
            Path(self.store.folder, str(ip(number))).write_bytes(b"")

    @rule(valid=st.sets(owners))
    def we_collect(self, valid: set[Owner]) -> None:
        with self.store:
            keep(self.store, valid)
        ids = {owner.container_id for owner in valid}
        self.model = {
            address: holder
            for address, holder in self.model.items()
            if holder in valid or (not holder.ifname and holder.container_id in ids)
        }

    @invariant()
    def the_store_says_what_the_files_say(self) -> None:
        with self.store:
            for owner in (A, B, C, Owner("d", "eth0")):
                names = (owner, Owner(owner.container_id, ""))
                held = {address for address, holder in self.model.items() if holder in names}
                assert set(self.store.addresses(owner)) == held
            free = [ip(number) for number in range(2, 10) if ip(number) not in self.model]
            assert self.store.free(ip(2), ip(9)) == (free[0] if free else None)


Sharing.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None, database=None)
TestSharing = Sharing.TestCase
