"""The dhcp plugin against a real server (dnsmasq): leases got, kept and given back, with the daemon and without it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lan import BRIDGE, PLUGINS, SIDE_SOCKET, SOCKET, Lan, until
from support.machine import Machine
from support.plugins import GO


@pytest.fixture
def lan(machine: Machine) -> Iterator[Lan]:
    lan = Lan(machine)
    yield lan
    lan.close()


def address(result: dict[str, Any]) -> str:
    (ip,) = result["ips"]
    return str(ip["address"]).partition("/")[0]


def go_daemon(lan: Lan) -> str:
    """The reference plugin's own; the path of its socket."""
    lan.plugins.folder = GO
    lan.side_daemon()
    lan.plugins.folder = PLUGINS
    return SIDE_SOCKET


def test_add_gets_a_lease_and_del_gives_it_back(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    result = lan.plugins.add(conf, netns)
    given = address(result)
    assert lan.leases() == {given: "\0web/lan/eth0"}
    assert lan.machine.addresses("eth0", "web") == {f"{given}/24"}
    assert result["ips"] == [{"address": f"{given}/24", "gateway": "10.77.0.1", "interface": 2}]
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "10.77.0.1"}]
    assert result["dns"] == {"nameservers": ["10.77.0.1"], "domain": "lan.test", "search": ["lan.test", "corp.test"]}
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", "10.77.0.1")
    lan.plugins.check(conf, result, netns).done()
    lan.plugins.delete(conf, netns)
    lan.leased()
    assert lan.count("DHCPRELEASE") == 1
    assert lan.records() == set()
    lan.plugins.delete(conf, netns)


def test_many_at_once_get_an_address_each(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    conf, names = lan.conf(), [f"c{number}" for number in range(6)]
    paths = {name: lan.machine.netns(name) for name in names}
    started = [lan.plugins.start("ADD", conf, paths[name], container=name) for name in names]
    given = {address(lan.plugins.finish(process).result) for process in started}
    assert len(given) == 6
    assert set(lan.leases()) == given
    for process in [lan.plugins.start("DEL", conf, paths[name], container=name) for name in names]:
        lan.plugins.finish(process).done()
    lan.leased()


def test_two_interfaces_of_one_container_have_a_lease_each(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    first, second = (address(lan.plugins.add(conf, netns, ifname=name)) for name in ("eth0", "eth1"))
    assert lan.leases() == {first: "\0web/lan/eth0", second: "\0web/lan/eth1"}
    lan.plugins.delete(conf, netns, ifname="eth0")
    lan.leased(second)
    lan.plugins.delete(conf, netns, ifname="eth1")
    lan.leased()


def test_a_server_with_no_address_left_is_an_error_that_leaves_nothing(lan: Lan) -> None:
    lan.dnsmasq(last=10)
    lan.daemon("--resendtimeout", "1s")
    conf = lan.conf()
    first, second = lan.machine.netns("first"), lan.machine.netns("second")
    lan.plugins.add(conf, first, container="first")
    error = lan.plugins.call("ADD", conf, second, container="second").error
    assert (error["code"], error["msg"]) == (100, "no DHCP server gave eth0 an address within 1 s")
    assert lan.machine.links("second") == {"lo"}
    assert lan.records() == {"first:eth0"}
    lan.plugins.delete(conf, first, container="first")
    given = lan.plugins.add(conf, second, container="second")
    assert address(given) == "10.77.0.10"
    lan.plugins.delete(conf, second, container="second")


def test_an_address_that_is_asked_for_is_given_or_none(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon("--resendtimeout", "1s")
    conf, other = lan.conf(), lan.machine.netns("other")
    given = lan.plugins.add(conf, lan.machine.netns("web"), args="IP=10.77.0.33")
    assert address(given) == "10.77.0.33"
    error = lan.plugins.call("ADD", conf, other, container="other", args="IP=10.77.0.33").error
    assert error["msg"] == "no DHCP server gave eth0 10.77.0.33 within 1 s"
    lan.leased("10.77.0.33")
    lan.plugins.delete(conf, "/run/netns/web")


def test_a_daemon_may_see_the_hosts_files_elsewhere(lan: Lan) -> None:
    """As in a container, where the host's files are mounted below /host."""
    lan.dnsmasq()
    os.symlink("/", "/run/lan/host")
    daemon = lan.daemon("-hostprefix", "/run/lan/host")
    netns, conf = lan.machine.netns("web"), lan.conf()
    lan.plugins.add(conf, netns)
    lan.end(daemon)
    daemon = lan.daemon("-hostprefix", "/run/lan/host")
    assert "has 10.77.0." in lan.said().rpartition("ready at")[0].rpartition("still")[0]
    lan.end(daemon)
    lan.plugins.delete(conf, netns)
    lan.leased()


def test_add_twice_is_an_error_that_changes_nothing(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf("dhcp")
    lan.machine.run("ip", "link", "add", "v0", "master", BRIDGE, "up", "type", "veth", "peer", "eth0", "netns", "web")
    given = address(lan.plugins.add(conf, netns))
    error = lan.plugins.call("ADD", conf, netns).error
    assert (error["code"], error["msg"]) == (102, f"web eth0 on lan has {given} already")
    assert list(lan.leases()) == [given]
    assert lan.records() == {"web:eth0"}
    lan.plugins.delete(conf, netns)
    lan.machine.run("ip", "link", "del", "v0")


def test_a_container_that_went_without_a_word_can_be_added_again(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    conf = lan.conf()
    before = address(lan.plugins.add(conf, lan.machine.netns("web")))
    lan.machine.run("ip", "netns", "del", "web")
    until(lambda: not {name for name in lan.machine.links() if name.startswith("veth")}, "the namespace dies")
    netns = lan.machine.netns("web")
    assert address(lan.plugins.add(conf, netns)) == before
    lan.plugins.delete(conf, netns)


def test_U18_a_daemon_that_was_killed_is_replaced_and_the_lease_goes_on(lan: Lan) -> None:
    lan.dnsmasq(soon=True)
    daemon = lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    result = lan.plugins.add(conf, netns)
    lan.end(daemon, signal.SIGKILL)
    assert os.path.exists(SOCKET)
    lan.daemon()
    until(lambda: lan.count("DHCPACK") > 1, "the second daemon renews")
    assert lan.count("DHCPDISCOVER") == 1
    lan.plugins.check(conf, result, netns).done()
    lan.plugins.delete(conf, netns)
    lan.leased()


def test_U18_del_needs_no_daemon_to_give_the_lease_back(lan: Lan) -> None:
    lan.dnsmasq()
    lan.end(lan.daemon())  # its socket goes with it
    daemon = lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    lan.plugins.add(conf, netns)
    lan.end(daemon)
    lan.plugins.delete(conf, netns)
    lan.leased()
    assert lan.records() == set()
    assert lan.machine.links("web") == {"lo"}
    lan.plugins.delete(conf, netns)


def test_del_needs_neither_daemon_nor_namespace(lan: Lan) -> None:
    lan.dnsmasq(soon=True)
    daemon = lan.daemon()
    conf = lan.conf()
    lan.plugins.add(conf, lan.machine.netns("web"))
    lan.end(daemon)
    lan.machine.run("ip", "netns", "del", "web")
    lan.plugins.delete(conf, "/run/netns/web")
    lan.plugins.delete(conf, "")
    assert lan.records() == set()
    lan.daemon()
    assert "10.77" not in lan.said().rpartition("dhcp: ready")[2]


def test_del_gives_back_what_the_daemon_knows_nothing_of(lan: Lan) -> None:
    lan.dnsmasq()
    daemon = lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    lan.plugins.add(conf, netns)
    lan.end(daemon)
    lan.daemon("--hostprefix", "/run/lan/nowhere")
    lan.plugins.delete(conf, netns)
    lan.leased()
    assert lan.records() == set()


def test_a_lease_that_was_deleted_behind_the_daemon_is_not_renewed(lan: Lan) -> None:
    """DEL could not reach it, under another path of the socket: the record is gone, and that is enough."""
    lan.dnsmasq(soon=True)
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf("dhcp")
    lan.machine.run("ip", "link", "add", "v0", "master", BRIDGE, "up", "type", "veth", "peer", "eth0", "netns", "web")
    lan.plugins.add(conf, netns)
    lan.plugins.delete(lan.conf("dhcp", {"daemonSocketPath": "/run/cni/elsewhere.sock"}), netns)
    until(lambda: "it has been given back" in lan.said(), "the daemon notices")
    lan.leased()
    lan.machine.run("ip", "link", "del", "v0")


@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_without_a_daemon_it_is_said_how_to_start_one(lan: Lan, command: str) -> None:
    netns = lan.machine.netns("web") if command != "STATUS" else ""
    error = lan.plugins.call(command, lan.conf("dhcp"), netns).error
    assert error["code"] == 50
    assert error["msg"] == f"no daemon answers at {SOCKET}: No such file or directory"
    assert "minirt dhcp daemon" in error["details"]


def test_status_is_good_with_a_daemon(lan: Lan) -> None:
    lan.daemon()
    lan.plugins.call("STATUS", lan.conf()).done()


def test_check_tells_a_lease_that_the_daemon_does_not_have(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    result = lan.plugins.add(conf, netns)
    other = {**result, "ips": [{"address": "10.77.0.77/24", "interface": 2}]}
    assert "is not in prevResult" in lan.plugins.check(lan.conf("dhcp"), other, netns).error["msg"]
    lan.plugins.call("DEL", lan.conf("dhcp"), netns).done()
    assert lan.plugins.check(conf, result, netns).error["msg"] == "the daemon has no lease for web eth0 on lan"
    assert lan.leases() == {}, "CHECK acquires nothing"
    lan.plugins.delete(conf, netns)


def test_gc_gives_back_what_belongs_to_nobody(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    conf = lan.conf()
    kept, stale = (lan.plugins.add(conf, lan.machine.netns(name), container=name) for name in ("kept", "stale"))
    valid = {"cni.dev/valid-attachments": [{"containerID": "kept", "ifname": "eth0"}]}
    lan.plugins.call("GC", lan.conf("dhcp") | valid).done()
    lan.leased(address(kept))
    assert lan.records() == {"kept:eth0"}
    assert address(stale) != address(kept)
    lan.plugins.call("GC", conf | {"cni.dev/valid-attachments": []}).done()
    lan.leased()
    assert lan.machine.links("kept") == lan.machine.links("stale") == {"lo"}


def test_the_first_question_may_start_the_daemon(lan: Lan) -> None:
    """As systemd does it: the socket is there before the daemon is."""
    lan.dnsmasq()
    netns, conf = lan.machine.netns("web"), lan.conf()
    listening = lan.activated()
    asking = lan.plugins.start("ADD", conf, netns)
    shell = f"exec {PLUGINS}/dhcp daemon 3<&{listening.fileno()}"
    daemon = subprocess.Popen(
        ["bash", "-c", f"export LISTEN_PID=$$ LISTEN_FDS=1; {shell}"], pass_fds=[listening.fileno()], text=True
    )
    assert address(lan.plugins.finish(asking).result) in lan.leases()
    assert lan.end(daemon) == 0
    assert os.path.exists(SOCKET), "it is not the daemon's to remove"
    listening.close()
    os.unlink(SOCKET)
    lan.plugins.delete(conf, netns)
    lan.leased()


def test_a_server_that_has_another_hardware_address_by_then_is_told(lan: Lan) -> None:
    """As a bridge that takes the address of its newest port."""
    lan.dnsmasq()
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf()
    lan.plugins.add(conf, netns)
    lan.machine.run("ip", "link", "set", BRIDGE, "address", "02:00:00:00:77:02")
    lan.plugins.delete(conf, netns)
    lan.leased()


def test_a_second_daemon_is_refused(lan: Lan) -> None:
    daemon = lan.daemon("--pidfile", "/run/lan/pid")
    assert Path("/run/lan/pid").read_text(encoding="utf-8") == f"{daemon.pid}\n"
    second = lan.daemon(wait=False)
    assert second.wait(timeout=20) == 1
    assert f"another daemon answers at {SOCKET}" in lan.said()
    lan.plugins.call("STATUS", lan.conf("dhcp")).done()
    assert lan.end(daemon) == 0
    assert not os.path.exists(SOCKET)
    assert not os.path.exists("/run/lan/pid")


def test_a_plugin_that_is_killed_leaves_no_lease(lan: Lan) -> None:
    lan.daemon()
    netns, conf = lan.machine.netns("web"), lan.conf("dhcp")
    lan.machine.run("ip", "link", "add", "v0", "master", BRIDGE, "up", "type", "veth", "peer", "eth0", "netns", "web")
    asking = lan.plugins.start("ADD", conf, netns)
    until(lambda: lan.machine.ip("link", "show", "eth0", netns="web")[0]["operstate"] == "UP", "the daemon is at work")
    asking.kill()
    asking.communicate()
    lan.dnsmasq()
    given = address(lan.plugins.add(conf, netns))
    lan.leased(given)
    lan.plugins.delete(conf, netns)
    lan.machine.run("ip", "link", "del", "v0")


def test_nonsense_on_the_socket_does_not_hurt_the_daemon(lan: Lan) -> None:
    lan.daemon()
    for nonsense in (
        b"",
        b"\n",
        b"[1]\n",
        b'{"verb": 7}\n',
        b'{"verb": "FLY"}\n',
        b'{"verb": "ADD"}\n',
        b"\xff" * 70000,
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(SOCKET)
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1 << 16)
        assert not answer or answer.startswith(b'{"error": '), answer
    lan.plugins.call("STATUS", lan.conf("dhcp")).done()


def test_another_program_at_the_socket_is_no_daemon(lan: Lan) -> None:
    path = go_daemon(lan)
    error = lan.plugins.call("STATUS", lan.conf("dhcp", {"daemonSocketPath": path})).error
    assert (error["code"], error["msg"]) == (50, f"what answers at {path} is another program, or an older one")
    lan.plugins.delete(lan.conf("dhcp", {"daemonSocketPath": path}), "")


def test_the_reference_bridge_has_its_addresses_managed_by_our_dhcp(lan: Lan) -> None:
    """It deletes the link before it calls its delegate, so the server is not told: the lease runs out."""
    lan.dnsmasq()
    lan.daemon()
    os.symlink(f"{GO}/bridge", "/run/lan/bridge")
    lan.plugins.folder = "/run/lan"
    netns, conf, path = lan.machine.netns("web"), lan.conf(cniVersion="1.0.0"), {"CNI_PATH": f"{PLUGINS}:/run/lan"}
    given = address(lan.plugins.add(conf, netns, **path))
    assert lan.leases() == {given: "\0web/lan/eth0"}
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", "10.77.0.1")
    lan.plugins.delete(conf, netns, **path)
    assert lan.records() == set()
    assert f"has given back {given}, but the server could not be told" in lan.said()


def test_our_bridge_has_its_addresses_managed_by_the_reference_dhcp(lan: Lan) -> None:
    """Whose daemon does not wait for the link: it must be there when the delegate is called, and when it deletes."""
    lan.dnsmasq()
    path = go_daemon(lan)
    os.symlink(f"{GO}/dhcp", "/run/lan/dhcp")
    netns, conf = lan.machine.netns("web"), lan.conf(ipam={"daemonSocketPath": path}, cniVersion="1.0.0")
    given = address(lan.plugins.add(conf, netns, CNI_PATH="/run/lan"))
    assert lan.leases() == {given: "\0web/lan/eth0"}
    lan.plugins.delete(conf, netns, CNI_PATH="/run/lan")
    lan.leased()


def test_macvlan_has_its_addresses_managed_by_dhcp(lan: Lan) -> None:
    lan.dnsmasq()
    lan.daemon()
    lan.machine.run("ip", "link", "add", "nic", "up", "type", "veth", "peer", "p0")
    lan.machine.run("ip", "link", "set", "p0", "up", "master", BRIDGE)
    netns, conf = lan.machine.netns("web"), lan.conf("macvlan", master="nic")
    given = address(lan.plugins.add(conf, netns))
    assert lan.leases() == {given: "\0web/lan/eth0"}
    lan.machine.run("ip", "netns", "exec", "web", "ping", "-c1", "-W2", "10.77.0.1")
    lan.plugins.delete(conf, netns)
    lan.leased()
    lan.machine.run("ip", "link", "del", "nic")
