"""What plugins have in common that stand behind the plugin which makes the interface: they are given its result.

They pass it on, changed where they did something (P7). The interface is found in it by name and namespace: the host's
own link may have the same name.
"""

from __future__ import annotations

from cni_plugins.spec.errors import INVALID_CONFIG, CniError
from cni_plugins.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.result import Interface, Ip, Result


def previous(request: Request) -> Result:
    """The result of the plugins before. Raises CniError 7 where there is none."""
    if request.prev_result is None:
        kind = request.conf.string("type")
        hint = f"put {kind} behind the plugin that makes the interface: it works on what others have made"
        raise CniError(INVALID_CONFIG, "prevResult is missing", hint)
    return request.prev_result


def interface(request: Request, result: Result) -> Interface | None:
    """The attachment's interface, where `result` tells of it: before 0.3.0 results have none."""
    return next((item for item in result.interfaces if _is_ours(item, request)), None)


def addresses(request: Request, result: Result) -> tuple[Ip, ...]:
    """The attachment's addresses: those of its interface, and those that are of none."""
    ours = [index for index, item in enumerate(result.interfaces) if _is_ours(item, request)]
    return tuple(ip for ip in result.ips if ip.interface is None or ip.interface in ours)


def changed(request: Request, result: Result, **fields: Any) -> Result:
    """`result` with fields of the attachment's interface changed."""
    items = (replace(item, **fields) if _is_ours(item, request) else item for item in result.interfaces)
    return replace(result, interfaces=tuple(items))


def _is_ours(item: Interface, request: Request) -> bool:
    return (item.name, item.sandbox) == (request.ifname, request.netns)
