"""Containers as people look at them: found, listed, settled. What only running one needs is not imported.

A record that says "running" with nobody holding the container's lock tells that its supervisor died, or the host was
restarted: whoever comes by first has the container taken down.
"""

from __future__ import annotations

from minirt.errors import MinirtError, NotFound
from minirt.state import EXITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minirt.state import Record, Store


class Shelf:
    """All containers of this host. `notice` is told, in a sentence each, what a person may want to know; `bury` takes
    down what a dead supervisor left of a container, and gives its record as it is then."""

    def __init__(self, store: Store, notice: Callable[[str], None], bury: Callable[[Record], Record]) -> None:
        self.store = store
        self._notice = notice
        self._bury = bury

    def find(self, reference: str) -> Record:
        """The container called, or beginning with, `reference`, as it is now. Raises NotFound, UsageError."""
        return self._settle(self.store.find(reference))

    def all(self) -> list[Record]:
        """Every container as it is now, oldest first."""
        found = []
        for record in self._records():
            try:
                found.append(self._settle(record))
            except NotFound:
                continue  # removed meanwhile, or a --rm container whose supervisor died
            except (MinirtError, OSError) as error:
                self._notice(f"container {record.name}: {error}")
                found.append(record)
        return found

    def _records(self) -> Iterator[Record]:
        """Every record that can be read; of the others a notice is given."""
        return self.store.all(lambda error: self._notice(f"{error}; {error.hint}"))

    def held(self, network: str) -> Iterator[tuple[str, str]]:
        """Container id and interface of what containers hold on `network`; of those, too, that are being started, or
        could not be disconnected. Those whose supervisor died are as they left them: `all` settles them."""
        for record in self._records():
            yield from ((record.id, item.ifname) for item in record.attached if item.network == network)

    def is_alive(self, record: Record) -> bool:
        """Whether somebody supervises it, or is busy with it."""
        lock = self.store.lock(record)
        try:
            free = lock.take(wait=False)
        except FileNotFoundError:
            return False
        if free:
            lock.release()
        return not free

    def _settle(self, record: Record) -> Record:
        """`record`, after taking down what a dead supervisor left. Raises NotFound when nothing of it stays."""
        return record if record.status == EXITED or self.is_alive(record) else self._bury(record)
