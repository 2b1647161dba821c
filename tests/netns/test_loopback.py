"""The loopback plugin as a program; `ip -j` is the judge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import Machine
from support.plugins import Plugins

CONF = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}
LO = {"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": "/run/netns/box"}


@pytest.fixture
def plugins(machine: Machine, tmp_path: Path) -> Iterator[Plugins]:
    machine.netns("box")
    yield Plugins(machine, tmp_path / "bin")
    machine.run("ip", "netns", "del", "box")


def is_up(machine: Machine) -> bool:
    return "UP" in machine.ip("link", "show", "lo", netns="box")[0]["flags"]


def test_add_raises_lo_and_tells_of_its_addresses(machine: Machine, plugins: Plugins) -> None:
    assert plugins.add(CONF, "/run/netns/box", ifname="anything") == {
        "cniVersion": "1.1.0",
        "interfaces": [LO | {"mtu": 65536}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}],
    }
    assert is_up(machine)


def test_add_twice_is_as_good_as_once(machine: Machine, plugins: Plugins) -> None:
    first = plugins.add(CONF, "/run/netns/box")
    assert plugins.add(CONF, "/run/netns/box") == first
    assert is_up(machine)


@pytest.mark.parametrize(
    ("version", "ips"),
    [
        ("0.2.0", None),
        (
            "0.3.1",
            [
                {"version": "4", "interface": 0, "address": "127.0.0.1/8"},
                {"version": "6", "interface": 0, "address": "::1/128"},
            ],
        ),
        ("1.0.0", [{"interface": 0, "address": "127.0.0.1/8"}, {"interface": 0, "address": "::1/128"}]),
    ],
)
def test_older_versions_get_their_own_form(plugins: Plugins, version: str, ips: object) -> None:
    result = plugins.add(CONF | {"cniVersion": version}, "/run/netns/box")
    assert result["cniVersion"] == version
    assert result.get("ips") == ips
    if ips is None:
        assert result["ip4"] == {"ip": "127.0.0.1/8"}


def test_P7_in_a_chain_the_previous_result_is_passed_on(machine: Machine, plugins: Plugins) -> None:
    before = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.1.0.2/24"}]}
    assert plugins.add(CONF | {"prevResult": before}, "/run/netns/box") == before
    assert is_up(machine)


def test_an_address_that_is_not_loopbacks_own_fails_the_add_and_lo_stays_as_it_was(
    machine: Machine, plugins: Plugins
) -> None:
    machine.run("ip", "-n", "box", "addr", "add", "10.1.0.2/24", "dev", "lo")
    error = plugins.call("ADD", CONF, "/run/netns/box").error
    assert error["msg"] == "lo has the address 10.1.0.2/24, which is not a loopback address"
    assert not is_up(machine)
    machine.run("ip", "-n", "box", "addr", "del", "10.1.0.2/24", "dev", "lo")


def test_P10_delete_lowers_lo_and_may_be_repeated(machine: Machine, plugins: Plugins) -> None:
    plugins.add(CONF, "/run/netns/box")
    plugins.delete(CONF, "/run/netns/box")
    assert not is_up(machine)
    plugins.delete(CONF, "/run/netns/box")


@pytest.mark.parametrize("path", ["", "/run/netns/gone", "/etc/hostname"])
def test_P9_delete_without_a_namespace_is_fine(plugins: Plugins, path: str) -> None:
    plugins.delete(CONF, path)


def test_check_says_whether_lo_is_up(plugins: Plugins) -> None:
    result = plugins.add(CONF, "/run/netns/box")
    plugins.check(CONF, result, "/run/netns/box").done()
    plugins.delete(CONF, "/run/netns/box")
    error = plugins.check(CONF, result, "/run/netns/box").error
    assert (error["msg"], error["details"]) == ("lo is down in /run/netns/box", "ip -n box link set lo up raises it")


@pytest.mark.parametrize("address", ["127.0.0.1/8", "::1/128"])
def test_P14_check_misses_an_address_of_los(machine: Machine, plugins: Plugins, address: str) -> None:
    result = plugins.add(CONF, "/run/netns/box")
    machine.run("ip", "-n", "box", "addr", "del", address, "dev", "lo")
    said = f"lo does not have the address {address.partition('/')[0]} in /run/netns/box"
    assert plugins.check(CONF, result, "/run/netns/box").error["msg"] == said
    machine.run("ip", "netns", "exec", "box", "sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=1")
    if address.startswith(":"):
        plugins.check(CONF, result, "/run/netns/box").done()


def test_a_namespace_that_is_missing_fails_the_add(plugins: Plugins) -> None:
    error = plugins.call("ADD", CONF, "/run/netns/gone").error
    assert (error["code"], error["msg"]) == (8, "CNI_NETNS '/run/netns/gone': there is no such network namespace")


def test_S6_the_hosts_own_lo_is_never_touched(machine: Machine, plugins: Plugins) -> None:
    for command in ("ADD", "DEL"):
        assert plugins.call(command, CONF, "/proc/self/ns/net").error["code"] == 8
    assert "UP" in machine.ip("link", "show", "lo")[0]["flags"]
