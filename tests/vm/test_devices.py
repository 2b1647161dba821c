"""A device, unlike a link of the kernel's making, outlives the namespace that it was lent to: host-device finds it.

The kernel puts it back to the first namespace of all, so this is the one test that is not on a machine of its own. The
device is eql(4), which no program has made: a line's two ends, or none, under one name, without a hardware address.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.machine import Machine
from support.plugins import Plugins

CONF = {"cniVersion": "1.1.0", "name": "net", "type": "host-device", "device": "eql"}


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Plugins]:
    """In the namespace where the second kernel began, which has a device."""
    here = Machine()
    here.run("modprobe", "eql")
    here.run("ip", "link", "set", "eql", "alias", "a line")
    here.run("ip", "addr", "add", "192.0.2.7/24", "dev", "eql")
    here.run("ip", "netns", "add", "web")
    yield Plugins(here, tmp_path / "bin")
    here.run("ip", "netns", "del", "web", check=False)
    here.run("modprobe", "-r", "eql")


def as_it_is(here: Machine) -> tuple[Any, ...]:
    (link,) = here.ip("link", "show", "eql")
    return link["ifalias"], link["mtu"], "UP" in link["flags"], here.addresses("eql")


def test_U3_a_device_comes_back_from_a_namespace_that_is_gone(plugins: Plugins) -> None:
    here = plugins.machine
    before = as_it_is(here)
    plugins.add(CONF, "/run/netns/web")
    assert here.links("web") >= {"lo", "eth0"}
    with pytest.raises(AssertionError):
        here.ip("link", "show", "eql")
    here.run("ip", "netns", "del", "web")
    plugins.delete(CONF, "/run/netns/web")
    assert as_it_is(here) == before
    assert not Path("/run/cni/host-device").exists() or not list(Path("/run/cni/host-device").iterdir())


def test_B3_one_that_comes_back_late_is_found_by_gc(plugins: Plugins) -> None:
    """A process keeps the namespace for longer than DEL waits."""
    here = plugins.machine
    before = as_it_is(here)
    plugins.add(CONF, "/run/netns/web")
    with subprocess.Popen(["ip", "netns", "exec", "web", "sleep", "600"]) as guest:
        here.run("ip", "netns", "del", "web")
        plugins.delete(CONF, "")
        guest.kill()
    plugins.call("GC", CONF | {"cni.dev/valid-attachments": []}).done()
    assert as_it_is(here) == before
