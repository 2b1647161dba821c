"""`minirt cni gc`: what is dead goes, what is alive stays, and nobody has to say who is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.cnilab import RESULTS, cached, identity, laboratory, leases, scripted_plugins
from support.command import Command, bridge, eventually
from support.scripted import Scripted, fails, says


@pytest.fixture
def lab(minirt: Command) -> str:
    path = laboratory(minirt)
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"), cniVersion="1.1.0")
    return path


@pytest.fixture
def scripted(minirt: Command, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    monkeypatch.setenv("CNI_PATH", "")
    return scripted_plugins(minirt)


def test_what_is_alive_stays_and_what_is_dead_goes(minirt: Command, lab: str) -> None:
    machine = minirt.machine
    dead = machine.netns("dead")
    minirt.ok("run", "-d", "--name", "web", "--network", "lab", "host", "sleep", "600")
    minirt.ok("cni", "add", "lab", lab)
    minirt.ok("cni", "add", "lab", dead)
    machine.run("ip", "netns", "del", "dead")
    assert leases() == ["10.50.0.2", "10.50.0.3", "10.50.0.4"]
    done = minirt("cni", "gc", "lab", lab)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert leases() == ["10.50.0.2", "10.50.0.3"]
    machine.run("ip", "netns", "exec", "box", "busybox", "ping", "-c1", "-W2", "10.50.0.2")
    minirt.ok("cni", "check", "lab", lab)
    minirt.ok("cni", "del", "lab", lab)
    minirt.ok("rm", "-f", "web")


def test_what_only_the_store_knows_goes_unless_it_is_named(minirt: Command, lab: str) -> None:
    """As another program's reservations: no cache tells of them."""
    minirt.ok("cni", "add", "lab", lab)
    minirt.ok("cni", "add", "lab", lab, "-i", "data0")
    for path in RESULTS.iterdir():
        path.unlink()
    minirt.ok("cni", "gc", "lab", "--valid", identity(lab))
    assert leases() == ["10.50.0.2"], "an id alone means its eth0"
    minirt.ok("cni", "gc", "lab", "--valid", f"{identity(lab)}:data0")
    assert leases() == []
    minirt.ok("cni", "del", "lab", lab)


def test_a_path_that_has_become_the_hosts_own_is_not_given_to_a_plugin(
    minirt: Command, lab: str, scripted: Scripted
) -> None:
    """/proc/PID/ns/net of a process that is another's by now."""
    scripted.write("odd", ADD=[says({"cniVersion": "1.1.0"})])
    minirt.network("odd", {"type": "odd"}, cniVersion="1.1.0")
    minirt.ok("cni", "add", "odd", lab)
    (path,) = RESULTS.iterdir()
    path.write_text(path.read_text().replace(lab, "/proc/1/ns/net"))
    os.symlink("/proc/self/ns/net", "/run/reused")
    path.write_text(path.read_text().replace("/proc/1/ns/net", "/run/reused"))
    minirt.ok("cni", "gc", "odd")
    os.unlink("/run/reused")
    assert [(call.command, call.env.get("CNI_NETNS")) for call in scripted.calls()] == [
        ("ADD", lab),
        ("DEL", ""),
        ("GC", None),
    ]
    assert cached() == []


def test_nobody_knows_of_a_damaged_file_so_its_attachment_is_left_alone(minirt: Command, lab: str) -> None:
    minirt.ok("cni", "add", "lab", lab)
    (path,) = RESULTS.iterdir()
    path.write_bytes(b"")
    done = minirt("cni", "gc", "lab")
    assert done.returncode == 0 and f"{path}: unreadable" in done.stderr
    assert leases() == ["10.50.0.2"]
    minirt.ok("cni", "del", "lab", lab)
    assert leases() == [] and cached() == []


@pytest.mark.usefixtures("lab")
def test_a_container_whose_supervisor_died_holds_nothing_any_more(minirt: Command) -> None:
    identifier = minirt.ok("run", "-d", "--network", "lab", "host", "sleep", "600")
    first = minirt.inspect(identifier)["State"]["Pid"]
    supervisor = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, 9)
    eventually(lambda: not Path(f"/proc/{supervisor}/exe").exists())
    done = minirt("cni", "gc", "lab")
    assert done.returncode == 0 and "its supervisor died" in done.stderr
    assert leases() == [] and cached() == []
    minirt.ok("rm", identifier)


def test_who_is_added_while_gc_waits_is_alive(minirt: Command, lab: str, scripted: Scripted) -> None:
    """GC reads who is alive when the network is its own, not before."""
    scripted.write("slow", ADD=[says({"cniVersion": "1.1.0"}, hang=1)])
    minirt.network("slow", {"type": "slow"}, cniVersion="1.1.0")
    adding = minirt.start("cni", "add", "slow", lab, stdout=subprocess.PIPE)
    eventually(lambda: scripted.order() == ["slow ADD"])
    minirt.ok("cni", "gc", "slow")
    assert adding.wait(20) == 0
    assert scripted.order() == ["slow ADD", "slow GC"]
    (alive,) = scripted.calls()[1].config["cni.dev/valid-attachments"]
    assert alive == {"containerID": identity(lab), "ifname": "eth0"}
    minirt.ok("cni", "del", "slow", lab)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in scripted.hanging()))


def test_what_is_not_collected_is_said(minirt: Command, scripted: Scripted) -> None:
    minirt.network("never", {"type": "a"}, cniVersion="1.1.0", disableGC=True)
    minirt.network("old", {"type": "a"})
    for name, says_ in (("never", "says disableGC: nothing was collected"), ("old", "version 1.0.0 has no GC")):
        done = minirt("cni", "gc", name)
        assert done.returncode == 0 and says_ in done.stderr
    assert "version 1.0.0 has no STATUS" in minirt("cni", "status", "old").stderr
    minirt.network("bad", {"type": "a"}, {"type": "b"}, cniVersion="1.1.0")
    for name in ("a", "b"):
        scripted.write(name, GC=[fails(100, f"{name} is stuck")])
    error = minirt.fails(1, "cni", "gc", "bad")
    assert "a is stuck" in error and "b is stuck" in error
