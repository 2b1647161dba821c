"""Attachments that stay, made anew over lists of scripted plugins; and DEL by force where a list offers versions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.house import TOP
from support.listbench import ONE, REFUSED, TWO, Bench
from support.scripted import fails, says

from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Result
from minirt.cni.chain import SeveralFailed
from minirt.cni.request import Attachment
from minirt.errors import ConfigError, Conflict, NotFound, PluginError

WISHES = {"plugins": [{"type": "a", "capabilities": {"ips": True}}, {"type": "b"}]}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def renew(bench: Bench, *attachments: Attachment, **more: Any) -> list[tuple[str, Result]]:
    kept: list[tuple[str, Result]] = []
    begin = more.pop("begin", lambda: None)
    bench.cni(**more).renew_all(attachments, begin, lambda item, result: kept.append((item.ifname, result)))
    return kept


def test_what_stays_is_deleted_as_it_was_added_and_added_as_it_is_asked_for_now(bench: Bench) -> None:
    attachment = bench.added("a", "b", text=WISHES)
    asking = replace(attachment, capability_args={"ips": ["10.1.0.3/24"]})
    ((ifname, result),) = renew(bench, asking)
    assert bench.order() == ["b DEL", "a DEL", "a ADD", "b ADD"]
    calls = bench.plugins.calls()
    assert "runtimeConfig" not in calls[1].config
    assert calls[2].config["runtimeConfig"] == {"ips": ["10.1.0.3/24"]}
    assert (ifname, str(result.ips[0].address)) == ("eth0", "10.1.0.3/24")
    entry = bench.cache.get("net", "c1", "eth0")
    assert entry is not None and dict(entry.capability_args) == {"ips": ["10.1.0.3/24"]}


def test_a_plugin_that_misses_what_was_flushed_keeps_nobody_from_being_added_again(bench: Bench) -> None:
    attachment = bench.added("a", "b")
    bench.plugins.write("b", DEL=[fails(100, "no such chain")], ADD=[says(TWO)])
    assert [ifname for ifname, _ in renew(bench, attachment)] == ["eth0"]
    assert bench.order() == ["b DEL", "a DEL", "a ADD", "b ADD"]
    assert bench.cached() == ["net-c1-eth0"]


def test_each_is_tried_and_one_that_fails_is_left_out_and_can_be_renewed_later(bench: Bench) -> None:
    first, second = bench.added("a"), bench.added("b", ifname="eth1")
    bench.plugins.write("a", ADD=[fails(100, "no address"), says(ONE)], DEL=[fails(100, "stuck"), says({})])
    with pytest.raises(PluginError, match="no address") as caught:
        renew(bench, first, second)
    assert any("stuck" in note for note in caught.value.__notes__)
    assert bench.order() == ["a DEL", "a ADD", "a DEL", "b DEL", "b ADD"]
    assert bench.cached() == ["net-c1-eth1"]
    assert [ifname for ifname, _ in renew(bench, first, second)] == ["eth0", "eth1"]


def test_nothing_is_done_when_there_is_no_reason_any_more_or_no_way(bench: Bench) -> None:
    attachment = bench.added("a")

    def gone() -> None:
        raise Conflict("it has ended")

    with pytest.raises(Conflict, match="it has ended"):
        renew(bench, attachment, begin=gone)
    with pytest.raises(ConfigError, match="does not take ips"):
        renew(bench, replace(attachment, capability_args={"ips": ["10.1.0.3/24"]}))
    with pytest.raises(NotFound, match="missing"):
        renew(bench, attachment, bench.attachment("missing", ifname="eth1"))
    assert bench.order() == [] and bench.cached() == ["net-c1-eth0"]


HELD = """
import sys
from minirt.cni.locks import Locks
try:
    with Locks(sys.argv[1]).container("c1", wait=False):
        print("free")
except BlockingIOError:
    print("held")
"""


def test_nobody_else_adds_or_deletes_for_the_container_meanwhile(bench: Bench) -> None:
    attachment = bench.added("a")
    said = []

    def look() -> None:
        command = [sys.executable, "-c", HELD, str(bench.folder / "lock")]
        said.append(subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout.strip())

    renew(bench, attachment, begin=look)
    assert said == ["held"]


def test_DEL_by_force_goes_on_also_in_a_version_that_is_not_the_last_one_offered(bench: Bench) -> None:
    versions = {"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0"]}
    attachment = bench.added("a", "b", text=versions)
    bench.plugins.write("b", DEL=[fails(100, "stuck")])
    with pytest.raises(SeveralFailed, match="stuck"):
        bench.cni().delete(attachment, force=True)
    assert bench.order() == ["b DEL", "a DEL"] and bench.cached() == []


def test_DEL_by_force_tries_the_versions_before_it_gives_up(bench: Bench) -> None:
    attachment = bench.attachment("a", "b", text={"cniVersion": "1.0.0", "cniVersions": ["0.4.0"]})
    bench.plugins.write("a")
    bench.plugins.write("b", DEL=[REFUSED, says({})])
    bench.cni().delete(attachment, force=True)
    assert [(call.plugin, json.loads(call.stdin)["cniVersion"]) for call in bench.plugins.calls()] == [
        ("b", "1.0.0"),
        ("b", "0.4.0"),
        ("a", "0.4.0"),
    ]
