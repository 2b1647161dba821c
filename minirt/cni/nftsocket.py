"""One nftables socket for a chain of deletions, so that they wait for the kernel once and not each for itself.

The kernel answers a deletion at once, and waits for readers of the old rules (a grace period of RCU, 15 to 25 ms) when
the *socket* is closed. Plugins that inherit this one, named by a variable, send their deletions on it and leave it
open; it is closed after the last of them, when the deletion of the container's link has waited already.
"""

from __future__ import annotations

import _socket

_NETLINK_NETFILTER = 12  # linux/netlink.h


class NftSocket:
    """Made in the network namespace of the caller when first asked for, closed at the end of the block."""

    def __init__(self) -> None:
        self._socket: _socket.socket | None = None

    def __enter__(self) -> NftSocket:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def fds(self) -> tuple[int, ...]:
        """The descriptor to leave to a plugin; none where the kernel has no nftables, which is no reason to fail."""
        if self._socket is None:
            try:
                self._socket = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_NETFILTER)
            except OSError:
                return ()
        return (self._socket.fileno(),)
