"""GC goes through all that is left, and tells at the end what it could not release."""

from __future__ import annotations

import pytest

from cni_plugins.sdk.garbage import all_of, collect
from cni_plugins.sdk.records import Owner

A, B, C, D = (Owner(name, "eth0") for name in "abcd")


def test_P18_P19_gc_releases_all_that_is_not_valid_and_tells_its_failures_at_the_end() -> None:
    released: list[Owner] = []

    def release(owner: Owner) -> None:
        if owner in (A, C):
            raise OSError(5, f"cannot release {owner}")
        released.append(owner)

    with pytest.raises(OSError, match="cannot release container a eth0") as caught:
        collect([A, B, C, D], {D}, release)
    assert released == [B]
    notes = " ".join(caught.value.__notes__)
    assert "of container a eth0" in notes and "cannot release container c eth0" in notes


def test_P19_what_comes_behind_a_failure_is_done() -> None:
    done: list[str] = []

    def fails() -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        all_of(fails, lambda: done.append("own"), lambda: done.append("ipam"))
    assert done == ["own", "ipam"]
