"""What a plugin tells of its steps, to whom, and that it never minds not being heard."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from cni_plugins.sdk import narration
from cni_plugins.sdk.main import do, new_plan
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.names import REFUSED, STEPS_FD
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step


@record
class Said(Step):
    """Does nothing, or fails."""

    text: str
    fails: bool = False
    asks: bool = True

    def describe(self) -> str:
        return self.text

    def apply(self) -> None:
        if self.fails:
            raise RuntimeError(self.text)

    def opposite(self) -> Step | None:
        return Said(f"not {self.text}") if self.text else None


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setenv(STEPS_FD, str(theirs.fileno()))
    monkeypatch.setenv("CNI_COMMAND", "ADD")
    monkeypatch.setattr("sys.argv", ["/opt/cni/bin/bridge"])
    ours.settimeout(5)
    with ours, theirs:
        yield ours


def heard(ear: socket.socket) -> dict[str, object]:
    message: dict[str, object] = json.loads(ear.recv(1 << 16))
    return message


def test_each_step_is_told_before_it_is_applied_and_how_it_is_undone_before_it_is(ear: socket.socket) -> None:
    with pytest.raises(RuntimeError), new_plan() as plan:
        plan.do(Said("one"), Said(""), Said("two", fails=True))
    who = {"plugin": "bridge", "verb": "ADD"}
    assert [heard(ear) for _ in range(3)] == [
        who | {"step": "one", "undo": False, "asks": False},
        who | {"step": "two", "undo": False, "asks": False},
        who | {"step": "not one", "undo": True, "asks": False},
    ]
    ear.setblocking(False)
    with pytest.raises(BlockingIOError):  # a message for each, and no more
        ear.recv(1)


def test_with_step_the_runtime_gives_leave_for_each(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STEPS_FD, f"{os.environ[STEPS_FD]}:step")
    done: list[str] = []

    def work() -> None:
        do(Said("one"))
        done.append("one")

    thread = threading.Thread(target=work)
    thread.start()
    assert heard(ear)["step"] == "one"
    thread.join(0.05)
    assert done == []
    ear.send(b"\n")
    thread.join(5)
    assert done == ["one"]


def test_a_step_under_a_lock_is_told_and_waits_for_nobody(ear: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STEPS_FD, f"{os.environ[STEPS_FD]}:step")
    do(Said("one", asks=False))
    assert (told := heard(ear))["step"] == "one" and told["asks"] is False


def test_what_is_done_under_a_lock_waits_for_no_reader_and_is_told_in_the_end(ear: socket.socket) -> None:
    texts = [f"{number} {'word ' * 1000}" for number in range(100)]
    do(*(Said(text, asks=False) for text in texts))  # far more than there is room for
    teller = threading.Thread(target=narration.rest)
    teller.start()
    assert [heard(ear)["step"] for _ in texts] == texts
    teller.join(5)
    assert not teller.is_alive()


def test_leave_for_a_step_that_is_longer_than_a_message_is_asked_for_all_the_same(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STEPS_FD, f"{os.environ[STEPS_FD]}:step")
    ear.send(REFUSED)
    with pytest.raises(CniError, match="given up before: word") as refused:
        do(Said("word " * 100_000))
    assert len(refused.value.msg) < 2000
    told = str(json.loads(ear.recv(1 << 18))["step"])
    assert told.startswith("word word ") and told.endswith(" more characters")


@pytest.mark.parametrize("value", ["", "x", "-1", "99999", "0:step", "²", "1000000000000000000000"])
def test_nobody_who_listens_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(STEPS_FD, value)
    do(Said("one"))


def test_a_number_that_has_come_to_mean_another_descriptor_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    stream, other = socket.socketpair()
    for number in (fd, stream.fileno()):
        monkeypatch.setenv(STEPS_FD, str(number))
        do(Said("one"))
        os.fstat(number)
    assert os.path.getsize(path) == 0
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(1)
    os.close(fd)
    stream.close()
    other.close()


def test_a_listener_that_has_gone_is_no_reason_to_fail(ear: socket.socket) -> None:
    ear.close()
    do(Said("one"))


def test_a_step_that_is_refused_fails_and_what_was_done_is_taken_back(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STEPS_FD, f"{os.environ[STEPS_FD]}:step")
    for answer in (b"\n", REFUSED, b"\n"):  # of one, of two, of the undoing of one
        ear.send(answer)
    with pytest.raises(CniError, match="given up before: two"), new_plan() as plan:
        plan.do(Said("one"), Said("two"), Said("three"))
    assert [heard(ear)["step"] for _ in range(3)] == ["one", "two", "not one"]
