"""A private machine for a test: network and mount namespaces of its own, with fresh /run, /tmp-like state and /etc/cni.

The test's own process enters them, so that whatever it starts is inside. `leftovers()` says what the test left there:
the fixture asks for it after every test. Judges are the distribution's programs (`ip -j`, `nft -j`) and pyroute2,
never our own code.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from support import cgroups, leftovers, orphans

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x1000, 0x2000, 0x4000, 1 << 18
PRIVATE_DIRS = ("/run", "/var/lib/cni", "/var/lib/minirt", "/etc/cni", "/opt/cni", "/dev/shm")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: Any) -> None:
    if getattr(_libc, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


class Machine:
    """Entered by `with`; every path of `PRIVATE_DIRS` is an empty tmpfs, lo is up, there are no rules and no links."""

    patience = 3.0  # seconds that processes and dying namespaces get to finish before they count as left over

    def __enter__(self) -> Machine:
        self._declared: list[str] = []
        self._scaffolding: list[str] = []
        self._processes = set(orphans.processes())
        self._home = [
            (os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC), flag)
            for kind, flag in (("net", CLONE_NEWNET), ("mnt", CLONE_NEWNS))
        ]
        self._cwd = os.getcwd()
        for path in PRIVATE_DIRS:
            os.makedirs(path, exist_ok=True)
        _call("unshare", CLONE_NEWNS | CLONE_NEWNET)
        _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        for path in PRIVATE_DIRS:
            _call("mount", b"tmpfs", path.encode(), b"tmpfs", 0, b"mode=755")
        self._own_sys()
        self.ip("link", "set", "lo", "up")
        self._furniture = {*leftovers.mounts(), *leftovers.files(PRIVATE_DIRS), *leftovers.TOOLS}
        return self

    def _own_sys(self) -> None:
        """/sys shows the network namespace it was mounted in, /sys/fs/cgroup the whole host: give both of our own."""
        self._cgroups = cgroups.make()
        os.mkdir("/run/cgroup")
        _call("mount", cgroups.MOUNT.encode(), b"/run/cgroup", None, MS_BIND | MS_REC, None)
        _call("mount", b"sysfs", b"/sys", b"sysfs", 0, None)
        _call("mount", b"/run/cgroup", cgroups.MOUNT.encode(), None, MS_MOVE, None)
        os.rmdir("/run/cgroup")
        for root, group in self._cgroups.items():
            _call("mount", group.encode(), root.encode(), None, MS_BIND, None)

    def __exit__(self, *_: object) -> None:
        for fd, flag in self._home:
            _call("setns", fd, flag)
            os.close(fd)
        os.chdir(self._cwd)
        for group in self._cgroups.values():
            cgroups.remove(group)

    # --- what is left over -------------------------------------------------------------------------------------------

    def leaves(self, *patterns: str) -> None:
        """Declare what may be left over: patterns (fnmatch) of the lines that `support.leftovers` describes."""
        self._declared += patterns

    def leftovers(self) -> list[str]:
        """What the test left behind and did not declare, after a moment to settle. Ends processes left running.

        Namespaces made by `netns()` are the test's own furniture: only what is still inside them counts.
        """
        deadline = time.monotonic() + self.patience
        while (left := self._undeclared()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in set(orphans.processes()) - self._processes:
            os.kill(pid, signal.SIGKILL)
        return left

    def _undeclared(self) -> list[str]:
        found = {*self._present()} - self._furniture
        return sorted(line for line in found if not any(fnmatchcase(line, known) for known in self._declared))

    def _present(self) -> Iterator[str]:
        yield from leftovers.network(self.text)
        yield from leftovers.nftables(self.text)
        yield from leftovers.mounts()
        yield from leftovers.files(PRIVATE_DIRS)
        yield from (f"cgroup {path.removeprefix(f'{cgroups.MOUNT}/')}" for path in cgroups.below(self._cgroups))
        for name in leftovers.namespaces():
            if name in self._scaffolding:
                yield from leftovers.network(self.text, name)
            else:
                yield f"netns {name}"
        for pid, command in orphans.processes().items():
            if pid not in self._processes:
                yield f"process {pid} {command}"

    # --- hands and eyes ----------------------------------------------------------------------------------------------

    def run(self, *argv: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program on this machine, text in and out, both streams captured."""
        done = subprocess.run(argv, capture_output=True, text=True, timeout=options.pop("timeout", 60), **options)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def text(self, *argv: str, **options: Any) -> str:
        """What a program prints."""
        return self.run(*argv, **options).stdout

    def ip(self, *argv: str, netns: str = "") -> Any:
        """`ip -j …` decoded; inside the named namespace when `netns` says so."""
        inside = ("-n", netns) if netns else ()
        text = self.run("ip", "-j", "-d", *inside, *argv).stdout
        return json.loads(text) if text.strip() else []

    def netns(self, name: str) -> str:
        """Make the named namespace, as a runtime would; returns its path."""
        self.run("ip", "netns", "add", name)
        self._scaffolding.append(name)
        return f"/run/netns/{name}"

    def links(self, netns: str = "") -> set[str]:
        return {link["ifname"] for link in self.ip("link", "show", netns=netns)}

    def addresses(self, link: str, netns: str = "") -> set[str]:
        """The addresses of `link` in CIDR form, link-local ones left out."""
        shown = self.ip("addr", "show", "dev", link, netns=netns)
        return {
            f"{item['local']}/{item['prefixlen']}"
            for entry in shown
            for item in entry.get("addr_info", [])
            if item["scope"] != "link"
        }

    def nft(self) -> list[dict[str, Any]]:
        """The whole ruleset, an object an item, without the header."""
        items: list[dict[str, Any]] = json.loads(self.run("nft", "-j", "list", "ruleset").stdout)["nftables"]
        return [item for item in items if "metainfo" not in item]

    def elements(self) -> list[Any]:
        """Every element of every set and map of the ruleset."""
        sets = [body for item in self.nft() for kind, body in item.items() if kind in ("set", "map")]
        return [element for body in sets for element in body.get("elem", [])]

    def files(self) -> set[str]:
        """Every file below the private directories."""
        return {str(path) for top in PRIVATE_DIRS for path in Path(top).rglob("*") if not path.is_dir()}
