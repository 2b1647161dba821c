"""The executor seam over programs that know nothing of us: both executors in one set of tests, so as not to differ.

What a plugin of ours finds, executed and forked, is in test_executor_fork.py.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from support.probe import ENV, STDIN
from support.scripted import Answer, Scripted, fails, says

from cni_plugins.sdk.executor import ExecutorError, Fork, NotFoundError, Spawn, StartError, StoppedError, find
from cni_plugins.spec.errors import CniError

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


def test_L8_the_first_folder_that_has_the_plugin_wins(tmp_path: Path) -> None:
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
def test_a_plugin_that_keeps_talking_is_killed_in_time_too(
    executor: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni_plugins.sdk.call.LIMIT", 1 << 30)
    began = time.monotonic()
    with pytest.raises(StoppedError, match="no answer"):
        executor.run(script(tmp_path, "exec yes"), ENV, STDIN, timeout=0.05)
    assert time.monotonic() - began < 1


@anyhow
@pytest.mark.parametrize("stream", [1, 2])
def test_a_plugin_that_floods_is_killed_while_it_does(executor: Spawn, tmp_path: Path, stream: int) -> None:
    with pytest.raises(StoppedError, match="wrote more than 16 MiB") as caught:
        executor.run(script(tmp_path, f"exec yes >&{stream}"), ENV, STDIN, timeout=20)
    assert len(caught.value.stderr) < 1 << 20


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
    started = executor.start(str(plugins.write("hangs", ADD=[Answer(hang=60)])), ENV, STDIN)
    while not plugins.hanging():
        time.sleep(0.01)
    assert started.kill().exit == -signal.SIGKILL
    _gone(*plugins.hanging())


@anyhow
def test_an_interrupted_wait_kills_the_plugin(executor: Spawn, plugins: Scripted) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        started = executor.start(str(plugins.write("hangs", ADD=[Answer(hang=60)])), ENV, STDIN)
        while not plugins.hanging():
            time.sleep(0.01)
        if os.fork() == 0:
            time.sleep(0.1)
            os.kill(os.getppid(), signal.SIGUSR1)
            os._exit(0)
        with pytest.raises(KeyboardInterrupt):
            started.wait()
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
def test_L10_a_program_that_is_just_being_written_is_tried_again(executor: Spawn, tmp_path: Path) -> None:
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


def _gone(*pids: int) -> None:
    """Every process has ended; a moment is allowed for being reaped."""
    deadline = time.monotonic() + 3
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.01)


def _own(fds: list[int]) -> set[int]:
    """The descriptors that the scripted plugin itself has open while it looks: its log and the listing."""
    return set(sorted(fd for fd in fds if fd > 2)[:2])
