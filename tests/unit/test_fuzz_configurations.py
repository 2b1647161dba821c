"""Configurations that are nearly right never end in anything but a result or an error of the contract.

Each is read as ADD reads it, by way of the dispatch: what the plugin makes of it stands in for its handler, so nothing
of the kernel's is touched.
"""

from __future__ import annotations

import json
from copy import copy
from typing import Any

import pytest
from hypothesis import strategies as st
from support.mutations import VALUES, mutations
from support.properties import given

from cni_plugins import bridge, firewall, host_local, loopback, portmap, sample
from cni_plugins.sdk.main import Plugin, Request, dispatch
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import parse_cidr
from cni_plugins.spec.result import Ip, Result

PREVIOUS: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "cni0"}, {"name": "eth0", "mac": "02:00:00:00:00:02", "mtu": 1500, "sandbox": "/ns"}],
    "ips": [{"address": "10.1.0.2/28", "gateway": "10.1.0.1", "interface": 1}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "table": 0, "mtu": 1400}],
    "dns": {"nameservers": ["10.1.0.1"], "search": ["x"]},
}
BASE: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "args": {"cni": {"ips": ["10.1.0.9"], "mac": "02:00:00:00:00:01", "labels": [{"key": "a", "value": "b"}]}},
    "dns": {"nameservers": ["9.9.9.9"], "domain": "local", "search": ["x"], "options": ["ndots:2"]},
    "prevResult": PREVIOUS,
}
IPAM: dict[str, Any] = {
    "type": "host-local",
    "ranges": [
        [{"subnet": "10.1.0.0/28", "rangeStart": "10.1.0.3", "rangeEnd": "10.1.0.12", "gateway": "10.1.0.1"}],
        [{"subnet": "fd00::/64"}, {"subnet": "fd01::/64"}],
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "priority": 5, "table": 100, "scope": 253}],
    "dataDir": "/nowhere",
}
MAPPING = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}

# The reader of each plugin's configuration, and one that is good.
READERS: dict[str, tuple[Plugin, Any, dict[str, Any]]] = {
    "bridge": (
        bridge.PLUGIN,
        bridge.configure,
        BASE
        | {"type": "bridge", "bridge": "cni0", "isGateway": True, "isDefaultGateway": True, "forceAddress": False}
        | {"ipMasq": True, "ipMasqBackend": "nftables", "mtu": 1400, "hairpinMode": True, "promiscMode": False}
        | {"ipam": IPAM, "runtimeConfig": {"mac": "02:00:00:00:00:03", "dns": {"servers": ["9.9.9.9"]}}},
    ),
    "firewall": (
        firewall.PLUGIN,
        lambda request: firewall.configure(request.conf),
        BASE
        | {"type": "firewall", "backend": "iptables", "ingressPolicy": "isolated"}
        | {"iptablesAdminChainName": "SITE", "firewalldZone": "work"},
    ),
    "host-local": (
        host_local.PLUGIN,
        host_local._config,
        BASE
        | {"type": "bridge", "ipam": IPAM}
        | {"runtimeConfig": {"ips": ["10.1.0.9/28", "fd00::9"], "ipRanges": [[{"subnet": "10.2.0.0/24"}]]}},
    ),
    "portmap": (
        portmap.PLUGIN,
        lambda request: portmap.configure(request.conf),
        BASE
        | {"type": "portmap", "snat": True, "backend": "nftables"}
        | {"runtimeConfig": {"portMappings": [MAPPING, MAPPING | {"hostPort": 53, "protocol": "udp", "hostIP": ""}]}},
    ),
    "loopback": (loopback.PLUGIN, lambda _request: None, BASE | {"type": "loopback"}),
    "sample": (
        sample.PLUGIN,
        lambda request: sample.configure(request.conf),
        BASE | {"type": "sample", "mtu": 1400, "runtimeConfig": {"mtu": 1300}},
    ),
}
KEYS = {
    *("vlan", "vlanTrunk", "macspoofchk", "portIsolation", "enabledad", "disableContainerInterface", "ipam", "dns"),
    *("masqAll", "markMasqBit", "conditionsV4", "externalSetMarkChain", "isGatway", "subnet", "capabilities", "IPAM"),
    *("preserveDefaultVlan", "snat", "mtu", "runtimeConfig", "args", "cniVersion", "name", "prevResult"),
}
ENV = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/none", "CNI_IFNAME": "eth0", "CNI_PATH": "/nowhere"}
ARGS = st.sampled_from(("", "IP=10.1.0.9", "IP=x", "IP=", "MAC=02:00:00:00:00:07", "MAC=x", "IgnoreUnknown=1;A=b"))


def read(name: str, document: object, command: str = "ADD", args: str = "") -> dict[str, Any]:
    """What the plugin says of a configuration, the reader standing in for its handlers. It never fails by itself."""
    plugin, configure, _ = READERS[name]
    strange: list[BaseException] = []

    def handler(request: Request) -> Any:
        try:
            configure(request)
        except CniError:
            raise
        except BaseException as error:
            strange.append(error)
            raise
        return Result(ips=(Ip(parse_cidr("10.1.0.2/28")),))

    stand_in = copy(plugin)
    stand_in.add = handler
    stand_in.others = dict.fromkeys(plugin.others, handler)
    env = ENV | {"CNI_COMMAND": command, "CNI_ARGS": args}
    outcome = dispatch(stand_in, env, lambda: json.dumps(document).encode())
    assert strange == [], (document, strange)
    said: dict[str, Any] = json.loads(outcome.stdout or b"{}")
    assert (outcome.exit == 0) is ("code" not in said), said
    assert said.get("code") in (None, 1, 2, 6, 7), said
    return said


@pytest.mark.parametrize("name", READERS)
def test_the_configurations_that_are_changed_are_good_ones(name: str) -> None:
    document = READERS[name][2]
    assert read(name, document).get("code") is None


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_S5_a_configuration_that_is_nearly_right_is_read_or_an_error_of_the_contract(
    name: str, data: st.DataObject
) -> None:
    document = data.draw(mutations(READERS[name][2], KEYS))
    command = data.draw(st.sampled_from(("ADD", "ADD", "CHECK", "DEL", "GC", "STATUS")))
    said = read(name, document, command, data.draw(ARGS))
    if said.get("code") in (2, 7):
        assert said["msg"] and "\n" not in said["msg"]


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_S5_a_key_of_any_value_is_read_or_an_error_of_the_contract(name: str, data: st.DataObject) -> None:
    document = READERS[name][2]
    key = data.draw(st.sampled_from(sorted({*document, *KEYS, *IPAM})))
    read(name, document | {key: data.draw(VALUES)})
    if isinstance(document.get("ipam"), dict):
        read(name, document | {"ipam": document["ipam"] | {key: data.draw(VALUES)}})
