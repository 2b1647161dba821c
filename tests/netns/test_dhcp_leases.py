"""How a lease goes on, and how it is lost and got back: a scripted server, whose hours pass in seconds.

What arrives at the server is decoded by pyroute2, what is on the interface is told by `ip`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from support.lan import Lan, until
from support.machine import Machine

GIVEN = "10.77.0.99"
ROUTES = {"3": "0a4d0001"}
HOURS = {"address": GIVEN, "lease": 8, "t1": 1, "t2": 4, "options": ROUTES}


@pytest.fixture
def lan(machine: Machine) -> Iterator[Lan]:
    lan = Lan(machine)
    yield lan
    lan.close()


def attach(lan: Lan, **keys: Any) -> dict[str, Any]:
    return lan.plugins.add(lan.conf(**keys), lan.machine.netns("web"))


def detach(lan: Lan) -> None:
    lan.plugins.delete(lan.conf(), "/run/netns/web")


def addresses(lan: Lan) -> set[str]:
    return lan.machine.addresses("eth0", "web")


def default_route(lan: Lan) -> list[str]:
    return [way["gateway"] for way in lan.machine.ip("route", "show", "default", netns="web")]


def test_at_t1_the_server_is_asked_by_itself_from_the_address(lan: Lan) -> None:
    lan.scripted(**HOURS)
    lan.daemon()
    attach(lan)
    first, *_ = until(lambda: lan.heard("REQUEST")[1:], "it renews")
    assert (first["from"], first["ciaddr"], first["flags"]) == (GIVEN, GIVEN, 0)
    assert "requested_ip" not in first["options"]
    assert "server_id" not in first["options"]
    assert first["options"]["client_id"] == {"type": 0, "key": list(b"web/lan/eth0")}
    until(lambda: len(lan.heard("REQUEST")) > 3, "it renews again and again")
    assert len(lan.heard("DISCOVER")) == 1
    detach(lan)
    (last,) = until(lambda: lan.heard("RELEASE"), "it is given back")
    assert (last["from"], last["ciaddr"], last["options"]["server_id"]) == (GIVEN, GIVEN, "10.77.0.1")
    assert last["options"]["client_id"] == {"type": 0, "key": list(b"web/lan/eth0")}


def test_at_t2_all_servers_are_asked(lan: Lan) -> None:
    lan.scripted(**HOURS | {"t2": 2, "requests": ["ACK", "", "", "", "ACK"]})
    lan.daemon()
    attach(lan)
    rebinding = until(lambda: lan.heard("REQUEST")[4:], "it rebinds")[0]
    assert (rebinding["from"], rebinding["ciaddr"]) == ("0.0.0.0", GIVEN)
    until(lambda: len(lan.heard("REQUEST")) > 5, "it goes on")
    assert len(lan.heard("DISCOVER")) == 1
    assert addresses(lan) == {f"{GIVEN}/24"}
    detach(lan)


def test_a_lease_refused_is_withdrawn_and_got_again_with_its_routes(lan: Lan) -> None:
    lan.scripted(**HOURS | {"requests": ["ACK", "NAK", "NAK", "ACK"]})
    lan.daemon()
    result = attach(lan)
    until(lambda: "refused by 10.77.0.1: not yours any more" in lan.said(), "it is refused")
    until(lambda: not addresses(lan), "the address is not used meanwhile")
    until(lambda: addresses(lan) == {f"{GIVEN}/24"}, "it is granted again")
    until(lambda: default_route(lan) == ["10.77.0.1"], "and the routes with it")
    assert lan.heard("DISCOVER")[-1]["options"]["requested_ip"] == GIVEN
    lan.plugins.check(lan.conf(), result, "/run/netns/web").done()
    detach(lan)


def test_a_lease_that_ran_out_is_withdrawn_and_got_again_when_the_server_is_back(lan: Lan) -> None:
    server = lan.scripted(**HOURS | {"lease": 3, "t2": 2})
    lan.daemon("--timeout", "1s", "--resendmax", "1s")
    result = attach(lan)
    lan.end(server)
    until(lambda: not addresses(lan), "nobody renews it")
    error = lan.plugins.check(lan.conf("dhcp"), result, "/run/netns/web").error
    assert error["msg"] == f"the lease of {GIVEN} has ended"
    lan.scripted(**HOURS)
    until(lambda: default_route(lan) == ["10.77.0.1"], "it is granted again")
    assert addresses(lan) == {f"{GIVEN}/24"}
    detach(lan)


def test_a_lost_lease_is_got_again_by_the_daemon_that_comes_after(lan: Lan) -> None:
    server = lan.scripted(**HOURS | {"lease": 3, "t2": 2})
    daemon = lan.daemon("--timeout", "1s", "--resendmax", "1s")
    attach(lan)
    lan.end(server)
    until(lambda: not addresses(lan), "nobody renews it")
    lan.end(daemon, signal.SIGKILL)
    lan.daemon()
    lan.scripted(**HOURS)
    until(lambda: default_route(lan) == ["10.77.0.1"], "it is granted again")
    assert addresses(lan) == {f"{GIVEN}/24"}
    detach(lan)


def test_another_address_is_not_taken_for_one_that_stands_in_the_result(lan: Lan) -> None:
    lan.scripted(**HOURS | {"lease": 3, "t2": 2, "requests": ["ACK", "10.77.0.98"]})
    lan.daemon("--timeout", "1s", "--resendmax", "1s")
    attach(lan)
    until(lambda: f"offers 10.77.0.98, and {GIVEN} is what it needs" in lan.said(), "another one is offered")
    assert addresses(lan) == set()
    assert not [asked for asked in lan.heard("REQUEST") if asked["options"].get("requested_ip") == "10.77.0.98"]
    detach(lan)


def test_an_interface_that_was_set_down_stays_so_and_gets_its_lease_again_when_it_is_up(lan: Lan) -> None:
    lan.scripted(**HOURS | {"lease": 3, "t2": 2})
    lan.daemon("--timeout", "1s", "--resendmax", "1s")
    attach(lan)
    lan.machine.run("ip", "-n", "web", "link", "set", "eth0", "down")
    until(lambda: f"has lost {GIVEN}" in lan.said(), "nobody renews it")
    assert "UP" not in lan.machine.ip("link", "show", "eth0", netns="web")[0]["flags"]
    lan.machine.run("ip", "-n", "web", "link", "set", "eth0", "up")
    until(lambda: addresses(lan) == {f"{GIVEN}/24"}, "it is granted again")
    detach(lan)


def test_a_namespace_that_has_gone_is_not_kept_alive_and_its_lease_is_forgotten(lan: Lan) -> None:
    lan.scripted(**HOURS)
    lan.daemon()
    attach(lan)
    lan.machine.run("ip", "netns", "del", "web")
    until(lambda: lan.machine.links() == {"lo", "lan0"}, "the link goes with its namespace")
    until(lambda: not lan.records(), "the daemon notices")
    assert "web eth0 on lan: ends: the namespace /run/netns/web is gone" in lan.said()


def test_what_no_client_should_mind_is_not_minded(lan: Lan) -> None:
    """Replies without a type, broken off, of other transactions, with empty options."""
    lan.scripted(**HOURS | {"garbage": True})
    lan.daemon()
    attach(lan)
    until(lambda: len(lan.heard("REQUEST")) > 2, "it renews")
    detach(lan)


def test_what_the_configuration_provides_and_requests_is_on_the_wire(lan: Lan) -> None:
    lan.scripted(**HOURS)
    lan.daemon("-broadcast")
    wishes = {
        "provide": [
            {"option": "host-name", "value": "web"},
            {"option": "60", "value": "minirt"},
            {"option": "12", "fromArg": "K8S_POD_NAME"},
            {"option": "user-class", "fromArg": "NOBODY_SAYS_SO"},
        ],
        "request": [{"skipDefault": True}, {"option": "subnet-mask"}, {"option": "42"}],
        "priority": 7,
    }
    conf = lan.conf(ipam=wishes)
    result = lan.plugins.add(conf, lan.machine.netns("web"), args="K8S_POD_NAME=pod-1")
    discover = lan.heard("DISCOVER")[0]
    assert discover["options"]["host_name"] == "pod-1"
    assert discover["options"]["vendor_id"] == "minirt"
    assert discover["options"]["parameter_list"] == [1, 42]
    assert discover["flags"] == 0x8000
    assert discover["size"] >= 300
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.77.0.1", "priority": 7}]
    (way,) = lan.machine.ip("route", "show", "default", netns="web")
    assert way["metric"] == 7
    lan.plugins.delete(conf, "/run/netns/web")


def test_a_client_identifier_of_ones_own_is_used_throughout(lan: Lan) -> None:
    lan.scripted(**HOURS)
    lan.daemon()
    ipam = {"provide": [{"option": "dhcp-client-identifier", "value": "\x02own"}]}
    lan.plugins.add(lan.conf(ipam=ipam), lan.machine.netns("web"))
    detach(lan)
    until(lambda: lan.heard("RELEASE"), "it is given back")
    assert {message["kind"] for message in lan.heard()} == {"DISCOVER", "REQUEST", "RELEASE"}
    for message in lan.heard():
        assert message["options"]["client_id"] == {"type": 2, "key": list(b"own")}


def test_a_small_mtu_of_the_server_is_the_routes(lan: Lan) -> None:
    lan.scripted(**HOURS | {"options": {**ROUTES, "26": "0514", "121": "18c0a8050a4d0002000a4d0001"}})
    lan.daemon()
    result = attach(lan)
    assert result["routes"] == [
        {"dst": "192.168.5.0/24", "gw": "10.77.0.2", "mtu": 1300},
        {"dst": "0.0.0.0/0", "gw": "10.77.0.1", "mtu": 1300},
    ]
    detach(lan)


def test_a_server_without_a_mask_is_refused_and_its_lease_given_back(lan: Lan) -> None:
    lan.scripted(**HOURS | {"options": {"1": "00ff00ff"}})
    lan.daemon()
    error = lan.plugins.call("ADD", lan.conf(), lan.machine.netns("web")).error
    assert (error["code"], error["msg"]) == (
        101,
        f"the DHCP server gave {GIVEN} without a usable subnet mask: 00ff00ff",
    )
    until(lambda: lan.heard("RELEASE"), "it is given back")
    assert lan.machine.links("web") == {"lo"}
    assert lan.records() == set()


def test_the_clients_port_is_closed_while_there_is_nothing_to_say(lan: Lan) -> None:
    lan.scripted(**HOURS | {"lease": 3600, "t1": 1800, "t2": 3000})
    daemon = lan.daemon()
    attach(lan)
    sockets = [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.pid}/fd")]
    assert not [path for path in sockets if path.startswith("net:")]
    inside = lan.machine.run("ip", "netns", "exec", "web", "cat", "/proc/net/packet", "/proc/net/udp").stdout
    assert len(inside.splitlines()) == 2, inside
    detach(lan)


def test_nothing_is_sent_in_a_namespace_that_has_taken_the_path(lan: Lan) -> None:
    lan.scripted(**HOURS)
    daemon = lan.daemon()
    attach(lan)
    lan.end(daemon)
    lan.machine.run("ip", "netns", "del", "web")
    netns = lan.machine.netns("web")
    lan.machine.run("ip", "link", "add", "v0", "up", "master", "lan0", "type", "veth", "peer", "eth0", "netns", "web")
    lan.machine.run("ip", "-n", "web", "link", "set", "eth0", "up")
    lan.plugins.delete(lan.conf("dhcp"), netns)
    assert lan.records() == set()
    lan.machine.run("ip", "-n", "web", "addr", "add", "10.77.0.7/24", "dev", "eth0")
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", "10.77.0.1")
    assert lan.heard("RELEASE") == []
    lan.machine.run("ip", "link", "del", "v0")
