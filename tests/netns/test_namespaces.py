"""A network namespace that is pinned as ip-netns(8) pins it, judged by ip-netns."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import box, leftovers
from support.machine import Machine

from cni_plugins.spec.steps import Plan
from minirt import init, namespaces, sys
from minirt.errors import Conflict, KernelRefused, NotFound
from minirt.process import Process

pytestmark = pytest.mark.leaves(*leftovers.FOLDERS)


def make(name: str) -> Plan:
    plan = Plan()
    with plan:
        plan.do(*namespaces.network_steps(name))
    return plan


def self_binds() -> int:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()].count("/run/netns")


def names(machine: Machine) -> list[str]:
    return [entry["name"] for entry in machine.ip("netns", "list")]


def test_ip_netns_lists_it_and_runs_programs_in_it(machine: Machine) -> None:
    before = os.readlink("/proc/self/ns/net")
    plan = make("box")
    assert names(machine) == ["box"]
    inside = machine.run("ip", "netns", "exec", "box", "readlink", "/proc/self/ns/net").stdout.strip()
    assert os.readlink("/proc/self/ns/net") == before != inside
    assert plan.undo() == []
    assert names(machine) == [] and os.listdir("/run/netns") == []


def test_its_loopback_is_up_and_it_has_nothing_else(machine: Machine) -> None:
    plan = make("box")
    (link,) = machine.ip("link", "show", netns="box")
    assert "UP" in link["flags"]
    assert machine.addresses("lo", netns="box") == {"127.0.0.1/8", "::1/128"}
    with namespaces.Inside("/run/netns/box"), socket.socket() as server:
        server.bind(("127.0.0.1", 80))
    plan.undo()


def test_it_stands_beside_those_that_ip_makes_whoever_comes_first(machine: Machine) -> None:
    before = self_binds()
    first = make("first")
    machine.run("ip", "netns", "add", "second")
    third = make("third")
    assert sorted(names(machine)) == ["first", "second", "third"]
    assert self_binds() == before + 1
    machine.run("ip", "netns", "delete", "second")
    assert first.undo() == third.undo() == []


@pytest.mark.usefixtures("machine")
def test_the_pin_is_seen_in_mount_namespaces_that_were_there_before() -> None:
    make("first").undo()  # /run/netns is a shared mount from now on
    command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", "echo; read x; ip netns list"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdin
        other.stdout.readline()
        plan = make("box")
        assert other.communicate("\n")[0].split() == ["box"]
    plan.undo()


def test_a_name_that_is_taken_is_told_and_what_is_there_stays(machine: Machine) -> None:
    inode = os.stat(machine.netns("box")).st_ino
    with pytest.raises(Conflict, match="'box'"):
        make("box")
    assert os.stat("/run/netns/box").st_ino == inode


@pytest.mark.usefixtures("machine")
def test_removing_what_is_missing_is_fine_and_so_is_a_file_that_a_crash_left() -> None:
    namespaces.remove_network("box")
    os.makedirs("/run/netns", exist_ok=True)
    Path("/run/netns/box").touch()
    namespaces.remove_network("box")
    assert os.listdir("/run/netns") == []


@pytest.mark.usefixtures("machine")
def test_a_namespace_that_is_missing_or_none_is_told() -> None:
    for path in ("/run/netns/missing", "/etc/passwd", "/", "/proc/self/ns/uts"):
        with pytest.raises(NotFound, match=path):
            namespaces.open_network(path)
        with pytest.raises(NotFound, match=path):
            init.launch(init.Spec(Process(("true",)), netns=path))


@pytest.mark.usefixtures("machine")
def test_without_the_kernels_consent_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_flags: int) -> int:
        raise OSError(22, os.strerror(22))

    monkeypatch.setattr(sys, "unshare", refuse)
    with pytest.raises(KernelRefused, match="ip netns add box") as caught:
        make("box")
    assert "no net namespaces" in caught.value.hint
    assert os.listdir("/run/netns") == []


def test_many_at_once_do_not_hide_each_other(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first to make /run/netns a mount point: a second mount over it would hide the pins of others."""
    shared, before = namespaces._shared, self_binds()

    def slowly(path: str) -> bool:
        found = shared(path)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(namespaces, "_shared", slowly)
    boxes = [f"box{number}" for number in range(4)]
    children = []
    for name in boxes:
        pid = os.fork()
        if not pid:
            try:
                make(name)
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    assert sorted(names(machine)) == boxes
    assert self_binds() == before + 1
    for name in boxes:
        namespaces.remove_network(name)


def test_a_container_without_a_path_has_the_hosts_network(machine: Machine) -> None:
    streams = box.Streams()
    child = init.launch(init.Spec(Process(("readlink", "/proc/self/ns/net"))), *streams.given)
    child.wait_ready()
    child.go()
    assert streams.end(child).lines == [os.readlink("/proc/self/ns/net")]
    assert machine.links() == {"lo"}


class Boom(BaseException):
    pass


@pytest.mark.parametrize("moment", ["unshare", "mount", "setns"])
def test_a_handler_that_raises_leaves_us_where_we_were(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The signal arrives when we have just left for another namespace."""

    def boom(_number: int, _frame: object) -> None:
        raise Boom

    def interrupted(*args: Any) -> None:
        real(*args)
        if not sent:
            sent.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)

    sent: list[bool] = []
    real = getattr(sys, moment)
    home = os.stat("/proc/thread-self/ns/net").st_ino
    before = signal.signal(signal.SIGUSR1, boom)
    monkeypatch.setattr(sys, moment, interrupted)
    try:
        with pytest.raises(Boom):
            make("lab")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert os.stat("/proc/thread-self/ns/net").st_ino == home
    assert machine.run("ip", "netns", "list").stdout == ""
