"""`-u`: every way to say it, and what the container's files may hold. Expected values are docker's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt import user
from minirt.errors import MinirtError, NotFound, UsageError
from minirt.user import User

PASSWD = b"""\
root:x:0:0:root:/root:/bin/bash
# a comment
ana:x:1000:100:Ana,,,:/home/ana:/bin/sh
short:x:1
broken:x:abc:5::/:/bin/sh
huge:x:4294967295:0::/:/bin/sh
homeless:x:7:7:::
1001:x:0:0:named like a number:/root:/bin/sh
ana:x:2000:200:a second Ana:/nowhere:/bin/sh
n\xffl:x:8:8::/home/n\xffl:/bin/sh
zero:x:9:9::/home/\0:/bin/sh
"""
GROUP = b"""\
root:x:0:
wheel:x:10:root,ana
audio:x:29:ana,bo
bad:x:-5:ana
users:x:100:
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (10,), "/root")),
        ("root", User(0, 0, (10,), "/root")),
        ("0", User(0, 0, (10,), "/root")),
        ("ana", User(1000, 100, (10, 29), "/home/ana")),
        ("1000", User(1000, 100, (10, 29), "/home/ana")),
        ("0001000", User(1000, 100, (10, 29), "/home/ana")),
        ("ana:users", User(1000, 100, (), "/home/ana")),
        ("ana:5", User(1000, 5, (), "/home/ana")),
        ("1000:wheel", User(1000, 10, (), "/home/ana")),
        ("77", User(77, 0, (), "/")),
        ("77:88", User(77, 88, (), "/")),
        ("homeless", User(7, 7, (), "/")),
        ("4294967294", User(4294967294, 0, (), "/")),
    ],
)
def test_a_user_is_what_docker_makes_of_it(text: str, expected: User) -> None:
    assert user.resolve(text, PASSWD, GROUP) == expected


def test_digits_are_a_number_even_where_somebody_is_named_so() -> None:
    """CVE-2016-3697: an image whose user "1001" is root turned `-u 1001` into root."""
    assert user.resolve("1001", PASSWD, GROUP) == User(1001, 0, (), "/")


@pytest.mark.parametrize(
    "text", ["1000abc", "-1", "+5", "0x10", "1e3", "\u0665", "nobody", "broken", "huge", "zero", "ana:no"]
)
def test_who_is_not_there_is_named(text: str) -> None:
    """CVE-2026-30892: a user half-way read as a number became another."""
    with pytest.raises(NotFound, match="in the container's /etc/"):
        user.resolve(text, PASSWD, GROUP)


@pytest.mark.parametrize(
    "text", [":", ":5", "5:", "root:", "a:b:c", "a b", " 5", "5\n", "a\0", "4294967295", "5:4294967295", "9" * 5000]
)
def test_what_cannot_be_anybody_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="invalid user"):
        user.check(text)
    with pytest.raises(UsageError, match="invalid user"):
        user.resolve(text, PASSWD, GROUP)


def test_an_image_without_files_of_users_has_numbers() -> None:
    assert user.resolve("", b"", b"") == User(0, 0, (), "/")
    with pytest.raises(NotFound):
        user.resolve("root", b"", b"")


@given(text=st.text(max_size=12), passwd=st.binary(max_size=200), group=st.binary(max_size=200))
def test_whatever_the_files_hold_the_answer_is_a_user_or_a_sentence(text: str, passwd: bytes, group: bytes) -> None:
    try:
        found = user.resolve(text, passwd, group)
    except MinirtError as error:
        assert error.message
    else:
        assert all(0 <= number < 2**32 - 1 for number in (found.uid, found.gid, *found.groups))
        assert "\n" not in found.home and "\0" not in found.home


def test_a_file_is_read_only_if_it_is_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"text")
    assert user.read(str(tmp_path / "file")) == b"text"
    for name in ("fifo", "missing", "."):
        assert user.read(str(tmp_path / name)) == b""
