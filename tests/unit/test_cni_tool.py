"""What cnitool's variables and habits mean, which attachment is meant, and who is alive (reference: 2.3, L23, 2.4)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.listbench import TWO, Bench
from support.scripted import Answer, fails, says

from cni_plugins.spec.config import parse_list
from minirt.cni import survey, tool
from minirt.cni.cache import Entry
from minirt.cni.netns import alive
from minirt.cni.operations import Cni
from minirt.cni.tool import Tool, Wishes
from minirt.errors import ConfigError, Conflict, NotFound, PluginError, UsageError

HERE = "/proc/self/ns/mnt"  # a namespace that is not the network's own; one that is needs root


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "lists").mkdir()
    bench = Bench(tmp_path)
    write(bench, "net", "a")
    for name in ("a", "b"):
        bench.plugins.write(name, ADD=[says(TWO)])
    return bench


def write(bench: Bench, name: str, *types: str, **keys: Any) -> None:
    document = {"cniVersion": "1.1.0", "name": name, "plugins": [{"type": each} for each in types]} | keys
    (bench.folder / "lists" / f"{name}.conflist").write_text(json.dumps(document), encoding="utf-8")


def tools(bench: Bench, **wishes: Any) -> Tool:
    return Tool(bench.cni(), Wishes(directory=str(bench.folder / "lists"), **wishes))


# --- what is asked for ---


def test_the_id_of_a_namespace_is_the_one_that_cnitool_gives_it() -> None:
    """As it stands in many a report on cnitool, whose documentation uses this path."""
    assert tool.container_id("/var/run/netns/testing") == "cnitool-77383ca0a0715733ca6f"


@pytest.mark.parametrize(
    ("given", "path"),
    [("/run/netns/x", "/run/netns/x"), ("//run//netns/../x/", "/run/x"), ("x", f"{os.getcwd()}/x"), ("/", "/")],
)
def test_a_path_is_made_absolute_and_tidied_as_go_does(given: str, path: str) -> None:
    assert tool.absolute(given) == path


def test_flags_go_before_variables_and_variables_before_defaults() -> None:
    assert tool.wishes({}) == Wishes("", (), {}, "/etc/cni/net.d")
    environ = {"CNI_IFNAME": "e1", "CNI_ARGS": "A=1;B=2", "CAP_ARGS": '{"mac": "m"}', "NETCONFPATH": "/lists"}
    assert tool.wishes(environ) == Wishes("e1", (("A", "1"), ("B", "2")), {"mac": "m"}, "/lists")
    assert tool.wishes(environ, "e2", "", "{}") == Wishes("e2", (), {}, "/lists")


@pytest.mark.parametrize("text", ["A", "A=", "=1", "A=1;", ";A=1", "A=1=2", "A=1;;B=2"])
def test_a_pair_of_CNI_ARGS_has_two_sides(text: str) -> None:
    with pytest.raises(UsageError, match="CNI_ARGS: invalid CNI_ARGS pair"):
        tool.wishes({"CNI_ARGS": text})


@pytest.mark.parametrize("text", ["{", "[]", "1", "null", '"x"', "NaN"])
def test_capability_args_are_an_object(text: str) -> None:
    with pytest.raises(UsageError, match=r"CAP_ARGS is not (a JSON object|JSON: line 1)"):
        tool.wishes({"CAP_ARGS": text})


# --- which attachment is meant ---


def test_the_result_is_printed_in_the_version_that_was_spoken(bench: Bench) -> None:
    write(bench, "net", "a", cniVersions=["0.4.0"])
    old = {"cniVersion": "0.4.0", "ips": [{"version": "4", "address": "10.1.0.3/24"}]}
    bench.plugins.write("a", ADD=[fails(1, "incompatible"), says(old)])
    result = tools(bench).add("net", "c1", HERE)
    assert result["cniVersion"] == "0.4.0" and result["ips"] == old["ips"]


def test_what_was_remembered_counts_before_the_file_and_flags(bench: Bench) -> None:
    tools(bench, args=(("K", "V"),)).add("net", "c1", HERE)
    write(bench, "net", "b")
    tools(bench, args=(("K", "W"),)).delete("net", "c1", "")
    assert bench.order() == ["a ADD", "a DEL"]
    assert bench.plugins.calls()[1].env["CNI_ARGS"] == "K=V"
    assert bench.plugins.calls()[1].env["CNI_NETNS"] == ""


def test_without_memory_the_file_counts_and_that_is_said(bench: Bench) -> None:
    networks = tools(bench)
    networks.delete("net", "c1", HERE)
    assert bench.order() == ["a DEL"]
    assert "nothing is remembered of eth0 of c1 on network net" in networks.cni.warnings[0]


def test_an_interface_that_is_not_named_is_eth0_or_the_only_one(bench: Bench) -> None:
    for name in ("data0", "data1"):
        tools(bench, ifname=name).add("net", "c1", HERE)
    tools(bench).delete("net", "c1", HERE)
    tools(bench, ifname="data0").delete("net", "c1", HERE)
    tools(bench).check("net", "c1", HERE)
    tools(bench).delete("net", "c1", HERE)
    assert [(call.command, call.env["CNI_IFNAME"]) for call in bench.plugins.calls()[2:]] == [
        ("DEL", "eth0"),
        ("DEL", "data0"),
        ("CHECK", "data1"),
        ("DEL", "data1"),
    ]


@pytest.mark.parametrize("verb", ["add", "delete", "check"])
def test_R14_an_interface_of_another_network_is_not_touched(bench: Bench, verb: str) -> None:
    write(bench, "other", "b")
    tools(bench).add("net", "c1", HERE)
    with pytest.raises(Conflict, match="eth0 of c1 belongs to network 'net', not to 'other'"):
        getattr(tools(bench, ifname="eth0"), verb)("other", "c1", HERE)
    assert bench.order() == ["a ADD"]
    tools(bench).add("other", "c2", HERE)


@pytest.mark.parametrize(
    ("name", "identifier", "ifname"),
    [("../net", "c1", "e"), ("net", "../c1", "e"), ("net", "c1", "../e"), ("", "c", "e")],
)
def test_L34_bad_names_never_become_part_of_a_path(bench: Bench, name: str, identifier: str, ifname: str) -> None:
    for verb in ("add", "delete", "check"):
        with pytest.raises(UsageError):
            getattr(tools(bench, ifname=ifname), verb)(name, identifier, HERE)


def test_a_namespace_that_goes_while_it_is_attached_is_detached_again(bench: Bench) -> None:
    pinned = bench.folder / "pinned"
    pinned.touch()  # there, and no namespace: as a pin that is unmounted in the middle
    with pytest.raises(NotFound, match="has gone while it was being attached"):
        tools(bench).add("net", "c1", str(pinned))
    assert bench.order() == ["a ADD", "a DEL"] and bench.cached() == []
    assert bench.plugins.calls()[1].env["CNI_NETNS"] == ""


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (fails(1, "no"), "'minirt cni version NETWORK' shows"),
        (fails(11, "no"), "ask again in a while"),
        (fails(999, "no"), "--force goes on"),
        (Answer(exit=1), "is it a CNI plugin?"),
    ],
)
def test_a_failure_has_a_hint(bench: Bench, answer: Answer, hint: str) -> None:
    bench.plugins.write("a", ADD=[says(TWO)], DEL=[answer])
    tools(bench).add("net", "c1", HERE)
    with pytest.raises(PluginError) as caught:
        tools(bench).delete("net", "c1", HERE)
    assert hint in caught.value.hint


# --- who is alive ---


def valid(bench: Bench) -> list[tuple[str, str]]:
    """Whom the plugin was told to be alive, by the last GC."""
    call = bench.plugins.calls()[-1]
    assert call.command == "GC"
    return [(each["containerID"], each["ifname"]) for each in call.config["cni.dev/valid-attachments"]]


def remember(cni: Cni, container_id: str, netns: str, sandbox: str = "", network: str = "net") -> None:
    result = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": sandbox}]} if sandbox else TWO
    text = json.dumps({"cniVersion": "1.1.0", "name": network, "plugins": [{"type": "a"}]})
    cni.cache.put(Entry(network, container_id, "eth0", netns, text, result=result))


def test_L23_alive_are_those_held_those_named_and_those_whose_namespace_is_there(bench: Bench) -> None:
    networks = tools(bench)
    for who, netns, sandbox in (
        ("living", HERE, ""),
        ("dead", "/run/netns/none", ""),
        ("reused", "/proc/self/ns/net", ""),
        ("file", "/etc/passwd", ""),
        ("podmans", "", HERE),  # libcni before 1.3 did not write the namespace down
        ("podmans-dead", "", "/run/netns/none"),
        ("nowhere", "", ""),
        ("held-and-dead", "/run/netns/none", ""),
    ):
        remember(networks.cni, who, netns, sandbox)
    remember(networks.cni, "others", HERE, network="other")
    networks.gc("net", [("held-and-dead", "eth0")], [("named", "eth7")])
    deleted = [call.env["CNI_CONTAINERID"] for call in bench.plugins.calls() if call.command == "DEL"]
    assert deleted == ["dead", "file", "podmans-dead", "reused"]
    assert {call.env["CNI_NETNS"] for call in bench.plugins.calls() if call.command == "DEL"} == {""}
    assert valid(bench) == [
        ("held-and-dead", "eth0"),
        ("living", "eth0"),
        ("named", "eth7"),
        ("nowhere", "eth0"),
        ("podmans", "eth0"),
    ]


def test_who_is_alive_is_asked_when_the_network_is_ours(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = tools(bench)
    order: list[str] = []
    entered = networks.cni._locks.network

    def network(*words: Any, **more: Any) -> Any:
        order.append("locked")
        return entered(*words, **more)

    def held() -> Iterator[tuple[str, str]]:
        order.append("asked")
        yield "c9", "eth0"

    monkeypatch.setattr(networks.cni._locks, "network", network)
    networks.gc("net", held())
    assert order == ["locked", "asked"] and valid(bench) == [("c9", "eth0")]


@pytest.mark.parametrize("text", [b"", b"{", json.dumps(TWO).encode()])
def test_what_cannot_be_told_is_left_alone_however_its_name_is_read(bench: Bench, text: bytes) -> None:
    networks = tools(bench)
    results = bench.folder / "cache" / "results"
    results.mkdir(parents=True)
    for name in ("net-c-1-eth-0", "other-c2-eth0"):
        (results / name).write_bytes(text)
    networks.gc("net", ())
    assert valid(bench) == [("c", "1-eth-0"), ("c-1", "eth-0"), ("c-1-eth", "0")]
    assert bench.cached() == ["net-c-1-eth-0", "other-c2-eth0"]


def test_a_namespace_is_alive_when_it_is_one_and_not_our_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.symlink("/proc/self/ns/net", tmp_path / "ours")
    assert alive(HERE)
    for path in ("/proc/self/ns/net", str(tmp_path / "ours"), str(tmp_path / "file"), "/none", "", "\0"):
        assert not alive(path), path


# --- which plugins there are ---


def test_programs_are_listed_once_a_folder_and_the_first_of_a_name_is_the_one_in_use(bench: Bench) -> None:
    answer = says({"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]})
    bench.plugins.write("a", VERSION=[answer])
    bench.plugins.write("b", VERSION=[fails(7, "what?")])
    (bench.plugins.folder / "notes").write_text("", encoding="utf-8")
    second = bench.folder / "second"
    second.mkdir()
    (second / "a").symlink_to(bench.plugins.folder / "a")
    cni = bench.cni()
    folders = (str(bench.plugins.folder), str(second), str(second), "/none")
    monkey = cni.executor
    monkey.directories = folders
    first, hidden, silent = survey.everything(cni)
    assert (first.name, first.versions, first.behind) == ("a", ("1.0.0",), "")
    assert hidden == survey.Program("a", f"{second}/a", ("1.0.0",), behind=first.path)
    assert silent.versions == () and "what?" in silent.problem


def test_L21_the_version_in_use_is_the_highest_that_all_speak(bench: Bench) -> None:
    bench.plugins.write("a", VERSION=[says({"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]})])
    bench.plugins.write("b", VERSION=[says({"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]})])
    document = {"cniVersion": "1.1.0", "cniVersions": ["0.4.0", "1.0.0"], "name": "n"}
    network = parse_list(json.dumps(document | {"plugins": [{"Type": "a", "ipam": {"type": "b"}}]}), "n.conflist")
    programs = survey.of_network(bench.cni(), network)
    assert [program.name for program in programs] == ["a", "b"]
    assert survey.common(network, programs) == "1.0.0"
    alone = parse_list(json.dumps({"cniVersion": "1.1.0", "name": "n", "plugins": [{"type": "b"}]}), "n.conflist")
    with pytest.raises(ConfigError, match=r"n\.conflist: network 'n' cannot be used in version 1\.1\.0: b speaks 0\.4"):
        survey.common(alone, survey.of_network(bench.cni(), alone))
