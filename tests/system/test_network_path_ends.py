"""Where the way of `minirt network path` begins and ends: whose name it is, whether anybody listens, what to send."""

from __future__ import annotations

import signal
import subprocess

import pytest
from support.command import PROGRAM, Command, eventually
from support.machine import Machine

SLEEP = ("host", "sleep", "600")
LISTEN = """
import socket, sys
for kind, family, place, port in eval(sys.argv[1]):
    listener = socket.socket(getattr(socket, family), getattr(socket, kind))
    globals()[f"kept_{port}_{kind}"] = listener
    listener.bind((place, port))
    if kind == "SOCK_STREAM":
        listener.listen()
open("/tmp/ready", "w").close()
import time; time.sleep(600)
"""


@pytest.fixture(autouse=True)
def leaves(machine: Machine) -> None:
    machine.leaves("link *", "address *", "route *", "nft *", "directory *")


def path(minirt: Command, *words: str) -> str:
    """What is told; what was wrapped stands in one line again."""
    return " ".join(minirt.ok("network", "path", *words).split("\n")) + " "


def test_whether_anybody_listens_is_told_where_a_packet_is_delivered(minirt: Command) -> None:
    tcp, udp, four, six = "SOCK_STREAM", "SOCK_DGRAM", "AF_INET", "AF_INET6"
    sockets = [(tcp, four, "0.0.0.0", 80), (tcp, four, "127.0.0.1", 81), (tcp, six, "::", 82), (udp, four, "", 53)]
    minirt.ok(
        "run", "-d", "--name", "web", "-p", "8080:80", "-p", "8099:99", "host", "python3", "-c", LISTEN, f"{sockets}"
    )
    minirt.ok("run", "-d", "--name", "db", *SLEEP)
    eventually(lambda: minirt("exec", "web", "test", "-e", "/tmp/ready").returncode == 0)
    address = minirt.address("web")
    heard = ["web:80", "web:82", "web:53/udp", "10.143.0.1:8080", "[fd6d:696e:6972:7400::2]:82", "web", "web:80/sctp"]
    for to in heard:
        assert f"delivered: to web, {address if to[0] != '[' else to[1:-4]} " in path(minirt, "db", to), to
    silent = {"web:81": "81/tcp", "web:99": "99/tcp", "web:80/udp": "80/udp", "10.143.0.1:8099": "99/tcp"}
    silent |= {"[fd6d:696e:6972:7400::2]:80": "80/tcp", "10.143.0.1:99": "99/tcp"}
    for to, port in silent.items():
        assert f", where nobody listens at {port} " in path(minirt, "db", to), to
    assert "by lo, where nobody listens at 83/tcp" in path(minirt, "web", "127.0.0.1:83")
    assert "nobody" not in path(minirt, "web", "127.0.0.1:81")
    minirt.ok("rm", "-f", "web", "db")


def test_a_namespace_of_ip_netns_is_called_by_its_name(minirt: Command) -> None:
    red = minirt.machine.netns("red")
    minirt.ok("cni", "add", "minirt", red)
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    assert "delivered: to web" in path(minirt, "red", "web") and "delivered: to red" in path(minirt, "web", "red")
    minirt.machine.run(
        "ip",
        "netns",
        "attach",
        "also",
        minirt.machine.text("ip", "netns", "pids", minirt.inspect("web")["Id"]).split()[0],
    )
    assert "delivered: to red" in path(minirt, "also", "red")
    assert "no container 'blue'" in minirt.fails(1, "network", "path", "blue", "web")
    assert "no container '../red'" in minirt.fails(1, "network", "path", "../red", "web")
    minirt.machine.run("ip", "netns", "del", "also")
    minirt.ok("cni", "del", "minirt", red)
    minirt.ok("rm", "-f", "web")


def test_whoever_counts_is_told_what_to_send(minirt: Command) -> None:
    """Each command does send what is counted."""
    red = minirt.machine.netns("red")
    minirt.ok("cni", "add", "minirt", red)
    minirt.ok("run", "-d", "--name", "web", *SLEEP)
    for start, to in (
        ("web", "10.143.0.1"),
        ("host", "web:99"),
        ("red", "web:99/udp"),
        ("web", "[fd6d:696e:6972:7400::1]:7"),
    ):
        counting = minirt.start("network", "path", start, to, "--counters", stdout=subprocess.PIPE)
        assert counting.stdout
        while not (line := counting.stdout.readline()).startswith("now send some, from another terminal: "):
            assert counting.poll() is None
        assert "0/0" in counting.stdout.readline()
        command = line.partition("terminal: ")[2].strip().replace("minirt", PROGRAM, 1)
        minirt.machine.run("sh", "-c", command, check=False)
        assert "1/" in counting.stdout.readline(), line
        counting.send_signal(signal.SIGINT)
        counting.communicate(timeout=20)
    minirt.ok("cni", "del", "minirt", red)
    minirt.ok("rm", "-f", "web")
