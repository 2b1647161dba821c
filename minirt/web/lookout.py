"""Notices that something has changed, and has the board drawn anew.

The kernel tells of links, addresses and routes of the host (rtnetlink(7), multicast groups), and of files in the
folders of records, networks and stories (inotify(7)). What it tells nobody, as a route inside of a container, is seen
by a look every two seconds. Events come in crowds, an ADD makes dozens: they are let gather for a moment.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import time
from collections.abc import Iterable

from minirt.web import view
from minirt.web.board import Board
from minirt.web.stories import Stories
from minirt.web.view import View

GATHER = 0.05  # seconds that events have to gather
APART = 0.25  # seconds between two pictures, at least
ANYWAY = 2.0  # seconds after which a look is had, whatever the kernel says
# linux/rtnetlink.h: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
# linux/inotify.h: IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE
_MASK = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200
_IN_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK


class Folders:
    """Tells when something happens in any of some folders. Those that are not there are watched once they are."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._paths = tuple(paths)
        self._fd: int = self._libc.inotify_init1(_IN_CLOEXEC_NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.look()

    def look(self, more: Iterable[str] = ()) -> None:
        """Watch all that is there; what is watched already stays so (inotify_add_watch(2))."""
        for path in (*self._paths, *more):
            self._libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK)

    def fileno(self) -> int:
        return self._fd


class Links:
    """Tells when links, addresses or routes of the host change."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._socket.bind((0, _GROUPS))

    def fileno(self) -> int:
        return self._socket.fileno()


class Lookout:
    """Keeps `board` true. `folders` is what there is to watch; each of `parents` has folders that come and go."""

    def __init__(self, view: View, stories: Stories, folders: Iterable[str], parents: Iterable[str]) -> None:
        self._view = view
        self._stories = stories
        self._parents = tuple(parents)
        self._folders = Folders((*folders, *self._parents, stories.folder))
        self._links = Links()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._drawn = 0.0
        self._due = False
        self._over = False
        self.board = Board(lambda: os.eventfd_write(self._bell, 1))

    def end(self, *_: object) -> None:
        """Have `keep` end: what a signal does. If its handler raised while we look, that would be lost in pyroute2's
        event loop: asyncio reports what a callback raises, and goes on."""
        self._over = True
        os.eventfd_write(self._bell, 1)

    def keep(self) -> None:
        """Until `end`."""
        poll = select.poll()
        for source in (self._folders.fileno(), self._links.fileno(), self._bell):
            poll.register(source, select.POLLIN)
        self._tell()
        while not self._over:
            ready = {fd for fd, _ in poll.poll(self._patience())}
            if ready:
                time.sleep(GATHER)
                for fd in ready:
                    _drain(fd)
            self._stories_grow()
            self._due = self._due or bool(ready) or self.board.read
            if self._due and self.board.read and not self._over and time.monotonic() >= self._drawn + APART:
                self._draw()

    def _patience(self) -> float | None:
        """Milliseconds to wait for an event."""
        if not self.board.read:
            return None
        return 1000 * (max(0.0, self._drawn + APART - time.monotonic()) if self._due else ANYWAY)

    def _stories_grow(self) -> None:
        try:
            if self._stories.look():
                self._tell()
        except OSError:
            pass  # out of descriptors, for one: there is another look

    def _tell(self) -> None:
        self.board.tell(self._stories.all(), self._view.name)

    def _draw(self) -> None:
        self._due = False
        self._folders.look(entry.path for parent in self._parents for entry in _within(parent))
        try:
            picture = self._view.look()
        except Exception as error:  # one look that fails is shown in the picture's place; the next may do better
            picture = view.nothing(error)
        self._drawn = time.monotonic()
        self.board.show(picture)
        self._tell()  # names may have come


def _within(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError:
        return []


def _drain(fd: int) -> None:
    """Forget what has come: that something has, is all that matters."""
    try:
        while os.read(fd, 1 << 16):
            pass
    except BlockingIOError:
        pass
    except OSError:
        pass  # ENOBUFS: more has come than the socket holds
