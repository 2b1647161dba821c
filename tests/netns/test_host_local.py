"""host-local as a plugin: its configuration, its answers, and a store that it shares with the reference plugin.

The judge is the reference plugin itself, where it has an opinion: the same calls must give the same answers and leave
the same files, and both must be able to work on one folder.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.host_local import DATA, FOLDER, LEAVES, REFERENCE, HostLocal, Refused, mark, store, take

from cni_plugins.sdk import launcher
from cni_plugins.sdk.executor import Fork, Spawn

pytestmark = [pytest.mark.usefixtures("machine"), pytest.mark.leaves(*LEAVES)]


@pytest.fixture
def program(tmp_path: Path) -> str:
    launcher.write(str(tmp_path / "bin"))
    return str(tmp_path / "bin" / "host-local")


@pytest.fixture
def ours(program: str) -> HostLocal:
    return HostLocal(program)


@pytest.fixture
def theirs() -> HostLocal:
    return HostLocal(REFERENCE)


@pytest.fixture(params=["ours", "theirs"])
def either(request: pytest.FixtureRequest) -> HostLocal:
    """Both implementations, one after the other: what is asserted is what users of the reference rely on."""
    found: HostLocal = request.getfixturevalue(request.param)
    return found


# --- what both do -----------------------------------------------------------------------------------------------------

TWO_SETS = {
    "ranges": [
        [{"subnet": "10.1.2.0/24"}, {"subnet": "10.2.2.0/24", "gateway": "10.2.2.9"}],
        [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::20"}],
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.1.2.7"}, {"dst": "2001:db8::/32"}],
}


def test_add_gives_an_address_of_each_set_and_del_gives_them_back(either: HostLocal, tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text(
        "# a comment\nnameserver 192.0.2.3\nnameserver 192.0.2.4 ignored\n; another\ndomain first\ndomain last\n"
        "search a b\nsearch c\noptions ndots:2 debug\nnameserver\nsortlist 1.2.3.4\n",
        encoding="utf-8",
    )
    either.ipam |= TWO_SETS | {"resolvConf": str(tmp_path / "resolv.conf")}
    assert either.call("ADD") == {
        "cniVersion": "1.0.0",
        "ips": [
            {"address": "10.1.2.2/24", "gateway": "10.1.2.1"},
            {"address": "2001:db8:1::20/64", "gateway": "2001:db8:1::1"},
        ],
        "routes": TWO_SETS["routes"],
        "dns": {
            "nameservers": ["192.0.2.3", "192.0.2.4"],
            "domain": "last",
            "search": ["a", "b", "c"],
            "options": ["ndots:2", "debug"],
        },
    }
    assert either.add(ifname="eth1") == ["10.1.2.3/24", "2001:db8:1::21/64"], "a second interface of one container"
    assert store() == {
        "10.1.2.2": "c1\r\neth0",
        "10.1.2.3": "c1\r\neth1",
        "2001:db8:1::20": "c1\r\neth0",
        "2001:db8:1::21": "c1\r\neth1",
        "last_reserved_ip.0": "10.1.2.3",
        "last_reserved_ip.1": "2001:db8:1::21",
    }
    either.delete()
    assert sorted(store())[:2] == ["10.1.2.3", "2001:db8:1::21"]
    either.delete(ifname="eth1")
    assert set(store()) == {"last_reserved_ip.0", "last_reserved_ip.1"}


SMALL = [[{"subnet": "10.0.0.0/29"}]]
TWO_IN_ONE = [
    [
        {"subnet": "192.168.1.0/29"},
        {"subnet": "192.168.2.0/24", "rangeStart": "192.168.2.10", "rangeEnd": "192.168.2.11"},
    ]
]


@pytest.mark.parametrize(
    ("ranges", "last", "taken", "given"),
    [
        pytest.param(SMALL, None, [], "10.0.0.2/29", id="fresh start"),
        pytest.param(SMALL, "10.0.0.5", [], "10.0.0.6/29", id="after the last"),
        pytest.param(SMALL, "10.0.0.5", ["10.0.0.6"], "10.0.0.2/29", id="wraps"),
        pytest.param(SMALL, None, ["10.0.0.2", "10.0.0.3"], "10.0.0.4/29", id="skips what is taken"),
        pytest.param(SMALL, "10.0.0.9", [], "10.0.0.2/29", id="a marker that is out of range"),
        pytest.param(
            SMALL, "10.0.0.5", [f"10.0.0.{n}" for n in (2, 3, 4, 6)], "10.0.0.5/29", id="only the last one is free"
        ),
        pytest.param([[{"subnet": "10.0.0.0/30"}]], None, [], "10.0.0.2/30", id="a subnet of one"),
        pytest.param(TWO_IN_ONE, "192.168.1.6", [], "192.168.2.10/24", id="on to the next range"),
        pytest.param(TWO_IN_ONE, "192.168.2.11", [], "192.168.1.2/29", id="back to the first range"),
        pytest.param(TWO_IN_ONE, "192.168.1.3", [], "192.168.1.4/29", id="in the middle"),
        pytest.param([[{"subnet": "2001:db8:1::/64"}]], None, [], "2001:db8:1::2/64", id="IPv6"),
    ],
)
def test_the_next_address_is_the_one_the_reference_gives(
    either: HostLocal, ranges: list[Any], last: str | None, taken: list[str], given: str
) -> None:
    either.ipam["ranges"] = ranges
    take(*taken)
    if last:
        mark(last)
    assert either.add() == [given]


def test_a_freed_address_rests_until_the_others_have_been_used(either: HostLocal) -> None:
    either.ipam["ranges"] = SMALL
    assert either.add("a") == ["10.0.0.2/29"]
    either.delete("a")
    assert [either.add(name) for name in "bcdef"] == [[f"10.0.0.{n}/29"] for n in (3, 4, 5, 6, 2)]


def test_an_exhausted_set_is_an_error_that_names_it_and_takes_nothing(either: HostLocal) -> None:
    either.ipam["ranges"] = [[{"subnet": "10.1.0.0/24"}], *TWO_IN_ONE]
    take(*(f"192.168.1.{n}" for n in range(2, 7)), "192.168.2.10", "192.168.2.11")
    before = store()
    refused = either.refused("ADD")
    assert refused.msg == (
        "failed to allocate for range 1: no IP addresses available in range set: "
        "192.168.1.1-192.168.1.6,192.168.2.10-192.168.2.11"
    )
    after = store()
    after.pop("last_reserved_ip.0")
    assert after == before


def test_the_same_attachment_is_not_given_two(either: HostLocal) -> None:
    assert either.add() == ["10.1.0.2/24"]
    before = store()
    refused = either.refused("ADD")
    assert "10.1.0.2 has been allocated to" in refused.msg
    assert "duplicate allocation is not allowed" in refused.msg
    assert store() == before
    assert either.add("another") == ["10.1.0.3/24"]


@pytest.mark.parametrize(
    "asked",
    [
        {"cni_args": "IP=10.1.0.88"},
        {"cni_args": "IP=10.1.0.88/24;IgnoreUnknown=1;K8S_POD_NAME=x"},
        {"args": {"cni": {"ips": ["10.1.0.88"]}}},
        {"args": {"cni": {"ips": ["10.1.0.88/24"]}}},
        {"runtimeConfig": {"ips": ["10.1.0.88"]}},
        {"RuntimeConfig": {"IPs": ["10.1.0.88/24"]}},
    ],
    ids=str,
)
def test_an_address_can_be_asked_for(either: HostLocal, asked: dict[str, Any]) -> None:
    assert either.add(**asked) == ["10.1.0.88/24"]
    assert store()["last_reserved_ip.0"] == "10.1.0.88"


def test_addresses_of_several_sets_and_families_can_be_asked_for(either: HostLocal) -> None:
    either.ipam |= TWO_SETS
    asked = {"ips": ["2001:db8:1::999", "10.2.2.77"]}
    assert either.add(runtimeConfig=asked) == ["10.2.2.77/24", "2001:db8:1::999/64"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("10.1.0.1", "gateway"),
        ("10.1.0.5", "requested IP address 10.1.0.5 is not available in range set 10.1.0.1-10.1.0.254"),
        ("10.9.9.9", "10.9.9.9"),
        ("10.1.0.255", "10.1.0.255"),
        ("ten", "ten"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_and_nothing_is_taken(
    either: HostLocal, asked: str, says: str
) -> None:
    either.ipam["ranges"] = [[{"subnet": "10.7.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]
    take("10.1.0.5")
    assert says in either.refused("ADD", cni_args=f"IP={asked}").msg
    assert {name for name in store() if name[0].isdigit()} == {"10.1.0.5"}


def test_P10_del_of_what_is_not_there_succeeds_twice(either: HostLocal) -> None:
    either.delete("never")
    either.delete("never")
    take("10.1.0.7")
    either.delete("never")
    assert list(store()) == ["10.1.0.7"]


def test_the_old_format_is_released(either: HostLocal) -> None:
    take("10.1.0.7", by="c1")
    take("10.1.0.8", by="c2\r\neth0")
    either.delete()
    assert list(store()) == ["10.1.0.8"]


def test_the_old_style_of_configuration_comes_before_the_list(either: HostLocal) -> None:
    either.ipam |= {"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.5", "rangeEnd": "10.7.0.6", "gateway": "10.7.0.5"}
    assert either.call("ADD")["ips"] == [
        {"address": "10.7.0.6/24", "gateway": "10.7.0.5"},
        {"address": "10.1.0.2/24", "gateway": "10.1.0.1"},
    ]


def test_ranges_of_the_runtime_come_before_all(either: HostLocal) -> None:
    either.ipam |= {"subnet": "10.7.0.0/24"}
    more = [[{"subnet": "10.8.0.0/24"}], [{"subnet": "fd00::/64"}]]
    assert either.add(runtimeConfig={"ipRanges": more}) == ["10.8.0.2/24", "fd00::2/64", "10.7.0.2/24", "10.1.0.2/24"]
    assert sorted(store())[-4:] == [f"last_reserved_ip.{number}" for number in range(4)]


def test_the_data_folder_can_be_named(either: HostLocal, tmp_path: Path) -> None:
    either.ipam["dataDir"] = str(tmp_path / "data")
    assert either.add() == ["10.1.0.2/24"]
    assert "10.1.0.2" in store(str(tmp_path / "data" / "net"))
    assert store() == {}
    either.delete()
    assert "10.1.0.2" not in store(str(tmp_path / "data" / "net"))


FOUR = [[{"subnet": f"10.{number}.0.0/24"}] for number in range(2)]
BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no ranges": ({"ranges": []}, "no IP ranges specified"),
    "an empty set": ({"ranges": [[]]}, "empty"),
    "mixed families": ({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}, "mixed address families"),
    "overlap of sets": ({"ranges": [[{"subnet": "10.0.0.0/20"}], [{"subnet": "10.0.1.0/24"}]]}, "range set 0"),
    "overlap within a set": ({"ranges": [[{"subnet": "10.0.0.0/20"}, {"subnet": "10.0.1.0/24"}]]}, "overlap"),
    "host bits": ({"ranges": [[{"subnet": "192.168.127.1/24"}]]}, "host bits set"),
    "too small": ({"ranges": [[{"subnet": "192.168.127.0/31"}]]}, "too small to allocate from"),
    "too small for IPv6": ({"ranges": [[{"subnet": "fd00::/127"}]]}, "too small to allocate from"),
    "start outside": (
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.1.0.5"}]]},
        "not in network 10.0.0.0/24",
    ),
    "end outside": ({"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.1.0.5"}]]}, "not in network 10.0.0.0/24"),
    "end before start": (
        {"ranges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}]]},
        "10.0.0.9",
    ),
    "resolvConf missing": ({"resolvConf": "/no/such/file"}, "/no/such/file"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_configuration_that_makes_no_sense_is_refused(either: HostLocal, name: str) -> None:
    ipam, says = BAD_CONFIGS[name]
    either.ipam |= ipam
    assert says in either.refused("ADD").msg
    assert store() == {}


@pytest.mark.parametrize(
    ("version", "ranges", "given"),
    [
        ("0.2.0", FOUR, None),
        ("0.3.0", FOUR, 2),
        ("0.2.0", [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]], 2),
        ("0.1.0", [[{"subnet": "10.0.0.0/24"}]], 1),
    ],
)
def test_versions_before_0_3_0_hold_one_address_a_family(
    either: HostLocal, version: str, ranges: list[Any], given: int | None
) -> None:
    either.ipam["ranges"] = ranges
    if given is None:
        refused = either.refused("ADD", cniVersion=version)
        assert refused.msg == f"CNI version {version} does not support more than 1 address per family"
    else:
        result = either.call("ADD", cniVersion=version)
        assert result["cniVersion"] == version
        assert len(result.get("ips", [key for key in result if key in ("ip4", "ip6")])) == given


# --- ours and theirs against each other -------------------------------------------------------------------------------

RANDOM_CONFIGS: list[dict[str, Any]] = [
    {"ranges": [[{"subnet": "10.0.0.0/28", "rangeEnd": "10.0.0.7"}]]},
    {
        "ranges": [
            [{"subnet": "10.0.0.0/29"}, {"subnet": "10.0.1.0/29", "gateway": "10.0.1.4"}],
            [{"subnet": "fd00::/125"}],
        ]
    },
]


def _answer(plugin: HostLocal, folder: str, command: str, container: str, ifname: str, asked: str) -> Any:
    """The result, None, or "refused". An attachment that has an address asks for none: the reference would then give
    back what it has, which is one of the faults that ours does not share."""
    if f"{container}\r\n{ifname}" in store(folder).values():
        asked = ""
    try:
        return plugin.call(command, container, ifname, cni_args=f"IP={asked}" if asked else "")
    except Refused:
        return "refused"


def _steps(seed: int, count: int = 40) -> Iterator[tuple[str, str, str, str]]:
    """Command, container, interface, address asked for: mostly ADD, so that the ranges run full."""
    choose = random.Random(seed)
    for _ in range(count):
        command = choose.choice(["ADD", "ADD", "ADD", "DEL"])
        asked = choose.choice(["", "", "", "", f"10.0.0.{choose.randint(2, 6)}"]) if command == "ADD" else ""
        yield command, choose.choice("abcdefgh"), choose.choice(["eth0", "eth0", "net1"]), asked


@pytest.mark.parametrize("seed", range(4))
def test_the_same_calls_have_the_same_answers_and_leave_the_same_files(
    ours: HostLocal, theirs: HostLocal, tmp_path: Path, seed: int
) -> None:
    answers = []
    for plugin, name in ((ours, "ours"), (theirs, "theirs")):
        plugin.ipam |= RANDOM_CONFIGS[seed % 2] | {"dataDir": str(tmp_path / name)}
        seen: list[Any] = []
        for command, container, ifname, asked in _steps(seed):
            folder = str(tmp_path / name / "net")
            seen += [_answer(plugin, folder, command, container, ifname, asked), store(folder)]
        answers.append(seen)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("seed", range(4, 7))
def test_both_can_share_a_store(ours: HostLocal, theirs: HostLocal, seed: int) -> None:
    """Turn by turn on one folder: the answers are those of the reference alone on a folder of its own."""
    choose = random.Random(seed)
    for plugin in (ours, theirs):
        plugin.ipam |= RANDOM_CONFIGS[seed % 2]
    alone = HostLocal(REFERENCE, **(theirs.ipam | {"dataDir": f"{DATA}-alone"}))
    for command, container, ifname, asked in _steps(seed):
        shared = _answer(choose.choice([ours, theirs]), FOLDER, command, container, ifname, asked)
        assert shared == _answer(alone, f"{DATA}-alone/net", command, container, ifname, asked)
        assert store() == store(f"{DATA}-alone/net")


def test_P3_both_at_the_same_time_never_give_an_address_twice(ours: HostLocal, theirs: HostLocal) -> None:
    calls = []
    for number in range(24):
        plugin, executor = ((ours, Spawn()), (theirs, Spawn()), (ours, Fork()))[number % 3]
        env = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": f"c{number}",
            "CNI_NETNS": "/x",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/",
        }
        calls.append(executor.start(plugin.program, env, json.dumps(plugin.config()).encode(), timeout=30))
    outcomes = [call.wait() for call in calls]
    assert [outcome.exit for outcome in outcomes] == [0] * 24
    given = {json.loads(outcome.stdout)["ips"][0]["address"] for outcome in outcomes}
    assert given == {f"10.1.0.{number}/24" for number in range(2, 26)}
    for number in range(24):
        (theirs, ours)[number % 2].delete(f"c{number}")
    assert list(store()) == ["last_reserved_ip.0"]
