"""What the vrf plugin does where there is no VRF: keys, STATUS, and DEL without a namespace. tests/vm has the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.leftovers import FOLDERS
from support.machine import Machine
from support.plugins import Plugins
from support.sides import reference_fails

from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.rtmsg import LinkRoute
from cni_plugins.sdk.vrfs import Enslave, Kept
from cni_plugins.spec.ip import parse_address, parse_cidr

pytestmark = pytest.mark.leaves(*FOLDERS)

BOX = "/run/netns/box"
CONF = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "vrf",
    "vrfname": "red",
    "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": BOX}]},
}


@pytest.fixture
def box(machine: Machine) -> Iterator[Machine]:
    machine.netns("box")
    yield machine
    machine.run("ip", "netns", "del", "box")


@pytest.fixture
def ours(box: Machine, tmp_path: Any) -> Plugins:
    return Plugins(box, tmp_path / "bin")


@pytest.mark.parametrize("netns", ["/run/netns/gone", BOX])
def test_P9_P10_P11_delete_bears_that_there_is_nothing(box: Machine, side: Plugins, netns: str) -> None:
    for _ in range(2):
        side.delete({"cniVersion": "1.0.0", "name": "net", "type": "vrf", "vrfname": "red"}, netns)
    assert box.links("box") == {"lo"}


@reference_fails("refuses to delete what it refused to add")
@pytest.mark.parametrize("name", ["", 7])
def test_P9_what_could_not_be_added_can_be_deleted(box: Machine, side: Plugins, name: Any) -> None:
    side.delete({"cniVersion": "1.0.0", "name": "net", "type": "vrf", "vrfname": name}, BOX)
    assert box.links("box") == {"lo"}


def test_what_cannot_be_brought_along_is_left_where_it_was(box: Machine) -> None:
    """The step itself, with a bridge for a VRF: a route is to come along whose source is nobody's address."""
    for words in ("link add red type bridge", "link add eth0 type veth peer name peer", "link set eth0 up"):
        box.run("ip", "-n", "box", *words.split())
    box.run("ip", "-n", "box", "addr", "add", "10.1.0.2/24", "dev", "eth0")
    before = box.text("ip", "-n", "box", "route", "show", "table", "all")
    with Namespace(BOX) as inside:
        index = inside.index("eth0")
        route = LinkRoute(parse_cidr("10.9.0.0/16"), parse_address("10.1.0.1"), index, source=parse_address("10.5.0.1"))
        step = Enslave(inside, "eth0", "red", 7, Kept((), (route,)))
        with pytest.raises(OSError, match=r"table 7 src 10\.5\.0\.1"):
            step.apply()
    assert box.text("ip", "-n", "box", "route", "show", "table", "all") == before
    assert "master" not in box.ip("link", "show", "eth0", netns="box")[0]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"vrfname": ""}, "7 vrfname is missing"),
        ({"vrfname": "two words"}, "7 vrfname: invalid interface name 'two words'"),
        ({"table": "9"}, '7 table: expected an integer, got "9"'),
        ({"table": 2**32}, "7 table: expected an integer from 0 to 4294967295, got 4294967296"),
        ({"vrfnam": "red"}, "7 vrfnam: unknown key"),
        ({"prevResult": None}, "7 prevResult is missing"),
        ({"cniVersion": "0.3.0"}, "1 incompatible CNI versions"),
        ({}, f"100 there is no interface eth0 in {BOX}"),
    ],
)
def test_what_makes_no_sense_is_refused(ours: Plugins, keys: dict[str, Any], said: str) -> None:
    error = ours.call("ADD", CONF | keys, BOX).error
    assert f"{error['code']} {error['msg']}" == said


def test_P16_status_says_whether_the_kernel_has_vrfs(box: Machine, ours: Plugins) -> None:
    """And so does ADD, which leaves nothing where there are none."""
    able = box.run("ip", "link", "add", "try", "type", "vrf", "table", "5", check=False).returncode == 0
    if able:
        box.run("ip", "link", "del", "try")
    answer = ours.call("STATUS", CONF)
    assert answer.exit == 0 if able else answer.error["code"] == 50
    box.run("ip", "-n", "box", "link", "add", "eth0", "type", "veth", "peer", "name", "peer")
    added = ours.call("ADD", CONF, BOX)
    assert added.exit == 0 if able else added.error["msg"].startswith("this kernel has no vrf")
    ours.delete(CONF, BOX)
    assert box.links("box") == {"lo", "eth0", "peer"}
    ours.call("GC", CONF | {"cni.dev/valid-attachments": []}).done()
