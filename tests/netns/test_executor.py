"""The executor seam: a plugin as a program and a plugin as a fork, in the same tests, so that they cannot differ.

`anyhow` is both executors over programs that know nothing of us. `Probe` is a plugin of ours that writes down the world
it finds: executed and forked, it must find the same, whatever state its caller is in.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.scripted import Answer, Scripted, fails, says

import cni_plugins
from cni_plugins.sdk import launcher
from cni_plugins.sdk.executor import ExecutorError, Fork, NotFoundError, Spawn, StartError, StoppedError, find
from cni_plugins.spec.errors import CniError

ENV = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/gone", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
STDIN = b'{"cniVersion": "1.1.0", "name": "net", "type": "probe"}'

anyhow = pytest.mark.parametrize("executor", [Spawn(), Fork()], ids=["spawn", "fork"])


@pytest.fixture
def plugins(tmp_path: Path) -> Scripted:
    return Scripted(tmp_path)


def script(tmp_path: Path, text: str) -> str:
    """A shell script as a plugin: its path."""
    path = tmp_path / "shell"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_the_first_folder_that_has_the_plugin_wins(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "bridge").mkdir()  # a folder is no program
    (tmp_path / "b" / "bridge").write_text("")
    (tmp_path / "c" / "bridge").symlink_to(tmp_path / "b" / "bridge")
    folders = [str(tmp_path / name) for name in ("missing", "a", "c", "b")]
    assert find("bridge", folders) == str(tmp_path / "c" / "bridge")


def test_a_plugin_that_is_nowhere_is_reported_with_the_folders_searched() -> None:
    with pytest.raises(NotFoundError, match=r"plugin 'bridge' not found in /one, /two") as caught:
        find("bridge", ["/one", "/two"])
    assert caught.value.directories == ("/one", "/two")


@pytest.mark.parametrize("name", ["", "../bridge", "/bin/sh", ".."])
def test_a_plugin_type_cannot_lead_out_of_the_folders(name: str) -> None:
    with pytest.raises(CniError) as caught:
        find(name, ["/bin"])
    assert caught.value.code == 7


# --- any program ------------------------------------------------------------------------------------------------------


@anyhow
def test_a_plugin_gets_its_environment_and_input_and_its_answer_comes_back(executor: Spawn, plugins: Scripted) -> None:
    path = plugins.write("echo", ADD=[Answer(b'{"ok": 1}', b"log\n")])
    outcome = executor.run(str(path), ENV, STDIN, timeout=10)
    assert (outcome.exit, outcome.stdout, outcome.stderr) == (0, b'{"ok": 1}', b"log\n")
    (call,) = plugins.calls()
    assert call.env.items() >= ENV.items()
    assert call.env.keys() <= ENV.keys() | {"LC_CTYPE"}  # nothing of ours (LC_CTYPE is that interpreter's own, PEP 538)
    assert call.stdin == STDIN
    assert call.leads_group


@anyhow
def test_an_error_object_comes_back_with_the_exit_code(executor: Spawn, plugins: Scripted) -> None:
    outcome = executor.run(str(plugins.write("no", ADD=[fails(7, "no", exit=3)])), ENV, STDIN, timeout=10)
    assert outcome.exit == 3
    assert json.loads(outcome.stdout) == {"code": 7, "msg": "no"}


@anyhow
@pytest.mark.parametrize(
    "said",
    [b"", b"garbage\xff\x00", b'{"cniVersion": "1.', b'{"code": 7}'],
    ids=["silence", "garbage", "half", "error"],
)
def test_what_a_plugin_says_is_not_judged_here(executor: Spawn, plugins: Scripted, said: bytes) -> None:
    outcome = executor.run(str(plugins.write("odd", ADD=[says(said)])), ENV, STDIN, timeout=10)
    assert (outcome.exit, outcome.stdout) == (0, said)


@anyhow
def test_death_by_signal_is_a_negative_exit_code(executor: Spawn, plugins: Scripted) -> None:
    path = plugins.write("dies", ADD=[Answer(b"so far", signal=int(signal.SIGSEGV))])
    outcome = executor.run(str(path), ENV, STDIN, timeout=10)
    assert (outcome.exit, outcome.stdout) == (-signal.SIGSEGV, b"so far")


@anyhow
def test_a_plugin_that_never_answers_is_killed_with_its_children(executor: Spawn, plugins: Scripted) -> None:
    path = plugins.write("hangs", ADD=[Answer(stderr=b"thinking", hang=60)])
    began = time.monotonic()
    with pytest.raises(StoppedError, match=r"hangs gave no answer within 0\.5 s and was killed") as caught:
        executor.run(str(path), ENV, STDIN, timeout=0.5)
    assert time.monotonic() - began < 5
    assert caught.value.stderr == b"thinking"
    _gone(*plugins.hanging())


@anyhow
def test_a_plugin_that_keeps_talking_is_killed_in_time_too(executor: Spawn, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="no answer"):
        executor.run(script(tmp_path, "while :; do echo x; done"), ENV, STDIN, timeout=0.3)


@anyhow
def test_a_plugin_that_floods_is_killed(executor: Spawn, plugins: Scripted) -> None:
    path = plugins.write("floods", ADD=[Answer(flood=64)])
    with pytest.raises(StoppedError, match="wrote more than 16 MiB"):
        executor.run(str(path), ENV, STDIN, timeout=20)


@anyhow
def test_an_answer_larger_than_a_pipe_comes_back_whole(executor: Spawn, plugins: Scripted) -> None:
    outcome = executor.run(str(plugins.write("large", ADD=[Answer(flood=3)])), ENV, STDIN, timeout=20)
    assert len(outcome.stdout) == 3 << 20


@anyhow
def test_input_larger_than_a_pipe_arrives_whole(executor: Spawn, plugins: Scripted) -> None:
    text = b"x" * (1 << 20)
    executor.run(str(plugins.write("reads")), ENV, text, timeout=20)
    assert plugins.calls()[0].stdin == text


@anyhow
@pytest.mark.parametrize("size", [10, 1 << 20])
def test_a_plugin_need_not_read_its_input(executor: Spawn, tmp_path: Path, size: int) -> None:
    outcome = executor.run(script(tmp_path, "exec 0<&-; echo done"), ENV, b"x" * size, timeout=10)
    assert (outcome.exit, outcome.stdout) == (0, b"done\n")


@anyhow
def test_a_child_left_running_with_the_output_open_is_not_waited_for(executor: Spawn, plugins: Scripted) -> None:
    path = plugins.write("leaves", ADD=[Answer(b"done", leave=1)])
    began = time.monotonic()
    outcome = executor.run(str(path), ENV, STDIN, timeout=10)
    assert outcome.stdout == b"done"
    assert time.monotonic() - began < 0.9


@anyhow
def test_two_plugins_run_side_by_side(executor: Spawn, tmp_path: Path) -> None:
    path = script(tmp_path, "cat; sleep 0.4")
    began = time.monotonic()
    calls = [executor.start(path, ENV, text, timeout=10) for text in (b"one", b"two")]
    assert [call.wait().stdout for call in calls] == [b"one", b"two"]
    assert time.monotonic() - began < 0.75


@anyhow
def test_a_started_plugin_can_be_killed(executor: Spawn, plugins: Scripted) -> None:
    call = executor.start(str(plugins.write("hangs", ADD=[Answer(hang=60)])), ENV, STDIN)
    while not plugins.hanging():
        time.sleep(0.01)
    assert call.kill().exit == -signal.SIGKILL
    _gone(*plugins.hanging())


@anyhow
def test_an_interrupted_wait_kills_the_plugin(executor: Spawn, plugins: Scripted) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        call = executor.start(str(plugins.write("hangs", ADD=[Answer(hang=60)])), ENV, STDIN)
        while not plugins.hanging():
            time.sleep(0.01)
        if os.fork() == 0:
            time.sleep(0.1)
            os.kill(os.getppid(), signal.SIGUSR1)
            os._exit(0)
        with pytest.raises(KeyboardInterrupt):
            call.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.wait()
    _gone(*plugins.hanging())


@anyhow
def test_no_descriptor_but_the_named_ones_reaches_a_plugin(executor: Spawn, plugins: Scripted) -> None:
    read, write = os.pipe()
    stray = os.dup(read)
    os.set_inheritable(stray, True)
    try:
        executor.run(str(plugins.write("looks")), ENV, STDIN, timeout=10, keep_fds=(write,))
    finally:
        for fd in (read, write, stray):
            os.close(fd)
    (call,) = plugins.calls()
    assert set(call.fds) - {0, 1, 2} == {write, *_own(call.fds)}
    assert stray not in call.fds


@anyhow
def test_no_descriptor_is_left_open_here(executor: Spawn, plugins: Scripted) -> None:
    fine = plugins.write("fine")
    before = os.listdir("/proc/self/fd")
    executor.run(str(fine), ENV, STDIN, timeout=10)
    with pytest.raises(StoppedError):
        executor.run(str(plugins.write("hangs", ADD=[Answer(hang=60)])), ENV, STDIN, timeout=0.2)
    with pytest.raises(StartError):
        executor.run("/etc/hostname", ENV, STDIN, timeout=10)
    assert os.listdir("/proc/self/fd") == before


@anyhow
def test_programs_that_cannot_run_say_why(executor: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "plugin"

    def refused() -> str:
        with pytest.raises(StartError) as caught:
            executor.run(str(path), ENV, STDIN, timeout=10)
        assert isinstance(caught.value, ExecutorError)
        return str(caught.value)

    path.write_text("no shebang\n", encoding="utf-8")
    assert (
        refused()
        == f"cannot start plugin {path}: it is not executable (chmod +x), or its file system is mounted noexec"
    )
    path.chmod(0o755)
    assert refused().endswith("it is neither a program for this machine nor a script with a #! line")
    path.write_text("#!/no/such/interpreter\n", encoding="utf-8")
    assert refused().endswith("its interpreter or loader does not exist")


@anyhow
def test_a_program_that_is_just_being_written_is_tried_again(executor: Spawn, tmp_path: Path) -> None:
    path = tmp_path / "true"
    path.write_bytes(Path("/bin/true").read_bytes())
    path.chmod(0o755)
    read, write = os.pipe()
    writer = os.fork()
    if writer == 0:  # another process has it open for writing for a moment, as an installation would
        fd = os.open(path, os.O_WRONLY)
        os.write(write, b"x")
        time.sleep(0.15)
        os.close(fd)
        os._exit(0)
    try:
        os.read(read, 1)
        assert executor.run(str(path), ENV, STDIN, timeout=10).exit == 0
    finally:
        os.waitpid(writer, 0)
        os.close(read)
        os.close(write)


# --- a plugin of ours -------------------------------------------------------------------------------------------------

PROBE = '''
"""A plugin that writes down the world it finds itself in, into the file that PROBE_REPORT names."""
import gc, json, os, sys
from cni_plugins.sdk.main import Plugin
from cni_plugins.spec.result import Result

def status_lines(*keys):
    with open("/proc/self/status") as file:
        return {line.partition(":")[0]: line.split()[1] for line in file if line.startswith(keys)}

def open_descriptors():
    listed = [int(fd) for fd in os.listdir("/proc/self/fd")]
    return [fd for fd in listed if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]

def add(request):
    gc.collect()
    others = open_descriptors()
    with open(os.environ["PROBE_REPORT"], "w") as report:
        json.dump({
            "env": dict(os.environ),
            "child_env": os.popen("env").read().splitlines(),
            "argv": sys.argv,
            "fds": {fd: os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in (0, 1, 2)},
            "others": others,
            "signals": status_lines("SigBlk", "SigIgn", "SigCgt"),
            "group": os.getpgrp() == os.getpid(),
            "cwd": os.getcwd(),
            "has_pytest": "pytest" in sys.modules,
            "request": [request.container_id, request.network, request.stdin.decode()],
        }, report)
    if os.environ.get("PROBE_PRINTS"):
        print("said by print")
    if os.environ.get("PROBE_RAISES"):
        raise RuntimeError("as asked")
    return Result()

PLUGIN = Plugin("probe", add=add, delete=lambda request: None, check=lambda request: None)
'''


# LC_CTYPE is the executed interpreter's own (PEP 538), `_` the shell's, and the terminal's size is what the readline
# library, which pytest loads, puts into the C library's environment behind Python's back.
NOISE = ("LC_CTYPE=", "_=", "COLUMNS=", "LINES=")
_numbers = itertools.count()
INTERNAL = 3 << 31  # signals 32 and 33 are the C library's own; its posix_spawn leaves them ignored


class Probe:
    """The probe as a launcher in a folder, and as a module that a fork of this process finds."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "modules").mkdir()
        name = f"probe_{next(_numbers)}"  # a fork may find modules that an earlier one had loaded here
        self.module = folder / "modules" / f"{name}.py"
        self.module.write_text(PROBE, encoding="utf-8")
        modules = str(folder / "modules")
        monkeypatch.setitem(launcher.NAMES, "probe", name)
        monkeypatch.setattr(cni_plugins, "__path__", [*cni_plugins.__path__, modules])
        original: Callable[[str], bytes] = launcher.text
        more = f"import cni_plugins\ncni_plugins.__path__.append({modules!r})\nfrom cni_plugins.sdk.main".encode()
        monkeypatch.setattr(launcher, "text", lambda name: original(name).replace(b"from cni_plugins.sdk.main", more))
        self.program = folder / "probe"
        self.program.write_bytes(launcher.text("probe"))
        self.program.chmod(0o755)
        self.report = folder / "report"

    def run(self, executor: Spawn, **env: str) -> tuple[Any, dict[str, Any]]:
        """The outcome, and the world as the plugin saw it."""
        outcome = executor.run(str(self.program), ENV | {"PROBE_REPORT": str(self.report)} | env, STDIN, timeout=20)
        report: dict[str, Any] = json.loads(self.report.read_bytes())
        report["env"].pop("LC_CTYPE", None)
        report["child_env"] = sorted(line for line in report["child_env"] if not line.startswith(NOISE))
        report["signals"] = {kind: int(mask, 16) & ~INTERNAL for kind, mask in report["signals"].items()}
        return outcome, report


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
    probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with open(tmp_path / "callers-output", "w", encoding="utf-8") as stream:
        stream.write("the caller's own words")
        monkeypatch.setattr("sys.stdout", stream)
        outcome, _ = probe.run(Fork())
        monkeypatch.undo()
    assert b"words" not in outcome.stdout
    assert (tmp_path / "callers-output").read_text(encoding="utf-8") == "the caller's own words"


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

    import gc

    gc.disable()
    try:
        Owner()
        outcome, _ = probe.run(Fork())
    finally:
        gc.enable()
        gc.collect()
    assert (outcome.exit, outcome.stderr) == (0, b"")


def _gone(*pids: int) -> None:
    """Every process has ended; a moment is allowed for being reaped."""
    deadline = time.monotonic() + 3
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.01)


def _own(fds: list[int]) -> set[int]:
    """The descriptors that the scripted plugin itself has open while it looks: its log and the listing."""
    return set(sorted(fd for fd in fds if fd > 2)[:2])
