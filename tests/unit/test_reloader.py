"""What a reload asks for, and when it asks for nothing: without plugins and without a kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Result
from minirt.cni.cache import Cache, Entry
from minirt.cni.operations import Cni
from minirt.cni.request import Attachment
from minirt.containers import Containers
from minirt.errors import Conflict
from minirt.netadmin.reload import Reloader
from minirt.spec import ContainerSpec
from minirt.state import EXITED, RUNNING, Attached, Record, Store, boot_id, start_time

LIST = """{"cniVersion": "1.0.0", "name": "%s", "plugins": [
  {"type": "bridge", "capabilities": {"ips": true, "mac": true}}, {"type": "portmap"}]}"""
RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01"},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/web"},
    ],
    "ips": [{"address": "10.1.0.2/24", "interface": 1}, {"address": "fd00::2/64", "interface": 1}],
}


class Bench:
    """A container with a process of its own, and a recorder in place of the plugins."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.store = Store(str(folder))
        self.record, lock = self.store.create(ContainerSpec("host", name="web"))
        lock.release()
        item = Attached("net", "eth0", "net.conflist", LIST % "net", {"portMappings": [1]}, RESULT)
        self.change(status=RUNNING, pid=pid, pid_start=start_time(pid), boot_id=boot_id(), attached=(item,))
        self.cache = Cache(str(folder / "cache"))
        self.asked: list[Attachment] = []
        self.meanwhile: Callable[[], None] = lambda: None
        containers = SimpleNamespace(store=self.store, find=self.store.find, all=self.all)
        cni = SimpleNamespace(cache=self.cache, renew_all=self.renew_all)
        self.reloader = Reloader(cast(Containers, containers), cast(Cni, cni))

    def all(self) -> list[Record]:
        return sorted(map(self.store.load, self.store.ids()), key=lambda record: record.created)

    def change(self, **changes: Any) -> None:
        self.record = self.store.change(self.record, **changes)

    def renew_all(
        self, attachments: Sequence[Attachment], begin: Callable[[], None], keep: Callable[[Attachment, Result], None]
    ) -> None:
        self.meanwhile()
        begin()
        self.asked += attachments
        for attachment in attachments:
            keep(attachment, Result())


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as running:
        yield running
        running.kill()


@pytest.fixture
def bench(tmp_path: Path, process: subprocess.Popen[bytes]) -> Bench:
    return Bench(tmp_path, process.pid)


def test_the_addresses_are_asked_for_beside_what_was_asked_for_already(bench: Bench) -> None:
    assert bench.reloader.reload("web") == "web"
    (attachment,) = bench.asked
    assert (attachment.network.name, attachment.container_id, attachment.ifname) == ("net", bench.record.id, "eth0")
    wishes = {"ips": ["10.1.0.2/24", "fd00::2/64"], "mac": "02:00:00:00:00:02", "portMappings": [1]}
    assert attachment.capability_args == wishes
    (kept,) = bench.store.load(bench.record.id).attached
    assert kept.wishes == wishes and kept.result == {"cniVersion": "1.1.0"}


def test_what_others_have_attached_is_known_from_the_cache_with_its_arguments(bench: Bench) -> None:
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.2.0.2/24"}}
    for network, result in (("net", RESULT), ("other", old)):
        args = (("K", network),)
        bench.cache.put(Entry(network, bench.record.id, "eth0", "/x", LIST % network, args, {}, result))
    bench.cache.put(Entry("other", "somebody", "eth0", "/x", LIST % "other"))
    bench.reloader.reload("web")
    assert [(item.network.name, item.args) for item in bench.asked] == [
        ("net", (("K", "net"),)),
        ("other", (("K", "other"),)),
    ]
    assert bench.asked[1].capability_args == {"ips": ["10.2.0.2/24"]}
    assert [item.network for item in bench.store.load(bench.record.id).attached] == ["net"]


def test_nothing_is_asked_for_a_container_that_ends_in_between(bench: Bench, process: subprocess.Popen[bytes]) -> None:
    """Its supervisor may have deleted the networks already: whoever adds them again would add them for good."""

    def end() -> None:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    bench.meanwhile = end
    with pytest.raises(Conflict, match="not running"):
        bench.reloader.reload("web")
    assert bench.asked == []


@pytest.mark.parametrize("changes", [{"status": EXITED}, {"boot_id": "another"}, {"pid_start": 1}, {"pid": 0}])
def test_only_a_container_that_runs_now_is_reloaded(bench: Bench, changes: dict[str, Any]) -> None:
    bench.change(**changes)
    with pytest.raises(Conflict, match="not running"):
        bench.reloader.reload("web")


def test_a_wish_that_the_list_does_not_take_is_refused_for_all_networks_at_once(bench: Bench) -> None:
    (first,) = bench.record.attached
    other = replace(first, network="plain", ifname="eth1", config=(LIST % "plain").replace("mac", "dns"))
    other = replace(other, result={**RESULT, "interfaces": [{"name": "eth1", "mac": "02::", "sandbox": "/x"}]})
    bench.change(attached=(first, other))
    with pytest.raises(Conflict, match="no plugin of network 'plain' takes 'mac'"):
        bench.reloader.reload("web")
    assert bench.asked == []


def test_a_network_without_addresses_needs_none(bench: Bench) -> None:
    (item,) = bench.record.attached
    bench.change(
        attached=(replace(item, config=LIST.replace("true", "false") % "net", result={"cniVersion": "1.1.0"}),)
    )
    bench.reloader.reload("web")
    assert bench.asked[0].capability_args == {"portMappings": [1]}


def test_containers_that_run_and_are_attached_are_all_there_are(bench: Bench) -> None:
    def made(name: str, **changes: Any) -> Record:
        record, lock = bench.store.create(ContainerSpec("host", name=name))
        lock.release()
        return bench.store.change(record, **changes)

    made("stopped", status=EXITED, attached=bench.record.attached)
    made("alone", status=RUNNING)
    guest = made("guest", status=RUNNING)
    bench.cache.put(Entry("net", guest.id, "eth0", "/x", LIST % "net"))
    assert bench.reloader.running() == [bench.record.id, guest.id]
