"""win-bridge and win-overlay: the reference set's plugins for Windows, which a list may name by mistake.

    {"type": "win-bridge"}  ──ADD──▶  code 50: win-bridge connects containers of Windows, and this is Linux

They work with that system's own network service, so nothing of them can be done here, and they say so by name instead
of not being found. DEL and GC succeed, for there is nothing of theirs that could be left (P9).
"""

from __future__ import annotations

from cni_plugins.sdk.main import Plugin
from cni_plugins.spec.errors import NOT_AVAILABLE, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from cni_plugins.sdk.main import Request


def refuse(request: Request) -> NoReturn:
    name = request.conf.string("type") or "this plugin"
    raise CniError(NOT_AVAILABLE, f"{name} connects containers of Windows, and this is Linux", "use bridge here")


def nothing(_request: Request) -> None:
    """There is nothing of it here."""


PLUGIN = Plugin(
    "win-bridge",
    add=refuse,
    delete=nothing,
    check=refuse,
    gc=nothing,
    status=refuse,
    about="CNI win-bridge and win-overlay plugins: for Windows alone",
)
