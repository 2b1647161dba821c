"""The daemon of the dhcp plugin: it has the leases of all containers, and sees to it that they go on.

    dhcp daemon [--socketpath PATH] [--pidfile PATH] [--hostprefix PATH] [--broadcast]
                [--timeout 10s] [--resendmax 62s] [--resendtimeout 45s]

One process, one thread, and for each lease a coroutine that sleeps (`client`). It stays in the foreground, says on
standard error what it does, and ends at SIGTERM or SIGINT; the leases stay as they are written down, and the next
daemon goes on with them. systemd may hold the socket (sd_listen_fds(3)), so that the first question starts the daemon.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys

from cni_plugins.sdk.dhcp import leases, wire
from cni_plugins.sdk.dhcp.client import Book, Client, Patience, Wish, now
from cni_plugins.sdk.dhcp.leases import Lease, Place
from cni_plugins.sdk.dhcp.options import CLIENT_ID
from cni_plugins.sdk.dhcp.settings import Settings
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import ROOT, AttachmentRecords, LockedFolder, Owner, write_file
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.jsontext import JsonError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

    def __init__(self, who: Who, prefix: str) -> None:
        self._who = who
        self._records: AttachmentRecords = leases.records(who.network, prefix)
        self._new = True

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
        page = Page(who, self._settings.hostprefix)
        if lease is None or lease.place.gone():
            page.remove()
            page.tell("has gone" if lease else "its record says nothing: forgotten")
            return
        keeper = self._keeper(who, lease.place, lease.request, lease.provide, page)
        page.tell(f"has {lease.address} still")
        self._keep(who, keeper, lease)

    def _keeper(self, who: Who, place: Place, request: Any, provide: Any, page: Page) -> Keeper:
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
            except OSError as error:  # the kernel had a reason; it may have none in a minute
                keeper.page.tell(f"{error}: tried again in a minute")
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
        except Exception as error:
            say(f"{type(error).__name__}: {error}")
            return {"error": CniError(INTERNAL, f"{type(error).__name__}: {error}").to_json()}

    async def _add(self, who: Who, question: View, reader: asyncio.StreamReader) -> dict[str, Any]:
        place = self._place(question.string("netns"), who.ifname)
        old = self._keepers.get(who)
        if old is not None and not old.client.place.gone() and _has_link(old.client.place):
            raise CniError(DUPLICATE, f"{who} has {_holding(old)} already", "an attachment is added once")
        if old is not None:  # of a container that has gone without a word
            old.stop()
            old.page.remove()
        page = Page(who, self._settings.hostprefix)
        request = [number for number in question.get("request") or () if isinstance(number, int) and 0 < number < 255]
        keeper = self._keeper(who, place, request, leases.unhexed(question.view("provide")), page)
        try:
            lease = await _unless_hung_up(keeper, reader)
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
        return {}

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
    return str(keeper.client.lease.address) if keeper.client.lease else "asked"


def _has_link(place: Place) -> bool:
    try:
        with Namespace(place.path) as namespace:
            return namespace.link(place.ifname) is not None
    except (OSError, NetlinkError):
        return False


def _identifier(who: Who) -> bytes:
    """Option 61, as the reference plugin makes it: the server knows the attachment again, whoever asks for it."""
    return b"\0" + f"{who.container}/{who.network}/{who.ifname}".encode()[:254]


async def _unless_hung_up(keeper: Keeper, reader: asyncio.StreamReader) -> Lease:
    """The lease; given up when the plugin is killed meanwhile, or DEL comes."""
    keeper.task = getting = asyncio.create_task(keeper.client.acquire())
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


# --- the process ------------------------------------------------------------------------------------------------------


def inherited() -> socket.socket | None:
    """The socket that a service manager holds for us (sd_listen_fds(3)); None without one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = os.environ.get("LISTEN_FDS", "")
    if count != "1":
        raise CniError(INTERNAL, f"LISTEN_FDS is {count!r}", "the daemon takes exactly one socket")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    os.set_inheritable(3, False)
    return socket.socket(fileno=3)


def listen(path: str) -> socket.socket:
    """A socket at `path`, which one daemon alone can have. Raises CniError where there is one, OSError."""
    folder = os.path.dirname(os.path.abspath(path))
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with LockedFolder(folder):  # two that start at once do not take each other's socket for a dead one
            _clear(path)
            before = os.umask(0o177)
            try:
                made.bind(path)
            finally:
                os.umask(before)
            made.listen(128)
    except BaseException:
        made.close()
        raise
    return made


def _clear(path: str) -> None:
    """Remove what a daemon left at `path` that was killed."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CniError(INTERNAL, f"{path} is there, and is no socket", "name another with --socketpath")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise CniError(INTERNAL, f"another daemon answers at {path}", "end that one first, or name another --socketpath")


async def run(settings: Settings) -> None:
    """Be the daemon until a signal ends it. Raises CniError, OSError."""
    given = inherited()
    listening = given or listen(settings.socketpath)
    ours = None if given else leases.identity(settings.socketpath)
    try:
        if settings.pidfile:
            write_file(settings.pidfile, f"{os.getpid()}\n".encode(), 0o644)
        daemon, ended = Daemon(settings), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        daemon.adopt()
        server = await asyncio.start_unix_server(daemon.serve, sock=listening, limit=wire.LONGEST)
        say(f"ready at {'the socket that was handed over' if given else settings.socketpath}")
        await ended.wait()
        server.close()
    finally:
        if ours is not None and leases.identity(settings.socketpath) == ours:
            os.unlink(settings.socketpath)
        if settings.pidfile and os.path.exists(settings.pidfile):
            os.unlink(settings.pidfile)


def main(settings: Settings) -> int:
    """Run to the end; the program's exit code."""
    try:
        asyncio.run(run(settings))
    except CniError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error.filename or settings.socketpath}: {error.strerror}")
        return 1
    return 0
