"""How the dhcp plugin asks its daemon: one JSON object a line each way, over a unix socket; a connection a question.

    {"verb": "ADD", "network": "lan", "container": "web", "ifname": "eth0", "netns": "/run/netns/web",
     "request": [1, 3, 121], "provide": {"12": "776562"}, "address": ""}
    {"address": "192.168.1.17", "options": {"1": "ffffff00", "3": "c0a80101"}, "mtu": 1500}

    {"verb": "DEL", "network": …, "container": …, "ifname": …}                   {"known": true}
    {"verb": "CHECK", "network": …, "container": …, "ifname": …}                 as for ADD
    {"verb": "STATUS"}                                                           {}

Values of options are hexadecimal. A failure is the contract's error object under the key "error". Who hangs up while
the daemon is still at work on an ADD has it taken back. The reference plugin's daemon speaks Go's own encoding (gob)
and can serve nobody but Go programs; so this is another socket, with another name.
"""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from time import monotonic

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET = "/run/cni/dhcp.minirt.sock"
LONGEST = 1 << 20  # bytes of a line


class NoDaemonError(Exception):
    """Nobody answers, or somebody who is not our daemon; the text says which."""


def ask(path: str, question: dict[str, Any], seconds: float | None = None) -> View:
    """The daemon's answer, awaited for `seconds`. Raises NoDaemonError, and the daemon's own CniError."""
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    deadline = None if seconds is None else monotonic() + seconds
    try:
        connection.settimeout(seconds)
        connection.connect(path)
        connection.sendall(encode(question))
        line = _read(connection, deadline)
    except TimeoutError:
        raise NoDaemonError(f"the daemon at {path} gives no answer") from None
    except OSError as error:
        raise NoDaemonError(f"no daemon answers at {path}: {error.strerror}") from None
    finally:
        connection.close()
    try:
        answer = decode(line)
    except JsonError:
        raise NoDaemonError(f"what answers at {path} is another program, or an older one") from None
    if answer.has("error"):
        said = answer.view("error")
        raise CniError(said.integer("code"), said.string("msg"), said.string("details"))
    return answer


def _read(connection: socket, deadline: float | None) -> bytes:
    """A line, without its end; what there is of it when the other side hangs up."""
    received = b""
    while not received.endswith(b"\n") and len(received) < LONGEST:
        if deadline is not None:
            connection.settimeout(max(deadline - monotonic(), 0.001))
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        received += chunk
    return received


def encode(document: dict[str, Any]) -> bytes:
    return f"{dumps(document, indent=0)}\n".encode()


def decode(line: bytes) -> View:
    """Raises JsonError."""
    document = loads(line)
    if not isinstance(document, dict):
        raise JsonError("expected an object")
    return View(document)
