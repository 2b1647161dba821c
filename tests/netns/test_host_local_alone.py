"""What host-local does beyond the reference plugin: precedence, sentences, CHECK, STATUS, GC, a flat cost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.host_local import FOLDER, LEAVES, HostLocal, mark, store, take
from support.machine import Machine

from cni_plugins.sdk import launcher

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*LEAVES)]

SMALL = [[{"subnet": "10.0.0.0/29"}]]


@pytest.fixture
def ours(tmp_path: Path) -> HostLocal:
    launcher.write(str(tmp_path / "bin"))
    return HostLocal(str(tmp_path / "bin" / "host-local"))


def test_the_strongest_of_the_three_places_counts_alone(ours: HostLocal) -> None:
    weak, middle, strong = "IP=10.1.0.11", {"cni": {"ips": ["10.1.0.12"]}}, {"ips": ["10.1.0.13"]}
    assert ours.add("a", cni_args=weak, args=middle, runtimeConfig=strong) == ["10.1.0.13/24"]
    assert ours.add("b", cni_args=weak, args=middle, runtimeConfig={"ips": []}) == ["10.1.0.12/24"]
    assert ours.add("c", cni_args=weak, args={"cni": {}}, runtimeConfig={}) == ["10.1.0.11/24"]


def test_who_holds_an_address_that_was_asked_for_is_said(ours: HostLocal) -> None:
    ours.add("x" * 64, "eth7", cni_args="IP=10.1.0.5")
    refused = ours.refused("ADD", "c2", cni_args="IP=10.1.0.5")
    assert refused.msg == (
        "failed to allocate for range 0: requested IP address 10.1.0.5 is not available in range set "
        f"10.1.0.1-10.1.0.254: it is taken by container {'x' * 64} eth7"
    )


def test_an_address_out_of_range_is_refused_with_the_ranges(ours: HostLocal) -> None:
    ours.ipam["ranges"] = [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64", "rangeEnd": "fd00::9"}]]
    refused = ours.refused("ADD", cni_args="IP=10.2.0.5")
    assert (refused.code, refused.msg) == (
        7,
        "requested IP address 10.2.0.5 is not in range set 10.1.0.1-10.1.0.254 nor in fd00::1-fd00::9",
    )


def test_two_addresses_of_one_set_cannot_be_asked_for(ours: HostLocal) -> None:
    assert ours.refused("ADD", runtimeConfig={"ips": ["10.1.0.5", "10.1.0.6"]}).msg == (
        "requested IP addresses 10.1.0.5 and 10.1.0.6 are both of range set 10.1.0.1-10.1.0.254, which gives one"
    )


def test_a_repeated_add_with_an_address_is_a_duplicate_and_changes_nothing(ours: HostLocal) -> None:
    ours.add(cni_args="IP=10.1.0.5")
    before = store()
    assert "duplicate allocation" in ours.refused("ADD", cni_args="IP=10.1.0.5").msg
    assert "duplicate allocation" in ours.refused("ADD", cni_args="IP=10.1.0.6").msg
    assert store() == before


def test_a_failed_add_leaves_older_reservations_of_the_attachment_alone(ours: HostLocal) -> None:
    """What an earlier configuration gave it is for DEL to release."""
    take("10.99.0.5", by="c1\r\neth0")
    ours.ipam["ranges"] = [[{"subnet": "10.1.0.0/24"}], SMALL[0]]
    take(*(f"10.0.0.{n}" for n in range(2, 7)))
    ours.refused("ADD")
    assert "10.99.0.5" in store()
    ours.delete()
    assert "10.99.0.5" not in store()


def test_U2_an_empty_reservation_does_not_block_its_address(ours: HostLocal) -> None:
    take("10.1.0.2", by="")
    take("10.1.0.3", by="\0" * 20)
    assert (ours.add("a"), ours.add("b", cni_args="IP=10.1.0.3")) == (["10.1.0.2/24"], ["10.1.0.3/24"])


def test_U21_del_releases_under_a_configuration_that_has_become_invalid(ours: HostLocal) -> None:
    ours.add()
    ours.ipam["ranges"] = [[{"subnet": "10.1.0.0/33"}]]
    ours.refused("ADD", "c2")
    ours.delete()
    assert list(store()) == ["last_reserved_ip.0"]


@pytest.mark.parametrize(
    ("ipam", "where"),
    [
        ({"ranges": {}}, "ipam.ranges: expected a list of range sets, got {}"),
        ({"ranges": [{"subnet": "10.0.0.0/24"}]}, 'ipam.ranges[0]: expected a list, got {"subnet": "10.0.0.0/24"}'),
        ({"ranges": [["10.0.0.0/24"]]}, 'ipam.ranges[0][0]: expected an object, got "10.0.0.0/24"'),
        ({"ranges": [[{"subnet": 10}]]}, "ipam.ranges[0][0].subnet: expected a string, got 10"),
        ({"ranges": [[{"subnet": "10.0.0.0"}]]}, "ipam.ranges[0][0].subnet: '10.0.0.0' has no prefix length"),
        ({"routes": [{"dst": "x"}]}, "ipam.routes[0].dst: 'x' has no prefix length"),
        ({"dataDir": 7}, "ipam.dataDir: expected a string, got 7"),
    ],
)
def test_mistakes_are_named_by_their_path(ours: HostLocal, ipam: dict[str, Any], where: str) -> None:
    ours.ipam |= ipam
    refused = ours.refused("ADD")
    assert refused.code == 7
    assert refused.msg.startswith(where)


def test_a_configuration_without_ipam_is_refused(ours: HostLocal) -> None:
    assert ours.refused("ADD", ipam=None).msg == "ipam: missing"


def test_a_full_ipv6_prefix_is_not_walked(ours: HostLocal) -> None:
    """The reference would try address by address, for centuries."""
    ours.ipam["ranges"] = [[{"subnet": "fd00::/64"}]]
    mark("fd00::ffff:ffff:ffff:fffe")
    assert ours.add("a") == ["fd00::ffff:ffff:ffff:ffff/64"]
    assert ours.add("b") == ["fd00::2/64"]


# --- CHECK, STATUS, GC ------------------------------------------------------------------------------------------------


def test_P14_P15_check_finds_what_add_made_and_misses_what_is_gone(ours: HostLocal) -> None:
    result = ours.call("ADD")
    assert ours.call("CHECK", prevResult=result) is None
    os.unlink(f"{FOLDER}/10.1.0.2")
    assert ours.refused("CHECK", prevResult=result)


@pytest.mark.parametrize("text", ["thief\r\neth0", ""])
def test_P14_check_sees_what_has_been_written_over(ours: HostLocal, text: str) -> None:
    result = ours.call("ADD")
    with open(f"{FOLDER}/10.1.0.2", "w", encoding="utf-8") as file:
        file.write(text)
    assert "10.1.0.2 is not reserved for container c1 eth0" in ours.refused("CHECK", prevResult=result).msg


def test_check_makes_no_store_where_there_is_none(ours: HostLocal) -> None:
    assert "does not exist" in ours.refused("CHECK", prevResult={"cniVersion": "1.0.0"}).msg
    assert not os.path.exists(FOLDER)


def test_P13_check_compares_with_the_previous_result(ours: HostLocal) -> None:
    ours.add(cni_args="IP=10.1.0.9")
    take("10.1.0.5", by="thief\r\neth0")
    other = [{"address": "172.16.0.1/24"}, {"address": "fd00::1/64"}]  # of another plugin of the chain
    result = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}, *other]}
    assert ours.call("CHECK", prevResult=result) is None
    result["ips"] = [{"address": "10.1.0.5/24"}]
    refused = ours.refused("CHECK", prevResult=result)
    assert refused.msg == "10.1.0.5 is not reserved for container c1 eth0: it is taken by container thief eth0"


def test_P16_status_is_not_ready_when_a_set_is_exhausted(ours: HostLocal) -> None:
    ours.ipam["ranges"] = [[{"subnet": "10.1.0.0/24"}], *SMALL]
    assert ours.call("STATUS", cniVersion="1.1.0") is None
    assert not os.path.exists(FOLDER)
    take(*(f"10.0.0.{n}" for n in range(2, 6)))
    assert ours.call("STATUS", cniVersion="1.1.0") is None
    take("10.0.0.6", by="")
    assert ours.call("STATUS", cniVersion="1.1.0") is None, "a torn file holds nothing"
    take("10.0.0.6")
    refused = ours.refused("STATUS", cniVersion="1.1.0")
    assert (refused.code, refused.msg) == (50, "no IP addresses available in range set: 10.0.0.1-10.0.0.6")


def test_P16_status_is_not_ready_when_the_configuration_is_wrong(ours: HostLocal) -> None:
    ours.ipam["ranges"] = []
    assert ours.refused("STATUS", cniVersion="1.1.0").code == 7


def gc(plugin: HostLocal, *valid: dict[str, str]) -> None:
    keys: dict[str, Any] = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": list(valid)}
    assert plugin.call("GC", **keys) is None


def test_P18_gc_releases_what_is_not_valid(ours: HostLocal) -> None:
    for container, ifname in (("a", "eth0"), ("a", "eth1"), ("b", "eth0")):
        ours.add(container, ifname)
    gc(ours, {"containerID": "a", "ifname": "eth1"})
    assert list(store()) == ["10.1.0.3", "last_reserved_ip.0"]
    assert ours.add("c") == ["10.1.0.5/24"]
    gc(ours)
    assert list(store()) == ["last_reserved_ip.0"]


def test_gc_of_a_network_that_never_was_makes_nothing(ours: HostLocal) -> None:
    gc(ours)
    assert not os.path.exists(FOLDER)


def test_gc_that_does_not_say_who_is_alive_releases_nothing(ours: HostLocal) -> None:
    ours.add()
    assert ours.refused("GC", cniVersion="1.1.0").code == 7
    assert "10.1.0.2" in store()


# --- the program ------------------------------------------------------------------------------------------------------


def test_as_a_program_it_answers_as_in_a_fork(machine: Machine, ours: HostLocal) -> None:
    """And needs nothing but what a runtime gives: here, no environment and no home at all."""
    text = json.dumps(ours.config())
    done = machine.run(ours.program, env=ours.environment("ADD", "p"), input=text)
    assert json.loads(done.stdout)["ips"] == [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]
    assert ours.add("f") == ["10.1.0.3/24"]
    machine.run(ours.program, env=ours.environment("DEL", "p"), input=text)
    assert "10.1.0.2" not in store()


def test_its_work_does_not_grow_with_the_number_of_reservations(machine: Machine, ours: HostLocal) -> None:
    """Counted in system calls, which no load on the machine can blur."""
    ours.ipam["ranges"] = [[{"subnet": "10.1.0.0/16"}]]
    counts = [_syscalls(machine, ours, "first")]
    take(*(f"10.1.{n >> 8}.{n & 255}" for n in range(300, 1300)), by="many\r\neth0")
    _syscalls(machine, ours, "learns")  # what somebody else did is read once
    counts.append(_syscalls(machine, ours, "later"))
    assert abs(counts[0] - counts[1]) < 20, counts


def _syscalls(machine: Machine, plugin: HostLocal, container: str) -> int:
    """How many an ADD and a DEL take, the program's start included."""
    total = 0
    for command in ("ADD", "DEL"):
        argv = ["strace", "-f", "-o", "/run/count", plugin.program]
        text = json.dumps(plugin.config())
        machine.run(*argv, env=plugin.environment(command, container) | {"PATH": "/usr/bin"}, input=text)
        total += len(Path("/run/count").read_bytes().splitlines())
    os.unlink("/run/count")
    return total
