"""From flags to attachments: which lists, which interfaces, which capability arguments, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from minirt import networks
from minirt.cni.request import Attachment
from minirt.errors import MinirtError, NotFound, UsageError
from minirt.spec import ContainerSpec, Dns, Network, Port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, capabilities in (("blue", {"ips": True, "mac": True}), ("green", {"portMappings": True, "ips": False})):
        plugin = {"type": "bridge", "capabilities": capabilities}
        text = json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})
        (tmp_path / f"{name}.conflist").write_text(text)
    return tmp_path


def select(folder: Path, **asked: Any) -> tuple[Attachment, ...]:
    return networks.select(ContainerSpec("host", **asked), "c1", "/run/netns/c1", str(folder)).attachments


def test_without_a_wish_the_first_list_of_the_folder_is_eth0(folder: Path) -> None:
    (attachment,) = select(folder)
    assert (attachment.network.name, attachment.ifname, attachment.container_id) == ("blue", "eth0", "c1")
    assert attachment.capability_args == {}


def test_one_interface_a_network_in_the_order_of_the_flags(folder: Path) -> None:
    found = select(folder, networks=(Network("green"), Network("blue", ifname="data0"), Network("green")))
    assert [(item.network.name, item.ifname) for item in found] == [
        ("green", "eth0"),
        ("blue", "data0"),
        ("green", "eth2"),
    ]


def test_wishes_become_capability_arguments_of_the_network_they_belong_to(folder: Path) -> None:
    green, blue = select(
        folder,
        networks=(Network("green"), Network("blue", ("10.0.0.9",), "02:00:00:00:00:01")),
        ports=(Port(8080, 80), Port(53, 53, "udp", "127.0.0.1")),
    )
    assert blue.capability_args == {"ips": ["10.0.0.9"], "mac": "02:00:00:00:00:01"}
    assert green.capability_args == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"},
        ]
    }


@pytest.mark.parametrize(
    ("asked", "flag"),
    [
        ({"networks": (Network("blue"),), "ports": (Port(80, 80),)}, "--publish"),
        ({"networks": (Network("green", ("10.0.0.9",)),)}, "--ip"),
        ({"networks": (Network("green", mac="02:00:00:00:00:01"),)}, "--mac-address"),
        ({"dns": Dns(("9.9.9.9",))}, "--dns"),
    ],
)
def test_a_wish_that_no_plugin_takes_is_refused(folder: Path, asked: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(folder, **asked)
    assert caught.value.message.startswith(f"{flag} is not possible on network")
    assert "capabilities" in caught.value.hint


def test_an_unknown_network_is_refused_with_those_that_there_are(folder: Path) -> None:
    with pytest.raises(NotFound) as caught:
        select(folder, networks=(Network("red"),))
    assert "'red'" in caught.value.message
    assert "blue" in caught.value.hint and "green" in caught.value.hint


def test_two_networks_cannot_be_the_same_interface(folder: Path) -> None:
    with pytest.raises(UsageError):
        select(folder, networks=(Network("blue"), Network("green", ifname="eth0")))


def test_modes_attach_nothing_and_publish_nothing(folder: Path) -> None:
    for mode in ("none", "host", "container:web", "ns:/run/netns/x"):
        assert select(folder, networks=(Network(mode),)) == ()
        with pytest.raises(MinirtError):
            select(folder, networks=(Network(mode),), ports=(Port(80, 80),))


def test_the_built_in_list_is_taken_where_the_folder_has_none_and_it_is_said(tmp_path: Path) -> None:
    chosen = networks.select(ContainerSpec("host"), "c1", "/run/netns/c1", str(tmp_path))
    assert chosen.attachments[0].network.name == "minirt"
    assert any("built-in" in notice for notice in chosen.notices)


def test_a_broken_file_that_comes_first_is_passed_over_and_it_is_said(folder: Path) -> None:
    (folder / "00-broken.conflist").write_text("{")
    chosen = networks.select(ContainerSpec("host"), "c1", "/run/netns/c1", str(folder))
    assert chosen.attachments[0].network.name == "blue"
    assert any("00-broken.conflist" in notice for notice in chosen.notices)
