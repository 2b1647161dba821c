"""Duplicate address detection, for those who ask for it (RFC 4862, 5.4; RFC 7527 against loops).

The kernel asks the neighbours whether the address is theirs, and holds it back for a second or two. A question that a
bridge drops, whose port does not forward yet, would prove nothing: so the link comes up first, then frames pass, and
then the addresses are added. The kernel says when it is done with each, so nobody polls.
"""

from __future__ import annotations

import time

from cni_plugins.sdk import layer3, rtmsg
from cni_plugins.sdk.links import AddAddress, SetLink, wait_running
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.sdk.rtmsg import AF_INET6, IFA_F_DADFAILED, IFA_F_TENTATIVE
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.sdk.netlink import Message
    from cni_plugins.spec.result import Ip, Route

RTMGRP_IPV6_IFADDR = 0x100  # linux/rtnetlink.h
POLLIN = 1
LONGEST = 10.0  # seconds: a random second, then one for each question (dad_transmits, mostly 1)


@record
class AddTentative(AddAddress):
    """An address that the neighbours are asked about first, where it is an IPv6 one."""

    def describe(self) -> str:
        return super().describe().removesuffix(" nodad")

    def messages(self) -> list[Message]:
        return [rtmsg.address_add(self.namespace.index(self.link), self.cidr, detect=True)]


def configure(
    inside: Namespace, link: str, ips: Sequence[Ip], routes: Sequence[Route], host: Namespace, port: str
) -> list[Step]:
    """As `layer3.configure`, for a link whose other end, on the host, is `port`."""
    return [
        *layer3.prepare(inside, link, ips, detect=True),
        SetLink(inside, link, up=True),
        Passing(host, port),
        layer3.assign(inside, link, ips, routes, AddTentative),
        Settled(inside, link),
    ]


@record
class Passing(Step):
    """Wait until frames pass over a link."""

    namespace: Namespace
    link: str

    def describe(self) -> str:
        shown = self.namespace.command(f"link show dev {quoted(self.link)}")
        return "sh -c " + quoted(f'until {shown} | grep -q "state UP"; do sleep 0.02; done')

    def apply(self) -> None:
        wait_running(self.namespace, self.link)


@record
class Settled(Step):
    """Wait until all IPv6 addresses of a link are its own. Raises CniError for one that a neighbour has."""

    namespace: Namespace
    link: str

    def describe(self) -> str:
        shown = self.namespace.command(f"-6 addr show dev {quoted(self.link)} tentative")
        return "sh -c " + quoted(f"while {shown} | grep -q inet6; do sleep 0.1; done")

    def apply(self) -> None:
        from select import poll  # for those who wait alone

        from cni_plugins.sdk.rtnl import Rtnl

        deadline = time.monotonic() + LONGEST
        with self.namespace.inside():
            news = Rtnl()
        try:
            news.socket.bind((0, RTMGRP_IPV6_IFADDR))  # before the first look: nothing is missed
            waiting = poll()
            waiting.register(news.socket.fileno(), POLLIN)
            while self._tentative():
                left = deadline - time.monotonic()
                if left <= 0:
                    text = f"the neighbours of {self.link} kept silent for {LONGEST:.0f} s, and it is still asking"
                    raise CniError(INTERNAL, text, "`ip -6 addr show tentative` in the container names the addresses")
                if waiting.poll(left * 1000):
                    news.socket.recv(1 << 16)
        finally:
            news.close()

    def _tentative(self) -> bool:
        """Whether the kernel still asks about some. Raises CniError for one that is taken."""
        found = self.namespace.rtnl.addresses(self.namespace.index(self.link), AF_INET6)
        taken = [str(item.cidr.address) for item in found if item.flags & IFA_F_DADFAILED]
        if taken:
            raise CniError(
                INTERNAL,
                f"{', '.join(taken)}: a neighbour of {self.link} has this address already",
                "duplicate address detection found it out; give this container another address",
            )
        return any(item.flags & IFA_F_TENTATIVE for item in found)
