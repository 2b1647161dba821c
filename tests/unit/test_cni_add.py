"""ADD over lists of scripted plugins: order, what each is given, versions, and the way back after a failure.

Reference: R6, R9 to R11, R14 to R20, R31 to R33, L13, L15, L16.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.listbench import ONE, REFUSED, TWO, Bench, result
from support.scripted import Answer, fails, says

from minirt.cni.cache import Entry
from minirt.cni.call import Answered, Calling
from minirt.errors import ConfigError, Conflict, KernelRefused, NotFound, PluginError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- ADD ---


def test_R18_plugins_run_in_the_order_of_the_list_each_with_the_result_of_the_one_before(bench: Bench) -> None:
    for name, answer in (("a", ONE), ("b", TWO), ("c", TWO)):
        bench.plugins.write(name, ADD=[says(answer)])
    added = bench.cni().add(bench.attachment("a", "b", "c"))
    assert bench.order() == ["a ADD", "b ADD", "c ADD"]
    assert [call.config.get("prevResult") for call in bench.plugins.calls()] == [None, ONE, TWO]
    assert str(added.ips[0].address) == "10.1.0.3/24"


def test_R9_R11_R17_plugins_are_found_in_the_folders_and_told_of_the_attachment(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    attachment = bench.attachment("a", args=(("IP", "10.1.0.9"),))
    bench.cni().add(attachment)
    (call,) = bench.plugins.calls()
    assert {key: value for key, value in call.env.items() if key.startswith("CNI_")} == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": attachment.netns,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IP=10.1.0.9",
        "CNI_PATH": str(bench.plugins.folder),
        "CNI_NFNL_FD": call.env["CNI_NFNL_FD"],
    }
    assert call.env["HOME"] == "/h" and call.leads_group


def test_R20_the_last_result_is_kept_with_the_text_of_the_list(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    bench.plugins.write("b", ADD=[says(TWO)])
    attachment = bench.attachment("a", "b", args=(("K", "V"),))
    bench.cni().add(attachment)
    entry = bench.cache.get("net", "c1", "eth0")
    assert entry == Entry("net", "c1", "eth0", attachment.netns, attachment.network.text, (("K", "V"),), {}, TWO)


def test_R19_a_missing_program_is_told_before_anything_runs(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(NotFound) as caught:
        bench.cni().add(bench.attachment("a", "portmap-of-mars"))
    assert str(caught.value) == f"plugin 'portmap-of-mars' not found in {bench.plugins.folder}"
    assert "CNI_PATH" in caught.value.hint
    assert bench.order() == [] and bench.cached() == []


def test_R15_R19_a_failed_ADD_is_deleted_newest_first_and_later_plugins_never_run(bench: Bench) -> None:
    for name in ("a", "b", "d"):
        bench.plugins.write(name, ADD=[says(ONE)])
    bench.plugins.write("c", ADD=[fails(7, "bad thing", "really", stderr=b"log line\n")])
    with pytest.raises(PluginError) as caught:
        bench.cni().add(bench.attachment("a", "b", "c", "d"))
    assert bench.order() == ["a ADD", "b ADD", "c ADD", "c DEL", "b DEL", "a DEL"]
    assert [call.config.get("prevResult") for call in bench.plugins.calls()[3:]] == [ONE, ONE, ONE]
    error = caught.value
    assert (error.plugin, error.command, error.code, error.network) == ("c", "ADD", 7, "net")
    assert (error.msg, error.details, error.stderr) == ("bad thing", "really", "log line\n")
    assert str(error) == "network 'net': plugin 'c' failed on ADD (code 7): bad thing: really: log line"
    assert bench.cached() == []


def test_R15_taking_back_goes_on_when_a_deletion_fails_and_tells_of_it(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    bench.plugins.write("b", ADD=[says(ONE)], DEL=[fails(100, "stuck")])
    bench.plugins.write("c", ADD=[fails(100, "no")], DEL=[Answer(exit=2)])
    with pytest.raises(PluginError) as caught:
        bench.cni().add(bench.attachment("a", "b", "c"))
    assert bench.order()[3:] == ["c DEL", "b DEL", "a DEL"]
    assert caught.value.msg == "no"
    assert caught.value.__notes__ == [
        "not undone: network 'net': plugin 'c' failed on DEL: it exited with 2 and said nothing",
        "not undone: network 'net': plugin 'b' failed on DEL (code 100): stuck",
    ]


def test_R15_the_first_plugin_that_fails_is_deleted_without_a_result(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[fails(5, "no")])
    with pytest.raises(PluginError):
        bench.cni().add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a DEL"]
    assert "prevResult" not in bench.plugins.calls()[1].config


def test_R15_whatever_interrupts_ADD_what_was_done_is_taken_back(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])

    def interrupt(event: Calling | Answered) -> None:
        if isinstance(event, Answered) and event.call.command == "ADD":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.cni(watch=interrupt).add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a DEL"] and bench.cached() == []


def test_a_program_that_could_not_be_executed_is_not_deleted(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    bench.plugins.write("b").chmod(0o644)
    with pytest.raises(PluginError, match="not executable") as caught:
        bench.cni().add(bench.attachment("a", "b"))
    assert bench.order() == ["a ADD", "a DEL"] and not hasattr(caught.value, "__notes__")


def test_R14_an_attachment_is_not_added_twice(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    cni = bench.cni()
    cni.add(bench.attachment("a"))
    with pytest.raises(Conflict, match="eth0 of c1 on network net is attached already"):
        cni.add(bench.attachment("a"))
    assert bench.order() == ["a ADD"]
    cni.add(bench.attachment("a", ifname="eth1"))
    cni.delete(bench.attachment("a"))
    cni.add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a ADD", "a DEL", "a ADD"]


def test_R10_the_namespace_must_be_there_before_ADD(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(NotFound, match="no network namespace at '/run/netns/nobody'"):
        bench.cni().add(bench.attachment("a", netns="/run/netns/nobody"))
    assert bench.order() == []


def test_L16_a_result_that_cannot_be_kept_undoes_the_attachment(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    (bench.folder / "cache").write_text("not a folder", encoding="utf-8")
    with pytest.raises(KernelRefused, match="net-c1-eth0"):
        bench.cni().add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a DEL"]


def test_a_capability_that_nobody_takes_is_refused_before_anything_runs(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(ConfigError, match="does not take mac"):
        bench.cni().add(bench.attachment("a", capability_args={"mac": "02:00:00:00:00:01"}))
    assert bench.order() == []


def test_R6_each_plugin_is_given_the_capabilities_that_it_declares_also_on_DEL(bench: Bench) -> None:
    plugins = [{"type": "a", "capabilities": {"mac": True}}, {"type": "b", "capabilities": {"ips": True}}]
    for name in ("a", "b"):
        bench.plugins.write(name, ADD=[says(ONE)])
    asked = bench.attachment(text={"plugins": plugins}, capability_args={"mac": "m", "ips": ["10.1.0.2"]})
    cni = bench.cni()
    cni.add(asked)
    cni.check(asked)
    cni.delete(asked)
    given = [call.config["runtimeConfig"] for call in bench.plugins.calls()]
    assert given == [{"mac": "m"}, {"ips": ["10.1.0.2"]}] * 2 + [{"ips": ["10.1.0.2"]}, {"mac": "m"}]


# --- versions ---


def test_R31_a_plugin_that_does_not_speak_the_highest_version_is_asked_in_the_next(bench: Bench) -> None:
    versions = {"cniVersions": ["0.4.0", "1.1.0"]}
    bench.plugins.write("a", ADD=[says(result("10.1.0.2/24", "1.1.0")), says(ONE)])
    bench.plugins.write("b", ADD=[REFUSED, says(ONE)], DEL=[REFUSED, Answer()])
    cni = bench.cni()
    cni.add(bench.attachment("a", "b", text=versions))
    assert bench.order() == ["a ADD", "b ADD", "b DEL", "a DEL", "a ADD", "b ADD"]
    assert [call.config["cniVersion"] for call in bench.plugins.calls()] == ["1.1.0"] * 4 + ["1.0.0"] * 2
    cni.check(bench.attachment("a", "b", text=versions))
    cni.delete(bench.attachment("a", "b", text=versions))
    later = bench.plugins.calls()[6:]
    assert [f"{call.plugin} {call.command} {call.config['cniVersion']}" for call in later] == [
        "a CHECK 1.0.0",
        "b CHECK 1.0.0",
        "b DEL 1.0.0",
        "a DEL 1.0.0",
    ]


def test_R31_when_no_offered_version_is_spoken_the_plugins_own_words_are_told(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[REFUSED], DEL=[REFUSED])
    with pytest.raises(PluginError) as caught:
        bench.cni().add(bench.attachment("a", text={"cniVersions": ["0.4.0", "1.1.0"]}))
    assert [call.config["cniVersion"] for call in bench.plugins.calls()] == [
        v for v in ("1.1.0", "1.0.0", "0.4.0") for _ in "12"
    ]
    assert "plugin supports 1.0.0" in str(caught.value) and not hasattr(caught.value, "__notes__")


def test_R2_L2_a_list_of_one_version_is_spoken_in_that_one_alone(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[REFUSED], DEL=[REFUSED])
    with pytest.raises(PluginError, match=r"code 1\): incompatible CNI versions"):
        bench.cni().add(bench.attachment("a", text={"cniVersion": "9.9.9"}))
    assert [call.config["cniVersion"] for call in bench.plugins.calls()] == ["9.9.9"] * 2


def test_R32_a_result_is_read_by_its_own_version_or_else_the_lists(bench: Bench) -> None:
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24", "routes": [{"dst": "0.0.0.0/0"}]}}
    bench.plugins.write("a", ADD=[says(old)])
    bench.plugins.write("b", ADD=[says({"ips": [{"address": "10.1.0.9/24"}]})])
    added = bench.cni().add(bench.attachment("a", "b"))
    assert bench.plugins.calls()[1].config["prevResult"] == {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.1.0.2/24"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    assert str(added.ips[0].address) == "10.1.0.9/24"


def test_R33_a_result_without_interfaces_or_with_index_minus_one_is_good(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24", "interface": -1}]})])
    assert bench.cni().add(bench.attachment("a")).ips[0].interface is None


def test_L13_the_word_null_is_an_empty_result(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(b"null")])
    assert bench.cni().add(bench.attachment("a")).ips == ()
