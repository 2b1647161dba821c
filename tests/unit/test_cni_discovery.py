"""Which network list is chosen, and what is said when none can be (reference: D1 to D8, R1 to R4, L1 to L4)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from minirt.cni import discovery
from minirt.errors import ConfigError, NotFound


def conflist(name: str, *types: str, **more: Any) -> str:
    plugins = [{"type": plugin} for plugin in types or ("bridge",)]
    return json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": plugins} | more)


def conf(name: str, **more: Any) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": name, "type": "bridge"} | more)


def put(folder: Path, **texts: str) -> str:
    """Write files; `__` in a name stands for the dot of the extension."""
    for name, text in texts.items():
        (folder / name.replace("__", ".").replace("_", "-")).write_text(text, encoding="utf-8")
    return str(folder)


def test_D1_the_folder_is_not_searched_below(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    put(tmp_path / "deeper", a__conflist=conflist("hidden"))
    assert discovery.default(str(tmp_path)).builtin
    with pytest.raises(NotFound):
        discovery.by_name("hidden", str(tmp_path))


def test_D2_among_lists_of_one_name_the_first_file_wins(tmp_path: Path) -> None:
    folder = put(tmp_path, b__conflist=conflist("net", "second"), a__conflist=conflist("net", "first"))
    assert discovery.by_name("net", folder).network.plugins == ({"type": "first"},)


def test_D2_the_order_is_that_of_bytes(tmp_path: Path) -> None:
    for name in ("ä", "z", "B", "a"):
        (tmp_path / f"{name}.conflist").write_text(conflist("net", name), encoding="utf-8")
    order = [network.plugins[0]["type"] for network in discovery.survey(str(tmp_path)).networks]
    assert order == ["B", "a", "z", "ä"]


def test_D3_a_broken_file_hides_no_other_network_but_is_told(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist='{"name": "lost",\n  oops}', b__conflist=conflist("net"))
    choice = discovery.by_name("net", folder)
    assert choice.network.name == "net"
    (warning,) = choice.warnings
    assert f"{folder}/a.conflist:2:3" in warning and "malformed JSON" in warning


def test_D4_lists_come_before_single_plugins_when_asked_by_name(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conf=conf("net"), b__json=conf("other"), z__conflist=conflist("net", "listed"))
    assert discovery.by_name("net", folder).network.plugins == ({"type": "listed"},)
    assert discovery.by_name("other", folder).network.name == "other"


def test_D4_a_single_plugin_becomes_a_list_of_one_with_its_name_and_version(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conf=conf("net", mtu=1400))
    network = discovery.by_name("net", folder).network
    assert (network.name, network.version) == ("net", "1.0.0")
    assert network.plugins == ({"cniVersion": "1.0.0", "name": "net", "type": "bridge", "mtu": 1400},)


def test_D5_without_files_the_builtin_list_is_taken_and_the_caller_is_told(tmp_path: Path) -> None:
    choice = discovery.default(str(tmp_path / "missing"))
    assert choice.builtin and choice.network.name == "minirt" and "no network lists" in choice.reason
    assert discovery.by_name("minirt", str(tmp_path)).builtin
    with pytest.raises(NotFound) as caught:
        discovery.by_name("net", str(tmp_path))
    assert "no network 'net'" in str(caught.value) and "'minirt'" in caught.value.hint


def test_D5_an_unknown_network_lists_those_that_there_are(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist=conflist("red"), b__conf=conf("blue"), c__conflist="{")
    with pytest.raises(NotFound) as caught:
        discovery.by_name("green", folder)
    assert str(caught.value) == f"no network 'green' in {folder}"
    assert "there are: blue, red" in caught.value.hint and "c.conflist:1" in caught.value.hint


def test_D5_the_builtin_list_is_not_mixed_with_the_hosts_own(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist=conflist("red"))
    with pytest.raises(NotFound):
        discovery.by_name("minirt", folder)


def test_D6_the_default_is_the_first_file_whatever_its_extension(tmp_path: Path) -> None:
    folder = put(tmp_path, **{"20_b__conflist": conflist("second"), "10_a__conf": conf("first")})
    choice = discovery.default(folder)
    assert choice.network.name == "first" and not choice.builtin and folder in choice.reason


def test_D6_files_that_cannot_be_used_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    folder = put(
        tmp_path,
        a__conflist="",
        b__conf='{"name": "no-type"}',
        c__conflist='{"name": "no-plugins", "cniVersion": "1.0.0"}',
        d__conflist=conflist("good"),
    )
    choice = discovery.default(folder)
    assert choice.network.name == "good"
    assert [warning.split(":")[0] for warning in choice.warnings] == [
        f"passed over {folder}/{name}" for name in ("a.conflist", "b.conf", "c.conflist")
    ]


def test_D6_when_no_file_is_good_the_builtin_list_does_not_paper_over_it(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist="{", b__conflist="[]")
    with pytest.raises(ConfigError) as caught:
        discovery.default(folder)
    assert "a.conflist:1:2" in str(caught.value) and "b.conflist" in str(caught.value)


def test_D7_extensions_match_exactly_hidden_files_count_and_folders_do_not(tmp_path: Path) -> None:
    folder = put(
        tmp_path,
        a__CONFLIST=conflist("upper"),
        b__conflist__bak=conflist("backup"),
        __c__conflist=conflist("hidden"),
    )
    (tmp_path / "d.conflist").mkdir()
    assert [network.name for network in discovery.survey(folder).networks] == ["hidden"]
    assert discovery.survey(folder).broken == ()


def test_D7_a_file_that_would_never_end_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.conflist")
    folder = put(tmp_path, b__conflist=conflist("good"))
    choice = discovery.default(folder)
    assert choice.network.name == "good" and "not an ordinary file" in choice.warnings[0]


def test_R3_D8_fragments_follow_the_plugins_of_the_list_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    put(tmp_path / "net", **{"20_b__conf": '{"type": "b", "big": 18446744073709551617}', "10_a__conf": '{"type": "a"}'})
    put(tmp_path / "net", c__json='{"type": "c"}', d__conflist=conflist("net", "d"))
    folder = put(tmp_path, net__conflist=conflist("net", "inlined"))
    network = discovery.by_name("net", folder).network
    assert [plugin["type"] for plugin in network.plugins] == ["inlined", "a", "b"]
    remembered = json.loads(network.text)
    assert remembered["plugins"] == list(network.plugins), "what the cache keeps is what ADD runs"
    assert remembered["plugins"][2]["big"] == 18446744073709551617


def test_L4_loadOnlyInlinedPlugins_leaves_the_fragments_alone(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    put(tmp_path / "net", a__conf='{"type": "a"}')
    folder = put(tmp_path, net__conflist=conflist("net", "inlined", loadOnlyInlinedPlugins="True"))
    assert [plugin["type"] for plugin in discovery.by_name("net", folder).network.plugins] == ["inlined"]


def test_L4_the_fragments_may_be_all_the_plugins_there_are(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    put(tmp_path / "net", a__conf='{"type": "a"}')
    folder = put(tmp_path, net__conflist='{"cniVersion": "1.0.0", "name": "net"}')
    assert discovery.by_name("net", folder).network.plugins == ({"type": "a"},)
    (tmp_path / "net" / "a.conf").unlink()
    with pytest.raises(ConfigError, match="no plugins"):
        discovery.by_name("net", folder)


def test_R3_D8_a_fragment_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    folder = put(tmp_path, net__conflist=conflist("net"))
    put(tmp_path / "net", a__conf='{"typ": "a"}')
    with pytest.raises(ConfigError, match=r"net/a\.conf: invalid plugin type"):
        discovery.by_name("net", folder)
    put(tmp_path / "net", a__conf='{"type": "a", b}')
    with pytest.raises(ConfigError, match=r"net/a\.conf:1:15: malformed JSON"):
        discovery.by_name("net", folder)


def test_D8_S10_a_fragment_may_write_its_keys_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    put(tmp_path / "net", a__conf='{"Type": "a", "mtu": 9}')
    folder = put(tmp_path, net__conflist=conflist("net"))
    assert discovery.by_name("net", folder).network.plugins[1] == {"type": "a", "mtu": 9}


def test_malformed_json_is_told_with_file_line_and_column_and_the_line_itself(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist='{\n  "name": "net",\n  "plugins": [{"type": "bridge", b}]\n}\n')
    with pytest.raises(ConfigError) as caught:
        discovery.by_name("net", folder)
    assert str(caught.value).startswith(f"{folder}/a.conflist:3:34: malformed JSON: ")
    assert """the line reads '"plugins": [{"type": "bridge", b}]'""" in caught.value.hint
    with pytest.raises(ConfigError, match=r"a\.conflist:3:34"):
        discovery.default(folder)


def test_a_file_that_breaks_off_is_told_as_such(tmp_path: Path) -> None:
    folder = put(tmp_path, a__conflist='{\n  "name": "net",\n')
    with pytest.raises(ConfigError) as caught:
        discovery.default(folder)
    assert "a.conflist:3:1" in str(caught.value) and "ends too early" in caught.value.hint


def test_text_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.conflist").write_bytes(b'{\n"name": "n\xe9t"}')
    with pytest.raises(ConfigError, match=r"a\.conflist:2: not UTF-8"):
        discovery.default(str(tmp_path))


def test_the_file_that_was_meant_is_the_one_whose_error_is_told(tmp_path: Path) -> None:
    folder = put(
        tmp_path,
        a__conflist='{"name": "other", "plugins": [',
        b__conflist='{"name": "net", "plugins": [',
        c__conflist=conflist("third"),
    )
    with pytest.raises(ConfigError, match=r"b\.conflist:1"):
        discovery.by_name("net", folder)


@pytest.mark.parametrize("text", ["null", "7", '"net"', "[]", "true"])
def test_D3_a_file_that_holds_json_but_no_object_hides_no_other(tmp_path: Path, text: str) -> None:
    folder = put(tmp_path, a__conflist=text, b__conflist=conflist("net"))
    choice = discovery.by_name("net", folder)
    assert choice.network.name == "net"
    assert choice.warnings == (f"passed over {folder}/a.conflist: expected a JSON object",)
    with pytest.raises(NotFound):
        discovery.by_name("other", folder)


def test_D3_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.conflist")
    folder = put(tmp_path, b__conflist=conflist("net"))
    assert discovery.by_name("net", folder).network.name == "net"
    with pytest.raises(NotFound):
        discovery.by_name("other", folder)


def test_a_list_of_the_wanted_name_that_cannot_be_used_is_not_passed_over(tmp_path: Path) -> None:
    broken = '{"name": "net", "plugins": [{"bridge": "br0"}]}'
    folder = put(tmp_path, a__conflist=broken, b__conflist=conflist("net"))
    with pytest.raises(ConfigError, match=r"a\.conflist: plugins\[0\]\.type: invalid plugin type"):
        discovery.by_name("net", folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"plugins": [{"type": "a"}]}', "missing network name"),
        ('{"name": "../up", "plugins": [{"type": "a"}]}', "invalid network name '../up'"),
        ('{"name": "net", "plugins": []}', "plugins: the list is empty"),
        ('{"name": "net", "plugins": [{"type": "../a"}]}', "plugins[0].type: invalid plugin type '../a'"),
        ('{"name": "net", "plugins": ["a"]}', 'plugins[0]: expected an object, got "a"'),
        ('{"name": "net", "plugins": {"type": "a"}}', "plugins: expected a list"),
        ('{"name": 7, "plugins": [{"type": "a"}]}', "name: expected a string, got 7"),
        ('{"name": "net", "cniVersion": "1.x", "plugins": [{"type": "a"}]}', "cniVersion: invalid version '1.x'"),
        ('{"name": "net", "disableCheck": "maybe", "plugins": [{"type": "a"}]}', "disableCheck: expected true or"),
        ('{"name": "net", "loadOnlyInlinedPlugins": true}', "loadOnlyInlinedPlugins is true"),
        ("[]", "expected a JSON object"),
        ('{"name": "net", "plugins": [{"type": "a", "mtu": 1e400}]}', "malformed JSON: the number is too large"),
        ('{"name": "net", "plugins": [{"type": "a", "\\ud800": 1}]}', r"\ud800 is half a character"),
        ('{"name": "net", "plugins": [{"type": "a", "x": %s}]}' % ("[" * 450 + "]" * 450), "nested too deeply"),
    ],
)
def test_R1_what_is_wrong_in_a_list_is_told_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    folder = put(tmp_path, a__conflist=text)
    with pytest.raises(ConfigError) as caught:
        discovery.default(folder)
    assert sentence in str(caught.value) and str(caught.value).startswith(f"{folder}/a.conflist:")


def test_a_list_in_a_file_for_one_plugin_is_recognised_and_the_other_way_round(tmp_path: Path) -> None:
    put(tmp_path, a__conf=conflist("net"))
    with pytest.raises(ConfigError) as caught:
        discovery.default(str(tmp_path))
    assert "called .conflist" in caught.value.hint
    (tmp_path / "a.conf").rename(tmp_path / "b.conflist")
    put(tmp_path, b__conflist=conf("net"))
    with pytest.raises(ConfigError) as caught:
        discovery.default(str(tmp_path))
    assert "called .conf;" in caught.value.hint


def test_R2_the_highest_version_that_list_and_runtime_have_in_common_is_spoken(tmp_path: Path) -> None:
    text = conflist("net", cniVersions=["0.4.0", "9.0.0", "1.1.0"])
    network = discovery.by_name("net", put(tmp_path, a__conflist=text)).network
    assert network.version == "1.1.0"
    assert network.versions == ("1.1.0", "1.0.0", "0.4.0")


def test_R4_the_text_of_the_list_is_kept_to_the_letter(tmp_path: Path) -> None:
    text = '{ "name":"net","cniVersion":"1.0.0",\n\t"x-mine": 1e2,"plugins":[{"type":"bridge","n":9007199254740993} ]}'
    network = discovery.by_name("net", put(tmp_path, a__conflist=text)).network
    assert network.text == text
    assert network.plugins[0]["n"] == 9007199254740993


def test_the_builtin_list_is_dual_stack_and_takes_what_run_can_ask_for() -> None:
    network = discovery.builtin(ipv6=True)
    declared = {name for plugin in network.plugins for name in network.capabilities(plugin)}
    assert declared >= {"portMappings", "ips", "mac"}
    assert [pool["subnet"] for (pool,) in network.plugins[0]["ipam"]["ranges"]] == [
        "10.143.0.0/20",
        "fd6d:696e:6972:7400::/64",
    ]
    assert network.versions[0] == "1.1.0" and "1.0.0" in network.versions


def test_the_builtin_list_loses_its_ipv6_on_a_kernel_without() -> None:
    network = discovery.builtin(ipv6=False)
    assert [pool["subnet"] for (pool,) in network.plugins[0]["ipam"]["ranges"]] == ["10.143.0.0/20"]
    assert ":" not in "".join(pool["subnet"] for (pool,) in json.loads(network.text)["plugins"][0]["ipam"]["ranges"])
