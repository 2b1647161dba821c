"""The parsers of docker-shaped flags, and the round trip of what they give through the state file."""

from __future__ import annotations

import os

import pytest

from cni_plugins.spec.jsontext import dumps, loads
from minirt.errors import UsageError
from minirt.signals import parse_signal
from minirt.spec import (
    ContainerSpec,
    Dns,
    Network,
    Port,
    Volume,
    choose_networks,
    parse_env,
    parse_mac,
    parse_name,
    parse_network,
    parse_ports,
    parse_volume,
)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("8080:80", (Port(8080, 80),)),
        ("8080:80/udp", (Port(8080, 80, "udp"),)),
        ("8080:80/SCTP", (Port(8080, 80, "sctp"),)),
        ("127.0.0.1:8080:80", (Port(8080, 80, "tcp", "127.0.0.1"),)),
        ("[::1]:8080:80", (Port(8080, 80, "tcp", "::1"),)),
        ("[fd00:0:0::1]:8080:80", (Port(8080, 80, "tcp", "fd00::1"),)),
        ("8000-8002:80-82", (Port(8000, 80), Port(8001, 81), Port(8002, 82))),
    ],
)
def test_published_ports(text: str, ports: tuple[Port, ...]) -> None:
    assert parse_ports(text) == ports


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("80", "no host port"),
        ("0:80", "'0'"),
        ("65536:80", "'65536'"),
        ("80:", "''"),
        ("a:80", "'a'"),
        ("80:80/icmp", "'icmp'"),
        ("8000-8002:80-81", "differ in length"),
        ("9-8:9-8", "'9-8'"),
        ("1.2.3:80:80", "'1.2.3'"),
        ("host:80:80", "'host'"),
        ("²:80", "'²'"),
    ],
)
def test_a_bad_published_port_is_named(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_ports(text)
    assert reason in caught.value.message


def test_a_network_with_options() -> None:
    assert parse_network("blue") == Network("blue")
    assert parse_network("blue:ip=10.0.0.9,ip=fd00:0::9,mac=02-00-00-00-00-0A,ifname=data0") == Network(
        "blue", ("10.0.0.9", "fd00::9"), "02:00:00:00:00:0a", "data0"
    )
    assert parse_network("container:web") == Network("container:web")
    assert parse_network("ns:/run/netns/x") == Network("ns:/run/netns/x")


BAD_NETWORKS: tuple[str, ...] = (
    "",
    "-x",
    "a/b",
    "../x",
    "blue:ip",
    "blue:ip=",
    "blue:ip=10.0.0",
    "blue:speed=9",
    "blue:mac=1",
)
BAD_NETWORKS += ("blue:mac=01:00:00:00:00:00", "blue:ifname=a/b", "blue:ifname=a,ifname=b")


@pytest.mark.parametrize("text", BAD_NETWORKS)
def test_a_bad_network_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_network(text)


def test_ip_and_mac_address_belong_to_the_first_network() -> None:
    asked = choose_networks(["blue", "green"], ["10.0.0.9"], "02:00:00:00:00:01")
    assert asked == (Network("blue", ("10.0.0.9",), "02:00:00:00:00:01"), Network("green"))
    assert choose_networks([], ["10.0.0.9"], "") == (Network("", ("10.0.0.9",)),)


@pytest.mark.parametrize(
    ("choices", "ips", "mac"),
    [
        (["none", "blue"], [], ""),
        (["host"], ["10.0.0.9"], ""),
        (["none"], [], "02:00:00:00:00:01"),
        (["blue:ip=10.0.0.1"], ["10.0.0.2"], ""),
        ([], ["10.0.0"], ""),
    ],
)
def test_wishes_that_contradict_are_refused(choices: list[str], ips: list[str], mac: str) -> None:
    with pytest.raises(UsageError):
        choose_networks(choices, ips, mac)


@pytest.mark.parametrize("text", ["zz:00:00:00:00:01", "02:00:00:00:01", "01:00:00:00:00:01", "00:00:00:00:00:00"])
def test_a_bad_mac_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_mac(text)


def test_volumes() -> None:
    assert parse_volume("/a:/b") == Volume("/a", "/b")
    assert parse_volume("./a:/b:ro,rslave") == Volume(f"{os.getcwd()}/./a", "/b", ("ro", "rslave"))


@pytest.mark.parametrize("text", ["", "/a", "/a:b", ":/b", "data:/b"])
def test_a_bad_volume_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_volume(text)


def test_environment_variables() -> None:
    assert parse_env("A=1=2", {}) == (("A", "1=2"),)
    assert parse_env("A", {"A": "x"}) == (("A", "x"),)
    assert parse_env("A", {}) == ()
    with pytest.raises(UsageError):
        parse_env("=1", {})


def test_names_and_signals() -> None:
    assert parse_name("web-1.x_y") == "web-1.x_y"
    for bad in ("", "-a", "a b", "ä", "a/b"):
        with pytest.raises(UsageError):
            parse_name(bad)
    assert [parse_signal(text) for text in ("9", "KILL", "SIGKILL", "kill", "RTMIN")] == [9, 9, 9, 9, 34]
    assert [parse_signal(text) for text in ("RTMIN+3", "SIGRTMAX-2", "rtmax")] == [37, 62, 64]
    for bad in ("0", "65", "NONSENSE", "", "-9", "TERM+1", "RTMIN-", "RTMAX+1"):
        with pytest.raises(UsageError):
            parse_signal(bad)


def test_what_was_asked_for_survives_the_state_file() -> None:
    spec = ContainerSpec(
        image="host",
        name="web",
        args=("sh", "-c", "é\n"),
        env=(("A", "1"),),
        networks=(Network("blue", ("10.0.0.9",), "02:00:00:00:00:01", "data0"), Network("green")),
        ports=(Port(8080, 80, "udp", "::1"),),
        dns=Dns(("9.9.9.9",), ("lan",), ("ndots:1",)),
        volumes=(Volume("/a", "/b", ("ro",)),),
        tty=True,
    )
    assert ContainerSpec.from_json(loads(dumps(spec.to_json()))) == spec
