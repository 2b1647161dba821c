"""A kernel that has a kind of links, and one that has it not."""

from __future__ import annotations

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine

from cni_plugins.sdk import kinds, single
from cni_plugins.sdk.kinds import Kind
from cni_plugins.sdk.main import dispatch
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.single import Wish

pytestmark = pytest.mark.leaves(*FOLDERS)

CONF = b'{"cniVersion": "1.1.0", "name": "net", "type": "tunnel"}'


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
