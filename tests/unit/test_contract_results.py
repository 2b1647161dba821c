"""Every cell of the table of conversions, as the Go libraries have it: a document of one version, read and written in
each of the others (reference: section 1.7).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from support.listbench import Bench
from support.scripted import says

from cni_plugins.spec import versions
from cni_plugins.spec.convert import decode, encode
from cni_plugins.spec.errors import CniError

Document = dict[str, Any]

OLD, VERSIONED, NEW = ("0.1.0", "0.2.0"), ("0.3.0", "0.3.1", "0.4.0"), ("1.0.0", "1.1.0")
CLASS = dict.fromkeys(OLD, "old") | dict.fromkeys(VERSIONED, "versioned") | dict.fromkeys(NEW, "new")
DNS = {"nameservers": ["9.9.9.9"], "domain": "local", "search": ["a"], "options": ["ndots:2"]}

# What each kind of document says when it says all that it can.
FULL: dict[str, Document] = {
    "old": {
        "ip4": {
            "ip": "10.1.0.5/16",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16"}],
        },
        "ip6": {"ip": "2001:db8::5/64", "routes": [{"dst": "2001:db8:1::/48"}]},
        "dns": DNS,
    },
    "versioned": {
        "interfaces": [{"name": "br0", "mac": "aa:aa:aa:aa:aa:aa"}, {"name": "eth0", "sandbox": "/ns"}],
        "ips": [
            {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
            {"version": "6", "address": "2001:db8::5/64", "interface": 0},
            {"version": "4", "address": "10.2.0.5/16"},
        ],
        "routes": [
            {
                "dst": "0.0.0.0/0",
                "gw": "10.1.0.1",
                "mtu": 1300,
                "advmss": 1200,
                "priority": 5,
                "table": 0,
                "scope": 253,
            },
            {"dst": "2001:db8:1::/48"},
            {"dst": "10.9.0.0/16"},
        ],
        "dns": DNS,
    },
}
FULL["new"] = deepcopy(FULL["versioned"])
FULL["new"]["interfaces"][1] |= {"mtu": 1400, "socketPath": "/sock", "pciID": "0000:00"}
for _ip in FULL["new"]["ips"]:
    del _ip["version"]

_OLD_AS_VERSIONED: Document = {
    "ips": [
        {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
        {"version": "6", "address": "2001:db8::5/64"},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "10.9.0.0/16"}, {"dst": "2001:db8:1::/48"}],
    "dns": DNS,
}
_OLD_AS_NEW = deepcopy(_OLD_AS_VERSIONED)
for _ip in _OLD_AS_NEW["ips"]:
    del _ip["version"]
_VERSIONED_AS_NEW = deepcopy(FULL["new"])
for _key in ("mtu", "socketPath", "pciID"):
    del _VERSIONED_AS_NEW["interfaces"][1][_key]

# (from, to) -> what becomes of FULL[from].
CELLS = {
    ("old", "old"): FULL["old"],
    ("old", "versioned"): _OLD_AS_VERSIONED,
    ("old", "new"): _OLD_AS_NEW,
    ("versioned", "old"): FULL["old"],  # the second IPv4 address, the interfaces and what routes say more are gone
    ("versioned", "versioned"): FULL["versioned"],
    ("versioned", "new"): _VERSIONED_AS_NEW,
    ("new", "old"): FULL["old"],
    ("new", "versioned"): FULL["versioned"],
    ("new", "new"): FULL["new"],
}


def converted(document: Document, source: str, target: str) -> Document:
    return encode(decode({"cniVersion": source} | document), target)


@pytest.mark.parametrize("target", versions.ALL)
@pytest.mark.parametrize("source", versions.ALL)
def test_R32_each_version_becomes_each_other_as_the_table_says(source: str, target: str) -> None:
    expected = {"cniVersion": target} | CELLS[CLASS[source], CLASS[target]]
    assert converted(FULL[CLASS[source]], source, target) == expected


@pytest.mark.parametrize("source", VERSIONED)
@pytest.mark.parametrize("target", NEW)
def test_what_a_version_has_no_words_for_is_left_out_though_it_is_said(source: str, target: str) -> None:
    said = deepcopy(FULL["versioned"])
    said["interfaces"][1] |= {"mtu": 1400, "socketPath": "/sock", "pciID": "0000:00"}
    assert converted(said, source, target) == {"cniVersion": target} | _VERSIONED_AS_NEW


EMPTY: dict[str, Document] = {"old": {"dns": {}}, "versioned": {"dns": {}}, "new": {}}


@pytest.mark.parametrize("target", versions.ALL)
@pytest.mark.parametrize("source", versions.ALL)
def test_a_result_that_says_nothing_is_one_that_says_nothing_in_every_version(source: str, target: str) -> None:
    """The Go libraries refuse it on the way down to 0.2.0, where nothing would be lost; we do not."""
    assert converted({}, source, target) == {"cniVersion": target} | EMPTY[CLASS[target]]


@pytest.mark.parametrize("target", OLD)
@pytest.mark.parametrize("source", (*VERSIONED, *NEW))
@pytest.mark.parametrize("said", [{"interfaces": [{"name": "eth0"}]}, {"routes": [{"dst": "0.0.0.0/0"}]}])
def test_what_would_be_lost_for_want_of_an_address_is_code_1(source: str, target: str, said: Document) -> None:
    with pytest.raises(CniError) as caught:
        converted(said, source, target)
    assert (caught.value.code, caught.value.msg) == (1, "cannot convert: no valid IP addresses")


@pytest.mark.parametrize("source", (*VERSIONED, *NEW))
def test_a_route_of_a_family_without_an_address_is_dropped_on_the_way_down(source: str) -> None:
    said = {"ips": [{"address": "10.1.0.5/16"}], "routes": [{"dst": "::/0"}, {"dst": "10.9.0.0/16"}]}
    assert converted(said, source, "0.2.0") == {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "10.1.0.5/16", "routes": [{"dst": "10.9.0.0/16"}]},
        "dns": {},
    }


@pytest.mark.parametrize("source", (*VERSIONED, *NEW))
def test_index_0_table_0_and_scope_0_survive(source: str) -> None:
    said = {
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "10.1.0.5/16", "interface": 0}],
        "routes": [{"dst": "10.9.0.0/16", "table": 0, "scope": 0, "priority": 0, "mtu": 0, "advmss": 0}],
    }
    document = converted(said, source, source)
    assert document["ips"][0]["interface"] == 0
    assert document["routes"] == [{"dst": "10.9.0.0/16", "table": 0, "scope": 0}]


def test_no_version_is_the_first_to_write_and_the_one_expected_to_read() -> None:
    assert encode(decode({"cniVersion": "", "ip4": {"ip": "10.1.0.5/16"}}, "0.2.0"), "") == {
        "cniVersion": "0.1.0",
        "ip4": {"ip": "10.1.0.5/16"},
        "dns": {},
    }


@pytest.mark.parametrize("version", ["0.5.0", "1.0", "2.0.0", "one"])
def test_a_version_that_nobody_knows_is_code_1_both_ways(version: str) -> None:
    for attempt in (lambda: decode({"cniVersion": version}), lambda: encode(decode({}), version)):
        with pytest.raises(CniError) as caught:
            attempt()
        assert caught.value.code == 1


# --- through the runtime: one plugin's version, another's, and the list's ---------------------------------------------


@pytest.mark.parametrize("spoken", versions.ALL)
@pytest.mark.parametrize("listed", versions.ALL)
def test_R18_R32_the_next_plugin_is_given_the_result_in_the_lists_version_whatever_the_first_one_spoke(
    tmp_path: Path, spoken: str, listed: str
) -> None:
    bench = Bench(tmp_path)
    bench.plugins.write("a", ADD=[says({"cniVersion": spoken} | FULL[CLASS[spoken]])])
    bench.plugins.write("b", ADD=[says(b"null")])
    bench.cni().add(bench.attachment("a", "b", text={"cniVersion": listed}))
    expected = {"cniVersion": listed} | CELLS[CLASS[spoken], CLASS[listed]]
    assert bench.plugins.calls()[1].config["prevResult"] == expected
    entry = bench.cache.get("net", "c1", "eth0")
    assert entry and entry.result == {"cniVersion": listed} | EMPTY[CLASS[listed]]
