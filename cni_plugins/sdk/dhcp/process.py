"""The daemon as a process: its socket, its signals, its end.

    dhcp daemon [--socketpath PATH] [--pidfile PATH] [--hostprefix PATH] [--broadcast]
                [--timeout 10s] [--resendmax 62s] [--resendtimeout 45s]

It stays in the foreground, says on standard error what it does, and ends at SIGTERM or SIGINT. systemd may hold the
socket (sd_listen_fds(3)), so that the first question starts it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat

from cni_plugins.sdk.dhcp import leases, wire
from cni_plugins.sdk.dhcp.daemon import Daemon, say
from cni_plugins.sdk.dhcp.settings import Settings
from cni_plugins.sdk.records import LockedFolder, write_file
from cni_plugins.spec.errors import INTERNAL, CniError


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
