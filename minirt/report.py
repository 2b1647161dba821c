"""What is known of a container as documents for people and scripts: docker's field names, so that habits work here."""

from __future__ import annotations

import time

from minirt.state import EXITED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minirt.spec import ContainerSpec
    from minirt.state import Attached, Record


def instant(seconds: float) -> str:
    """RFC 3339, UTC; docker's year 1 for never."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def networks(record: Record) -> list[str]:
    """Those it is on; of one that does not run, those it asked for."""
    asked = [network.name for network in record.spec.networks]
    return [item.network for item in record.attached] or asked


def row(record: Record) -> dict[str, str]:
    """One container of `ps --format json`."""
    return {
        "ID": record.id,
        "Image": record.spec.image,
        "Command": " ".join(record.spec.args),
        "CreatedAt": instant(record.created),
        "State": record.status,
        "ExitCode": str(record.exit_code) if record.status == EXITED else "",
        "Ports": ", ".join(map(str, record.spec.ports)),
        "Names": record.name,
        "Networks": ",".join(filter(None, networks(record))),
    }


def document(record: Record, guests: Sequence[Attached] = ()) -> dict[str, Any]:
    """One container of `inspect`. `guests` are what others have attached to it."""
    spec = record.spec
    return {
        "Id": record.id,
        "Name": record.name,
        "Created": instant(record.created),
        "Path": spec.args[0],
        "Args": list(spec.args[1:]),
        "Image": spec.image,
        "State": {
            "Status": record.status,
            "Running": record.status == RUNNING,
            "Pid": record.pid,
            "ExitCode": record.exit_code,
            "Error": record.error,
            "StartedAt": instant(record.started),
            "FinishedAt": instant(record.finished),
        },
        "Config": _config(record),
        "HostConfig": {
            "NetworkMode": spec.network_mode or (spec.networks[0].name if spec.networks else "default"),
            "AutoRemove": spec.remove,
            "ReadonlyRootfs": spec.read_only,
            "Dns": list(spec.dns.servers),
            "DnsSearch": list(spec.dns.searches),
            "DnsOptions": list(spec.dns.options),
        },
        "Mounts": [
            {"Type": "bind", "Source": item.source, "Destination": item.target, "Mode": ",".join(item.options)}
            for item in spec.volumes
        ],
        "NetworkSettings": {
            "SandboxKey": record.netns,
            "Ports": _ports(spec),
            "Networks": _networks((*record.attached, *guests)),
        },
    }


def _networks(attached: Sequence[Attached]) -> dict[str, dict[str, Any]]:
    """By network, as docker has it; a network joined more than once has its other interfaces as `net:eth1`."""
    found: dict[str, dict[str, Any]] = {}
    for item in attached:
        name = f"{item.network}:{item.ifname}" if item.network in found else item.network
        found[name] = attachment(item)
    return found


def _config(record: Record) -> dict[str, Any]:
    spec = record.spec
    return {
        "Hostname": record.hostname,
        "User": spec.user,
        "Tty": spec.tty,
        "OpenStdin": spec.interactive,
        "Env": [f"{name}={value}" for name, value in spec.env],
        "Cmd": list(spec.args),
        "WorkingDir": spec.workdir,
    }


def _ports(spec: ContainerSpec) -> dict[str, list[dict[str, str]]]:
    """docker's shape: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`."""
    ports: dict[str, list[dict[str, str]]] = {}
    for port in spec.ports:
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host)}
        ports.setdefault(f"{port.container}/{port.protocol}", []).append(binding)
    return ports


def attachment(item: Attached) -> dict[str, Any]:
    """One attachment: the first address of each family in docker's fields, and the whole CNI result."""
    ips = item.result.get("ips", [])
    fields: dict[str, Any] = {"Interface": item.ifname, "MacAddress": _mac(item)}
    for key, prefix_key, gateway_key, is_v6 in (
        ("IPAddress", "IPPrefixLen", "Gateway", False),
        ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway", True),
    ):
        found = next((ip for ip in ips if (":" in ip["address"]) == is_v6), None)
        address, _, length = found["address"].partition("/") if found else ("", "", "0")
        fields |= {key: address, prefix_key: int(length), gateway_key: found.get("gateway", "") if found else ""}
    return fields | {"CNIResult": item.result}


def _mac(item: Attached) -> str:
    return next(
        (
            link.get("mac", "")
            for link in item.result.get("interfaces", [])
            if link.get("sandbox") and link["name"] == item.ifname
        ),
        "",
    )
