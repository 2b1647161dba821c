"""Keys that nobody knows, and whatever `args` holds, are the same to every plugin (P4), and so is a key's case (S10).

Each is called with the configuration of its example list, with the same one that other people's tools have put their
keys into, and with one in the other case: the answers are the same, word for word.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.examples import example
from support.leftovers import SHARED
from support.machine import Machine
from support.plugins import Plugins
from support.site import IPV4, IPV6, LEASES, Site

from cni_plugins.sdk import launcher

pytestmark = pytest.mark.leaves(*SHARED)

THEIRS: dict[str, Any] = {
    "": 0,
    "//": "a comment",
    "x": None,
    "vendor.example/owner": {"deep": [1, {"a": None}, 10**30, 0.5, "\u2028"]},
    "cni.dev/unheard-of": True,
    "keepMe": [[], {}],
    "args": {
        "cni": {"labels": [{"key": "app", "value": "web"}], "unheard": {"of": [1, None]}, "": 7},
        "org.example": {"anything": [True, -1]},
        "bare": "text",
    },
}


DATA = ("sysctl", "capabilities", "cni.dev/valid-attachments")  # whose keys are somebody's data, or not the plugin's


def swapped(document: Any) -> Any:
    """With each key in the other case, as Go's libraries would read it all the same."""
    if isinstance(document, list):
        return [swapped(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        (key if key in DATA else key.swapcase()): (value if key in DATA else swapped(value))
        for key, value in document.items()
    }


def forget() -> None:
    """Have host-local begin with the first address again."""
    shutil.rmtree(LEASES, ignore_errors=True)


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


@pytest.mark.parametrize("name", launcher.NAMES)
def test_P4_S10_no_plugin_minds_keys_that_it_does_not_know_nor_the_case_of_those_it_does(site: Site, name: str) -> None:
    """Without a namespace ADD and CHECK fail, once the configuration has been read."""
    conf = {"cniVersion": "1.1.0", "name": "net"} | example(name)
    conf |= {"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}}
    conf["cni.dev/valid-attachments"] = []
    for command in ("STATUS", "ADD", "CHECK", "DEL", "GC"):
        answers = []
        for full in (conf, {**THEIRS, **conf}, swapped(conf) | {"type": name}):
            answers.append(site.plugins.call(command, full, "/run/netns/none"))
            if command == "ADD":
                site.plugins.call("DEL", full, "")
                forget()
        assert answers[0] == answers[1] == answers[2]


def test_S10_an_attachment_is_the_same_whatever_the_case_of_its_keys(site: Site) -> None:
    site.box()
    conf = site.conf(IPV4, IPV6, ipMasq=True, isDefaultGateway=True, hairpinMode=True, mtu=1400)
    conf["runtimeConfig"] = {"mac": "02:42:00:00:00:0a", "ips": ["10.1.0.9"]}
    results = []
    for full in (conf, swapped(conf) | {"type": "bridge"}):
        result = site.add(full)
        assert site.check(full, result).exit == 0
        site.delete(full)
        forget()
        results.append(result)
    assert results[0] == results[1]
    assert results[0]["interfaces"][2]["mac"] == "02:42:00:00:00:0a"


def test_P4_an_attachment_is_the_same_with_them(site: Site) -> None:
    site.box()
    conf = site.conf(IPV4, IPV6, ipMasq=True)
    results = []
    for keys in ({}, THEIRS):
        full = {**keys, **conf, "ipam": {**{key: THEIRS[key] for key in keys if key != "args"}, **conf["ipam"]}}
        result = site.add(full, args="IgnoreUnknown=1;K8S_POD_NAME=web" if keys else "")
        assert site.check(full, result).exit == 0
        site.delete(full)
        forget()
        results.append(result)
    assert results[0] == results[1]
