"""A machine with containers on a bridge: configurations, namespaces, and packets that prove the way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from support.machine import Machine
from support.plugins import Answer, Plugins

IPV4, IPV6 = "10.1.0.0/24", "fd00:1::/64"
LEASES = Path("/var/lib/cni/networks")

# Connects, and prints what the server says. A refusal is an answer too: it comes from the other end's kernel.
CALL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1) as stream:
        print(stream.recv(100).decode())
except ConnectionRefusedError:
    print("refused")
"""

# Tells each caller the address that it is seen by.
ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
print("ready", flush=True)
while True:
    stream, sender = server.accept()
    stream.sendall(sender[0].encode())
    stream.close()
"""


class Site:
    """Namespaces named as the containers in them; `plugins` are called for attachments of the network "net"."""

    def __init__(self, machine: Machine, plugins: Plugins) -> None:
        self.machine = machine
        self.plugins = plugins
        self._servers: list[subprocess.Popen[str]] = []

    def conf(self, *subnets: str, version: str = "1.1.0", **keys: Any) -> dict[str, Any]:
        """A bridge that is a gateway, with a host-local range a subnet; without subnets of layer 2."""
        conf: dict[str, Any] = {"cniVersion": version, "name": "net", "type": "bridge", "bridge": "cni0"}
        if subnets:
            ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets]}
            conf |= {"isGateway": True, "ipam": ipam}
        return conf | keys

    def box(self, name: str = "web") -> str:
        """The path of a container's namespace, made for it."""
        return self.machine.netns(name)

    def add(self, conf: dict[str, Any], name: str = "web", **more: str) -> dict[str, Any]:
        return self.plugins.add(conf, self._path(name), container=name, **more)

    def call(self, command: str, conf: dict[str, Any], name: str = "web", **more: str) -> Answer:
        return self.plugins.call(command, conf, self._path(name), container=name, **more)

    def delete(self, conf: dict[str, Any], name: str = "web", **more: str) -> None:
        self.call("DEL", conf, name, **more).done()

    def check(self, conf: dict[str, Any], result: dict[str, Any], name: str = "web", **more: str) -> Answer:
        return self.call("CHECK", conf | {"prevResult": result}, name, **more)

    def _path(self, name: str) -> str:
        return f"/run/netns/{name}"

    # What there is.

    def leases(self, network: str = "net") -> set[str]:
        folder = LEASES / network
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return {name for name in names if name[0].isdigit() or ":" in name}

    def link(self, name: str, netns: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.machine.ip("link", "show", name, netns=netns)[0]
        return found

    def ports(self) -> set[str]:
        return {name for name in self.machine.links() if name.startswith("veth")}

    def routes(self, name: str = "web", family: int = 4) -> set[tuple[str, str]]:
        shown = self.machine.ip(f"-{family}", "route", "show", netns=name)
        return {(way["dst"], way.get("gateway", "")) for way in shown if not way["dst"].startswith("fe80")}

    def sysctl(self, key: str, netns: str = "") -> str:
        inside = ("ip", "netns", "exec", netns) if netns else ()
        return self.machine.run(*inside, "cat", f"/proc/sys/{key}").stdout.strip()

    # Packets.

    def reaches(self, netns: str, address: str, port: int = 9) -> str:
        """What the other end answers: "refused" from a host, a server's words from a server."""
        inside = ("ip", "netns", "exec", netns) if netns else ()
        done = self.machine.run(*inside, "/usr/bin/python3", "-ISc", CALL, address, str(port), check=False)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def serve(self, netns: str, address: str, port: int = 8080) -> None:
        argv = ["ip", "netns", "exec", netns, "/usr/bin/python3", "-ISc", ECHO, address, str(port)]
        server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.communicate()
        for entry in json.loads(self.machine.run("ip", "-j", "netns", "list").stdout or "[]"):
            self.machine.run("ip", "netns", "del", entry["name"])
