"""What the tuning plugin would do, as steps, and what it reads of a configuration; without a kernel."""

from __future__ import annotations

import json

import pytest

from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.tuned import Backup, Keep, Looks, Place, Swap
from cni_plugins.spec.repeats import Object, objects


def test_each_attribute_is_a_command_of_its_own() -> None:
    looks = Looks(mac="02:00:00:00:00:07", promisc=True, mtu=1400, allmulti=False, txqlen=0)
    assert [step.describe() for step in looks.setters(Namespace("/run/netns/box"), "eth0")] == [
        "ip -n box link set eth0 address 02:00:00:00:00:07",
        "ip -n box link set eth0 promisc on",
        "ip -n box link set eth0 mtu 1400",
        "ip -n box link set eth0 allmulticast off",
        "ip -n box link set eth0 txqueuelen 0",
    ]
    assert Looks().setters(Namespace(), "eth0") == []


def test_what_is_written_down_is_the_reference_plugins_file_and_more() -> None:
    place = Place("/run/netns/box", 4026531840, 3)
    looks = Looks(promisc=False, mtu=1500, txqlen=1000)
    backup = Backup(looks, (("net/core/somaxconn", "4096"),), "net", Owner("web", "eth0"), place)
    attachment = {"network": "net", "containerID": "web", "ifname": "eth0"}
    attachment |= {"netns": "/run/netns/box", "inode": 4026531840, "link": 3}  # type: ignore[dict-item]
    expected = {"promisc": False, "mtu": 1500, "txQLen": 1000, "sysctl": {"net/core/somaxconn": "4096"}}
    assert backup.to_json() == expected | {"attachment": attachment}
    assert Keep("/run/cni/a b/web_eth0.json", Backup(Looks(mtu=1500))).describe() == "", "no state of the kernel's"


def test_the_older_of_two_values_is_the_original() -> None:
    first, second = Looks(mtu=1500, promisc=False), Looks(mtu=1400, mac="02:00:00:00:00:07")
    later = Backup(second, (("net/a", "2"), ("net/b", "3")))
    assert later.older(Backup(first, (("net/a", "1"),))) == Backup(
        Looks(mtu=1500, promisc=False, mac="02:00:00:00:00:07"), (("net/a", "1"), ("net/b", "3"))
    )


def test_undoing_a_swap_is_its_other_step() -> None:
    done: list[str] = []

    class Say(Keep):
        def apply(self) -> None:
            done.append(self.path)

    swap = Swap(Say("there", Backup(Looks())), Say("back", Backup(Looks())))
    swap.apply()
    swap.undo()
    assert done == ["there", "back"]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"a": 1, "b": 2}', []),
        ('\ufeff {"a": {"x": 1}, "b": {"x": 2}}', []),
        ('{"a": 1, "b": 2, "a": 3, "c": 4, "b": 5, "a": 6}', ["a", "b"]),
    ],
)
def test_keys_that_stand_twice_are_remembered(text: str, repeated: list[str]) -> None:
    found = objects(text.encode())
    assert found.repeated == repeated
    assert found == json.loads(text.removeprefix("\ufeff"))


def test_keys_are_remembered_of_objects_inside_lists_and_objects() -> None:
    inner = objects(b'{"list": [{"a": 1, "a": 2}]}')["list"][0]
    assert isinstance(inner, Object)
    assert inner.repeated == ["a"]
