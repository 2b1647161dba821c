"""GC: what is left of attachments that are no more (SPEC.md 1.1.0, "GC": everything not listed as valid goes)."""

from __future__ import annotations

from cni_plugins.sdk.records import Owner, valid_owners
from cni_plugins.spec.errors import INVALID_CONFIG, CniError
from cni_plugins.spec.names import VALID_ATTACHMENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cni_plugins.spec.config import View


def valid_attachments(conf: View) -> set[Owner]:
    """The attachments that the runtime says are alive. Raises CniError 7.

    A list that is missing is refused: taken for an empty one, it would disconnect every container of the network.
    """
    valid = valid_owners(conf)
    if valid is None:
        raise CniError(INVALID_CONFIG, f"{VALID_ATTACHMENTS} is missing", "GC needs to know who is alive")
    return valid


def collect(owners: Iterable[Owner], valid: Collection[Owner], release: Callable[[Owner], None]) -> None:
    """Release every one of `owners` that is not `valid`. Tries all of them, then raises the first failure."""

    def task(owner: Owner) -> Callable[[], None]:
        return lambda: _noted(owner, release)

    all_of(*(task(owner) for owner in sorted(set(owners) - set(valid), key=str)))


def _noted(owner: Owner, release: Callable[[Owner], None]) -> None:
    try:
        release(owner)
    except Exception as error:
        error.add_note(f"of {owner}")
        raise


def all_of(*tasks: Callable[[], object]) -> None:
    """Do all of them, whatever fails on the way; then raises the first failure, with the others as its notes."""
    failures = []
    for task in tasks:
        try:
            task()
        except Exception as error:
            failures.append(error)
    if failures:
        for other in failures[1:]:
            failures[0].add_note(f"and {other}")
        raise failures[0]
