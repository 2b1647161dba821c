"""host-local's changes to its store as steps: whoever watches sees which file says that an address is taken.

The kernel does not know of any of this; the commands write what both implementations read. But for the folder's own,
all are carried out under the store's lock, in which nobody else can make their description untrue.
"""

from __future__ import annotations

import os

from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.names import quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cni_plugins.sdk.records import Owner
    from cni_plugins.sdk.reservations import Store
    from cni_plugins.spec.ip import Address


@record
class MakeFolder(Step):
    """Make a store's folder, with those above it. It stays, as the reference plugin's does."""

    path: str

    def describe(self) -> str:
        return f"mkdir -p {quoted(self.path)}"

    def apply(self) -> None:
        os.makedirs(self.path, mode=0o755, exist_ok=True)


@record
class Reserve(Step):
    """Take `address`, which is free, for `owner`: it is what the set of that number gave last, then."""

    store: Store
    address: Address
    owner: Owner
    number: int

    def describe(self) -> str:
        path, last = _path(self.store, self.address), quoted(self.store.last_path(self.number))
        taken = f"printf '%s\\r\\n%s' {self.owner.container_id} {quoted(self.owner.ifname)} > {path}"
        return f"{taken}\nprintf {self.address} > {last}"

    def apply(self) -> None:
        """Raises OSError, and CniError 999 when somebody does not heed the lock."""
        if not self.store.reserve(self.address, self.owner, self.number):
            raise CniError(INTERNAL, f"{_path(self.store, self.address)} was made while its folder was locked")

    def undo(self) -> None:
        self.store.give_back(self.address, self.owner)

    def describe_undo(self) -> str:
        return _rm(self.store, [self.address])


@record
class Release(Step):
    """Give back all that `owner` holds."""

    store: Store
    owner: Owner

    def describe(self) -> str:
        return _rm(self.store, self.store.held(self.owner)[1])

    def apply(self) -> None:
        self.store.release(self.owner)


@record
class Keep(Step):
    """Give back all that is held by none of `valid`."""

    store: Store
    valid: Collection[Owner]

    def describe(self) -> str:
        return _rm(self.store, [address for address, _ in self.store.sorted(self.valid)[1]])

    def apply(self) -> None:
        self.store.keep(self.valid)


def _rm(store: Store, addresses: Iterable[Address]) -> str:
    return "\n".join(f"rm {_path(store, address)}" for address in addresses)


def _path(store: Store, address: Address) -> str:
    return quoted(os.path.join(store.folder, str(address)))
