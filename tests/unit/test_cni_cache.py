"""What was added is remembered as libcni remembers it (reference: L27 to L34)."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from minirt.cni.cache import Cache, Entry

RESULT = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/n"}], "dns": {}}
ENTRY = Entry(
    "net", "c1", "eth0", "/n", '{"name": "n\u00e9t"}', (("K", "V"),), {"portMappings": [{"hostPort": 1}]}, RESULT
)


def test_L27_files_lie_in_results_for_the_owner_alone(tmp_path: Path) -> None:
    Cache(str(tmp_path)).put(ENTRY)
    assert (tmp_path / "results").stat().st_mode & 0o777 == 0o700
    (path,) = (tmp_path / "results").iterdir()
    assert path.name == "net-c1-eth0" and path.stat().st_mode & 0o777 == 0o600


def test_L29_the_file_says_what_libcni_would_say(tmp_path: Path) -> None:
    Cache(str(tmp_path)).put(ENTRY)
    written = json.loads((tmp_path / "results" / "net-c1-eth0").read_text(encoding="utf-8"))
    assert base64.b64decode(written.pop("config")).decode() == ENTRY.config
    assert written == {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "ifName": "eth0",
        "networkName": "net",
        "netns": "/n",
        "cniArgs": [["K", "V"]],
        "capabilityArgs": {"portMappings": [{"hostPort": 1}]},
        "result": RESULT,
    }


def test_L29_what_is_written_is_read_back_whole(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    bare = Entry("net", "c2", "eth0")
    failed = Entry("net", "c3", "eth0", failure="plugin a said no")
    for entry in (ENTRY, bare, failed):
        cache.put(entry)
        assert cache.get(entry.network, entry.container_id, entry.ifname) == entry


def test_L29_a_file_of_libcni_is_understood(tmp_path: Path) -> None:
    # As libcni 1.1.2 writes it, in one line, without the keys that would be empty.
    text = (
        '{"kind":"cniCacheV1","containerId":"c1","config":"eyJuYW1lIjoibmV0In0=","ifName":"eth0","networkName":"net",'
        '"netns":"/run/netns/c1","cniArgs":[["IgnoreUnknown","1"]],"capabilityArgs":{"mac":"02:00:00:00:00:01"},'
        '"result":{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.1.0.2/24","version":"4"}]}}'
    )
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "net-c1-eth0").write_text(text, encoding="utf-8")
    entry = Cache(str(tmp_path)).get("net", "c1", "eth0")
    assert entry is not None
    assert (entry.netns, entry.config, entry.args) == ("/run/netns/c1", '{"name":"net"}', (("IgnoreUnknown", "1"),))
    assert entry.result["ips"] == [{"address": "10.1.0.2/24", "version": "4"}]


@pytest.mark.parametrize("key", ["networkName", "containerId", "ifName"])
def test_L33_an_entry_that_does_not_say_whose_it_is_is_none_and_nobody_knows_whether_it_lives(
    tmp_path: Path, key: str
) -> None:
    told: list[str] = []
    cache = Cache(str(tmp_path), told.append)
    cache.put(ENTRY)
    path = tmp_path / "results" / "net-c1-eth0"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: ""}), encoding="utf-8")
    assert cache.get("net", "c1", "eth0") is None and list(cache.entries()) == []
    assert list(cache.doubtful("net")) == [("c1", "eth0")]
    assert f"{key} is missing" in told[0]


def test_L30_the_old_form_is_a_bare_result(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "net-c1-eth0").write_text(json.dumps(RESULT), encoding="utf-8")
    assert Cache(str(tmp_path)).get("net", "c1", "eth0") == Entry("net", "c1", "eth0", result=RESULT)


def test_L31_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(str(tmp_path))
    cache.put(ENTRY)

    def power_cut(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(OSError, match="Input/output"):
        cache.put(Entry("net", "c1", "eth0"))
    assert cache.get("net", "c1", "eth0") == ENTRY
    assert os.listdir(tmp_path / "results") == ["net-c1-eth0"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"kind": "other"}',
        b'{"kind": "cniCacheV1", "config": "%%%=="}',
        b'{"kind": "cniCacheV1", "config": 7}',
        b'{"kind": "cniCacheV1", "cniArgs": [["a"]]}',
        b'{"kind": "cniCacheV1", "result": []}',
    ],
)
def test_L31_U6_a_file_that_cannot_be_read_counts_as_absent_with_a_warning(tmp_path: Path, text: bytes) -> None:
    warnings: list[str] = []
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "net-c1-eth0").write_bytes(text)
    cache = Cache(str(tmp_path), warnings.append)
    assert cache.get("net", "c1", "eth0") is None
    (warning,) = warnings
    assert f"{tmp_path}/results/net-c1-eth0" in warning


def test_L28_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    cache.put(Entry("a-b", "c", "eth0"))
    assert cache.get("a", "b-c", "eth0") is None
    assert cache.get("a-b", "c", "eth0") is not None


def test_L32_what_was_never_added_is_unknown_without_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    cache = Cache(str(tmp_path), warnings.append)
    assert cache.get("net", "c1", "eth0") is None
    cache.remove("net", "c1", "eth0")
    assert list(cache.entries()) == [] and warnings == []


def test_L33_attachments_are_listed_by_name_and_strangers_left_out(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    entries = [Entry("net", "c2", "eth0"), Entry("net", "c1", "eth1"), Entry("alt", "c1", "eth0")]
    for entry in entries:
        cache.put(entry)
    (tmp_path / "results" / "a-stranger").write_text("hello", encoding="utf-8")
    (tmp_path / "results" / "old-c1-eth0").write_text(json.dumps(RESULT), encoding="utf-8")
    assert [(entry.network, entry.container_id) for entry in cache.entries()] == [
        ("alt", "c1"),
        ("net", "c1"),
        ("net", "c2"),
    ]
    assert [entry.ifname for entry in cache.entries("c1")] == ["eth0", "eth1"]
