"""The DHCP client of one attachment: how a lease is got, kept, and lost (RFC 2131, 4.4).

    acquire   DISCOVER ─ OFFER ─ REQUEST ─ ACK      no answer: again, more and more seldom, until time is up
    keep      … T1: REQUEST to the server … T2: REQUEST to all … expired or refused: the address is withdrawn from the
              interface, and asked for again until the server grants it, or the interface has gone

The address of an attachment does not change: it stands in the runtime's result, in records, in other plugins' rules.
So when a lease is lost, an offer of another address is not taken; the container is without a network, as RFC 2131
demands, until it gets its own back, with the routes that went with it. (The reference's daemon takes any address, which
nobody then puts on the interface; and at the end of a lease it sets the interface down, and that is that.)

The messages are pyroute2's, its client (pyroute2.dhcp.client, 0.9) is not: a lease from an earlier process it can only
take up by asking for it, and drops it when there is no answer within ten seconds, valid or not; it must live in the
namespace of the interface, which makes a thread and a loop for every lease; one message without a type ends its
receiver, an interface that goes down its sender; and options are those that it has a name for.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from errno import EEXIST

from cni_plugins.sdk.dhcp import messages, options
from cni_plugins.sdk.dhcp.leases import Lease, Place, Withdrawn
from cni_plugins.sdk.dhcp.messages import ACK, NAK, OFFER
from cni_plugins.sdk.dhcp.port import GoneError, Port
from cni_plugins.sdk.links import AddAddress, DeleteAddress
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtmsg import AF_INET, route_add
from cni_plugins.spec.errors import PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import Cidr
from cni_plugins.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from cni_plugins.sdk.dhcp.messages import Reply
    from cni_plugins.spec.ip import Address

NO_LEASE = PLUGIN_SPECIFIC
FOREVER = 0xFFFFFFFF  # as a lease's time (RFC 2131, 3.3)
USUAL = 3600  # seconds, where a server names none
_NAP = 30.0  # seconds: asyncio's clock stands still while the machine sleeps, and ours does not


@record
class Patience:
    """How long is waited: for one answer, between two attempts at most, and in all until ADD fails. In seconds."""

    answer: float = 10.0
    pause: float = 62.0
    total: float = 45.0


@record
class Wish:
    """What is asked of the server. `broadcast` has it answer to all."""

    identifier: bytes
    request: tuple[int, ...]
    provide: Mapping[int, bytes]
    broadcast: bool = False


class Book:
    """Where a client writes down what it has, and what happens."""

    def enter(self, lease: Lease) -> None:
        """Keep it, durably: it counts from now on."""
        raise NotImplementedError

    def holds(self) -> bool:
        """Whether the lease is still wanted: DEL may have taken it out behind our back."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        raise NotImplementedError


class RefusedError(Exception):
    """The server will not have the lease go on."""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Client:
    """One attachment's client."""

    def __init__(self, place: Place, wish: Wish, patience: Patience, book: Book) -> None:
        self.place = place
        self.lease: Lease | None = None
        self.mtu = 0
        self._wish = wish
        self._patience = patience
        self._book = book
        self._tell = book.tell

    # --- getting one --------------------------------------------------------------------------------------------------

    async def acquire(self, address: Address | None = None) -> Lease:
        """A lease, of `address` if that is given. Raises CniError when there is none to be had in time."""
        try:
            with Port(self.place, up=True) as port:
                self.mtu = port.link.mtu
                granted = await self._ask_all(port, now() + self._patience.total, address)
        except GoneError as error:
            raise CniError(NO_LEASE, str(error), "its address is asked for over the interface itself") from None
        if granted is None:
            raise CniError(
                NO_LEASE,
                f"no DHCP server gave {self.place.ifname} {address or 'an address'} within {self._patience.total:g} s",
                "there is none on this network, it has no address left, or the interface is not connected",
            )
        return granted

    async def _ask_all(self, port: Port, until: float, only: Address | None = None) -> Lease | None:
        """DISCOVER until some server has granted an address; with `only`, that one."""
        client, transaction = self._as_client(port), _transaction()
        frame = messages.discover(client, transaction, only)
        for pause in self._pauses(until):
            began = now()
            offer = await port.ask(frame, transaction, (OFFER,), pause)
            if offer is not None and self._fit(offer, only):
                granted = await self._take(port, offer, min(until, now() + self._patience.answer))
                if granted is not None:
                    return granted
            await asyncio.sleep(max(0.0, min(began + pause, until) - now()))
        return None

    def _fit(self, offer: Reply, only: Address | None) -> bool:
        if offer.server is None or offer.address.unspecified:
            return False
        if only is not None and offer.address != only:
            self._tell(f"{offer.server} offers {offer.address}, and {only} is what it needs: not taken")
            return False
        return True

    async def _take(self, port: Port, offer: Reply, until: float) -> Lease | None:
        if offer.server is None:
            return None
        transaction, asked = _transaction(), now()
        frame = messages.request(self._as_client(port), transaction, offer.address, offer.server)
        for pause in self._pauses(until):
            reply = await port.ask(frame, transaction, (ACK, NAK), pause)
            if reply is not None and reply.kind == ACK:
                return self._granted(port, reply, asked)
            if reply is not None:
                self._refused(reply)
                return None
        return None

    def _pauses(self, until: float) -> Iterator[float]:
        """How long to wait for an answer each time, until it is too late."""
        pause = 0.25
        while (left := until - now()) > 0:
            yield min(pause * random.uniform(0.9, 1.1), left)  # noqa: S311  # so that many do not ask at once
            pause = min(pause * 2, self._patience.pause)

    def _as_client(self, port: Port) -> messages.Client:
        wish = self._wish
        broadcast = wish.broadcast or port.shares_mac
        return messages.Client(port.link.mac, wish.identifier, wish.request, wish.provide, broadcast)

    def _refused(self, reply: Reply) -> None:
        why = options.text(reply.options.get(options.MESSAGE))
        self._tell(f"refused by {reply.server or reply.mac}: {why or 'it says no more'}")

    def _granted(self, port: Port, reply: Reply, asked: float) -> Lease | None:
        """The lease that `reply` grants, counted from when it was asked for; kept before anybody uses it."""
        server = reply.server or (self.lease.server if self.lease else None)
        if server is None or reply.address.unspecified:
            return None
        client = self._as_client(port)
        renew, rebind, expires = _times(reply.options)
        self.lease = Lease(
            self.place,
            reply.address,
            server,
            reply.mac,
            reply.options,
            _after(asked, renew),
            _after(asked, rebind),
            _after(asked, expires),
            client.request,
            client.provide,
            messages.release(client, _transaction(), reply.address, server, _way(reply, server)),
        )
        self._book.enter(self.lease)
        left = "for ever" if expires is None else f"for {expires:g} s"
        self._tell(f"has {reply.address} {left}, from {server}")
        return self.lease

    # --- keeping it ---------------------------------------------------------------------------------------------------

    async def keep(self, lease: Lease) -> str:
        """See to it that `lease` goes on, until the interface has gone; returns what is known of that."""
        self.lease = lease
        try:
            while True:
                if not await self._prolonged():
                    await self._regained()
        except GoneError as error:
            return str(error)

    async def _prolonged(self) -> bool:
        """Whether the lease was granted anew, when its time had come; False when it is lost."""
        lease = self._current
        if lease.withdrawn is not None:
            return False
        await _until(lease.renew_at)
        try:
            return await self._asked(lease.rebind_at, self._renew) or await self._asked(lease.expires, self._rebind)
        except RefusedError:
            return False

    def _port(self) -> Port:
        """Raises GoneError, also when nobody wants the lease any more."""
        if not self._book.holds():
            raise GoneError("it has been given back")
        return Port(self.place)

    async def _asked(self, until: float | None, ask: Callable[[Port, float], Awaitable[Reply | None]]) -> bool:
        """Ask, and again when half of what is left has passed; False when it is too late. Raises RefusedError."""
        began, until = now(), until or 0.0
        while (left := until - now()) > 0:
            pause = min(left, max(left / 2, min(60.0, (until - began) / 4)))
            asked = now()
            with self._port() as port:
                reply = await ask(port, min(pause, self._patience.answer))
                if reply is not None and reply.kind == ACK and reply.address == self._current.address:
                    return self._granted(port, reply, asked) is not None
            if reply is not None:
                self._refused(reply)
                raise RefusedError
            await _until(asked + pause)
        return False

    @property
    def _current(self) -> Lease:
        if self.lease is None:
            raise RuntimeError("there is no lease yet")
        return self.lease

    async def _renew(self, port: Port, seconds: float) -> Reply | None:
        transaction, lease = _transaction(), self._current
        payload = messages.renew(self._as_client(port), transaction, lease.address)
        return await port.ask_server(payload, lease.server, transaction, (ACK, NAK), seconds)

    async def _rebind(self, port: Port, seconds: float) -> Reply | None:
        transaction = _transaction()
        frame = messages.rebind(self._as_client(port), transaction, self._current.address)
        return await port.ask(frame, transaction, (ACK, NAK), seconds)

    # --- losing it ----------------------------------------------------------------------------------------------------

    async def _regained(self) -> None:
        """Ask for the lost address until it is ours again; meanwhile it is not used."""
        lost = self._current
        if lost.withdrawn is None:
            lost = replace(lost, withdrawn=self._withdraw(lost.address))
            self.lease = lost
            self._book.enter(lost)
            self._tell(f"has lost {lost.address}: taken from the interface until the server grants it again")
        pause = 1.0
        while True:
            with self._port() as port:
                if await self._ask_all(port, now() + self._patience.answer, lost.address):
                    break
            await _until(now() + pause)
            pause = min(pause * 2, self._patience.pause)
        if lost.withdrawn is not None:
            self._restore(lost.withdrawn)

    def _withdraw(self, address: Address) -> Withdrawn | None:
        """Take the address from the interface; what was taken."""
        with Namespace(self.place.path) as namespace:
            link = namespace.link(self.place.ifname)
            found = [] if link is None else namespace.rtnl.addresses(link.index, AF_INET)
            for cidr in (item.cidr for item in found if item.cidr.address == address):
                routes = tuple(namespace.rtnl.routes(namespace.index(self.place.ifname), AF_INET))
                DeleteAddress(namespace, self.place.ifname, cidr).apply()
                return Withdrawn(cidr, routes)
        return None

    def _restore(self, withdrawn: Withdrawn) -> None:
        with Namespace(self.place.path) as namespace:
            try:
                AddAddress(namespace, self.place.ifname, withdrawn.cidr).apply()
            except NetlinkError as error:
                if error.errno != EEXIST:
                    raise
            for route in sorted(withdrawn.routes, key=lambda route: route.gw is not None):  # neighbours first
                try:
                    namespace.rtnl.ask(route_add(route))
                except NetlinkError as error:
                    if error.errno != EEXIST:  # the kernel adds the one to the subnet by itself
                        self._tell(f"route to {route.dst}: {error}")


def _transaction() -> int:
    return int.from_bytes(os.urandom(4), "big")


def _times(found: Mapping[int, bytes]) -> tuple[float | None, float | None, float | None]:
    """T1, T2 and the end, in seconds from the question; None for a lease without end (RFC 2131, 4.4.5)."""
    lasts = options.integer(found.get(options.LEASE_TIME)) or USUAL
    if lasts == FOREVER:
        return None, None, None
    rebind = options.integer(found.get(options.REBINDING_TIME)) or lasts * 7 / 8
    rebind = min(rebind, lasts)
    renew = options.integer(found.get(options.RENEWAL_TIME)) or lasts / 2
    return min(renew, rebind), rebind, lasts


def _after(moment: float, seconds: float | None) -> float | None:
    return None if seconds is None else moment + seconds


def _way(reply: Reply, server: Address) -> str:
    """The hardware address to send a release to: a server of the subnet may have another by then, a router has not."""
    length = options.prefix_length(reply.options.get(options.SUBNET_MASK))
    near = length is not None and server in Cidr(reply.address, length)
    return messages.EVERY_MAC if near else reply.mac


async def _until(moment: float | None) -> None:
    while moment is None or (left := moment - now()) > 0:
        await asyncio.sleep(_NAP if moment is None else min(left, _NAP))
