"""DEL over lists of scripted plugins, and several networks of one container.

Reference: R15 to R17, R20 to R23, P10, L18 to L20, L30.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.listbench import ONE, TWO, Bench
from support.scripted import Answer, fails, says

from cni_plugins.spec.record import replace
from minirt.cni.cache import Entry
from minirt.cni.chain import SeveralFailed
from minirt.cni.request import Attachment
from minirt.errors import ConfigError, NotFound, PluginError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- DEL ---


def test_R21_DEL_runs_backwards_with_the_result_of_ADD(bench: Bench) -> None:
    attachment = bench.added("a", "b", "c")
    bench.cni().delete(attachment)
    assert bench.order() == ["c DEL", "b DEL", "a DEL"]
    assert [call.config["prevResult"] for call in bench.plugins.calls()] == [TWO] * 3
    assert bench.cached() == []


def test_R16_R17_R23_DEL_is_given_what_ADD_was_given_whatever_the_list_says_now(bench: Bench) -> None:
    text = {"plugins": [{"type": "a", "mtu": 1400, "big": 2**60 + 1}]}
    bench.added("a", text=text, args=(("K", "V"),))
    bench.cni().delete(bench.attachment("changed", netns=""))
    (call,) = bench.plugins.calls()
    assert (call.plugin, call.config["mtu"], call.config["big"]) == ("a", 1400, 2**60 + 1)
    assert (call.env["CNI_ARGS"], call.env["CNI_NETNS"]) == ("K=V", ""), "R23: the namespace may be gone"


@pytest.mark.parametrize(("version", "known"), [("0.3.1", False), ("0.4.0", True)])
def test_R21_before_version_040_DEL_knows_no_prevResult(bench: Bench, version: str, known: bool) -> None:
    attachment = bench.added("a", text={"cniVersion": version})
    bench.cni().delete(attachment)
    (call,) = bench.plugins.calls()
    assert ("prevResult" in call.config) is known


@pytest.mark.parametrize(
    "remembered",
    [
        {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.3/24"}},
        {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.3/24"}], "dns": {}},
        {"ips": [{"address": "10.1.0.3/24"}]},
    ],
)
def test_L32_a_remembered_result_of_another_version_is_given_in_the_lists(
    bench: Bench, remembered: dict[str, object]
) -> None:
    attachment = bench.added("a")
    entry = bench.cache.get("net", "c1", "eth0")
    assert entry is not None
    bench.cache.put(replace(entry, result=remembered))
    bench.cni().check(attachment)
    bench.cni().delete(attachment)
    assert [call.config["prevResult"] for call in bench.plugins.calls()] == [TWO] * 2


def test_R22_L19_DEL_stops_at_the_first_failure_which_is_kept_until_it_succeeds(bench: Bench) -> None:
    attachment = bench.added("a", "b", "c")
    bench.plugins.write("b", DEL=[fails(100, "busy"), Answer()])
    with pytest.raises(PluginError, match="plugin 'b' failed on DEL"):
        bench.cni().delete(attachment)
    assert bench.order() == ["c DEL", "b DEL"]
    entry = bench.cache.get("net", "c1", "eth0")
    assert entry is not None and "busy" in entry.failure and entry.result == TWO
    bench.cni().delete(attachment)
    assert bench.order()[2:] == ["c DEL", "b DEL", "a DEL"] and bench.cached() == []


def test_R22_by_force_DEL_goes_on_and_tells_every_failure(bench: Bench) -> None:
    attachment = bench.added("a", "b", "c")
    bench.plugins.write("c", DEL=[fails(100, "stuck")])
    (bench.plugins.folder / "b").unlink()
    with pytest.raises(SeveralFailed) as caught:
        bench.cni().delete(attachment, force=True)
    assert bench.order() == ["c DEL", "a DEL"] and bench.cached() == []
    stuck, missing = caught.value.errors
    assert isinstance(stuck, PluginError) and isinstance(missing, NotFound)
    assert "stuck" in str(caught.value) and "plugin 'b' not found" in str(caught.value)


def test_L20_a_missing_program_halts_DEL_and_the_attachment_is_kept(bench: Bench) -> None:
    attachment = bench.added("a", "b")
    (bench.plugins.folder / "b").unlink()
    with pytest.raises(NotFound):
        bench.cni().delete(attachment)
    assert bench.order() == [] and bench.cached() == ["net-c1-eth0"]


def test_R15_R23_what_was_never_added_is_deleted_all_the_same(bench: Bench) -> None:
    bench.plugins.write("a")
    cni = bench.cni()
    cni.delete(bench.attachment("a", netns=""))
    cni.delete(bench.attachment("a", netns=""))
    assert bench.order() == ["a DEL", "a DEL"]
    assert "prevResult" not in bench.plugins.calls()[0].config


def test_L18_a_cache_that_cannot_be_read_does_not_stop_DEL(bench: Bench) -> None:
    attachment = bench.added("a")
    (bench.folder / "cache" / "results" / "net-c1-eth0").write_bytes(b"")
    cni = bench.cni()
    cni.delete(attachment)
    assert bench.order() == ["a DEL"] and bench.cached() == []
    assert "prevResult" not in bench.plugins.calls()[0].config
    assert "net-c1-eth0: unreadable" in cni.warnings[0]


def test_L18_a_remembered_list_or_result_that_is_no_good_does_not_stop_DEL(bench: Bench) -> None:
    bench.plugins.write("a")
    bench.cache.put(Entry("net", "c1", "eth0", config="{", result={"cniVersion": "7.7.7"}))
    cni = bench.cni()
    cni.delete(bench.attachment("a"))
    assert bench.order() == ["a DEL"] and bench.cached() == []
    assert len(cni.warnings) == 2 and "the present list is taken" in cni.warnings[0]


def test_a_failure_that_cannot_be_noted_is_the_one_that_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    attachment = bench.added("a")
    bench.plugins.write("a", DEL=[fails(100, "the plugin's own reason")])
    cni = bench.cni()

    def full(_entry: Entry) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cni.cache, "put", full)
    with pytest.raises(PluginError, match="the plugin's own reason"):
        cni.delete(attachment)
    assert "No space left on device" in cni.warnings[0] and bench.cached() == ["net-c1-eth0"]


def test_L30_DEL_works_on_the_old_form_of_the_cache(bench: Bench) -> None:
    bench.plugins.write("a")
    (bench.folder / "cache" / "results").mkdir(parents=True)
    (bench.folder / "cache" / "results" / "net-c1-eth0").write_text(json.dumps(ONE), encoding="utf-8")
    bench.cni().delete(bench.attachment("a"))
    assert bench.plugins.calls()[0].config["prevResult"] == ONE and bench.cached() == []


def test_what_DEL_prints_is_nobodys_business_unless_it_is_an_error(bench: Bench) -> None:
    attachment = bench.added("a")
    bench.plugins.write("a", DEL=[says(b"bye\n"), fails(5, "not really", exit=0)])
    bench.cni().delete(attachment)
    with pytest.raises(PluginError, match="it exited with 0, but printed an error: not really"):
        bench.cni().delete(attachment)


def test_an_attachment_can_be_recalled_as_it_was_added(bench: Bench) -> None:
    attachment = bench.added("a", args=(("K", "V"),))
    recalled = bench.cni().recall("net", "c1", "eth0")
    assert recalled is not None
    assert recalled.network.plugins == attachment.network.plugins
    assert (recalled.args, recalled.netns) == ((("K", "V"),), attachment.netns)
    assert bench.cni().recall("net", "c1", "eth9") is None


# --- several networks of one container ---


def several(bench: Bench, *names: str) -> list[Attachment]:
    """A network for each plugin, on eth0, eth1, …"""
    return [
        bench.attachment(name, ifname=f"eth{index}", text={"name": f"net-{name}"}) for index, name in enumerate(names)
    ]


def test_networks_are_added_in_order_and_deleted_backwards(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.plugins.write(name, ADD=[says(ONE)])
    attachments = several(bench, "a", "b", "c")
    assert len(bench.cni().add_all(attachments)) == 3
    assert bench.cached() == ["net-a-c1-eth0", "net-b-c1-eth1", "net-c-c1-eth2"]
    bench.cni().delete_all(attachments)
    assert bench.order() == ["a ADD", "b ADD", "c ADD", "c DEL", "b DEL", "a DEL"] and bench.cached() == []


def test_when_one_network_fails_none_is_left(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)], DEL=[fails(100, "stuck")])
    bench.plugins.write("b", ADD=[says(TWO)])
    bench.plugins.write("c", ADD=[fails(100, "no")])
    with pytest.raises(PluginError) as caught:
        bench.cni().add_all(several(bench, "a", "b", "c"))
    assert bench.order() == ["a ADD", "b ADD", "c ADD", "c DEL", "b DEL", "a DEL"]
    assert [call.config.get("prevResult") for call in bench.plugins.calls()[3:]] == [None, TWO, ONE]
    assert caught.value.msg == "no" and "stuck" in caught.value.__notes__[0]
    assert bench.cached() == []


def test_nothing_is_added_when_one_network_cannot_be(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(ConfigError):
        bench.cni().add_all([bench.attachment("a"), bench.attachment("a", ifname="a/b")])
    assert bench.order() == []


def test_a_network_that_cannot_be_left_does_not_keep_the_others(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.plugins.write(name, ADD=[says(ONE)], DEL=[fails(100, f"{name} is stuck")] if name != "a" else [Answer()])
    attachments = several(bench, "a", "b", "c")
    bench.cni().add_all(attachments)
    with pytest.raises(SeveralFailed, match=r"c is stuck.*b is stuck"):
        bench.cni().delete_all(attachments)
    assert bench.cached() == ["net-b-c1-eth1", "net-c-c1-eth2"]


def test_no_networks_at_all_are_no_work(bench: Bench) -> None:
    assert bench.cni().add_all(()) == []
    bench.cni().delete_all(())
    assert not os.path.exists(bench.folder / "lock")
