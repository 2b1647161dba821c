"""The steps of process 1, told by itself while the runtime's plugins are at work.

It is in namespaces of its own and can import nothing any more, so it sends the text of each step over a socket that it
was born with, and that ends when it becomes the workload. The runtime reads it when it would wait for the process
anyway. Where a person gives leave for each step, process 1 waits for a byte, and so begins only then.
"""

from __future__ import annotations

import _socket
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.spec.steps import Step
    from minirt.child import Child

_LONGEST = 1 << 16


class Beside:
    """Both ends: `tell` is for the child, `listen` for its parent."""

    def __init__(self, stops: bool, born: Callable[[], None], hear: Callable[[str, int], None]) -> None:
        self._stops = stops
        self._born = born
        self._hear = hear
        self._ours, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.fd = self._theirs.fileno()

    def tell(self, step: Step) -> None:
        """In the child, before a step."""
        text = step.describe()
        if not text:
            return
        try:
            self._theirs.send(text.encode(errors="replace")[:_LONGEST])
            if self._stops:
                self._theirs.recv(1)
        except OSError:
            pass  # nobody listens: it has to be done all the same

    def listen(self, child: Child) -> None:
        """Hear all that is told until the child has news of the end; then hang up."""
        ready = child.fileno()
        self._theirs.close()
        self._ours.setblocking(False)
        self._born()
        while True:
            done = ready in select.select((self._ours.fileno(), ready), (), ())[0]
            self._take(child.pid)
            if done:
                break
        self._ours.close()

    def _take(self, pid: int) -> None:
        while True:
            try:
                text = self._ours.recv(_LONGEST)
            except OSError:
                return
            if not text:
                return
            self._hear(text.decode(errors="replace"), pid)
            if self._stops:
                try:
                    self._ours.send(b"\n")
                except OSError:
                    return
