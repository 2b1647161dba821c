"""The page over HTTP, on loopback alone, for those who may look (`access`). GET and HEAD, and nothing else.

    /  and the files beside index.html      the page
    /events                                 server-sent events: picture, stories, items
    /stories/ID                             one story, whole

Source of the event stream: the HTML standard, "Server-sent events". The page loads nothing from anywhere else, and its
Content-Security-Policy has the browser see to that.
"""

from __future__ import annotations

import errno
import http.server
import json
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any

from minirt.errors import Conflict, KernelRefused
from minirt.web import access
from minirt.web.board import Board

PLACES, STRANGERS = 100, 8  # connections at once, of each address
PAGE = os.path.join(os.path.dirname(__file__), "page")
PATIENCE = 10.0  # seconds that a browser has to take what it is sent, or to ask for something
AGAIN = 1000  # milliseconds after which a browser tries to connect again
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the picture brings its own style
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "minirt"
    sys_version = ""
    timeout = PATIENCE

    def setup(self) -> None:
        """Raises OSError for one stranger too many."""
        self._stranger = self.server.stranger(self.request)
        if self._stranger and not self.server.strangers.acquire(blocking=False):
            raise ConnectionAbortedError(self._stranger)
        super().setup()

    def finish(self) -> None:
        if self._stranger:
            self.server.strangers.release()
        super().finish()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if self._stranger:
            self._refuse(403, self._stranger)
        elif not access.names_us(self.headers.get("Host", "")):
            self._refuse(403, "minirt serve answers to localhost, 127.0.0.1 and [::1] alone, not to other names.")
        elif path == "/events":
            self._events()
        elif path.startswith("/stories/"):
            self._story(path.removeprefix("/stories/"))
        elif path in self.server.files:
            self._answer(200, *self.server.files[path])
        else:
            self._refuse(404, f"There is no {path} here.")

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """For what is no GET, or no HTTP: as short as our own refusals."""
        self.close_connection = True
        if code == 501:
            self._refuse(405, "Here is something to look at, and nothing to change.", {"Allow": "GET, HEAD"})
        else:
            self._refuse(code, explain or message or "")

    def log_message(self, *_: object) -> None:
        """A page that is looked at is no news."""

    def _story(self, identity: str) -> None:
        story = self.server.board.story(identity)
        if story is None:
            self._refuse(404, "There is no such story; the oldest make room for new ones.")
        else:
            self._answer(200, "application/json", json.dumps(story).encode())

    def _refuse(self, code: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        self._answer(code, "text/plain; charset=utf-8", f"{sentence}\n".encode(), headers)

    def _answer(self, code: int, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self._head(code, {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in (_HEADERS | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()

    def _events(self) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        self.close_connection = True
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(f"retry: {AGAIN}\n\n".encode())
            for events in self.server.board.follow():
                lines = [f"event: {name}\ndata: {data}\n\n" for name, data in events] or [": still here\n\n"]
                self.wfile.write("".join(lines).encode())
        except OSError:
            pass  # the browser has gone, or takes nothing any more


class Server(http.server.ThreadingHTTPServer):
    """Listens at once, on one address. Raises Conflict, KernelRefused when it cannot."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: socket.AddressFamily, address: str, port: int, welcome: frozenset[int]) -> None:
        self.address_family = self._family = family
        self.board: Board
        self.files = _files()
        self._welcome = welcome
        # Each connection is a thread and a descriptor, whoever it is from: there is a limit of all together, and a low
        # one of those who only wait to be told no.
        self.places = threading.BoundedSemaphore(PLACES)
        self.strangers = threading.BoundedSemaphore(STRANGERS)
        super().__init__((address, port), Handler)

    def server_bind(self) -> None:
        """As the base class has it, without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is no error; anything else is ours, and is shown."""
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def stranger(self, connection: socket.socket) -> str:
        """Why whoever is at the other end may not look; empty for those who may."""
        theirs, ours = connection.getpeername()[:2], connection.getsockname()[:2]
        uid = access.owner(self._family, theirs, ours)
        if uid in self._welcome:
            return ""
        who = "somebody whom the kernel does not know" if uid is None else f"user {uid}"
        return f"minirt serve shows what is root's: root and whoever called sudo may look, and this is {who}."


def _files() -> dict[str, tuple[str, bytes]]:
    """The page, by path: a few files, and none that anybody could put beside them later."""
    found = {}
    for name in os.listdir(PAGE):
        with open(os.path.join(PAGE, name), "rb") as file:
            found[f"/{name}"] = (_TYPES[os.path.splitext(name)[1]], file.read())
    return {"/": found["/index.html"], **found}


def listen(port: int, environ: Mapping[str, str]) -> list[Server]:
    """On 127.0.0.1, and on ::1 where there is one, both at the same port (0: any that is free)."""
    welcome = access.welcome(environ)
    try:
        servers = [Server(socket.AF_INET, "127.0.0.1", port, welcome)]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {port} of 127.0.0.1 is taken", "--port names another, --port 0 takes any") from None
        raise KernelRefused(f"listen on 127.0.0.1, port {port}", error) from error
    try:
        servers.append(Server(socket.AF_INET6, "::1", servers[0].server_port, welcome))
    except OSError:
        pass  # a host without IPv6, or somebody else has that port there: browsers then take the other address
    return servers


def answer(servers: list[Server], board: Board) -> None:
    """Begin to answer, in threads of their own."""
    for server in servers:
        server.board = board
        threading.Thread(target=server.serve_forever, daemon=True).start()
