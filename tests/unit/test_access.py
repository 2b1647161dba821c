"""Who may look at what `minirt serve` shows: the kernel's table of sockets, read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from minirt.web import access

THEIRS, OURS = ("127.0.0.1", 40000), ("127.0.0.1", 8080)


def test_whose_a_connection_is_both_families_know() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            ours = server.getsockname()[:2]
            with socket.create_connection(ours) as client:
                theirs = client.getsockname()[:2]
                assert access.owner(family, theirs, ours) == os.geteuid()
            assert access.owner(family, ("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 9), ours) is None


def test_a_socket_that_one_reading_of_the_table_misses_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "0: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1234        0 17"
    readings: Iterator[list[str]] = iter([[], [], [line]])  # of two tables, and again
    monkeypatch.setattr(access, "_lines", lambda _path: next(readings))
    assert access.owner(socket.AF_INET, THEIRS, OURS) == 1234


def test_a_socket_of_ipv6_that_reaches_ipv4_is_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        theirs = ("127.0.0.1", client.getsockname()[1])
        assert access.owner(socket.AF_INET, theirs, server.getsockname()) == os.geteuid()
