"""What a container finds at /, and that nothing in an image or a volume leads out of it."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from support import box, leftovers
from support.machine import Machine

from minirt.errors import MinirtError, NotFound, SetupFailed, UsageError
from minirt.spec import Volume

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*leftovers.FOLDERS)]

# As `docker run` shows them.
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
DEV = {*DEVICES, "fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm", "mqueue"}
MASKED = ("/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug")
EMPTY = ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return box.rootfs(tmp_path / "root")


def mounts(**options: object) -> dict[str, tuple[str, set[str]]]:
    """Mount point -> kind and options (proc(5), /proc/PID/mountinfo) in a container."""
    found = {}
    for line in box.run("cat", "/proc/self/mountinfo", **options).lines:
        fields, _, rest = line.partition(" - ")
        words = fields.split()
        found[words[4]] = rest.split()[0], set(words[5].split(","))
    return found


def test_the_kernels_file_systems_are_where_they_belong() -> None:
    found = mounts()
    assert {path: found[path][0] for path in ("/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/mqueue")} == {
        "/": "overlay",
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/mqueue": "mqueue",
    }
    for path in ("/proc", "/sys", "/dev/shm", "/dev/mqueue"):
        assert found[path][1] >= {"nosuid", "nodev", "noexec"}, path
    assert "ro" in found["/sys"][1]
    assert all("ro" in options for path, (_, options) in found.items() if path.startswith("/sys"))


def test_nothing_of_the_hosts_mounts_is_left() -> None:
    known = ("/proc", "/sys", "/dev", "/run", "/tmp")
    assert [path for path in mounts() if path != "/" and not path.startswith(known)] == []


def test_no_mount_of_it_reaches_the_host(machine: Machine) -> None:
    before = machine.run("cat", "/proc/self/mountinfo").stdout
    with box.running():
        pinned = machine.run("cat", "/proc/self/mountinfo").stdout
    assert {line.split()[4] for line in set(pinned.splitlines()) - set(before.splitlines())} <= {
        "/run/netns",
        "/run/netns/box",
    }


def test_dev_is_minimal_and_works() -> None:
    lines = box.sh("for name in /dev/*; do stat -c '%n %t %T %a %F' $name; done")
    found = {line.split()[0].removeprefix("/dev/"): line.split(maxsplit=4)[1:] for line in lines}
    assert set(found) == DEV
    for name, (major, minor) in DEVICES.items():
        assert found[name] == [f"{major:x}", f"{minor:x}", "666", "character special file"]
    box.sh('head -c 4 /dev/urandom >/dev/null; echo x > /dev/shm/x; [ "$(head -c 1 /dev/zero | wc -c)" = 1 ]')


def test_masked_files_read_as_empty_and_masked_directories_are() -> None:
    present = [path for path in (*MASKED, *EMPTY) if os.path.exists(path)]
    assert len(present) >= 4
    for line in box.sh(
        f"for p in {' '.join(present)}; do echo $p $(ls -A $p | wc -w) $(cat $p 2>/dev/null | wc -c); done"
    ):
        path, entries, size = line.split()
        assert (entries, size) == (("1", "0") if path in MASKED else ("0", "0")), line


@pytest.mark.parametrize("path", READ_ONLY)
def test_what_could_change_the_host_is_read_only(path: str) -> None:
    if os.path.exists(path):  # not every kernel has all of them
        assert "ro" in mounts()[path][1]


def test_sys_shows_the_links_of_its_own_namespace() -> None:
    assert box.sh("ls /sys/class/net") == ["lo"]


def test_the_hosts_files_are_there_and_changes_to_them_thrown_away() -> None:
    host = Path("/etc/debian_version")
    assert box.sh(f"cat {host}; echo x > {host}; rm -r /etc/apt; touch /new; cat {host}") == [
        *host.read_text().splitlines(),
        "x",
    ]
    assert host.read_text() != "x\n" and os.path.isdir("/etc/apt") and not os.path.exists("/new")


def test_run_and_tmp_are_fresh() -> None:
    Path("/run/secret").touch()
    try:
        assert box.sh("ls -A /run /tmp; touch /run/a /tmp/b; stat -c %a /tmp /run") == [
            "/run:",
            "",
            "/tmp:",
            "1777",
            "755",
        ]
    finally:
        os.unlink("/run/secret")


def test_a_directory_is_used_as_it_is(root: Path) -> None:
    assert box.sh("echo text > /file; ls /", directory=str(root)) == ["bin", "dev", "etc", "file", "proc", "sys"]
    assert (root / "file").read_text() == "text\n"


def test_a_root_may_be_read_only_with_what_is_mounted_on_it_as_it_was(root: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    volume = (Volume(str(tmp_path / "data"), "/data"),)
    for directory in (str(root), ""):
        script = "touch /file; touch /data/x /dev/shm/x && echo ok"
        ended = box.run("sh", "-c", script, directory=directory, read_only=True, volumes=volume)
        assert ended.stdout == "ok\n"
        assert "Read-only file system" in ended.stderr
    assert not (root / "file").exists()


@pytest.mark.parametrize("name", ["missing", "etc/passwd"])
def test_a_root_that_is_no_directory_is_refused(root: Path, name: str) -> None:
    with pytest.raises(NotFound if name == "missing" else UsageError, match=name):
        box.run("true", directory=str(root / name))


def test_programs_on_a_file_system_of_their_own_are_there_too(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "none", "/opt")
    try:
        Path("/opt/tool").touch()
        assert box.sh("ls /opt; touch /opt/x") == ["tool"]
        assert os.listdir("/opt") == ["tool"]
    finally:
        machine.run("umount", "/opt")


# --- volumes ---------------------------------------------------------------------------------------------------------


def test_a_volume_shows_what_lies_on_the_host(root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("of the host\n")
    volumes = (Volume(str(data), "/srv/deep/data"), Volume(str(data / "a"), "/etc/file", ("ro",)))
    script = "cat /srv/deep/data/a /etc/file; echo new > /srv/deep/data/b; ! echo x 2>/dev/null > /etc/file"
    assert box.sh(script, directory=str(root), volumes=volumes) == ["of the host"] * 2
    assert (data / "b").read_text() == "new\n"


def test_a_read_only_volume_is_so_all_the_way_down(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    machine.run("mount", "-t", "tmpfs", "none", str(tmp_path / "sub"))
    try:
        volume = (Volume(str(tmp_path), "/v", ("ro",)),)
        ended = box.run("sh", "-c", "touch /v/x; touch /v/sub/x", volumes=volume)
        assert ended.stderr.count("Read-only file system") == 2
        assert os.listdir(tmp_path / "sub") == []
    finally:
        machine.run("umount", str(tmp_path / "sub"))


def test_a_slave_volume_receives_what_the_host_mounts_later(machine: Machine, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    machine.run("mount", "--bind", str(shared), str(shared))
    machine.run("mount", "--make-shared", str(shared))
    try:
        volumes = (Volume(str(shared), "/slave", ("rslave",)), Volume(str(shared), "/private"))
        with box.running(volumes=volumes) as child:
            machine.run("mount", "-t", "tmpfs", "none", str(shared / "sub"))
            (shared / "sub/seen").touch()
            assert box.execute(child, "ls", "/slave/sub", "/private/sub").lines == [
                "/private/sub:",
                "",
                "/slave/sub:",
                "seen",
            ]
    finally:
        machine.run("umount", "-R", str(shared))


def test_a_volume_above_another_does_not_hide_it(tmp_path: Path) -> None:
    for name in ("above", "below"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / name).touch()
    volumes = (Volume(str(tmp_path / "below"), "/v/below"), Volume(str(tmp_path / "above"), "/v"))
    assert box.sh("ls /v/below", volumes=volumes) == ["below"]


def test_of_two_volumes_at_one_place_the_later_counts(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"{name}\n")
    volumes = (Volume(str(tmp_path / "first"), "/etc/hosts"), Volume(str(tmp_path / "second"), "/etc/hosts"))
    assert box.sh("cat /etc/hosts", volumes=volumes) == ["second"]


def test_a_missing_source_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing-here") as caught:
        box.run("true", volumes=(Volume(str(tmp_path / "nothing-here"), "/v"),))
    assert caught.value.hint


def test_a_directory_over_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'/etc/passwd': one of them is a directory"):
        box.run("true", volumes=(Volume(str(tmp_path), "/etc/passwd"),))


@pytest.mark.parametrize("place", ["/", "/..", "/proc", "/proc/self/attr", "/srv/../proc/sys"])
def test_a_volume_cannot_be_the_root_or_lie_in_proc(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="volume target"):
        box.run("true", volumes=(Volume(str(tmp_path), place),))


# --- no way out ------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that must stay as it is."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("host\n")
    return path


LINKS = ["{outside}", "../../../../../../../../../../../..{outside}", "/..{outside}"]


@pytest.mark.parametrize("link", LINKS)
def test_a_volume_through_a_link_stays_in_the_root(root: Path, outside: Path, tmp_path: Path, link: str) -> None:
    """The link is followed as the container would: below its own root, where its target is made."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "of-the-volume").touch()
    (root / "way").symlink_to(link.format(outside=outside))
    volumes = (Volume(str(data), "/way/sub"),)
    assert box.sh("ls /way/sub", directory=str(root), volumes=volumes) == ["of-the-volume"]
    assert os.listdir(outside) == ["file"]
    assert (root / str(outside).lstrip("/") / "sub").is_dir()


@pytest.mark.parametrize("link", LINKS)
def test_a_file_over_a_dangling_link_is_made_in_the_root(root: Path, outside: Path, tmp_path: Path, link: str) -> None:
    """/etc/resolv.conf is such a link on many machines."""
    (tmp_path / "resolv.conf").write_text("nameserver 10.1.0.1\n")
    (root / "etc/resolv.conf").symlink_to(f"{link.format(outside=outside)}/sub/file")
    volumes = (Volume(str(tmp_path / "resolv.conf"), "/etc/resolv.conf"),)
    assert box.sh("cat /etc/resolv.conf", directory=str(root), volumes=volumes) == ["nameserver 10.1.0.1"]
    assert os.listdir(outside) == ["file"]


def test_a_volume_does_not_leave_the_root_while_somebody_swaps_a_link_in(
    root: Path, outside: Path, tmp_path: Path
) -> None:
    """CVE-2021-30465: a path that was checked is a link by the time it is used, thanks to another container."""
    (root / "way").mkdir()
    (root / "link").symlink_to(outside)
    paths = bytes(root / "way"), bytes(root / "link")
    exchange, at_cwd = 2, -100
    libc = ctypes.CDLL(None)
    swapper = os.fork()
    if not swapper:
        while True:
            libc.renameat2(at_cwd, paths[0], at_cwd, paths[1], exchange)
    try:
        volumes = (Volume(str(tmp_path / "root/etc"), "/way/sub/deep"),)
        for _ in range(60):
            try:
                box.run("true", directory=str(root), volumes=volumes)
            except MinirtError:
                pass  # whoever owns the image may keep it from running
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert os.listdir(outside) == ["file"]
    assert (root / str(outside).lstrip("/")).is_dir(), "the link was never in place"


def test_a_ring_of_links_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(MinirtError, match=r"[Tt]oo many levels"):
        box.run("true", directory=str(root), volumes=(Volume(str(tmp_path), "/a/x"),))


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_whose_proc_sys_or_dev_is_a_link_is_refused(root: Path, outside: Path, name: str) -> None:
    """CVE-2019-19921, CVE-2023-27561, CVE-2026-41579: masks and devices would be put somewhere else."""
    (root / name).symlink_to(outside)
    with pytest.raises(SetupFailed, match=f"/{name} in the image is a symbolic link"):
        box.run("true", directory=str(root))
    assert os.listdir(outside) == ["file"]


@pytest.mark.parametrize("name", ["dev", "dev/pts", "proc", "sys"])
def test_what_an_image_has_below_its_dev_is_covered(root: Path, outside: Path, name: str) -> None:
    (root / name).mkdir(parents=True)
    (root / name / "link").symlink_to(outside / "file")
    (root / name / "null").symlink_to(outside / "file")
    assert (
        box.sh(
            "echo x > /dev/null; ls -d /dev/link /dev/pts/link /proc/link /sys/link 2>/dev/null || true",
            directory=str(root),
        )
        == []
    )
    assert (outside / "file").read_text() == "host\n"


def test_the_root_above_the_container_is_the_container(root: Path) -> None:
    script = "cd /../../..; pwd; ls -id / /.. | awk '{print $1}' | sort -u | wc -l"
    assert box.sh(script, directory=str(root)) == ["/", "1"]


@pytest.mark.parametrize("image", ["host", "directory"])
def test_a_device_that_the_container_makes_cannot_be_opened(root: Path, tmp_path: Path, image: str) -> None:
    """It may make one of the host's disk, for docker's capabilities have MKNOD."""
    disk = os.stat("/").st_dev
    (tmp_path / "v").mkdir()
    places = ["/", "/dev", "/dev/shm", "/tmp", "/v"]
    script = f"for d in {' '.join(places)}; do mkdir -p $d; mknod $d/disk b {os.major(disk)} {os.minor(disk)}"
    directory = str(root) if image == "directory" else ""
    volumes = (Volume(str(tmp_path / "v"), "/v"),)
    ended = box.run("sh", "-c", f"{script} && head -c1 $d/disk; done", directory=directory, volumes=volumes)
    assert ended.stdout == ""
    assert ended.stderr.count("Permission denied") == len(places)
    for node in {tmp_path / "v/disk", *root.glob("disk"), *root.glob("tmp/disk")}:
        assert stat.S_ISBLK(os.stat(node).st_mode)
        node.unlink()


def test_modes_of_the_hosts_devices_cannot_be_changed(machine: Machine) -> None:
    null = "/run/null"  # stands for the host's, which a failure should not take along
    machine.run("mknod", "-m", "666", null, "c", "1", "3")
    machine.run("mount", "--bind", null, "/dev/null")
    try:
        masked = next(path for path in MASKED if os.path.exists(path))
        ended = box.run("sh", "-c", f"chmod 600 /dev/null; chown 5 /dev/null; chmod 600 {masked}; touch /dev/null")
        assert ended.stderr.count("Read-only file system") >= 3
        assert (os.stat(null).st_mode, os.stat(null).st_uid) == (stat.S_IFCHR | 0o666, 0)
    finally:
        machine.run("umount", "/dev/null")
        os.unlink(null)


def test_nothing_of_the_root_lies_on_the_host_while_it_runs() -> None:
    with box.running():
        assert os.listdir("/run/minirt/stage") == []
        shown = subprocess.run(["findmnt", "-n", "-o", "TARGET"], capture_output=True, text=True, check=True).stdout
        assert "stage" not in shown
