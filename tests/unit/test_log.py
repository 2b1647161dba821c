"""A container's log: what was written comes out again, also while it grows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from minirt import log
from minirt.errors import UsageError


def write(path: Path, *entries: tuple[str, bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream, data in entries:
        log.Writer(fd, stream).write(data)
    os.close(fd)


def test_lines_keep_their_stream_and_their_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, ("stdout", b"one\ntwo\r\nthr"), ("stderr", b"oops\n"), ("stdout", b"ee\n\n"))
    found = [(line.stream, line.text) for line in log.read(str(path))]
    assert found == [
        ("stdout", b"one\n"),
        ("stdout", b"two\r\n"),
        ("stdout", b"thr"),
        ("stderr", b"oops\n"),
        ("stdout", b"ee\n"),
        ("stdout", b"\n"),
    ]


def test_the_file_is_in_the_format_of_cri(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, ("stdout", b"a b\nc"))
    whole, part = path.read_text().splitlines()
    when = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"
    assert re.fullmatch(f"{when} stdout F a b", whole)
    assert re.fullmatch(f"{when} stdout P c", part)


def test_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, ("stdout", b"1\n2\n3\n"))
    for tail, expected in ((0, []), (2, [b"2\n", b"3\n"]), (9, [b"1\n", b"2\n", b"3\n"])):
        assert [line.text for line in log.read(str(path), tail=tail)] == expected


def test_following_misses_nothing_that_came_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, ("stdout", b"1\n"))
    late = [b"2\n", b"3\n"]

    def going() -> bool:
        if late:
            write(path, ("stdout", late.pop(0)))
        return bool(late)

    assert [line.text for line in log.read(str(path), going)] == [b"1\n", b"2\n", b"3\n"]


def test_a_line_that_is_being_written_is_left_for_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path, ("stdout", b"1\n"))
    with path.open("ab") as file:
        file.write(b"2026-01-01T00:00:00.000000000Z stdout F ha")
    assert [line.text for line in log.read(str(path))] == [b"1\n"]


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert list(log.read(str(tmp_path / "none"))) == []


def test_times() -> None:
    assert log.timestamp(1_700_000_000_000_000_005) == "2023-11-14T22:13:20.000000005Z"
    assert log.since("10m", 1_700_000_600.0) == "2023-11-14T22:13:20.000000000Z"
    assert log.since("1700000000", 0) == "2023-11-14T22:13:20.000000000Z"
    assert log.since("2023-11-14T22:13:20Z", 0) <= log.timestamp(1_700_000_000_000_000_000)
    for bad in ("", "yesterday", "10x", "-1m"):
        with pytest.raises(UsageError):
            log.since(bad, 0)
