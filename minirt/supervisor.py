"""The process that stays with a detached container. It imports little, and so is small: one of it runs for each.

It has taken the place of the one that started the container (exec), so the workload is its child, and holds by
inheritance the container's lock, its log, and the pipes or the terminal that the workload writes to.
"""

from __future__ import annotations

from minirt.log import Writer
from minirt.supervise import Pump, forwarding, until_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def watch(pid: str, pidfd: str, log: str, sources: Sequence[str]) -> int:
    """See the workload to its end; its exit code. The words are those of `Streams.hand_over`."""
    pumps = []
    for source in sources:
        name, _, fd = source.partition(":")
        pumps.append(Pump(int(fd), Writer(int(log), name)))
    with forwarding(int(pidfd)):
        return until_end(int(pid), int(pidfd), pumps)
