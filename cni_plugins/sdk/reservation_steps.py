"""host-local's changes to its store as steps: whoever watches sees which file says that an address is taken.

The kernel does not know of any of this; the commands write what both implementations read. But for the folder's own,
all are carried out under the store's lock, for which every other call of the network waits, whoever's it is: so they
are told, and nobody is asked for leave.
"""

from __future__ import annotations

import os

from cni_plugins.spec.names import quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.records import Owner
    from cni_plugins.sdk.reservations import Store
    from cni_plugins.spec.ip import Address


class Taken(Exception):
    """Somebody has the address."""


@record
class MakeFolder(Step):
    """Make a store's folder, with those above it. It stays, as the reference plugin's does."""

    path: str

    def describe(self) -> str:
        return f"mkdir -p {_word(self.path)}"

    def apply(self) -> None:
        os.makedirs(self.path, mode=0o755, exist_ok=True)


class _UnderLock(Step):
    asks = False


@record
class Reserve(_UnderLock):
    """Take `address` for `owner`: it is what the set of that number gave last, then."""

    store: Store
    address: Address
    owner: Owner
    number: int

    def describe(self) -> str:
        path, last = map(_word, (self.store.path_of(self.address), self.store.last_path(self.number)))
        taken = f"printf '%s\\r\\n%s' {self.owner.container_id} {quoted(self.owner.ifname)} > {path}"
        return f"{taken}\nprintf {self.address} > {last}"

    def apply(self) -> None:
        """Raises Taken, OSError."""
        if not self.store.reserve(self.address, self.owner, self.number):
            raise Taken

    def opposite(self) -> Step:
        return GiveBack(self.store, self.address, self.owner)


@record
class GiveBack(_UnderLock):
    """Free `address`, if `owner` holds it."""

    store: Store
    address: Address
    owner: Owner

    def describe(self) -> str:
        return f"rm {_word(self.store.path_of(self.address))}"

    def apply(self) -> None:
        self.store.give_back(self.address, self.owner)


@record
class Discard(_UnderLock):
    """Remove a file that is nobody's any more."""

    path: str

    def describe(self) -> str:
        return f"rm {_word(self.path)}"

    def apply(self) -> None:
        os.unlink(self.path)


def _word(path: str) -> str:
    """`path` for a shell, and no option."""
    return quoted(f"./{path}" if path.startswith("-") else path)
