"""`minirt network ls`, `inspect`, `rm` and `prune`: what is told of networks, and what is not removed."""

from __future__ import annotations

import json
import os
import pty
import time
from pathlib import Path
from typing import Any

import pytest
from support.command import PROGRAM, Command, bridge
from support.machine import Machine

LISTS = Path("/etc/cni/net.d")
SLEEP = ("host", "sleep", "600")


@pytest.fixture(autouse=True)
def furniture(machine: Machine) -> None:
    machine.leaves(f"file {LISTS}/*", f"directory {LISTS}", "link cni-*", "address * dev cni-*")


def rows(minirt: Command) -> dict[str, Any]:
    """`ls --format json`, by name; a broken file by its path."""
    found = [json.loads(line) for line in minirt.ok("network", "ls", "--format", "json").splitlines()]
    return {row["Name"] or row["File"]: row for row in found}


def table(minirt: Command) -> list[list[str]]:
    return [line.split() for line in minirt.ok("network", "ls").splitlines()]


def names() -> set[str]:
    return {path.name for path in LISTS.iterdir()}


def test_where_there_are_no_lists_the_built_in_one_is_listed(minirt: Command) -> None:
    subnets = "10.143.0.0/20,fd6d:696e:6972:7400::/64"
    assert table(minirt) == [
        ["NAME", "DRIVER", "SUBNETS", "PLUGINS", "CONTAINERS", "FILE"],
        ["minirt", "bridge", subnets, "bridge,portmap", "-", "(built-in)"],
    ]
    assert rows(minirt)["minirt"]["Default"] is True
    (shown,) = json.loads(minirt.ok("network", "inspect", "minirt"))
    assert shown["File"] == "(built-in)" and shown["CNIList"]["plugins"][0]["bridge"] == "minirt0"
    assert "is built in" in minirt.fails(1, "network", "rm", "minirt")


def test_lists_are_shown_in_the_order_of_the_default_with_what_ails_them(minirt: Command) -> None:
    minirt.network("second", bridge("cni-two", "10.2.0.0/24"), {"type": "portmap"}, file="20-second.conflist")
    minirt.network("first", {"type": "macvlan", "ipam": {"type": "dhcp"}}, file="10-first.conflist")
    minirt.network("first", {"type": "ptp"}, file="30-again.conflist")
    (LISTS / "05-broken.conflist").write_text('{"name": "broken",\n "plugins": [}')
    single = {"cniVersion": "1.0.0", "name": "single", "type": "loopback"}
    (LISTS / "40-single.conf").write_text(json.dumps(single))
    minirt.ok("network", "create", "made")
    done = minirt("network", "ls")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["first", "second", "first", "single", "made"]
    assert "/etc/cni/net.d/05-broken.conflist:2:14: malformed JSON" in done.stderr
    assert "30-again.conflist: never used: /etc/cni/net.d/10-first.conflist has the same name" in done.stderr
    listed = [json.loads(line) for line in minirt.ok("network", "ls", "--format", "json").splitlines()]
    assert [row["File"] for row in listed if row["Default"]] == ["/etc/cni/net.d/10-first.conflist"]
    found = rows(minirt)
    assert found["second"] == {
        "Name": "second",
        "Driver": "bridge",
        "Subnets": ["10.2.0.0/24"],
        "Plugins": ["bridge", "portmap"],
        "Containers": [],
        "Default": False,
        "File": "/etc/cni/net.d/20-second.conflist",
        "Error": "",
    }
    assert "malformed JSON" in found["/etc/cni/net.d/05-broken.conflist"]["Error"]
    assert minirt("network", "ls", "-q").stdout.split() == ["first", "second", "first", "single", "made"]


@pytest.mark.parametrize(
    ("result", "address"),
    [
        ({"cniVersion": "0.2.0", "ip4": {"ip": "10.9.0.7/24"}}, "10.9.0.7/24"),
        ({"cniVersion": "1.0.0", "ips": 7}, ""),
        ({"cniVersion": "1.0.0", "interfaces": ["eth0"]}, ""),
    ],
)
def test_inspect_reads_results_of_every_version_and_bears_those_that_are_none(
    minirt: Command, machine: Machine, result: dict[str, Any], address: str
) -> None:
    machine.leaves("directory /var/lib/cni/results", "file /var/lib/cni/results/*")
    minirt.ok("network", "create", "blue")
    entry = {"kind": "cniCacheV1", "networkName": "blue", "containerId": "c1", "ifName": "eth0", "result": result}
    path = Path("/var/lib/cni/results/blue-c1-eth0")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(entry), encoding="utf-8")
    (shown,) = json.loads(minirt.ok("network", "inspect", "blue"))
    assert shown["Containers"]["c1"]["IPv4Address"] == address


def test_inspect_tells_all_that_is_known_in_dockers_words(minirt: Command) -> None:
    line = ("--subnet", "10.9.0.0/24", "--ip-range", "10.9.0.64/26", "--label", "team=net", "-o", "mtu=1400", "blue")
    before = time.time()
    minirt.ok("network", "create", *line)
    identity = minirt.ok("run", "-d", "--network", "blue", "--name", "web", *SLEEP)
    (shown,) = json.loads(minirt.ok("network", "inspect", "blue"))
    created = time.mktime(time.strptime(shown.pop("Created"), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(created - before) < 60
    assert shown.pop("CNIList") == json.loads((LISTS / "zz-blue.conflist").read_text())
    (link,) = minirt.machine.ip("link", "show", "eth0", netns=identity)
    assert shown == {
        "Name": "blue",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "host-local",
            "Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.1", "IPRange": "10.9.0.64-10.9.0.127"}],
        },
        "Internal": False,
        "Containers": {
            identity: {
                "Name": "web",
                "Interface": "eth0",
                "MacAddress": link["address"],
                "IPv4Address": "10.9.0.64/24",
                "IPv6Address": "",
            }
        },
        "Options": {"bridge": "cni-blue", "mtu": "1400", "masquerade": "true"},
        "Labels": {"team": "net"},
        "Default": False,
        "File": "/etc/cni/net.d/zz-blue.conflist",
        "Plugins": ["bridge", "portmap"],
    }
    done = minirt("network", "inspect", "nothing", "blue")
    assert done.returncode == 1 and "no network 'nothing'" in done.stderr
    assert [item["Name"] for item in json.loads(done.stdout)] == ["blue"]
    minirt.ok("rm", "-f", "web")


def test_networks_of_other_makes_are_shown_as_far_as_they_can_be_read(minirt: Command) -> None:
    fixed = {"type": "static", "addresses": [{"address": "10.3.0.7/24", "gateway": "10.3.0.254"}]}
    old = {"type": "host-local", "subnet": "10.4.0.0/24", "rangeStart": "10.4.0.8", "gateway": "10.4.0.9"}
    minirt.network("strange", {"type": "calico", "ipam": {"type": "calico-ipam", "ranges": "all"}}, {"type": "x"})
    minirt.network("both", {"type": "macvlan", "master": "eth0", "ipam": fixed}, {"type": "ptp", "ipam": old})
    shown = json.loads(minirt.ok("network", "inspect", "strange", "both"))
    assert [item["Driver"] for item in shown] == ["calico", "macvlan"]
    assert [item["Options"] for item in shown] == [{}, {"parent": "eth0"}]
    assert shown[0]["IPAM"] == {"Driver": "calico-ipam", "Config": []}
    assert shown[1]["IPAM"] == {
        "Driver": "static",
        "Config": [
            {"Subnet": "10.3.0.0/24", "Gateway": "10.3.0.254"},
            {"Subnet": "10.4.0.0/24", "Gateway": "10.4.0.9", "IPRange": "10.4.0.8-"},
        ],
    }


def test_a_network_is_not_removed_while_somebody_is_attached_and_others_are(minirt: Command) -> None:
    for name in ("blue", "green", "red"):
        minirt.ok("network", "create", name)
    minirt.ok("run", "-d", "--network", "green", "--name", "web", *SLEEP)
    assert rows(minirt)["green"]["Containers"] == ["web"]
    done = minirt("network", "rm", "blue", "green", "nothing", "red")
    assert (done.returncode, done.stdout.split()) == (1, ["blue", "red"])
    assert "network 'green' is used by web" in done.stderr and "no network 'nothing'" in done.stderr
    assert names() == {"zz-green.conflist"}
    minirt.ok("stop", "-t0", "web")
    assert minirt.ok("network", "rm", "green") == "green"
    assert names() == set()
    minirt.ok("rm", "web")


def test_an_attachment_that_is_no_container_of_ours_counts(minirt: Command) -> None:
    """The cache is libcni's own: whoever keeps attachments there is asked for."""
    minirt.ok("network", "create", "blue")
    path = minirt.machine.netns("lab")
    minirt.ok("cni", "add", "blue", path)
    (foreign,) = rows(minirt)["blue"]["Containers"]
    error = minirt.fails(1, "network", "rm", "blue")
    assert f"network 'blue' is used by {foreign}" in error and "none of minirt's" in error
    assert minirt.ok("network", "prune", "-f") == ""
    minirt.ok("cni", "del", "blue", path)
    minirt.ok("network", "rm", "blue")


def test_only_a_lists_own_file_is_removed(minirt: Command) -> None:
    minirt.network("mine", bridge("cni-mine", "10.2.0.0/24"))
    (LISTS / "mine").mkdir()
    (LISTS / "mine" / "10-more.conf").write_text('{"type": "loopback"}')
    assert rows(minirt)["mine"]["Plugins"] == ["bridge", "loopback"]
    minirt.ok("network", "rm", "mine")
    assert names() == {"mine"}
    (LISTS / "mine" / "10-more.conf").unlink()
    (LISTS / "mine").rmdir()


def test_prune_removes_what_was_created_and_nobody_uses_or_names(minirt: Command) -> None:
    minirt.network("mine", bridge("cni-mine", "10.2.0.0/24"))
    for name in ("used", "named", "free", "spare"):
        minirt.ok("network", "create", name)
    minirt.ok("run", "-d", "--network", "used", "--name", "web", *SLEEP)
    minirt.ok("run", "--network", "named", "--name", "done", "host", "true")
    assert "there is no terminal to ask at" in minirt.fails(1, "network", "prune", stdin=-3)
    assert len(names()) == 5
    assert minirt.ok("network", "prune", "--force").split() == ["free", "spare"]
    assert names() == {"mine.conflist", "zz-used.conflist", "zz-named.conflist"}
    minirt.ok("start", "-a", "done")
    minirt.ok("rm", "-f", "web", "done")
    assert minirt.ok("network", "prune", "-f").split() == ["named", "used"]
    assert minirt.ok("network", "prune") == ""  # nothing to ask


@pytest.mark.parametrize(("word", "stays"), [("n", True), ("", True), ("y", False)])
def test_prune_asks_whoever_sits_at_a_terminal(minirt: Command, word: str, stays: bool) -> None:
    minirt.ok("network", "create", "free")
    ours, theirs = pty.openpty()
    os.write(ours, f"{word}\n".encode())
    process = minirt.start("network", "prune", stdin=theirs, stdout=-1, stderr=-1)
    out, err = process.communicate(timeout=20)
    os.close(ours)
    os.close(theirs)
    assert "remove free? [y/N]" in err
    assert (process.returncode, out.split()) == ((1, []) if stays else (0, ["free"]))
    assert names() == ({"zz-free.conflist"} if stays else set())


def test_a_bridge_that_was_left_serves_the_next_network_of_that_name(minirt: Command) -> None:
    for subnet in ("10.9.0.0/24", "10.9.0.0/24", "10.8.0.0/24"):
        minirt.ok("network", "create", "--subnet", subnet, "blue")
        shown = minirt.ok("run", "--rm", "--network", "blue", "host", "ip", "-br", "-4", "addr", "show", "eth0")
        assert subnet.removesuffix("0/24") in shown
        minirt.ok("network", "rm", "blue")
    assert {link for link in minirt.machine.links() if link.startswith("cni-")} == {"cni-blue", "cni-blue1"}


def test_without_root_a_sentence_is_said(machine: Machine) -> None:
    for words in (("ls",), ("create", "x"), ("rm", "x"), ("reload", "--all"), ("prune",), ("inspect", "x")):
        argv = ("setpriv", "--reuid=65534", "--clear-groups", PROGRAM, "network", *words)
        done = machine.run(*argv, check=False)
        assert done.returncode == 1
        assert f"'minirt network {words[0]}' needs root" in done.stderr, done.stderr
