"""A call of a plugin, and its answer, in a few words: `--explain` tells of it, `cni trace` draws it."""

from __future__ import annotations

from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.jsontext import JsonError, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

NOT_RUN = "it was not run to its end"
_ATTACHMENT = ("ADD", "DEL", "CHECK")  # the verbs that are about one interface


def asked(command: str, env: Mapping[str, str]) -> str:
    """`ADD eth0`"""
    ifname = env.get("CNI_IFNAME", "")
    return f"{command} {ifname}" if ifname and command in _ATTACHMENT else command


def is_call(text: str) -> bool:
    """Whether a step that describes itself by `text` is the call of a delegate."""
    return text.startswith("CNI_COMMAND=")


def document(stdout: bytes | str) -> Any:
    """What a plugin printed, None where that is no JSON."""
    try:
        return loads(stdout)
    except JsonError:
        return None


def said(command: str, exit_code: int | None, document: Any, problem: str, brief: bool = False) -> str:
    """What a plugin answered to `command`: `document` is what it printed, `problem` what the runtime makes of that.
    A `brief` answer to ADD has the addresses alone."""
    if exit_code != 0 or problem:
        return _wrong(exit_code, document, problem)
    if command != "ADD":
        return "done"
    result = View(document if isinstance(document, dict) else {})
    try:
        names, addresses = [*_names(result)], [*_addresses(result, brief)]
        more = [] if brief else [*_routes(result), *_servers(result)]
    except CniError:
        return "a result of an unknown form"
    parts = (addresses or names) if brief else [*(f"interface {name}" for name in names), *addresses, *more]
    return (", " if brief else "; ").join(parts) or "an empty result"


def ended(exit_code: int | None) -> str:
    """How a plugin's process ended: `0`, `signal 9`."""
    return NOT_RUN if exit_code is None else f"signal {-exit_code}" if exit_code < 0 else str(exit_code)


def _wrong(exit_code: int | None, document: Any, problem: str) -> str:
    if isinstance(document, dict) and isinstance(document.get("msg"), str) and "code" in document:
        return f"error {document['code']}: {document['msg']}"
    return problem or (NOT_RUN if exit_code is None else f"exit code {exit_code}")


def _names(result: View) -> Iterator[str]:
    """Of the interfaces inside of the container."""
    yield from (item.string("name") or "?" for item in result.views("interfaces") if item.string("sandbox"))


def _addresses(result: View, brief: bool) -> Iterator[str]:
    found = [(item.string("address"), item.string("gateway")) for item in result.views("ips")]
    old = [result.view(key) for key in ("ip4", "ip6")]  # before version 0.3.0
    found += [(item.string("ip"), item.string("gateway")) for item in old if item.string("ip")]
    for address, gateway in found:
        yield address if brief else f"address {address}" + (f", gateway {gateway}" if gateway else "")


def _routes(result: View) -> Iterator[str]:
    found = [*result.views("routes")]
    found += [route for key in ("ip4", "ip6") for route in result.view(key).views("routes")]
    if found:
        yield f"route{'s' if len(found) > 1 else ''} to {', '.join(route.string('dst') or '?' for route in found)}"


def _servers(result: View) -> Iterator[str]:
    if servers := result.view("dns").strings("nameservers"):
        yield f"name servers {', '.join(servers)}"
