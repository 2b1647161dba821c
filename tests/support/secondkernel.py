"""pytest's tests below tests/vm, run on a second kernel and reported here as tests like any others.

    host     collects ── starts the guests ── runs its own tests … ── reports those of tests/vm as their lines arrive
    guest                 boots ── pytest, with the chosen tests of some files ── a line of JSON for every phase ──┘

The laws: a guest starts beside the host's tests, so nobody waits for its boot; whatever keeps it from answering (no
such program, a panic, silence) fails the tests that it still owes, with the end of its console as the reason; it leaves
no process and no file, for all it writes are two files without a name (memfd_create(2)), which pytest reads when it
wants to. No thread is involved, see `orphans`. How the guest comes up is written in tests/support/second-kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import orphans

TOP = Path(__file__).parents[2]
PLACE = TOP / "tests" / "vm"
BOOT = TOP / "tests" / "support" / "second-kernel"

GUESTS = max(1, min(3, (os.cpu_count() or 1) - 1))  # each keeps one processor busy
SILENCE = 300.0  # seconds without a word after which a guest counts as hung
LIMIT = 240  # seconds for a test there, where starting a program takes twenty times as long
CONSOLE = 4000  # characters of the console's end that tell why

SETTINGS = ("-q", "--no-header", f"--timeout={LIMIT}")


def plug_in(config: pytest.Config) -> None:
    """Called once, in pytest_configure: the guest's pytest reports to its descriptor, the host's starts guests."""
    fd = os.environ.pop("MINIRT_SECOND_KERNEL", "")
    config.pluginmanager.register(Reporter(config, int(fd)) if fd else Delegate(), "second-kernel")


class Reporter:
    """In the guest: every report as a line, and `done` when a test is over."""

    def __init__(self, config: pytest.Config, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._config, self._fd = config, fd

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._say(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._say({"done": nodeid})

    def _say(self, document: dict[str, Any]) -> None:
        line = json.dumps(document, default=str).encode() + b"\n"
        while line:
            line = line[os.write(self._fd, line) :]


class Guest:
    """A second kernel that runs `tests`, and what is known of it so far."""

    def __init__(self, tests: list[str]) -> None:
        self.reports: dict[str, list[dict[str, Any]]] = {test: [] for test in tests}
        self.done: set[str] = set()
        self._read = 0
        self._heard = time.monotonic()
        self._lines = os.memfd_create("second-kernel-reports")
        self._console = os.memfd_create("second-kernel-console")
        self._process = self._start("\n".join((*SETTINGS, *tests, "")))
        orphans.set_apart(self._process.pid)

    def _start(self, request: str) -> subprocess.Popen[str]:
        command = 'exec "$0" "$@" 3>&2 2>&1'  # the lines are to be descriptor 3, errors go to the console
        words = (str(BOOT), str(TOP), sys.executable, os.environ.get("CI", ""))
        process = subprocess.Popen(
            ["/bin/sh", "-c", command, *words],
            stdin=subprocess.PIPE,
            stdout=self._console,
            stderr=self._lines,
            text=True,
            start_new_session=True,  # Ctrl-C at the terminal is pytest's to act on
        )
        assert process.stdin is not None
        process.stdin.write(request)
        process.stdin.close()
        return process

    def wait_for(self, test: str) -> str:
        """Wait until `test` is over. Why it never will be; empty when it is."""
        while True:
            running = self._process.poll() is None
            self._listen()
            if test in self.done:
                return ""
            if not running:
                return f"the second kernel ended before it had run this test:\n\n{self._last_words()}"
            if time.monotonic() > self._heard + SILENCE:
                self.end()
                return f"the second kernel said nothing for {SILENCE:.0f} s and was ended:\n\n{self._last_words()}"
            time.sleep(0.02)

    def _listen(self) -> None:
        text = os.pread(self._lines, 1 << 26, self._read)
        for line in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            self._read += len(line)
            self._heard = time.monotonic()
            document = json.loads(line)
            if "done" in document:
                self.done.add(document["done"])
            else:
                self.reports.setdefault(document["nodeid"], []).append(document)

    def _last_words(self) -> str:
        size = os.fstat(self._console).st_size
        said = os.pread(self._console, CONSOLE, max(0, size - CONSOLE))
        return said.decode(errors="replace").replace("\r\n", "\n")

    def end(self) -> None:
        """Whatever it is doing. All its processes go with the first."""
        self._process.kill()
        self._process.wait()


class Delegate:
    """On the host: the tests below tests/vm are the guests' to run."""

    def __init__(self) -> None:
        self._guests: list[Guest] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """They come last, with the guests running beside the others, and how long one takes is the guest's to watch."""
        items.sort(key=_is_theirs)
        for item in filter(_is_theirs, items):
            item.add_marker(pytest.mark.timeout(0))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not session.config.option.collectonly:
            self._guests = [Guest(tests) for tests in _shares(list(filter(_is_theirs, session.items)))]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not _is_theirs(item):
            return None
        (guest,) = (guest for guest in self._guests if item.nodeid in guest.reports)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        missing = guest.wait_for(item.nodeid)
        for document in guest.reports[item.nodeid]:
            report = item.config.hook.pytest_report_from_serializable(config=item.config, data=document)
            item.ihook.pytest_runtest_logreport(report=report)
        if missing:
            item.ihook.pytest_runtest_logreport(report=_failure(item, missing))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_sessionfinish(self) -> None:
        for guest in self._guests:
            guest.end()


def _is_theirs(item: pytest.Item) -> bool:
    return item.path.is_relative_to(PLACE)


def _shares(items: list[pytest.Item]) -> Iterator[list[str]]:
    """The tests of each guest, in the order that they are reported in. A file stays together; each goes, the largest
    first, to whoever has least."""
    files = Counter(item.path for item in items)
    shares: list[list[Path]] = [[] for _ in range(min(GUESTS, len(files)))]
    for path, _size in files.most_common():
        min(shares, key=lambda share: sum(files[known] for known in share)).append(path)
    return ([item.nodeid for item in items if item.path in share] for share in shares)


def _failure(item: pytest.Item, reason: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", reason, "call")
