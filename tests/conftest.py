"""Fixtures for every test: a private host (`machine`), made for the test and left when it ends, and `minirt` on it.

The laws kept here: a test that passes leaves nothing on its machine (`pytest.mark.leaves` declares the exceptions, in
the words of `support.leftovers`), nor all of them together on the host, and in CI a skipped test is a failed one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from typing import TypeVar

import pytest
from support import leftovers, orphans, secondkernel
from support.command import CONTAINERS, Command
from support.machine import Machine
from support.sides import expect, side

__all__ = ["side"]  # a fixture for whoever asks for it

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

_passed = pytest.StashKey[bool]()
_before = pytest.StashKey[set[str]]()
_left = pytest.StashKey[list[str]]()
_since = pytest.StashKey[dict[str, str]]()
_home = os.readlink("/proc/self/ns/mnt")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "leaves(*patterns): what the test may leave on its machine, see support.leftovers"
    )
    config.addinivalue_line("markers", "reference_fails(instead, issues): what the reference does, see support.sides")
    # Whoever has started us may have had them ignored (nohup, a shell's background), and what we start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    orphans.adopt()
    secondkernel.plug_in(config)


def pytest_itemcollected(item: pytest.Item) -> None:
    expect(item)


def pytest_sessionstart(session: pytest.Session) -> None:
    """The host is as it was when the last test has ended. Asked in CI alone: elsewhere others work there too."""
    if os.environ.get("CI") and os.getuid() == 0:
        session.config.stash[_before] = leftovers.host(Machine().text)
        session.config.stash[_since] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Which test a file on the host has been there since, for who is told of it in the end."""
    yield
    since = item.config.stash.get(_since, None)
    if since is not None and os.readlink("/proc/self/ns/mnt") == _home:  # and not on the machine of a whole module
        before = item.config.stash[_before]
        for line in leftovers.files(leftovers.HOST):
            if line not in before:
                since.setdefault(line, item.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    before = session.config.stash.get(_before, None)
    if before is not None:
        left = session.config.stash[_left] = sorted(leftovers.host(Machine().text) - before)
        session.exitstatus = session.exitstatus or (pytest.ExitCode.TESTS_FAILED if left else pytest.ExitCode.OK)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_left, ()):
        since = config.stash[_since].get(line, "")
        text = f"FAILED: left behind on the host: {line}{since and f', since {since}'}"
        terminalreporter.write_line(text, red=True)


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine() as private:
        for mark in request.node.iter_markers("leaves"):
            private.leaves(*mark.args)
        yield private
        if not request.node.stash.get(_passed, False):
            private.patience = 0.0  # a test that failed is to blame for enough
            private.leaves("*")
        left = private.leftovers()
    _refuse(left)


def _refuse(left: list[str]) -> None:
    if left:
        lines = "".join(f"\n  {line}" for line in left)
        pytest.fail(f"left behind (to be removed, or declared with pytest.mark.leaves):{lines}", pytrace=False)


@pytest.fixture
def minirt(machine: Machine) -> Iterator[Command]:
    """The command on the test's own machine; no container may be left over there."""
    command = Command(machine)
    yield command
    command.end()
    if CONTAINERS.exists():
        left = [path.name for path in CONTAINERS.iterdir()]
        for name in left:
            command("rm", "--force", name)
        assert left == [], "containers left over"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return _strict(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _strict((yield))


def _strict(report: Report) -> Report:
    """A test that did not run proves nothing: in CI that is a failure, whatever its reason. (One that failed where the
    reference is expected to is reported as skipped too, but did run.)"""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"in CI a skipped test is a failure: {report.longrepr}"
    return report
