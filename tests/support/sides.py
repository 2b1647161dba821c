"""The same test for both: our plugins, and the Go reference plugins that the distribution packages.

    @reference_fails("leaves the reservation behind", "p#1196")
    def test_a_namespace_that_is_gone_is_no_error_for_del(side: Plugins) -> None: ...

The fixture `side` gives the test our plugins, then the others: a test that both pass is a fair one. What the reference
fails at is said by the mark; its run then must fail, so that a mark which is true no longer is found out. The marks
make the page docs/compare.md (`support.compare`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import Machine
from support.plugins import GO, Plugins

OURS, THEIRS = "ours", "go"


def reference_fails(instead: str, issues: str = "") -> pytest.MarkDecorator:
    """`instead` completes the sentence "the reference …"; `issues` names its own issues (p# and c#), if there are."""
    return pytest.mark.reference_fails(instead, issues)


@pytest.fixture(params=[OURS, THEIRS])
def side(request: pytest.FixtureRequest, machine: Machine, tmp_path: Path) -> Iterator[Plugins]:
    yield Plugins(machine, GO if request.param == THEIRS else tmp_path / "bin")


def expect(item: pytest.Item) -> None:
    """Called for every test that was collected: the reference's run of a marked one is expected to fail."""
    mark = item.get_closest_marker("reference_fails")
    if mark is None:
        return
    run = getattr(item, "callspec", None)
    if run is None or "side" not in run.params:
        raise pytest.UsageError(f"{item.nodeid}: reference_fails, but no fixture `side` that would show it")
    if run.params["side"] == THEIRS:
        item.add_marker(pytest.mark.xfail(strict=True, reason=f"the reference {mark.args[0]}"))
