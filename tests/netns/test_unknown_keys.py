"""Keys that nobody knows, and whatever `args` holds, make no difference to any plugin (P4).

Each is called with the configuration of its example list, and with the same one that other people's tools have put
their keys into: the answers are the same, word for word.
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


def forget() -> None:
    """Have host-local begin with the first address again."""
    shutil.rmtree(LEASES, ignore_errors=True)


@pytest.fixture
def site(machine: Machine, tmp_path: Path) -> Iterator[Site]:
    made = Site(machine, Plugins(machine, tmp_path / "bin"))
    yield made
    made.close()


@pytest.mark.parametrize("name", launcher.NAMES)
def test_P4_no_plugin_minds_keys_that_it_does_not_know(site: Site, name: str) -> None:
    """Without a namespace ADD and CHECK fail, once the configuration has been read."""
    conf = {"cniVersion": "1.1.0", "name": "net"} | example(name)
    conf |= {"prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}}
    conf["cni.dev/valid-attachments"] = []
    for command in ("STATUS", "ADD", "CHECK", "DEL", "GC"):
        answers = []
        for full in (conf, {**THEIRS, **conf}):
            answers.append(site.plugins.call(command, full, "/run/netns/none"))
            site.plugins.call("DEL", full, "")
            forget()
        assert answers[0] == answers[1]


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
