"""CHECK, GC, STATUS and VERSION over lists of scripted plugins; patience, the shared socket, and watching.

Reference: R12, R13, R24 to R31, L14, L17, L21 to L26.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from support.listbench import ONE, TWO, Bench
from support.scripted import Answer, fails, says

from minirt.cni.call import Answered, Calling
from minirt.cni.chain import SeveralFailed
from minirt.cni.locks import Held, Locks
from minirt.errors import ConfigError, NotFound, PluginError


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# --- CHECK, GC, STATUS, VERSION ---


def test_R25_L17_CHECK_runs_forwards_with_the_result_of_ADD_and_stops_at_the_first_failure(bench: Bench) -> None:
    attachment = bench.added("a", "b", "c")
    bench.plugins.write("b", CHECK=[Answer(), fails(100, "address is gone")])
    bench.cni().check(attachment)
    assert bench.order() == ["a CHECK", "b CHECK", "c CHECK"]
    assert [call.config["prevResult"] for call in bench.plugins.calls()] == [TWO] * 3
    with pytest.raises(PluginError, match="address is gone"):
        bench.cni().check(attachment)
    assert bench.order()[3:] == ["a CHECK", "b CHECK"]


def test_R24_CHECK_is_for_what_was_added_and_not_deleted(bench: Bench) -> None:
    attachment = bench.added("a")
    bench.cni().delete(attachment)
    with pytest.raises(NotFound, match="is not attached"):
        bench.cni().check(attachment)
    assert bench.order() == ["a DEL"]


def test_R24_L17_CHECK_is_not_run_where_the_list_forbids_it_or_has_no_such_verb(bench: Bench) -> None:
    bench.cni().check(bench.added("a", text={"disableCheck": True}))
    assert bench.order() == []
    old = bench.added("b", text={"cniVersion": "0.3.1", "name": "old"})
    with pytest.raises(ConfigError, match=r"version 0\.3\.1 has no CHECK"):
        bench.cni().check(old)
    assert bench.order() == []


GC = {"cniVersion": "1.1.0"}


def test_R26_L24_GC_tells_every_plugin_who_is_alive_and_nothing_else(bench: Bench) -> None:
    bench.plugins.write("a")
    bench.plugins.write("b")
    network = bench.attachment(
        text=GC | {"plugins": [{"type": "a", "capabilities": {"ips": True}}, {"type": "b"}]}
    ).network
    bench.cni().gc(network, [("c2", "eth0"), ("c1", "eth0")])
    first, second = bench.plugins.calls()
    alive = [{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]
    both = {"cni.dev/valid-attachments": alive, "cni.dev/attachments": alive}
    assert first.config == {"cniVersion": "1.1.0", "name": "net", "type": "a"} | both
    assert second.config == {"cniVersion": "1.1.0", "name": "net", "type": "b"} | both
    assert "CNI_CONTAINERID" not in first.env and "CNI_IFNAME" not in first.env


def test_R26_that_nobody_is_alive_is_said_by_an_empty_list(bench: Bench) -> None:
    bench.plugins.write("a")
    bench.cni().gc(bench.attachment("a", text=GC).network, ())
    assert bench.plugins.calls()[0].config["cni.dev/valid-attachments"] == []


def test_R27_L25_GC_goes_on_after_failures_and_tells_them_all(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.plugins.write(name, GC=[fails(100, f"{name} failed")] if name != "b" else [Answer()])
    with pytest.raises(SeveralFailed, match=r"a failed.*c failed"):
        bench.cni().gc(bench.attachment("a", "b", "c", text=GC).network, ())
    assert bench.order() == ["a GC", "b GC", "c GC"]


def test_R27_L22_GC_is_not_run_where_the_list_forbids_it_and_older_plugins_have_nothing_to_say(bench: Bench) -> None:
    bench.plugins.write("a", GC=[fails(1, "config version does not allow GC")])
    bench.cni().gc(bench.attachment("a", text=GC | {"disableGC": True}).network, ())
    bench.cni().gc(bench.attachment("a").network, ())
    assert bench.order() == []
    bench.cni().gc(bench.attachment("a", text=GC).network, ())
    assert bench.order() == ["a GC"]


def test_L23_GC_first_deletes_what_only_the_cache_remembers(bench: Bench) -> None:
    for ifname in ("eth0", "eth1"):
        bench.added("a", ifname=ifname, text=GC)
    bench.added("a", text=GC | {"name": "other"})
    bench.cni().gc(bench.attachment("a", text=GC).network, [("c1", "eth1")])
    assert [(call.command, call.env.get("CNI_IFNAME")) for call in bench.plugins.calls()] == [
        ("DEL", "eth0"),
        ("GC", None),
    ]
    assert bench.cached() == ["net-c1-eth1", "other-c1-eth0"]


def test_R28_DEL_is_due_after_GC_as_before(bench: Bench) -> None:
    attachment = bench.added("a", "b", text=GC)
    bench.cni().gc(attachment.network, [("c1", "eth0")])
    assert bench.order() == ["a GC", "b GC"] and bench.cached() == ["net-c1-eth0"]
    bench.cni().delete(attachment)
    assert bench.order()[2:] == ["b DEL", "a DEL"] and bench.cached() == []


def test_R12_GC_takes_a_container_that_is_busy_to_be_alive(bench: Bench) -> None:
    bench.added("a", text=GC)
    with Locks(str(bench.folder / "lock")).container("c1"):
        bench.cni().gc(bench.attachment("a", text=GC).network, ())
    (call,) = bench.plugins.calls()
    assert call.config["cni.dev/valid-attachments"] == [{"containerID": "c1", "ifname": "eth0"}]
    assert bench.cached() == ["net-c1-eth0"]


def test_R12_R13_an_operation_has_its_container_alone_and_shares_its_network_and_GC_has_the_network(
    bench: Bench,
) -> None:
    locks = Locks(str(bench.folder / "lock"))
    free: dict[str, list[bool]] = {}

    def look(event: Calling | Answered) -> None:
        if isinstance(event, Calling):
            asked = (
                locks.container("c1", False),
                locks.network("net", False, False),
                locks.network("net", True, False),
            )
            free[event.command] = [_is_free(lock) for lock in asked]

    bench.plugins.write("a", ADD=[says(ONE)])
    attachment, cni = bench.attachment("a", text=GC), bench.cni(watch=look)
    cni.add(attachment)
    cni.check(attachment)
    cni.delete(attachment)
    cni.gc(attachment.network, ())
    busy = [False, True, False]
    assert free == {"ADD": busy, "CHECK": busy, "DEL": busy, "GC": [True, False, False]}
    assert all(map(_is_free, (locks.container("c1", False), locks.network("net", True, False))))


def _is_free(lock: Held) -> bool:
    try:
        with lock:
            return True
    except BlockingIOError:
        return False


def test_R29_STATUS_is_the_answer_of_the_first_plugin_that_is_not_ready(bench: Bench) -> None:
    bench.plugins.write("a")
    bench.plugins.write("b", STATUS=[fails(50, "no addresses are left")])
    bench.plugins.write("c")
    network = bench.attachment("a", "b", "c", text=GC).network
    with pytest.raises(PluginError) as caught:
        bench.cni().status(network)
    assert caught.value.code == 50 and bench.order() == ["a STATUS", "b STATUS"]
    assert "CNI_CONTAINERID" not in bench.plugins.calls()[0].env


def test_L26_before_version_110_there_is_no_STATUS(bench: Bench) -> None:
    bench.plugins.write("a", STATUS=[fails(1, "plugin version does not allow STATUS")])
    bench.cni().status(bench.attachment("a").network)
    assert bench.order() == []
    bench.cni().status(bench.attachment("a", text=GC).network)
    assert bench.order() == ["a STATUS"]


@pytest.mark.parametrize(
    ("answer", "spoken"),
    [
        (says({"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}), ("1.0.0", "1.1.0")),
        (says({"cniVersion": "0.2.0"}), ("0.1.0", "0.2.0")),
        (fails(4, "unknown CNI_COMMAND: VERSION"), ("0.1.0",)),
    ],
)
def test_R30_L14_VERSION_is_asked_in_the_way_that_old_plugins_understand_too(
    bench: Bench, answer: Answer, spoken: tuple[str, ...]
) -> None:
    bench.plugins.write("a", VERSION=[answer])
    assert bench.cni().version("a") == spoken
    (call,) = bench.plugins.calls()
    assert call.config == {"cniVersion": "1.1.0"} and call.env["CNI_COMMAND"] == "VERSION"
    assert call.env["CNI_NETNS"] and call.env["CNI_IFNAME"] and call.env["CNI_PATH"]


@pytest.mark.parametrize("answer", [says({}), says({"supportedVersions": "all"}), Answer(), fails(7, "what?")])
def test_R30_an_answer_to_VERSION_that_says_no_versions_is_an_error(bench: Bench, answer: Answer) -> None:
    bench.plugins.write("a", VERSION=[answer])
    with pytest.raises(PluginError, match="VERSION"):
        bench.cni().version("a")


# --- try again later, the shared socket, watching ---


def test_code_11_is_tried_again_with_a_DEL_between_two_ADDs(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[fails(11, "later"), says(ONE)])
    bench.cni().add(bench.attachment("a"))
    assert bench.order() == ["a ADD", "a DEL", "a ADD"]


def test_code_11_is_given_in_to_after_a_few_times(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[fails(11, "later")])
    with pytest.raises(PluginError, match="later") as caught:
        bench.cni().add(bench.attachment("a"))
    assert caught.value.code == 11
    assert bench.order() == ["a ADD", "a DEL"] * 3


def test_code_11_is_tried_again_on_DEL_and_CHECK(bench: Bench) -> None:
    attachment = bench.added("a")
    bench.plugins.write("a", CHECK=[fails(11, "later"), Answer()], DEL=[fails(11, "later"), Answer()])
    cni = bench.cni()
    cni.check(attachment)
    cni.delete(attachment)
    assert bench.order() == ["a CHECK", "a CHECK", "a DEL", "a DEL"]


def test_plugins_inherit_one_nftables_socket_and_nothing_else(bench: Bench) -> None:
    attachment = bench.added("a", "b")
    other = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(other, True)
    bench.cni().delete(attachment)
    os.close(other)
    for call in bench.plugins.calls():
        fd = int(call.env["CNI_NFNL_FD"])
        assert [number for number in call.fds if number > 2] == [fd]
    assert len({call.env["CNI_NFNL_FD"] for call in bench.plugins.calls()}) == 1


def test_the_socket_that_is_lent_is_one_for_nftables_and_is_closed_after_the_last_plugin(bench: Bench) -> None:
    attachment = bench.added("a", "b")
    lent: list[int] = []

    def look(event: Calling | Answered) -> None:
        env = (event.call if isinstance(event, Answered) else event).env
        with socket.socket(fileno=os.dup(int(env["CNI_NFNL_FD"]))) as lent_one:
            assert (lent_one.family, lent_one.proto) == (socket.AF_NETLINK, 12), "linux/netlink.h: NETLINK_NETFILTER"
        lent.append(int(env["CNI_NFNL_FD"]))

    bench.cni(watch=look).delete(attachment)
    assert len(lent) == 4 and len(set(lent)) == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(lent[0])


def test_descriptors_of_the_caller_are_left_to_plugins_when_it_says_so(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    read, write = os.pipe()
    bench.cni(keep_fds=(write,), environ={"TRACE_FD": str(write)}).add(bench.attachment("a"))
    os.close(read)
    os.close(write)
    (call,) = bench.plugins.calls()
    assert write in call.fds and read not in call.fds and call.env["TRACE_FD"] == str(write)


def test_every_call_can_be_watched(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE, stderr=b"hello\n")])
    bench.plugins.write("b", ADD=[fails(7, "no")])
    seen: list[Calling | Answered] = []
    with pytest.raises(PluginError):
        bench.cni(watch=seen.append).add(bench.attachment("a", "b"))
    assert [
        (type(event).__name__, (event.call if isinstance(event, Answered) else event).command) for event in seen
    ] == [(kind, command) for command in ("ADD", "ADD", "DEL", "DEL") for kind in ("Calling", "Answered")]
    calling, answered, _, failed = seen[:4]
    assert isinstance(calling, Calling) and isinstance(answered, Answered) and isinstance(failed, Answered)
    assert calling.path == str(bench.plugins.folder / "a") and calling.env["CNI_COMMAND"] == "ADD"
    assert calling.config == {"cniVersion": "1.0.0", "name": "net", "type": "a"}
    assert (answered.exit, json.loads(answered.stdout), answered.stderr) == (0, ONE, b"hello\n")
    assert answered.call is calling and 0 < answered.seconds < 30 and answered.problem == ""
    assert (failed.exit, failed.problem) == (1, "no")


def test_attachments_of_two_containers_are_not_one_operation(bench: Bench) -> None:
    bench.plugins.write("a", ADD=[says(ONE)])
    with pytest.raises(ValueError, match="unpack"):
        bench.cni().add_all([bench.attachment("a"), bench.attachment("a", container_id="c2")])
