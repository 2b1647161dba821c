"""The daemon's work: the leases of all containers, and the answers to the plugin's questions (`wire`).

One thread, and for each lease a coroutine that sleeps (`client`). A daemon that starts goes on with the leases that are
written down (`leases`); one that ends leaves them there.
"""

from __future__ import annotations

import asyncio
import os
import sys

from cni_plugins.sdk.dhcp import leases, wire
from cni_plugins.sdk.dhcp.client import Book, Client, Patience, Wish, now
from cni_plugins.sdk.dhcp.leases import Lease, Place
from cni_plugins.sdk.dhcp.options import CLIENT_ID
from cni_plugins.sdk.dhcp.settings import Settings
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import ROOT, AttachmentRecords, Owner
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import parse_address
from cni_plugins.spec.jsontext import JsonError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping
    from typing import Any

    from cni_plugins.spec.ip import Address

DUPLICATE = PLUGIN_SPECIFIC + 2  # as host-local has it
LOST = PLUGIN_SPECIFIC + 3


@record
class Who:
    """An attachment."""

    network: str
    container: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.container} {self.ifname} on {self.network}"

    @property
    def owner(self) -> Owner:
        return Owner(self.container, self.ifname)


def say(text: str) -> None:
    print(f"dhcp: {text}", file=sys.stderr, flush=True)


class Page(Book):
    """An attachment's record."""

    def __init__(self, who: Who, prefix: str, new: bool) -> None:
        self._who = who
        self._records: AttachmentRecords = leases.records(who.network, prefix)
        self._new = new

    def enter(self, lease: Lease) -> None:
        with self._records.locked():
            if self._new or self.holds():
                self._records.save(self._who.owner, leases.to_json(lease))
                self._new = False

    def holds(self) -> bool:
        return os.path.lexists(self._records.path(self._who.owner))

    def remove(self) -> None:
        self._records.delete(self._who.owner)

    def tell(self, text: str) -> None:
        say(f"{self._who}: {text}")


class Keeper:
    """A lease that is being got or kept."""

    def __init__(self, client: Client, page: Page) -> None:
        self.client = client
        self.page = page
        self.task: asyncio.Task[Any] | None = None

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()

    def give_back(self) -> None:
        """Have the server know, and nobody remember."""
        self.stop()
        lease = self.client.lease
        if lease is not None:
            told = leases.give_back(lease.place, lease.release)
            self.page.tell(f"has given back {lease.address}" + ("" if told else ", but the server could not be told"))
        self.page.remove()


class Daemon:
    """The leases, and the answers to the plugin's questions."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._patience = Patience(settings.timeout, settings.resendmax, settings.resendtimeout)
        self._keepers: dict[Who, Keeper] = {}

    # --- leases -------------------------------------------------------------------------------------------------------

    def adopt(self) -> None:
        """Go on with the leases of the daemon before."""
        top = os.path.join(self._settings.hostprefix + ROOT, leases.PLUGIN)
        networks = [name for name in _list(top) if not name.startswith(".") and os.path.isdir(os.path.join(top, name))]
        for network in networks:
            records = leases.records(network, self._settings.hostprefix)
            for owner in list(records.owners()):
                self._take_up(Who(network, owner.container_id, owner.ifname), records.load(owner))

    def _take_up(self, who: Who, document: dict[str, Any] | None) -> None:
        lease = leases.from_json(document, who.ifname, self._settings.hostprefix) if document else None
        page = Page(who, self._settings.hostprefix, new=False)
        if lease is None or lease.place.gone():
            page.remove()
            page.tell("has gone" if lease else "its record says nothing: forgotten")
            return
        keeper = self._keeper(who, lease.place, lease.request, lease.provide, page)
        page.tell(f"has {lease.address} still")
        self._keep(who, keeper, lease)

    def _keeper(
        self, who: Who, place: Place, request: Iterable[int], provide: Mapping[int, bytes], page: Page
    ) -> Keeper:
        wish = Wish(provide.get(CLIENT_ID) or _identifier(who), tuple(request), provide, self._settings.broadcast)
        keeper = Keeper(Client(place, wish, self._patience, page), page)
        self._keepers[who] = keeper
        return keeper

    def _keep(self, who: Who, keeper: Keeper, lease: Lease) -> None:
        keeper.task = asyncio.create_task(self._kept(who, keeper, lease))

    async def _kept(self, who: Who, keeper: Keeper, lease: Lease) -> None:
        while True:
            try:
                end = await keeper.client.keep(lease)
                break
            except Exception as error:  # whatever it is, a lease must not end for it
                keeper.page.tell(f"{type(error).__name__}: {error}: tried again in a minute")
                lease = keeper.client.lease or lease
                await asyncio.sleep(60)
        keeper.page.tell(f"ends: {end}")
        keeper.page.remove()
        if self._keepers.get(who) is keeper:
            del self._keepers[who]

    # --- questions ----------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a question, an answer."""
        try:
            line = await reader.readline()
            if line:
                answer = await self._answered(line, reader)
                writer.write(wire.encode(answer))
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # who asked has gone, or asks too much
        finally:
            writer.close()

    async def _answered(self, line: bytes, reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            question = wire.decode(line)
            verb = question.string("verb")
            if verb == "STATUS":
                return {}
            who = Who(question.string("network"), question.string("container"), question.string("ifname"))
            if verb == "ADD":
                return await self._add(who, question, reader)
            if verb == "DEL":
                return self._delete(who)
            if verb == "CHECK":
                return self._check(who)
            raise CniError(INVALID_CONFIG, f"unknown verb {verb!r}", "plugin and daemon are of different versions")
        except CniError as error:
            return {"error": error.to_json()}
        except JsonError as error:
            return {"error": CniError(INVALID_CONFIG, f"the question is not JSON: {error}").to_json()}
        except ConnectionError:
            raise  # nobody is there to be answered
        except Exception as error:
            say(f"{type(error).__name__}: {error}")
            return {"error": CniError(INTERNAL, f"{type(error).__name__}: {error}").to_json()}

    async def _add(self, who: Who, question: View, reader: asyncio.StreamReader) -> dict[str, Any]:
        place = self._place(question.string("netns"), who.ifname)
        old = self._keepers.get(who)
        if old is not None and not old.client.place.gone() and _has_link(old.client.place):
            raise CniError(DUPLICATE, f"{who} {_holding(old)} already", "an attachment is added once")
        if old is not None:  # of a container that has gone without a word
            old.stop()
            old.page.remove()
        page = Page(who, self._settings.hostprefix, new=True)
        request = [number for number in question.get("request") or () if isinstance(number, int) and 0 < number < 255]
        keeper = self._keeper(who, place, request, leases.unhexed(question.view("provide")), page)
        try:
            lease = await _unless_hung_up(keeper, keeper.client.acquire(_address(question)), reader)
        except BaseException:
            keeper.give_back()
            if self._keepers.get(who) is keeper:
                del self._keepers[who]
            raise
        if self._keepers.get(who) is not keeper:
            raise CniError(INTERNAL, "taken back while it was being added")
        self._keep(who, keeper, lease)
        return _told(keeper)

    def _place(self, netns: str, ifname: str) -> Place:
        path = self._settings.hostprefix + netns
        identity = leases.identity(path)
        if identity == (0, 0):
            hint = "a daemon in a mount namespace of its own needs --hostprefix"
            raise CniError(INTERNAL, f"the daemon finds no network namespace at {path}", hint)
        return Place(netns, identity, ifname, self._settings.hostprefix)

    def _delete(self, who: Who) -> dict[str, Any]:
        keeper = self._keepers.pop(who, None)
        if keeper is not None:
            keeper.give_back()
        return {"known": keeper is not None}

    def _check(self, who: Who) -> dict[str, Any]:
        keeper = self._keepers.get(who)
        lease = keeper.client.lease if keeper is not None else None
        if keeper is None or lease is None:
            raise CniError(LOST, f"the daemon has no lease for {who}")
        if lease.withdrawn is not None or (lease.expires is not None and lease.expires < now()):
            raise CniError(LOST, f"the lease of {lease.address} has ended", "the server has not granted it again yet")
        return _told(keeper)


def _told(keeper: Keeper) -> dict[str, Any]:
    lease = keeper.client.lease
    if lease is None:
        return {}
    return {"address": str(lease.address), "options": leases.hexed(lease.options), "mtu": keeper.client.mtu}


def _holding(keeper: Keeper) -> str:
    return f"has {keeper.client.lease.address}" if keeper.client.lease else "is being given an address"


def _has_link(place: Place) -> bool:
    try:
        with Namespace(place.path) as namespace:
            return namespace.link(place.ifname) is not None
    except (OSError, NetlinkError):
        return False


def _identifier(who: Who) -> bytes:
    """Option 61, as the reference plugin makes it: the server knows the attachment again, whoever asks for it."""
    return b"\0" + f"{who.container}/{who.network}/{who.ifname}".encode()[:254]


def _address(question: View) -> Address | None:
    text = question.string("address")
    return parse_address(text) if text else None


async def _unless_hung_up(keeper: Keeper, acquiring: Coroutine[Any, Any, Lease], reader: asyncio.StreamReader) -> Lease:
    """The lease; given up when the plugin is killed meanwhile, or DEL comes."""
    keeper.task = getting = asyncio.create_task(acquiring)
    hanging_up = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait((getting, hanging_up), return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            raise ConnectionResetError
        if getting.cancelled():
            raise CniError(INTERNAL, "taken back while it was being added")
        return getting.result()
    finally:
        hanging_up.cancel()
        getting.cancel()


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
