"""What one plugin is given: environment and configuration (reference: R4 to R8, R11, R17, L6, L7, L9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_plugins.spec.config import NetworkList, parse_list
from minirt.cni import request
from minirt.cni.request import Attachment
from minirt.errors import ConfigError

PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


def network(*plugins: dict[str, Any], **more: Any) -> NetworkList:
    return parse_list(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins} | more), "net.conflist")


def configuration(plugin: dict[str, Any], **capability_args: Any) -> dict[str, Any]:
    return request.configuration(network(plugin), plugin, "1.0.0", capability_args)


def test_R4_L5_unknown_keys_reach_the_plugin_as_they_were_written() -> None:
    plugin = {"type": "a", "x": {"deep": [1, None, True, 1.5]}, "big": 2**64 + 1, "": "empty", "IPAM": {"Type": "b"}}
    config = configuration(plugin)
    assert {key: config[key] for key in plugin} == plugin
    assert list(config)[2:] == list(plugin)


def test_R5_L6_name_and_version_are_those_of_the_list_whatever_the_plugin_says() -> None:
    config = configuration({"type": "a", "name": "mine", "cniVersion": "0.1.0", "CNIVersion": "0.2.0", "Name": "x"})
    assert config == {"cniVersion": "1.0.0", "name": "net", "type": "a"}


def test_R6_runtimeConfig_is_what_is_declared_and_given() -> None:
    plugin = {"type": "a", "capabilities": {"portMappings": True, "mac": False, "ips": True}}
    config = configuration(plugin, portMappings=PORTS, mac="02:00:00:00:00:01", dns={"servers": []})
    assert config["runtimeConfig"] == {"portMappings": PORTS}


def test_R6_runtimeConfig_is_left_out_when_there_is_nothing_to_put_into_it() -> None:
    plugin = {"type": "a", "capabilities": {"portMappings": True}}
    assert "runtimeConfig" not in configuration(plugin)
    assert "runtimeConfig" not in configuration(plugin, mac="02:00:00:00:00:01")


def test_L7_a_runtimeConfig_in_the_file_stays_unless_there_is_something_to_put_into_it() -> None:
    plugin = {"type": "a", "capabilities": {"mac": True}, "RuntimeConfig": {"x": 1}}
    assert configuration(plugin)["RuntimeConfig"] == {"x": 1}
    config = configuration(plugin, mac="02:00:00:00:00:01")
    assert config == {"cniVersion": "1.0.0", "name": "net", "type": "a", "runtimeConfig": {"mac": "02:00:00:00:00:01"}}


def test_R7_L6_capabilities_and_a_prevResult_from_the_file_never_reach_a_plugin() -> None:
    assert configuration({"type": "a", "capabilities": {"mac": True}, "prevResult": {}, "PrevResult": {}}) == {
        "cniVersion": "1.0.0",
        "name": "net",
        "type": "a",
    }


def test_R8_only_the_runtime_makes_keys_of_cni_dev() -> None:
    plugin = {"type": "a", "cni.dev/valid-attachments": [], "cni.dev/else": 1}
    generated = {"cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}]}
    config = request.configuration(network(plugin), plugin, "1.1.0", {}, generated)
    assert config == {"cniVersion": "1.1.0", "name": "net", "type": "a"} | generated


def attachment(**changes: Any) -> Attachment:
    fields: dict[str, Any] = {"network": network({"type": "a"}), "container_id": "c1", "netns": "/n", "ifname": "eth0"}
    return Attachment(**(fields | changes))


def test_R11_R17_the_environment_names_the_attachment_and_the_folders() -> None:
    asked = attachment(args=(("IgnoreUnknown", "1"), ("K8S_POD_NAME", "p")))
    assert request.environment("ADD", asked, ("/a", "/b"), {}) == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p",
        "CNI_PATH": "/a:/b",
    }


def test_L9_a_plugin_inherits_the_environment_but_not_another_calls_parameters() -> None:
    ours = {"PATH": "/bin", "TRACEPARENT": "00-1", "CNI_NETNS_OVERRIDE": "1", "CNI_LOG": "x"}
    base = ours | {"CNI_COMMAND": "DEL", "CNI_ARGS": "IP=1.2.3.4", "CNI_PATH": "/old", "CNI_NFNL_FD": "9"}
    env = request.environment("GC", None, ("/a",), base)
    assert env == ours | {"CNI_COMMAND": "GC", "CNI_PATH": "/a"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"container_id": ""}, "invalid container ID ''"),
        ({"container_id": "../c"}, "invalid container ID '../c'"),
        ({"ifname": "a/b"}, "invalid interface name 'a/b'"),
        ({"ifname": "sixteen-bytes-xx"}, "longer than 15 bytes"),
        ({"args": (("IP", ""),)}, "invalid CNI_ARGS pair IP="),
        ({"args": (("IP", "1.2.3.4;MAC=x"),)}, "invalid CNI_ARGS pair"),
    ],
)
def test_L15_identifiers_that_no_plugin_would_take_are_refused_at_once(changes: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request.validate(attachment(**changes))
    assert sentence in str(caught.value)


def test_a_capability_that_no_plugin_takes_is_refused_with_the_way_to_it() -> None:
    takes = network({"type": "a", "capabilities": {"mac": True}}, {"type": "b", "capabilities": {"ips": True}})
    request.validate(attachment(network=takes, capability_args={"mac": "02:00:00:00:00:01", "ips": ["10.0.0.2"]}))
    with pytest.raises(ConfigError) as caught:
        request.validate(attachment(network=takes, capability_args={"mac": "x", "portMappings": PORTS, "dns": {}}))
    assert str(caught.value).startswith("network 'net' does not take dns, portMappings")
    assert '"capabilities": {"dns": true}' in caught.value.hint and "net.conflist" in caught.value.hint
    assert request.unsupported(takes, ["ips", "dns"]) == ["dns"]
