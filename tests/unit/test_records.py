"""Small files that are whole or not there, records of attachments, and who may change them at once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cni_plugins.sdk.records import AttachmentRecords, LockedFolder, Owner, read_file, valid_owners, write_file
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError

A, B = Owner("a", "eth0"), Owner("a", "eth1")


@pytest.fixture
def records(tmp_path: Path) -> AttachmentRecords:
    return AttachmentRecords("portmap", "net", str(tmp_path))


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_file(str(tmp_path / "file"), b"text", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_meets_the_old_text_or_the_new_one(tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    write_file(path, b"0" * 100_000)
    pid = os.fork()
    if pid == 0:
        for turn in range(60):
            write_file(path, str(turn % 10).encode() * 100_000)
        os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        text = read_file(path)
        assert text is not None and len(text) == 100_000 and len(set(text)) == 1


def test_a_write_that_fails_changes_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "file")
    write_file(path, b"old")

    def full(*_: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "rename", "link"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match="No space"):
                write_file(path, b"new")
    assert read_file(path) == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_writer_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:

        def stuck(_fd: object) -> None:
            os.write(write_end, b"x")
            time.sleep(60)

        setattr(os, "fsync", stuck)  # noqa: B010  # the child's own
        write_file(str(tmp_path / "file"), b"text")
        os._exit(1)
    os.read(read_end, 1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(read_end)
    os.close(write_end)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("there", [False, True])
def test_where_files_have_no_nameless_drafts_they_are_written_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    path = str(tmp_path / "file")
    if there:
        write_file(path, b"old")
    opened = os.open

    def old(name: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opened(name, flags, mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", old)
        write_file(path, b"new")
    assert read_file(path) == b"new" and os.listdir(tmp_path) == ["file"]


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_file(str(tmp_path / "none")) is None
    with pytest.raises(IsADirectoryError):
        read_file(str(tmp_path))


def test_a_record_is_kept_until_it_is_deleted_and_its_folder_goes_with_the_last(records: AttachmentRecords) -> None:
    records.save(A, {"ports": [80, 443]})
    records.save(B, {})
    records.save(A, {"ports": [81]})
    assert (records.load(A), records.load(B)) == ({"ports": [81]}, {})
    assert set(records.owners()) == {A, B}
    assert set(os.listdir(records.folder)) == {"a:eth0", "a:eth1"}
    records.delete(A)
    records.delete(A)
    assert (records.load(A), list(records.owners())) == (None, [B])
    records.delete(B)
    assert not os.path.exists(records.folder)
    assert list(records.owners()) == []


def test_deleting_what_was_never_there_makes_nothing(records: AttachmentRecords) -> None:
    records.delete(A)
    assert not os.path.exists(records.folder)


def test_records_of_other_networks_and_plugins_are_others(tmp_path: Path) -> None:
    kinds = [AttachmentRecords(plugin, network, str(tmp_path)) for plugin in ("p", "q") for network in ("m", "n")]
    for number, kind in enumerate(kinds):
        kind.save(A, {"number": number})
    assert [kind.load(A) for kind in kinds] == [{"number": number} for number in range(4)]


def test_a_file_where_the_folder_should_be_is_an_error_and_no_endless_wait(records: AttachmentRecords) -> None:
    os.makedirs(os.path.dirname(records.folder))
    Path(records.folder).write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        records.save(A, {})


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"7"])
def test_what_is_no_record_counts_as_none(records: AttachmentRecords, text: bytes) -> None:
    records.save(A, {"a": 1})
    Path(records.path(A)).write_bytes(text)
    assert records.load(A) is None
    records.delete(A)
    assert not os.path.exists(records.folder)


def test_a_temporary_file_left_by_a_crash_is_nobodys_record(records: AttachmentRecords) -> None:
    records.save(A, {})
    Path(records.folder, ".b:eth0.77").write_bytes(b"{}")
    assert list(records.owners()) == [A]


def test_the_lock_keeps_others_out_and_may_be_taken_again_inside(records: AttachmentRecords) -> None:
    with records.locked():
        records.save(A, {})
        pid = os.fork()
        if pid == 0:
            other = AttachmentRecords("portmap", "net", os.path.dirname(os.path.dirname(records.folder)))
            began = time.monotonic()
            with other.locked():
                os._exit(0 if other.load(B) == {"late": 1} and time.monotonic() - began > 0.1 else 1)
        time.sleep(0.2)
        with records.locked():
            records.save(B, {"late": 1})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_folder_that_comes_and_goes_is_locked_by_one_at_a_time(tmp_path: Path) -> None:
    """The folder itself is the lock, and the last one out removes it: nobody may hold a ghost of it."""
    folder, counter = str(tmp_path / "folder"), tmp_path / "counter"
    counter.write_text("0", encoding="utf-8")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(50):
                    with LockedFolder(folder):
                        counter.write_text(str(int(counter.read_text(encoding="utf-8")) + 1), encoding="utf-8")
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert counter.read_text(encoding="utf-8") == "200"
    assert not os.path.exists(folder)


def test_an_unlocked_folder_is_free_although_a_child_has_a_copy_of_the_descriptor(tmp_path: Path) -> None:
    with LockedFolder(str(tmp_path / "folder")):
        (tmp_path / "folder" / "kept").write_bytes(b"")
        pid = os.fork()
        if pid == 0:
            time.sleep(5)
            os._exit(0)
    began = time.monotonic()
    with LockedFolder(str(tmp_path / "folder")):
        pass
    assert time.monotonic() - began < 1
    os.kill(pid, 9)
    os.waitpid(pid, 0)


def test_gc_says_who_is_alive_or_nothing_at_all() -> None:
    listed = {"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}
    older = {"cni.dev/attachments": [{"containerID": "a", "ifname": "eth1"}]}
    assert valid_owners(View(listed)) == {A}
    assert valid_owners(View(older)) == {B}
    assert valid_owners(View(listed | older)) == {A}
    assert valid_owners(View({"cni.dev/valid-attachments": []})) == set()
    assert valid_owners(View({})) is None
    with pytest.raises(CniError, match=r"cni\.dev/valid-attachments\[0\]\.containerID: expected a string"):
        valid_owners(View({"cni.dev/valid-attachments": [{"containerID": 7}]}))
