"""The socket by which the one who asked for a container's end is told of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minirt.explain import remote
from minirt.explain.account import COMMAND, FACT, Account, Item

ITEMS = [Item(FACT, "runtime", "one"), Item(COMMAND, "bridge", "ip link del veth1", 1, why="it goes")]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str]:
    """Longer than the address of a socket may be."""
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    yield str(folder / "tell")
    assert os.listdir(folder) == []


def asked(place: str, account: Account, teller: Callable[[], None], under_way: Callable[[], bool]) -> bool:
    """Whether anything was heard while `teller` was at work."""
    request = remote.Request(place)
    thread = threading.Thread(target=teller)
    thread.start()
    try:
        return request.hear(account, under_way)
    finally:
        request.close()
        thread.join(10)


def answered(place: str) -> remote.Telling:
    telling = remote.answer(place)
    assert telling is not None
    return telling


def test_what_is_told_is_shown_at_once_and_as_it_was_told(place: str) -> None:
    shown: list[Item] = []
    seen = threading.Event()

    def write(item: Item) -> None:
        shown.append(item)
        seen.set()

    def teller() -> None:
        telling = answered(place)
        account = telling.account
        assert not account.stops
        account.show(ITEMS[:1])
        assert seen.wait(5)  # before the rest is done
        account.show(ITEMS[1:])
        telling.done()

    assert asked(place, Account(write), teller, lambda: True)
    assert shown == ITEMS


def test_with_steps_the_teller_waits_for_leave(place: str) -> None:
    order: list[str] = []

    def pause(items: list[Item], netns: str, pid: int) -> None:
        assert (items, netns, pid) == (ITEMS, "/run/netns/x", 7)
        order.append("leave")

    def teller() -> None:
        telling = answered(place)
        account = telling.account
        assert account.stops
        account.ask(ITEMS, "/run/netns/x", 7)
        order.append("done")
        telling.done()

    assert asked(place, Account(lambda _item: None, pause), teller, lambda: True)
    assert order == ["leave", "done"]


def test_an_asker_who_gives_up_is_told_that_it_is_done_all_the_same(place: str) -> None:
    shown: list[Item] = []

    def pause(_items: list[Item], _netns: str, _pid: int) -> None:
        raise KeyboardInterrupt

    def teller() -> None:
        telling = answered(place)
        account = telling.account
        account.ask(ITEMS, "", 0)
        account.show(ITEMS[:1])
        telling.done()

    assert asked(place, Account(shown.append, pause), teller, lambda: True)
    assert "all the same" in shown[0].text and shown[1:] == ITEMS[:1]


def test_an_asker_who_goes_in_the_middle_holds_up_nothing(place: str) -> None:
    def pause(_items: list[Item], _netns: str, _pid: int) -> None:
        raise RuntimeError

    done = threading.Event()

    def teller() -> None:
        telling = answered(place)
        account = telling.account
        for _ in range(3):
            account.ask(ITEMS, "", 0)
        telling.done()
        done.set()

    with pytest.raises(RuntimeError):
        asked(place, Account(lambda _item: None, pause), teller, lambda: True)
    assert done.wait(5)


@pytest.mark.parametrize("steps", [False, True])
def test_a_teller_who_is_killed_has_not_done_it(place: str, steps: bool) -> None:
    """Also when all that was said to it has been read."""
    shown: list[Item] = []

    def teller() -> None:
        account = answered(place).account
        if steps:
            account.ask(ITEMS, "", 0)
        account.show(ITEMS)
        os.close(account.fds[0])

    pause = (lambda _items, _netns, _pid: None) if steps else None
    assert asked(place, Account(shown.append, pause), teller, lambda: True)
    assert [item.text for item in shown[2:]] == ["the process that takes it down has ended before it was done"]


def test_a_teller_who_does_not_wait_to_be_asked_may_have_done_it_all(place: str) -> None:
    """The asker was stopped by ctrl-Z, say."""
    shown: list[Item] = []

    def teller() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as early, remote._Short(place) as short:
            early.connect(short)

    assert asked(place, Account(shown.append), teller, lambda: True)
    assert [item.text for item in shown] == [
        "the process that takes it down did not wait so long to be asked: it is not told"
    ]


def test_an_asker_who_does_not_read_loses_items_and_is_told_how_many(place: str) -> None:
    shown: list[Item] = []
    full = threading.Event()

    def write(item: Item) -> None:
        assert full.wait(10)
        shown.append(item)

    def teller() -> None:
        telling = answered(place)
        account = telling.account
        for _ in range(5000):
            account.show(ITEMS[:1])
        full.set()
        while not shown:
            threading.Event().wait(0.01)
        threading.Event().wait(0.2)
        account.show(ITEMS[1:])
        telling.done()

    assert asked(place, Account(write), teller, lambda: True)
    (notice,) = [item for item in shown if "not told" in item.text]
    assert len(shown) - 2 + int(notice.text.split()[0]) == 5000 and shown[-1] == ITEMS[1]


def test_nobody_who_tells_is_waited_for_as_long_as_it_is_under_way(place: str) -> None:
    looks = iter((True, True, False))
    assert not asked(place, Account(lambda _item: None), lambda: None, lambda: next(looks))


def test_nobody_who_asks_is_nobody(place: str) -> None:
    assert remote.answer(place) is None
    Path(place).touch()
    assert remote.answer(place) is None
    os.unlink(place)
