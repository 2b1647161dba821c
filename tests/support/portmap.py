"""The portmap plugin as a runtime calls it, behind the containers of a topology, and what it leaves in the kernel."""

from __future__ import annotations

import json
from typing import Any

from cni_plugins.portmap import PLUGIN
from cni_plugins.sdk.main import Outcome, dispatch
from support.machine import Machine
from support.topology import A6, B6, A, B, Topology

ADDRESSES = {"a": (A, A6), "b": (B, B6), "c": ("10.88.0.7", "fd00:88::7"), "d": ("10.88.0.8", "fd00:88::8")}


class Portmap:
    """Calls the plugin as a runtime does; `name` is container and namespace."""

    def __call__(
        self, command: str, name: str, *mappings: dict[str, Any], ifname: str = "eth0", **keys: Any
    ) -> Outcome:
        conf: dict[str, Any] = {"cniVersion": "1.1.0", "name": "web", "type": "portmap"}
        conf["prevResult"] = self.result(name, ifname)
        if mappings:
            conf["runtimeConfig"] = {"portMappings": mappings}
        conf |= {"name" if key == "network" else key: value for key, value in keys.items()}
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": name,
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/opt/cni/bin",
        }
        text = json.dumps({key: value for key, value in conf.items() if value is not None})
        return dispatch(PLUGIN, env, text.encode)

    def result(self, name: str, ifname: str = "eth0") -> dict[str, Any]:
        addresses = zip(ADDRESSES.get(name, ()), (24, 64), strict=False)
        return {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "cni0"}, {"name": ifname, "sandbox": f"/run/netns/{name}"}],
            "ips": [{"address": f"{address}/{length}", "interface": 1} for address, length in addresses],
        }

    def ok(self, command: str, name: str, *mappings: dict[str, Any], **keys: Any) -> Any:
        outcome = self(command, name, *mappings, **keys)
        assert outcome.exit == 0, outcome.stdout.decode()
        return json.loads(outcome.stdout) if outcome.stdout else None

    def fails(self, command: str, name: str, *mappings: dict[str, Any], **keys: Any) -> Any:
        outcome = self(command, name, *mappings, **keys)
        assert outcome.exit == 1, outcome.stdout.decode()
        return json.loads(outcome.stdout)


def plain(*addresses: str) -> dict[str, Any]:
    """A result of addresses that belong to no interface."""
    return {"ips": [{"address": f"{item}/{64 if ':' in item else 24}"} for item in addresses]}


def tcp(host_port: int, container_port: int, host_ip: str = "") -> dict[str, Any]:
    return {"hostPort": host_port, "containerPort": container_port, "protocol": "tcp", "hostIP": host_ip}


def udp(host_port: int, container_port: int, host_ip: str = "") -> dict[str, Any]:
    return tcp(host_port, container_port, host_ip) | {"protocol": "udp"}


def elements(machine: Machine) -> dict[str, list[Any]]:
    """Those of every set and map that has any, by its name."""
    sets = [body for item in machine.nft() for kind, body in item.items() if kind in ("set", "map")]
    return {body["name"]: body["elem"] for body in sets if body.get("elem")}


def records(machine: Machine) -> list[str]:
    return sorted(path for path in machine.files() if path.startswith("/run/cni/"))


def nat(net: Topology, program: str, words: str) -> None:
    """Have iptables or ip6tables change its table nat."""
    net.machine.run(program, "-t", "nat", *words.split())


def marked(net: Topology, netns: str, address: str, port: int = 8080) -> int:
    """The mark of the packet that begins a connection from a namespace, as it is when it has found its way."""
    watch = "inet watch out"
    script = f"add table inet watch\nadd chain {watch} {{ type filter hook postrouting priority 90; }}\n"
    script += "add set inet watch marks { type mark; flags dynamic; }\n"
    script += f"add rule {watch} tcp dport 80 tcp flags & (syn | ack) == syn add @marks {{ meta mark }}\n"
    net.machine.run("nft", "-f", "-", input=script)
    client = net.open(netns, address)
    client.setblocking(False)
    client.connect_ex((address, port))
    client.close()
    ((seen,),) = [item["set"]["elem"] for item in net.machine.nft() if item.get("set", {}).get("name") == "marks"]
    net.machine.run("nft", "delete", "table", "inet", "watch")
    return int(seen)
