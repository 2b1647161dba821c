"""Links are born as their steps say; a kernel that has a kind of links, and one that has it not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine

from cni_plugins.sdk import kinds, program, single, taps
from cni_plugins.sdk.kinds import Kind, Spot
from cni_plugins.sdk.main import dispatch
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.single import Wish
from cni_plugins.spec.errors import CniError

pytestmark = pytest.mark.leaves(*FOLDERS)

CONF = b'{"cniVersion": "1.1.0", "name": "net", "type": "tunnel"}'


BORN = [kinds.macvlan("bridge", 9), kinds.macvlan("passthru"), taps.tap(1000, 100, multi_queue=True, bridge="br0")]


@pytest.mark.parametrize("kind", BORN, ids=str)
def test_what_a_step_describes_makes_the_same_link_when_it_is_typed(machine: Machine, kind: Kind) -> None:
    run = machine.run
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    links: list[dict[str, Any]] = []
    for name in ("done", "typed"):
        path = machine.netns(name)
        run("ip", "-n", name, "link", "add", "br0", "type", "bridge")
        with Namespace() as host, Namespace(path) as inside:
            spot = Spot(inside, inside, "eth0") if isinstance(kind, taps.Tap) else Spot(host, inside, "eth0", "up0")
            for step in kind.birth(spot, "02:00:00:00:00:07", 1400):
                if name == "done":
                    step.apply()
                else:
                    run("sh", "-c", step.describe())
        (link,) = machine.ip("link", "show", "eth0", netns=name)
        links.append(link)
        for gone in ("eth0", "br0"):
            run("ip", "-n", name, "link", "del", gone)
    assert links[0] == links[1]
    assert links[0]["address"] == "02:00:00:00:00:07"
    run("ip", "link", "del", "up0")


FAKE_IP = """#!/bin/sh
cat {label} >{seen}
exec {ip} "$@"
"""


def test_a_tap_with_an_selinux_context_is_made_by_a_program_that_is_executed_in_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel with SELinux, whose file is a plain one here: what it says when the program starts is seen."""
    label, seen, fake = (tmp_path / name for name in ("label", "seen", "ip"))
    label.write_text("")
    fake.write_text(FAKE_IP.format(label=label, seen=seen, ip=shutil.which("ip")))
    fake.chmod(0o755)
    monkeypatch.setattr(taps, "LABEL", str(label))
    monkeypatch.setattr(program, "FOLDERS", (str(tmp_path),))
    with Namespace(machine.netns("web")) as inside:
        step = taps.AddTap(inside, "eth0", taps.tap(1000, None, label="user_u:role_r:vm_t:s0"))
        step.apply()
        assert seen.read_text() == "user_u:role_r:vm_t:s0"
        assert label.read_text()[:1] == "\0"  # what we execute next is ours again
        (link,) = machine.ip("link", "show", "eth0", netns="web")
        assert link["linkinfo"]["info_data"]["type"] == "tap"
        with pytest.raises(CniError, match="Device or resource busy"):
            step.apply()
        step.undo()
        assert machine.links("web") == {"lo"}
        monkeypatch.setattr(taps, "LABEL", "/proc/thread-self/attr/nothing")
        with pytest.raises(CniError, match="SELinux refuses"):
            step.apply()


def test_the_kernel_is_asked_what_it_has_and_nothing_is_made(machine: Machine) -> None:
    before = machine.links()
    with Namespace() as host:
        assert [kind for kind in ("macvlan", "veth", "bridge", "tunnel") if kinds.known(host.rtnl, kind)] == [
            "macvlan",
            "veth",
            "bridge",
        ]
    assert machine.links() == before


def test_a_kind_that_the_kernel_lacks_is_told_in_words(machine: Machine) -> None:
    plugin = single.plugin("tunnel", lambda _request: Wish(Kind("tunnel")))
    env = {"CNI_CONTAINERID": "web", "CNI_NETNS": machine.netns("web"), "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
    for command, code in (("ADD", 999), ("STATUS", 50)):
        answer = dispatch(plugin, env | {"CNI_COMMAND": command}, lambda: CONF).stdout.decode()
        assert f'"code": {code}' in answer
        assert "this kernel has no tunnel: it was built without, or its module cannot be loaded" in answer
        assert "modprobe tunnel" in answer
    assert machine.links("web") == {"lo"}
