"""What a process finds itself to be in a container, told by real programs that run there."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import box, cgroups, leftovers
from support.machine import Machine

from minirt import init
from minirt.errors import CommandNotExecutable, CommandNotFound, NotFound, SetupFailed, UsageError
from minirt.spec import Volume

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*leftovers.FOLDERS)]

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
DEFAULT_CAPABILITIES = "00000000a80425fb"  # as `docker run IMAGE grep Cap /proc/self/status` shows


def status(lines: list[str]) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_it_is_process_1_in_six_new_namespaces() -> None:
    lines = box.sh("echo $$; readlink " + " ".join(f"/proc/self/ns/{kind}" for kind in NAMESPACES))
    assert lines[0] == "1"
    ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES]
    assert [line.split(":")[0] for line in lines[1:]] == list(NAMESPACES)
    assert not set(ours) & set(lines[1:])


def test_its_network_namespace_is_the_pinned_one() -> None:
    with box.running() as child:
        pinned = os.stat("/run/netns/box")
        assert os.stat(f"/proc/{child.pid}/ns/net").st_ino == pinned.st_ino
        shown = subprocess.run(["lsns", "-t", "net", "-n", "-o", "PID,NSFS"], capture_output=True, text=True).stdout
        assert f"{child.pid} /run/netns/box" in shown.replace("  ", " ")


def test_the_host_name_is_its_own(machine: Machine) -> None:
    before = os.uname().nodename
    assert box.sh("hostname; cat /proc/sys/kernel/hostname") == ["box", "box"]
    assert machine.run("hostname").stdout.strip() == before


def test_it_sees_its_own_processes_alone() -> None:
    assert box.sh("ls /proc | grep -c '^[0-9]'") == ["3"]  # sh, ls, grep


def test_it_has_dockers_capabilities_and_can_gain_none() -> None:
    found = status(box.run("cat", "/proc/self/status").lines)
    assert [found[f"Cap{which}"] for which in ("Prm", "Eff", "Bnd")] == [DEFAULT_CAPABILITIES] * 3
    assert [found[f"Cap{which}"] for which in ("Inh", "Amb")] == ["0" * 16] * 2
    assert found["NoNewPrivs"] == "1"


def test_another_user_has_none() -> None:
    found = status(box.run("cat", "/proc/self/status", user="1000:1000").lines)
    assert [found[f"Cap{which}"] for which in ("Prm", "Eff", "Inh", "Amb")] == ["0" * 16] * 4
    assert found["CapBnd"] == DEFAULT_CAPABILITIES
    assert found["Uid"].split() == found["Gid"].split() == ["1000"] * 4
    assert found["Groups"] == ""


def test_signals_and_umask_are_those_of_a_fresh_program() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and a caller such as nohup ignores more."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        found = status(box.run("cat", "/proc/self/status").lines)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGHUP, before)
    assert [found[f"Sig{which}"] for which in ("Blk", "Ign", "Cgt")] == ["0" * 16] * 3
    assert found["Umask"] == "0022"


def test_no_descriptor_of_the_runtime_survives() -> None:
    """Neither one that was open here, nor one that a careless caller left without close-on-exec."""
    kept = [os.open("/", os.O_RDONLY), os.dup2(os.open("/etc", os.O_RDONLY), 50, inheritable=True)]
    try:
        assert box.run("ls", "/proc/self/fd").lines == ["0", "1", "2", "3"]  # 3 is how ls reads the directory
    finally:
        for fd in kept:
            os.close(fd)


def test_a_lock_of_the_parent_is_not_held_on_by_process_1(tmp_path: Path) -> None:
    holder = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with box.prepared():
        child = init.launch(box.spec("true"))
        child.wait_ready()
        os.close(holder)
        with open(tmp_path / "lock") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.kill()


def test_the_environment_is_what_docker_gives_and_what_is_asked() -> None:
    lines = box.run("env", env=(("A", "1 2"), ("HOME", "/x"))).lines
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert sorted(lines) == ["A=1 2", "HOME=/x", "HOSTNAME=box", path]


def test_it_leads_a_session_and_has_no_terminal() -> None:
    stat = box.run("cat", "/proc/1/stat").stdout.rpartition(")")[2].split()
    group, session, terminal = stat[2:5]
    assert (group, session, terminal) == ("1", "1", "0")


def test_its_exit_code_and_the_signal_that_ended_it_are_seen() -> None:
    assert box.run("sh", "-c", "exit 7").code == 7
    with box.running("sh", "-c", "trap '' TERM; sleep 60") as child:
        os.kill(child.pid, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == -signal.SIGKILL


def test_when_process_1_ends_so_does_all_it_started(machine: Machine) -> None:
    with box.running("sh", "-c", "sleep 71 & sleep 72") as child:
        wait_for(lambda: "sleep 71" in machine.run("ps", "-A", "-o", "args").stdout)
        child.kill()
        assert "sleep 7" not in machine.run("ps", "-A", "-o", "args").stdout


@pytest.mark.parametrize("user", ["", "1000"])
def test_when_its_parent_dies_process_1_does(user: str) -> None:
    """Before the word and after it; a change of user makes the kernel forget that it should."""
    for go in (False, True):
        with box.prepared():
            read, write = os.pipe()
            parent = os.fork()
            if not parent:
                child = init.launch(box.spec("sleep", "73", user=user))
                child.wait_ready()
                if go:
                    child.go()
                os.write(write, str(child.pid).encode())
                signal.pause()
            pid = int(os.read(read, 20))
            assert os.path.exists(f"/proc/{pid}/ns/net")
            os.kill(parent, signal.SIGKILL)
            os.waitpid(parent, 0)
            wait_for(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))
            os.close(read)
            os.close(write)


def test_until_the_word_it_is_not_executed(tmp_path: Path) -> None:
    volume = (Volume(str(tmp_path), "/mark"),)
    with box.prepared():
        child = init.launch(box.spec("touch", "/mark/ran", volumes=volume))
        child.wait_ready()
        assert not (tmp_path / "ran").exists()
        child.go()
        os.waitpid(child.pid, 0)
        os.close(child.pidfd)
    assert (tmp_path / "ran").exists()


def test_a_file_of_etc_may_be_written_until_the_word(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    with box.prepared():
        streams = box.Streams()
        child = init.launch(box.spec("cat", "/etc/hosts", volumes=(Volume(str(hosts), "/etc/hosts"),)), *streams.given)
        child.wait_ready()
        hosts.write_text("10.1.0.2 box\n")
        child.go()
        assert streams.end(child).stdout == "10.1.0.2 box\n"


def test_killed_before_the_word_it_leaves_nothing() -> None:
    with box.prepared():
        child = init.launch(box.spec("true"))
        child.kill()
        assert not os.path.exists(f"/proc/{child.pid}")


def test_the_control_group_holds_it_and_is_the_root_of_what_it_sees() -> None:
    with box.running() as child:
        groups = Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
        assert any(line.endswith("/minirt/box") for line in groups), groups
        seen = box.execute(child, "cat", "/proc/self/cgroup").lines
        assert all(line.endswith(":/") or ":/.." in line for line in seen), seen
        (members,) = {path.read_text().strip() for path in Path(cgroups.MOUNT).rglob("minirt/box/cgroup.procs")}
        assert members == str(child.pid)


# --- users -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("", "0 0 0 10 /root"),
        ("ana", "1000 100 100 10 29 /home/ana"),
        ("1000", "1000 100 100 10 29 /home/ana"),
        ("ana:wheel", "1000 10 10 /home/ana"),
        ("4321", "4321 0 0 /"),
        ("4321:29", "4321 29 29 /"),
    ],
)
def test_the_user_comes_from_the_containers_own_files(tmp_path: Path, asked: str, seen: str) -> None:
    root = box.rootfs(tmp_path / "root")
    (line,) = box.sh("echo $(id -u) $(id -g) $(id -G) $HOME", directory=str(root), user=asked)
    assert line == seen


@pytest.mark.parametrize("asked", ["nobody-there", "ana:nobody-there"])
def test_an_unknown_user_or_group_is_named(tmp_path: Path, asked: str) -> None:
    root = box.rootfs(tmp_path / "root")
    with pytest.raises(NotFound, match="nobody-there"):
        box.run("id", directory=str(root), user=asked)


@pytest.mark.parametrize("asked", [":5", "root:", "a:b:c", "4294967295", "a b"])
def test_a_malformed_user_is_refused_before_anything_is_made(asked: str) -> None:
    with pytest.raises(UsageError, match="user"):
        init.launch(box.spec("id", user=asked))


def test_a_fifo_in_place_of_passwd_holds_nobody_up(tmp_path: Path) -> None:
    root = box.rootfs(tmp_path / "root")
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    assert status(box.run("cat", "/proc/self/status", directory=str(root), user="5").lines)["Uid"].split()[0] == "5"


def test_another_user_may_open_its_own_output_again() -> None:
    assert box.sh("echo text > /dev/stdout", user="1000") == ["text"]


# --- the directory ---------------------------------------------------------------------------------------------------


def test_the_working_directory_is_made_if_missing() -> None:
    assert box.sh("pwd", cwd="/tmp/a/b") == ["/tmp/a/b"]


def test_a_file_is_no_working_directory() -> None:
    with pytest.raises(SetupFailed, match="working directory '/etc/passwd'"):
        box.run("true", cwd="/etc/passwd")


@pytest.mark.parametrize("number", range(3, 21))
def test_no_descriptor_leads_to_a_directory_of_the_host(number: int) -> None:
    """CVE-2024-21626: `--workdir /proc/self/fd/N` was a way out, by N of a directory that the runtime had open."""
    with box.prepared(), pytest.raises(SetupFailed, match="working directory"):
        box.finish(box.spec("ls", cwd=f"/proc/self/fd/{number}"))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-such-command", "/no/such/command", "/etc/passwd/x", ""])
def test_a_command_that_is_missing_is_known_before_the_word(name: str) -> None:
    with box.prepared():
        child = init.launch(box.spec(name))
        with pytest.raises(CommandNotFound) as caught:
            child.wait_ready()
    assert caught.value.exit_code == 127
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["/etc", "/etc/passwd", "/dev/null"])
def test_a_command_that_cannot_be_executed_is_known_before_the_word(name: str) -> None:
    with box.prepared():
        child = init.launch(box.spec(name))
        with pytest.raises(CommandNotExecutable) as caught:
            child.wait_ready()
    assert caught.value.exit_code == 126


def test_a_script_without_its_interpreter_is_not_found(tmp_path: Path) -> None:
    script(tmp_path / "x", "#!/no/such/interpreter\n")
    with pytest.raises(CommandNotFound, match="missing"):
        box.run("/v/x", volumes=(Volume(str(tmp_path), "/v"),))


def test_a_script_without_a_first_line_is_not_executable(tmp_path: Path) -> None:
    script(tmp_path / "x", "echo hello\n")
    with pytest.raises(CommandNotExecutable) as caught:
        box.run("/v/x", volumes=(Volume(str(tmp_path), "/v"),))
    assert "#!" in caught.value.hint


def test_the_path_that_is_asked_for_counts(tmp_path: Path) -> None:
    script(tmp_path / "greet", "#!/bin/sh\necho hello\n")
    done = box.run("greet", env=(("PATH", "/v:/bin"),), volumes=(Volume(str(tmp_path), "/v"),))
    assert done.stdout == "hello\n"


@pytest.mark.parametrize("text", ["#!/proc/self/exe\n", "#! /tmp/../proc/1/exe -c\n", "#!/v/again\n"])
def test_our_own_interpreter_cannot_be_executed_in_the_container(tmp_path: Path, text: str) -> None:
    """CVE-2019-5736: it is a file of the host, which would be writable from inside as the new process's own."""
    script(tmp_path / "x", text)
    script(tmp_path / "again", "#!/v/link\n")
    (tmp_path / "link").symlink_to("/proc/self/exe")
    for name in ("/v/x", "/v/link", "/proc/self/exe"):
        with box.prepared():
            child = init.launch(box.spec(name, volumes=(Volume(str(tmp_path), "/v"),)))
            with pytest.raises(CommandNotExecutable, match="program of the host"):
                child.wait_ready()


def test_code_in_the_image_does_not_run_in_our_process(tmp_path: Path) -> None:
    """Modules and NSS libraries of the image would run with the host's rights (CVE-2019-14271)."""
    root = box.rootfs(tmp_path / "root")
    evil = "import os; open('/evil', 'w')\n"
    for folder in ("usr/lib/python3.11", "usr/lib/python3.11/encodings", "usr/lib/python3/dist-packages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("sitecustomize", "traceback", "linecache", "tokenize", "__init__", "idna"):
            (root / folder / f"{name}.py").write_text(evil)
    with pytest.raises(CommandNotFound):
        box.run("no-such-command", directory=str(root), user="ana")
    assert box.sh("ls / | grep -c evil || true", directory=str(root)) == ["0"]


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def wait_for(happens: object, seconds: float = 5.0) -> None:
    assert callable(happens)
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)
