"""Other people's runtimes on a private machine: podman with its CNI backend, containerd's ctr, and crun.

They share the machine's namespaces, so what their plugins make is seen by its judges. Nothing of them is a service:
podman and crun are commands, containerd runs for as long as the test wants it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _pytest.outcomes import Skipped

from support import cgroups
from support.machine import Machine

GO_PLUGINS = "/usr/lib/cni"
APPLETS = ("cat", "false", "httpd", "ip", "ping", "sh", "sleep", "true", "wget")
LISTS = Path("/etc/cni/net.d")

# What podman and containerd leave on a machine, whatever its networks: their stores, and the groups above containers'.
FURNITURE = (
    *("file /run/peers/*", "directory /run/peers/*", "mount /run/peers/*", "directory /run/crun*", "file /run/crun/*"),
    *("directory /run/containerd*", "file /run/containerd/*", "directory /run/libpod*", "file /run/libpod/*"),
    *("directory /run/lock*", "file /run/lock/*", "directory /run/runc*", "directory /run/user*"),
    *("file /dev/shm/libpod_*", "cgroup */default", "cgroup */libpod_parent", "cgroup */libpod_parent/conmon"),
    *(
        "cgroup unified/*",
        "file /opt/cni/bin/*",
        "directory /opt/cni/*",
        "mount /opt/cni/bin",
        "directory /var/lib/cni/*",
    ),
    "file /var/lib/cni/networks/*/last_reserved_ip.*",
    "file /var/lib/cni/networks/*/lock",
)

CONTAINERS_CONF = """
[network]
network_backend = "cni"
cni_plugin_dirs = [{plugins}]
network_config_dir = "{lists}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:8192"]
"""

STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{home}/graph"
runroot = "{home}/run"
"""

CONTAINERD_CONF = """
version = 2
root = "/run/peers/containerd/root"
state = "/run/peers/containerd/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "/run/peers/containerd/sock"
"""


def write_list(name: str, *plugins: dict[str, Any], version: str = "1.0.0") -> None:
    """A network list in /etc/cni/net.d."""
    LISTS.mkdir(parents=True, exist_ok=True)
    document = {"cniVersion": version, "name": name, "plugins": plugins}
    (LISTS / f"{name}.conflist").write_text(json.dumps(document), encoding="utf-8")


def box() -> Path:
    """A root file system of busybox alone."""
    root = Path("/run/peers/box")
    if not root.exists():
        for folder in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            (root / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
    return root


def _prepare(machine: Machine) -> None:
    machine.leaves(*FURNITURE)
    Path("/run/peers").mkdir(exist_ok=True)
    # On a hybrid host crun and podman take the unified hierarchy, which has no controllers, for the one in use.
    if os.path.ismount(f"{cgroups.MOUNT}/unified"):
        machine.run("mount", "-t", "tmpfs", "none", f"{cgroups.MOUNT}/unified")


class WithoutCni(Skipped):
    """This podman was built without the CNI backend, as distributions do since its version 5. Skips a test."""


class Podman:
    """`podman` with the CNI backend, plugins in `folders`. Calling it runs a command line; the image is `box`.

    Raises WithoutCni.
    """

    def __init__(self, machine: Machine, folders: Sequence[str], name: str = "podman") -> None:
        _prepare(machine)
        self._machine = machine
        home = Path("/run/peers") / name
        home.mkdir()
        LISTS.mkdir(parents=True, exist_ok=True)
        plugins = ", ".join(f'"{folder}"' for folder in folders)
        settings = {
            "CONTAINERS_CONF": (home / "containers.conf", CONTAINERS_CONF.format(plugins=plugins, lists=LISTS)),
            "CONTAINERS_STORAGE_CONF": (home / "storage.conf", STORAGE_CONF.format(home=home)),
        }
        for path, text in settings.values():
            path.write_text(text, encoding="utf-8")
        self._env = os.environ | {variable: str(path) for variable, (path, _) in settings.items()}
        machine.run("tar", "-C", str(box()), "-cf", str(home / "box.tar"), ".")
        done = self("import", "--quiet", str(home / "box.tar"), "box", check=False)
        if "cni support is not enabled" in done.stderr:
            raise WithoutCni(done.stderr.strip())
        assert done.returncode == 0, done.stderr

    def __call__(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._machine.run("podman", *argv, check=check, env=self._env)

    def argv(self, *argv: str) -> tuple[list[str], dict[str, str]]:
        """The command line and the environment to run it in, for those who want to time it."""
        return [shutil.which("podman") or "podman", *argv], self._env


class Containerd:
    """`ctr` on a containerd of its own. It finds plugins in /opt/cni/bin and lists in /etc/cni/net.d."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self, name: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a container attached to the first network, to its end."""
        return self._ctr("run", "--rm", "--cni", "--rootfs", str(box()), name, *command, check=check)

    def start(self, name: str, *command: str) -> None:
        """Leave a container running."""
        self._ctr("run", "--detach", "--cni", "--rootfs", str(box()), name, *command)

    def kill(self, name: str) -> None:
        """End a container that was left running. ctr calls no DEL then: its networks are the caller's to undo."""
        self._ctr("task", "rm", "--force", name)
        self._ctr("container", "rm", name)

    def _ctr(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._machine.run("ctr", "--address", "/run/peers/containerd/sock", *argv, check=check)


@contextmanager
def containerd(machine: Machine, folder: str) -> Iterator[Containerd]:
    """A containerd with the plugins of `folder`, ended when the block is left."""
    _prepare(machine)
    os.makedirs("/opt/cni/bin", exist_ok=True)
    machine.run("mount", "--bind", folder, "/opt/cni/bin")
    state = Path("/run/peers/containerd")
    state.mkdir()
    (state / "config.toml").write_text(CONTAINERD_CONF, encoding="utf-8")
    with (state / "log").open("w") as log:
        argv = ["containerd", "--config", str(state / "config.toml")]
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        _wait_for(state / "sock", daemon)
        yield Containerd(machine)
    finally:
        daemon.terminate()
        daemon.wait(timeout=30)


def _wait_for(path: Path, daemon: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert daemon.poll() is None, "containerd has ended"
        assert time.monotonic() < deadline, f"no {path} within {seconds} s"
        time.sleep(0.02)


def bundle(machine: Machine, netns: str, *command: str) -> str:
    """An OCI bundle for crun: `command` on the box, in the network namespace at a path. Returns its folder."""
    _prepare(machine)
    folder = Path("/run/peers/bundle")
    folder.mkdir()
    machine.run("crun", "spec", cwd=folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["root"] = {"path": str(box()), "readonly": True}
    config["process"] |= {"args": list(command), "terminal": False, "rlimits": []}
    kinds = [namespace for namespace in config["linux"]["namespaces"] if namespace["type"] != "network"]
    config["linux"]["namespaces"] = [*kinds, {"type": "network", "path": netns}]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)
