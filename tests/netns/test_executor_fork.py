"""A plugin of ours, executed and forked: it must find the same world, whatever state its caller is in."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.probe import ENV, STDIN, Probe

from cni_plugins.sdk.executor import Fork, Spawn, StartError

anyhow = pytest.mark.parametrize("executor", [Spawn(), Fork()], ids=["spawn", "fork"])


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    return Probe(tmp_path, monkeypatch)


@pytest.fixture
def hostile() -> Iterator[None]:
    """A caller with signals blocked, ignored and handled, descriptors open, and a name in its environment."""
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, lambda *_: None),
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
        signal.SIGPIPE: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2})
    wakeup = os.pipe()
    for fd in wakeup:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, True)
    signal.set_wakeup_fd(wakeup[1])
    os.environ["CALLERS_OWN"] = "secret"
    yield
    del os.environ["CALLERS_OWN"]
    signal.set_wakeup_fd(-1)
    for fd in wakeup:
        os.close(fd)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGUSR2})
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("hostile")
def test_forked_and_executed_a_plugin_finds_the_same_world(probe: Probe) -> None:
    _, executed = probe.run(Spawn())
    _, forked = probe.run(Fork())
    assert forked | {"has_pytest": False} == executed
    assert forked["env"] == ENV | {"PROBE_REPORT": str(probe.report)}
    assert forked["others"] == []
    assert forked["group"]
    assert forked["signals"]["SigBlk"] == 0


@pytest.mark.parametrize("preload", [False, True])
def test_a_fork_runs_what_its_caller_may_have_loaded(probe: Probe, preload: bool) -> None:
    for _ in range(2):
        outcome, _ = probe.run(Fork(preload=preload))
        assert outcome.exit == 0
    assert (f"cni_plugins.{probe.module.stem}" in sys.modules) is preload


@anyhow
def test_a_plugin_of_ours_answers_the_same_either_way(executor: Spawn, probe: Probe) -> None:
    outcome, report = probe.run(executor)
    assert (outcome.exit, outcome.stdout, outcome.stderr) == (0, b'{\n    "cniVersion": "1.1.0"\n}', b"")
    assert report["request"] == ["c", "net", STDIN.decode()]


def test_the_fork_forks_and_the_spawn_executes(probe: Probe) -> None:
    """A forked plugin has what this process had loaded."""
    assert [probe.run(executor)[1]["has_pytest"] for executor in (Spawn(), Fork())] == [False, True]


@anyhow
def test_an_exception_in_a_plugin_is_an_error_object_and_no_traceback(executor: Spawn, probe: Probe) -> None:
    outcome, _ = probe.run(executor, PROBE_RAISES="1")
    assert outcome.exit == 1
    assert json.loads(outcome.stdout)["code"] == 999
    assert "as asked" in json.loads(outcome.stdout)["msg"]
    assert outcome.stderr == b""


@anyhow
def test_the_traceback_is_on_standard_error_for_those_who_ask(executor: Spawn, probe: Probe) -> None:
    outcome, _ = probe.run(executor, PROBE_RAISES="1", CNI_DEBUG="1")
    assert b"Traceback" in outcome.stderr
    assert b"RuntimeError: as asked" in outcome.stderr
    assert b"Traceback" not in outcome.stdout


def test_what_the_caller_has_not_flushed_does_not_come_out_of_the_fork(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A stream flushes when it is dropped: the caller's must outlive the plugin."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", open(1, "w", closefd=False))  # noqa: SIM115  # nobody else may hold it
        sys.stdout.write("the caller's own words")
        outcome, _ = probe.run(Fork())
        sys.stdout.close()
    assert outcome.stdout == b'{\n    "cniVersion": "1.1.0"\n}'
    assert capfd.readouterr().out == "the caller's own words"


@pytest.mark.parametrize("change", ["other text", "not executable"])
def test_a_program_that_is_not_exactly_our_launcher_is_executed(probe: Probe, change: str) -> None:
    """A foreign plugin of the same name must run, not ours; and what exec would refuse is refused."""
    if change == "other text":
        probe.program.write_text("#!/bin/sh\necho foreign\n", encoding="utf-8")
        assert Fork().run(str(probe.program), ENV, STDIN, timeout=10).stdout == b"foreign\n"
    else:
        probe.program.chmod(0o644)
        with pytest.raises(StartError, match="not executable"):
            Fork().run(str(probe.program), ENV, STDIN, timeout=10)


def test_a_fork_that_fails_before_it_is_a_plugin_says_so_and_ends(probe: Probe) -> None:
    probe.module.write_text("raise ImportError('broken')", encoding="utf-8")
    outcome = Fork().run(str(probe.program), ENV, STDIN, timeout=10)
    assert (outcome.exit, outcome.stdout) == (1, b"")
    assert b"ImportError: broken" in outcome.stderr


def test_an_object_of_the_caller_cannot_close_a_descriptor_of_the_forked_plugin(probe: Probe) -> None:
    """An unreachable cycle that owns descriptors must not be collected in the child: their numbers are the plugin's."""

    class Owner:
        def __init__(self) -> None:
            self.itself = self
            self.fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]

        def __del__(self) -> None:
            for fd in self.fds:
                try:
                    os.close(fd)
                except OSError:
                    os.write(2, b"collected in the wrong process")

    gc.disable()
    try:
        Owner()
        outcome, _ = probe.run(Fork())
    finally:
        gc.enable()
        gc.collect()
    assert (outcome.exit, outcome.stderr) == (0, b"")
