"""The list of steps that builds a root, as lists: what is asked for is in it, in the order that it must have."""

from __future__ import annotations

import pytest

from cni_plugins.spec.steps import Step
from minirt import cgroup, init, mounts, rootfs
from minirt.errors import UsageError
from minirt.mounts import Bind, Freeze, MaskFile, Mount, ReadOnly
from minirt.process import Process
from minirt.rootfs import Rootfs
from minirt.spec import Volume


def built(wanted: Rootfs = Rootfs(), group: cgroup.NoCgroup = cgroup.NoCgroup()) -> tuple[Step, ...]:  # noqa: B008
    return rootfs.steps(wanted, group, exists=lambda _: True)


def described(steps: tuple[Step, ...]) -> list[str]:
    return [step.describe().replace(mounts.ROOT, "ROOT").replace(mounts.STAGE, "STAGE") for step in steps]


def places(steps: tuple[Step, ...]) -> list[str]:
    return [step.target for step in steps if isinstance(step, Mount | Bind)]


def test_a_directory_is_bound_and_the_host_is_overlaid() -> None:
    assert described(built(Rootfs("/srv/box")))[:3] == [
        "mount --make-rslave /",
        "mkdir -p STAGE && mount -t tmpfs tmpfs STAGE && mkdir ROOT",
        "mount -o rbind,nodev --make-rprivate /srv/box ROOT",
    ]
    stage, overlay = described(built())[1:3]
    assert stage == "mkdir -p STAGE && mount -t tmpfs tmpfs STAGE && mkdir ROOT STAGE/upper-root STAGE/work-root"
    assert overlay == (
        "mount -t overlay --mkdir -o nodev,lowerdir=/,upperdir=STAGE/upper-root,workdir=STAGE/work-root overlay ROOT"
    )


def test_only_the_host_gets_a_fresh_run_and_tmp() -> None:
    assert {"/run", "/tmp"} <= set(places(built()))
    assert not {"/run", "/tmp"} & set(places(built(Rootfs("/srv/box"))))


def test_the_commands_are_those_a_person_would_type() -> None:
    told = described(built(Rootfs("/srv/box", True, (Volume("/a", "/b", ("ro", "rslave")),))))
    for command in (
        "mount -t proc --mkdir -o nosuid,nodev,noexec proc ROOT/proc",
        "mount -t sysfs --mkdir -o ro,nosuid,nodev,noexec sysfs ROOT/sys",
        "touch ROOT/dev/null && mount -o bind,ro /dev/null ROOT/dev/null",
        "ln -s /proc/self/fd ROOT/dev/fd",
        "mount -t devpts --mkdir -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5 devpts ROOT/dev/pts",
        "mount -o rbind,nodev,ro --make-rslave /a ROOT/b",
        "mount -t tmpfs --mkdir -o ro tmpfs ROOT/sys/firmware",
        "mount -o bind,ro /dev/null ROOT/proc/kcore",
        "mount -o bind,ro,nosuid,nodev,noexec ROOT/proc/sys ROOT/proc/sys",
        "mount -o remount,bind,ro ROOT",
    ):
        assert command in told
    assert told[-1] == "cd ROOT && pivot_root . . && umount -l . && cd /"


def test_what_is_hidden_is_dockers_list_as_far_as_this_kernel_has_it() -> None:
    """moby's oci/defaults.go, which a reader can compare."""
    steps = built()
    masked = [step.target for step in steps if isinstance(step, MaskFile)]
    masked += [step.target for step in steps if isinstance(step, Mount) and step.options == ("ro",)]
    assert sorted(masked) == [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    protected = [step.target for step in steps if isinstance(step, ReadOnly)]
    assert protected == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    bare = rootfs.steps(Rootfs(), cgroup.NoCgroup(), exists=lambda _: False)
    assert not [step for step in bare if isinstance(step, MaskFile | ReadOnly)]


def test_volumes_come_after_what_they_may_lie_on_and_before_what_protects() -> None:
    steps = built(Rootfs(volumes=(Volume("/a", "/run/x/y"), Volume("/b", "/run/x"))))
    order = places(steps)
    assert order.index("/run") < order.index("/run/x") < order.index("/run/x/y")
    assert order.index("/dev/shm") < order.index("/run/x")
    kinds = [type(step) for step in steps]
    assert max(index for index, kind in enumerate(kinds) if kind is Bind) < kinds.index(MaskFile)


def test_of_volumes_at_one_place_the_last_counts_however_it_is_spelled() -> None:
    steps = built(Rootfs(volumes=(Volume("/a", "/etc/hosts"), Volume("/b", "//etc/x/../hosts/"))))
    assert [step for step in steps if isinstance(step, Bind)] == [Bind("/b", "/etc/hosts", ("nodev",))]


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ((), Bind("/a", "/b", ("nodev",))),
        (("rw", "z", "rbind"), Bind("/a", "/b", ("nodev",))),
        (("ro", "noexec", "nosuid"), Bind("/a", "/b", ("nodev", "ro", "noexec", "nosuid"))),
        (("dev",), Bind("/a", "/b")),
        (("bind", "slave"), Bind("/a", "/b", ("nodev",), "slave", recursive=False)),
        (("rprivate",), Bind("/a", "/b", ("nodev",))),
    ],
)
def test_options_of_a_volume(options: tuple[str, ...], step: Bind) -> None:
    assert rootfs.volume_step(Volume("/a", "/b", options)) == step


@pytest.mark.parametrize("option", ["rshared", "shared", "readonly", "RO", ""])
def test_an_option_that_is_not_there_is_refused_with_those_that_are(option: str) -> None:
    with pytest.raises(UsageError, match="option") as caught:
        rootfs.volume_step(Volume("/a", "/b", (option,)))
    assert "rslave" in caught.value.hint


def test_the_view_of_control_groups_is_read_only() -> None:
    told = described(built(group=cgroup.Legacy("box", ("pids",))))
    assert "mount -t cgroup --mkdir -o ro,nosuid,nodev,noexec,pids cgroup ROOT/sys/fs/cgroup/pids" in told
    assert "mount -o remount,bind,ro ROOT/sys/fs/cgroup" in told
    told = described(built(group=cgroup.Unified("box")))
    assert "mount -t cgroup2 --mkdir -o ro,nosuid,nodev,noexec cgroup2 ROOT/sys/fs/cgroup" in told
    assert not [step for step in built() if isinstance(step, Freeze)]


def test_process_1_joins_its_group_and_network_before_it_leaves_the_hosts_namespaces() -> None:
    spec = init.Spec(Process(("true",)), hostname="box", netns="/run/netns/box", cgroup=cgroup.Legacy("box", ("pids",)))
    assert described(init.steps(spec))[:5] == [
        "echo 0 > /sys/fs/cgroup/pids/minirt/box/tasks",
        "nsenter --net=/run/netns/box",
        "unshare --mount --uts --ipc --cgroup",
        "hostname box",
        "mount --make-rslave /",
    ]
