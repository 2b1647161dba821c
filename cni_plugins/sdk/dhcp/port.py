"""An interface's DHCP port: a packet socket in its namespace, for as long as a question is open and no longer.

A socket keeps its namespace alive, and a packet socket is shown every packet of the interface. So the daemon, which has
hundreds of leases in one thread, holds none while there is nothing to say: a port is opened to ask, and closed.
"""

from __future__ import annotations

import asyncio
import socket

from cni_plugins.sdk.dhcp import messages
from cni_plugins.sdk.dhcp.leases import Place
from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.netns import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_plugins.sdk.dhcp.messages import Reply
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.ip import Address

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_IPV4 = 0x0800
_SHARES_MAC = ("ipvlan",)  # kinds of links that have their parent's hardware address


class GoneError(Exception):
    """The namespace or the interface is not there any more, or is none that could have a lease."""


class Port:
    """The port of the interface at `place`, which is raised first when `up` says so. Raises GoneError, OSError."""

    def __init__(self, place: Place, up: bool = False) -> None:
        self._place = place
        self._sockets: list[socket.socket] = []
        if place.gone():
            raise GoneError(f"the namespace {place.netns} is gone")
        with Namespace(place.path) as namespace:
            link = namespace.link(place.ifname)
            if link is None:
                raise GoneError(f"there is no interface {place.ifname} in {place.netns}")
            if not link.mac:
                raise GoneError(f"{place.ifname} in {place.netns} has no hardware address, which DHCP needs")
            if up and not link.up:
                SetLink(namespace, place.ifname, up=True).apply()
            self.link: Link = link
            try:
                with namespace.inside():
                    self._frames = self._packets()
                    self._datagrams = self._udp()
            except BaseException:
                self.close()
                raise

    def _packets(self) -> socket.socket:
        # Without a protocol it gets nothing before it is bound, and so nothing that the filter has not seen.
        made = self._opened(socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0))
        program, _alive = messages.filter_program()
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
        made.bind((self._place.ifname, _IPV4))
        return made

    def _udp(self) -> socket.socket | None:
        """Answers to a lease's own address reach the kernel too, which would refuse them: here is who they are for."""
        made = self._opened(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._place.ifname.encode())
        try:
            made.bind(("", messages.CLIENT_PORT))
        except OSError:
            return None  # somebody in the container has a DHCP client of his own
        return made

    def _opened(self, made: socket.socket) -> socket.socket:
        self._sockets.append(made)
        return made

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for made in self._sockets:
            made.close()

    @property
    def shares_mac(self) -> bool:
        """Whether other links have this hardware address too, so that answers must be sent to all of them."""
        return self.link.kind in _SHARES_MAC

    async def ask(self, frame: bytes, transaction: int, kinds: Collection[int], seconds: float) -> Reply | None:
        """The first answer to `frame` of one of `kinds`, within `seconds`."""
        self._try(self._frames, frame)
        return await self._answer(transaction, kinds, seconds)

    async def ask_server(
        self, payload: bytes, server: Address, transaction: int, kinds: Collection[int], seconds: float
    ) -> Reply | None:
        """The same for a message to one server, which the kernel finds the way to."""
        if self._datagrams is not None:
            self._try(self._datagrams, payload, (str(server), messages.SERVER_PORT))
        return await self._answer(transaction, kinds, seconds)

    @staticmethod
    def _try(made: socket.socket, data: bytes, to: tuple[str, int] | None = None) -> None:
        """A message that cannot be sent now is as good as lost on the way: it is sent again."""
        try:
            made.sendto(data, to) if to else made.send(data)
        except OSError:
            pass

    async def _answer(self, transaction: int, kinds: Collection[int], seconds: float) -> Reply | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        frame = await loop.sock_recv(self._frames, 1 << 16)
                    except OSError:  # the interface went down: it may come up again
                        await asyncio.sleep(0.1)
                        continue
                    reply = messages.read(frame)
                    if reply is None or reply.kind not in kinds or reply.transaction != transaction:
                        continue
                    if reply.client_mac == self.link.mac:
                        return reply
        except TimeoutError:
            return None
