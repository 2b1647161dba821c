"""Framing: what goes in comes out, several requests travel together, and refusals keep the kernel's words."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_plugins.sdk import netlink, rtmsg
from cni_plugins.sdk.netlink import NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, Message, Netlink, NetlinkError, frame
from cni_plugins.sdk.rtnl import Rtnl

ENODEV, EINVAL, EINTR = 19, 22, 4


@pytest.fixture
def rtnl() -> Iterator[Rtnl]:
    with Rtnl() as opened:
        yield opened


class Scripted(Netlink):
    """A socket whose kernel says what the test wrote down, a datagram a line."""

    def __init__(self, *datagrams: list[tuple[int, Message]]) -> None:
        self.script = list(datagrams)
        self.sent: list[Message] = []
        self._sequence = 0
        self._interrupted = False

    def _send(self, messages: Sequence[Message]) -> int:
        self.sent += messages
        return len(self.sent) - len(messages) + 1

    def _receive(self) -> Iterator[tuple[int, Message]]:
        yield from self.script.pop(0)


def error(number: int, flags: int = 0, extra: bytes = b"") -> Message:
    return Message(NLMSG_ERROR, flags, (-number).to_bytes(4, "little", signed=True) + bytes(16) + extra)


DONE = Message(NLMSG_DONE, 2, bytes(4))


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), max_size=6))
def test_attributes_come_out_as_they_went_in(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(netlink.attribute(kind, payload) for kind, payload in pairs)
    assert len(data) % 4 == 0
    assert list(netlink.each_attribute(data)) == pairs


@given(st.binary(max_size=60))
def test_garbage_in_an_answer_ends_and_does_not_raise(data: bytes) -> None:
    list(netlink.each_attribute(data))


def test_flag_bits_are_not_part_of_an_attributes_kind() -> None:
    data = netlink.nested(5, netlink.u32(1, 7))
    assert netlink.integer(netlink.attributes(netlink.attributes(data)[5])[1]) == 7


def test_network_byte_order_is_written_where_asked_for() -> None:
    assert netlink.u16(1, 80, ">")[4:6] == b"\0P"
    assert netlink.u32(1, 80, ">")[4:] == b"\0\0\0P"
    assert netlink.u64(1, 80, ">")[4:] == b"\0\0\0\0\0\0\0P"


def test_a_frame_is_padded_but_its_length_is_not() -> None:
    data = frame(Message(18, 4, b"abcde"), 9)
    assert len(data) == 24
    assert int.from_bytes(data[:4], "little") == 21


def test_several_requests_are_answered_each_in_its_place(rtnl: Rtnl) -> None:
    answers = rtnl.talk([rtmsg.link_get("lo"), rtmsg.link_get("no-such-link"), rtmsg.link_get("lo")])
    assert [type(answer) for answer in answers] == [list, NetlinkError, list]
    refusal = answers[1]
    assert isinstance(refusal, NetlinkError)
    assert (refusal.errno, refusal.index, str(refusal)) == (ENODEV, 1, "No such device")


def test_ask_raises_the_first_refusal_and_the_socket_stays_usable(rtnl: Rtnl) -> None:
    with pytest.raises(NetlinkError) as caught:
        rtnl.ask(rtmsg.link_get("lo"), rtmsg.link_get("no-such-link"))
    assert caught.value.index == 1
    found = rtnl.link("lo")
    assert found is not None
    assert found.name == "lo"


def test_the_kernels_own_sentence_is_part_of_the_refusal(rtnl: Rtnl) -> None:
    """A dump with a field that strict checking forbids: the kernel says which."""
    with pytest.raises(NetlinkError) as caught:
        rtnl.dump(Message(18, 0, bytes([0, 0, 1, 0]) + bytes(12)))
    assert caught.value.errno == EINVAL
    assert caught.value.extack
    assert caught.value.extack in str(caught.value)


def test_the_command_stands_before_the_kernels_words() -> None:
    assert str(NetlinkError(ENODEV, "gone").during("ip link del x")) == "ip link del x: No such device (gone)"


def test_late_answers_to_others_questions_are_passed_over() -> None:
    kernel = Scripted([(77, error(ENODEV))], [(1, error(0))])
    assert kernel.ask(Message(16, 4, b"")) == [[]]


def test_a_refused_message_without_acknowledgement_ends_the_batch() -> None:
    """nfnetlink refuses a whole batch at its beginning, and then answers nothing else."""
    kernel = Scripted([(1, error(EINVAL))])
    answers = kernel.talk([Message(16, 0, b""), Message(2560, 4, b""), Message(17, 0, b"")])
    assert isinstance(answers[0], NetlinkError)
    assert answers[1:] == [[], []]


def test_a_list_that_changed_while_it_was_read_is_read_again() -> None:
    item = Message(16, 2, b"item")
    kernel = Scripted([(1, Message(16, 0x12, b"half"))], [(1, DONE)], [(2, item), (2, DONE)])
    assert kernel.dump(Message(18, 0, b"")) == [item]
    assert [message.flags for message in kernel.sent] == [NLM_F_DUMP] * 2


def test_a_list_that_never_stands_still_is_an_error() -> None:
    kernel = Scripted(*([(place, Message(NLMSG_DONE, 0x12, bytes(4)))] for place in range(1, 20)))
    with pytest.raises(NetlinkError) as caught:
        kernel.dump(Message(18, 0, b""))
    assert caught.value.errno == EINTR


def test_a_socket_that_was_handed_down_is_taken_over() -> None:
    handed = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETLINK_ROUTE)
    number = handed.detach()
    with Netlink(netlink.NETLINK_ROUTE, number) as taken:
        assert taken.fileno() == number
        assert len(taken.ask(rtmsg.link_get("lo"))[0]) == 1
