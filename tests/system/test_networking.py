"""What containers reach, and who reaches them: over the bridge, beyond it, and through published ports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import Command, bridge, serving
from support.machine import Machine
from support.world import add_world

SERVER = ("host", "python3", "-m", "http.server", "-d", "/usr/share/doc", "--bind", "::", "80")
PING = ("busybox", "ping", "-c1", "-W2")


@pytest.fixture
def outside(machine: Machine) -> str:
    """Another host, at 192.0.2.2 and 2001:db8::2."""
    return add_world(machine)


@pytest.mark.usefixtures("outside")
def test_two_containers_reach_each_other_and_what_is_beyond_their_bridge(minirt: Command) -> None:
    for name in ("one", "two"):
        minirt.ok("run", "-d", "--name", name, "host", "sleep", "600")
    for family in (4, 6):
        minirt.ok("exec", "one", *PING, minirt.address("two", family))
    minirt.ok("exec", "one", *PING, "192.0.2.2")  # the other host has no route back: masquerade makes it work
    minirt.ok("exec", "one", *PING, "2001:db8::2")
    minirt.ok("rm", "-f", "one", "two")


def test_a_published_port_answers_on_every_address_of_the_host(minirt: Command, outside: str) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", *SERVER)
    minirt.ok("run", "-d", "--name", "other", "host", "sleep", "600")
    machine = minirt.machine
    for address in ("127.0.0.1", "localhost", "192.0.2.1", "10.143.0.1", "[2001:db8::1]"):
        assert "Directory listing" in serving(machine, f"http://{address}:8080/")
    for address in ("192.0.2.1", "[2001:db8::1]"):
        assert "Directory listing" in serving(machine, f"http://{address}:8080/", outside)
        for name in ("web", "other"):  # from its own container as well, and from its neighbour
            assert "Directory listing" in minirt.ok("exec", name, "curl", "-sS", "-m2", f"http://{address}:8080/")
    minirt.ok("rm", "-f", "web", "other")
    assert machine.elements() == []
    assert machine.run("curl", "-sS", "-m2", "http://127.0.0.1:8080/", check=False).returncode == 7


def test_a_host_port_is_published_once(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", *SERVER)
    error = minirt.fails(125, "run", "-d", "--name", "late", "-p", "8080:80", *SERVER)
    assert "8080" in error and "portmap" in error
    assert minirt.ok("ps", "-aq").count("\n") == 0
    assert len(minirt.machine.run("ip", "netns", "list").stdout.splitlines()) == 1
    minirt.ok("run", "--rm", "-p", "127.0.0.1:8081:80", "-p", "8080:80/udp", "host", "true")
    minirt.ok("rm", "-f", "web")


def test_networks_are_the_first_of_the_folder_or_those_that_are_named(minirt: Command) -> None:
    minirt.network("green", bridge("cni-green", "10.20.0.0/24"), file="20-green.conflist")
    minirt.network("blue", bridge("cni-blue", "10.10.0.0/24"), file="10-blue.conflist")
    minirt.machine.leaves("link cni-*", "address * dev cni-*")
    show = ("host", "ip", "-br", "-4", "addr")
    assert "10.10.0.2/24" in minirt.ok("run", "--rm", *show)
    flags = ("--network", "green:ip=10.20.0.9,ifname=data0,mac=02:00:00:00:00:09", "--network", "blue")
    lines = minirt.ok("run", "--rm", *flags, *show).splitlines()
    assert [line.split()[0].partition("@")[0] for line in lines[1:]] == ["data0", "eth1"]
    assert "10.20.0.9/24" in lines[1] and "10.10.0.3/24" in lines[2]
    link = minirt.ok("run", "--rm", "--mac-address", "02:00:00:00:00:07", "--ip", "10.10.0.77", "host", "ip", "addr")
    assert "02:00:00:00:00:07" in link and "10.10.0.77/24" in link


def test_without_a_network_there_is_only_lo(minirt: Command) -> None:
    lines = minirt.ok("run", "--rm", "--network", "none", "host", "ip", "-br", "addr").splitlines()
    assert [line.split()[0] for line in lines] == ["lo"]
    minirt.ok("run", "--rm", "--network", "none", "host", *PING, "127.0.0.1")


def test_a_network_that_is_joined_twice_is_shown_twice(minirt: Command) -> None:
    minirt.machine.leaves("link cni-*", "address * dev cni-*")
    minirt.network("lab", bridge("cni-lab", "10.20.0.0/24"))
    minirt.ok("run", "-d", "--name", "web", "--network", "lab", "--network", "lab", "host", "sleep", "600")
    shown = minirt.inspect("web")["NetworkSettings"]["Networks"]
    assert {name: item["Interface"] for name, item in shown.items()} == {"lab": "eth0", "lab:eth1": "eth1"}
    assert {item["IPAddress"] for item in shown.values()} == {"10.20.0.2", "10.20.0.3"}
    minirt.ok("rm", "-f", "web")


def test_the_network_of_the_host_of_a_container_or_at_a_path_is_joined(minirt: Command) -> None:
    machine = minirt.machine
    path = machine.netns("box")
    identity = minirt.ok("run", "-d", "--name", "web", "host", "sleep", "600")

    def netns_of(mode: str) -> str:
        return minirt.ok("run", "--rm", "--network", mode, "host", "readlink", "/proc/self/ns/net")

    assert netns_of("host") == machine.run("readlink", "/proc/self/ns/net").stdout.strip()
    assert (
        netns_of(f"ns:{path}")
        == machine.run("ip", "netns", "exec", "box", "readlink", "/proc/self/ns/net").stdout.strip()
    )
    assert (
        netns_of("container:web")
        == netns_of(f"container:{identity[:8]}")
        == minirt.ok("exec", "web", "readlink", "/proc/self/ns/net")
    )
    hosts = ("host", "cat", "/etc/hosts")
    assert minirt.ok("run", "--rm", "--network", "container:web", *hosts) == minirt.ok("exec", "web", *hosts[1:])
    minirt.ok("stop", "-t0", "web")
    assert "not running" in minirt.fails(125, "run", "--rm", "--network", "container:web", "host", "true")
    minirt.ok("rm", "web")
    assert Path(path).exists()


def test_name_servers_go_to_the_network_that_takes_them_and_into_the_resolver(minirt: Command) -> None:
    flags = ("--dns", "192.0.2.53", "--dns-search", "lan", "--dns-option", "ndots:2")
    minirt.ok("run", "-d", "--name", "web", *flags, "host", "sleep", "600")
    text = minirt.ok("exec", "web", "cat", "/etc/resolv.conf")
    assert text.splitlines() == ["nameserver 192.0.2.53", "search lan", "options ndots:2"]
    told = minirt.inspect("web")["NetworkSettings"]["Networks"]["minirt"]["CNIResult"]["dns"]
    assert told == {"nameservers": ["192.0.2.53"], "search": ["lan"], "options": ["ndots:2"]}
    minirt.ok("rm", "-f", "web")


def test_inspect_shows_what_the_plugins_answered(minirt: Command) -> None:
    minirt.ok("run", "-d", "--name", "web", "-p", "8080:80", "host", "sleep", "600")
    settings = minirt.inspect("web")["NetworkSettings"]
    network = settings["Networks"]["minirt"]
    assert network["IPAddress"] == minirt.address("web")
    assert network["GlobalIPv6Address"] == minirt.address("web", 6)
    (link,) = minirt.machine.ip("link", "show", "eth0", netns=settings["SandboxKey"].rpartition("/")[2])
    assert network["MacAddress"] == link["address"]
    assert settings["Ports"] == {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    cached = json.loads(next(Path("/var/lib/cni/results").iterdir()).read_text())
    assert cached["kind"] == "cniCacheV1" and cached["result"]["ips"] == network["CNIResult"]["ips"]
    minirt.ok("rm", "-f", "web")
    assert list(Path("/var/lib/cni/results").iterdir()) == []


@pytest.mark.parametrize("path", ["/usr/lib/cni", ""])
def test_the_same_list_works_with_other_peoples_plugins_and_as_plain_programs(
    minirt: Command, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches: tuple[str, ...] = ("--plain-exec",)
    if path:
        switches = ()
        monkeypatch.setenv("CNI_PATH", path)
        minirt.machine.leaves("nft * nat*", "nft * filter*")
    minirt.ok(*switches, "run", "-d", "--name", "web", "-p", "8080:80", *SERVER)
    assert "Directory listing" in serving(minirt.machine, "http://127.0.0.1:8080/")
    minirt.ok(*switches, "rm", "-f", "web")
