"""Records of containers: claimed once, found by what people call them, whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cni_plugins.spec.record import replace
from minirt.errors import Conflict, Damaged, NotFound, UsageError
from minirt.spec import ContainerSpec
from minirt.state import Attached, Store, start_time

WEB = ContainerSpec("host", name="web")


def _none_is_damaged(error: Damaged) -> None:
    raise error


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_a_record_is_read_as_it_was_written(store: Store) -> None:
    record, lock = store.create(WEB)
    attached = (Attached("blue", "eth0", "/etc/x", "{}", {"ips": ["10.0.0.9"]}, {"ips": []}),)
    changed = store.change(record, status="running", pid=7, attached=attached)
    assert store.load(record.id) == changed == replace(record, status="running", pid=7, attached=attached)
    lock.release()


def test_a_container_is_found_by_name_id_and_unique_prefix(store: Store) -> None:
    web = store.create(WEB)[0]
    other = store.create(ContainerSpec("host"))[0]
    for reference in ("web", web.id, web.id[:12]):
        assert store.find(reference) == web
    assert store.find(other.id[:20]) == other
    for reference in ("nobody", "f" * 65, "zz"):
        with pytest.raises(NotFound):
            store.find(reference)
    for reference in ("", "../web", ".", "a/b"):
        with pytest.raises(UsageError):
            store.find(reference)


def test_a_container_whose_removal_was_interrupted_is_found_by_its_name(store: Store) -> None:
    web = store.create(WEB)[0]
    os.unlink(f"{store.names}/web")  # the first thing that a removal does
    assert store.find("web") == web
    store.remove(web)
    with pytest.raises(NotFound):
        store.find("web")


def test_an_ambiguous_prefix_names_the_candidates(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [b"\xab" * 31 + b"\x01", b"\xab" * 31 + b"\x02"]
    monkeypatch.setattr(os, "urandom", lambda _count: drawn.pop())
    store.create(ContainerSpec("host"))
    store.create(ContainerSpec("host"))
    with pytest.raises(UsageError) as caught:
        store.find("abab")
    assert "abab" in caught.value.hint


def test_a_name_is_taken_once_and_free_again_after_removal(store: Store) -> None:
    web, lock = store.create(WEB)
    with pytest.raises(Conflict):
        store.create(WEB)
    assert [record.id for record in store.all(_none_is_damaged)] == [web.id]
    lock.release()
    store.remove(web)
    assert store.create(WEB)[0].id != web.id


def test_a_name_whose_container_was_deleted_by_hand_is_free(store: Store) -> None:
    web = store.create(WEB)[0]
    shutil.rmtree(store.path(web.id))
    assert store.create(WEB)[0].id != web.id


def _claim(root: str) -> int:
    """Another process that wants the name; its pid. It exits with 0 if it got it."""
    child = os.fork()
    if child:
        return child
    code = 2
    try:
        Store(root).create(WEB)
        code = 0
    except Conflict:
        code = 1
    finally:
        os._exit(code)


def test_of_many_at_once_one_gets_the_name(tmp_path: Path) -> None:
    children = [_claim(str(tmp_path)) for _ in range(24)]
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0] + [1] * 23
    assert len(list(Store(str(tmp_path)).all(_none_is_damaged))) == 1


def test_a_container_is_removed_whole(store: Store) -> None:
    web, lock = store.create(WEB)
    Path(store.path(web.id, "log")).touch()
    store.remove(web)
    lock.release()
    assert store.ids() == []
    assert os.listdir(store.names) == []


def test_the_lock_is_held_by_who_created_it(store: Store) -> None:
    web, lock = store.create(WEB)
    assert not store.lock(web).take(wait=False)
    lock.release()
    again = store.lock(web)
    assert again.take(wait=False)
    again.release()


def test_a_process_is_named_by_its_start_time() -> None:
    assert start_time(os.getpid()) > 0
    child = os.fork()
    if not child:
        os._exit(0)
    while start_time(child):
        pass
    os.waitpid(child, 0)
    assert start_time(child) == 0


def test_the_record_is_the_last_file_to_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    record, lock = store.create(WEB)
    for name in ("hosts", "log", "zz"):
        Path(store.path(record.id, name)).touch()
    gone: list[str] = []
    unlink = os.unlink

    def note(path: str) -> None:
        gone.append(os.path.basename(path))
        unlink(path)

    monkeypatch.setattr(os, "unlink", note)
    store.remove(record)
    lock.release()
    assert gone[-1] == "record.json"
