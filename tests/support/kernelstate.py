"""All that there is to see of this machine's networks: run as a program, one JSON document on standard output.

    /usr/bin/python3 -IS kernelstate.py '{"boxes": ["box"], "flows": false}'

The network that it is started in is `host`; the boxes that are there have their names in /run/netns. Witnesses are the
distribution's programs: links, addresses, routes, rules, bridges' ports and VLANs, queues and filters as `ip`, `bridge`
and `tc` show them, nftables and iptables, every sysctl of /proc/sys/net, and with `flows` what conntrack remembers.
A program that is missing, or fails, ends it: nothing seen is not the same as nothing there. What host-local keeps is no
kernel's, but an account tells of it: `reservations` are its files, with what is in them.

What differs between two networks that are the same is left out, for each source by itself: see `LINK` and those after
it. A list keeps its order, unless the order is the kernel's own: of links, of tables of routes, of nftables' sets.
"""

from __future__ import annotations

import ctypes
import fnmatch
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CLONE_NEWNET = 0x40000000

# What the kernel has chosen or counted, how far it has come with what it does by itself, and the time.
LINK = {"ifindex", "link_index", "link_netnsid", "operstate"}
BRIDGE = {
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "topology_change",
    "topology_change_detected",
}
PORT = {"state", "hold_timer", "message_age_timer", "forward_delay_timer", "topology_change_ack", "config_pending"}
FLEETING = {"NO-CARRIER", "LOWER_UP", "DORMANT", "M-DOWN", "dead", "linkdown"}
ADDRESS = {"tentative", "stable-privacy"}
FILTER = {"installed", "used", "last_used", "first_used"}
RULE = {"handle", "packets", "bytes"}
SYSCTLS = ("netfilter/nf_conntrack_count", "*/tcp_fastopen_key", "*/stable_secret", "*/netdev_rss_key", "*/mtu_expires")


def main() -> None:
    asked = json.loads(sys.argv[1])
    found = {"host": dict(place(asked["flows"]))}
    for name in asked["boxes"]:
        if os.path.exists(f"/run/netns/{name}"):
            with inside(f"/run/netns/{name}"):
                found[name] = dict(place(asked["flows"]))
    found["reservations"] = dict(reservations())
    print(json.dumps(found))


@contextmanager
def inside(path: str) -> Iterator[None]:
    """This process, and what it starts, in the network namespace at `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(path, os.O_RDONLY)
    if libc.setns(there, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {path}")
    yield
    if libc.setns(home, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns home")
    os.close(there)
    os.close(home)


def settle() -> None:
    """Wait for the local routes of IPv6 addresses, which a worker of the kernel's makes a moment after an address, on a
    link that is up (addrconf_dad_work); not for those of `_own`. An address that somebody else has gets none: so not
    for ever."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        ways = shown("ip", "-j", "-d", "-6", "route", "show", "table", "all")
        there = {way["dst"] for way in ways if way["type"] == "local"}
        up = [link for link in shown("ip", "-j", "-6", "addr") if "LOWER_UP" in link["flags"]]
        given = [address for link in up for address in link["addr_info"] if not _own(address["local"])]
        if all(address["local"] in there for address in given):
            return
        time.sleep(0.05)


def place(flows: bool) -> Iterator[tuple[str, Any]]:
    """What there is in one network, by its source."""
    settle()
    yield "links", links(shown("ip", "-j", "-d", "link"))
    yield "addresses", addresses(shown("ip", "-j", "addr"))
    yield "routes", routes(shown("ip", "-j", "-d", "-4", "route", "show", "table", "all"))
    yield "routes6", routes(shown("ip", "-j", "-d", "-6", "route", "show", "table", "all"))
    yield "rules", shown("ip", "-j", "-d", "rule")
    yield "rules6", shown("ip", "-j", "-d", "-6", "rule")
    yield "ports", ports(shown("bridge", "-j", "-d", "link"))
    yield "vlans", by(shown("bridge", "-j", "vlan"), "ifname")
    queues = by(shown("tc", "-j", "-d", "qdisc", "show"), "dev")
    yield "queues", queues
    for link, side in sorted({(queue["dev"], _side(queue)) for queue in queues if queue["kind"] != "noqueue"}):
        yield f"filters {link} {side}", without(FILTER, shown("tc", "-j", "-d", "filter", "show", "dev", link, side))
    found = nftables(shown("nft", "-j", "list", "ruleset"))
    yield "nftables", found
    if '"xt"' in json.dumps(found):  # of what iptables has put there, nft tells no more than that it is iptables' own
        yield "iptables", saved("iptables-save")
        yield "ip6tables", saved("ip6tables-save")
    yield "sysctls", sysctls()
    if flows:
        yield "flows", sorted(map(flow, said("conntrack", "-L", "-p", "udp").splitlines()))


def reservations() -> Iterator[tuple[str, str]]:
    """Of host-local's own folder; its locks are empty for ever."""
    for folder, _, names in os.walk("/var/lib/cni/networks"):
        yield folder, ""
        for name in names:
            with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
                if name != "lock":
                    yield file.name, file.read()


# --- asking -----------------------------------------------------------------------------------------------------------


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def shown(*argv: str) -> Any:
    text = said(*argv)
    return json.loads(text) if text.strip() else []


def saved(program: str) -> list[str]:
    """Without the time of day, and what the rules have counted."""
    lines = (line for line in said(program).splitlines() if not line.startswith("#"))
    return [line.partition(" [")[0] if line.startswith(":") else line for line in lines]


def sysctls() -> dict[str, str]:
    top, found = "/proc/sys/net", {}
    for folder, _inner, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            key = path[len(top) + 1 :]
            if not any(fnmatch.fnmatch(key, pattern) for pattern in SYSCTLS):
                found[key] = _value(path)
    return found


def _value(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:  # some can only be written
        return str(error.strerror)


# --- what differs between two that are the same -----------------------------------------------------------------------


def links(found: list[dict[str, Any]]) -> list[Any]:
    kept = []
    for link in found:
        info = link.get("linkinfo", {})
        inner = {
            "info_data": without(BRIDGE, info.get("info_data")),
            "info_slave_data": without(PORT, info.get("info_slave_data")),
        }
        about = {"flags": steady(link["flags"]), "linkinfo": info | inner, "elsewhere": "link_netnsid" in link}
        kept.append(without(LINK, link) | about)
    return by(kept, "ifname")


def ports(found: list[dict[str, Any]]) -> list[Any]:
    kept = (without(LINK | PORT, port) | {"flags": steady(port["flags"])} for port in found)
    return by(kept, "ifname")


def addresses(found: list[dict[str, Any]]) -> list[Any]:
    kept = []
    for link in found:
        given = [without(ADDRESS, item) for item in link["addr_info"] if not _own(item.get("local"))]
        kept.append({"ifname": link["ifname"], "addresses": given})
    return by(kept, "ifname")


def routes(found: list[dict[str, Any]]) -> list[Any]:
    """Those to one destination in one table stay in their order: the first one counts."""
    kept = (route | {"flags": steady(route["flags"])} for route in found if not _own(route["dst"]))
    return sorted(kept, key=lambda route: (route.get("table", "main"), route["dst"], route["type"]))


def nftables(found: dict[str, Any]) -> list[Any]:
    """Rules and the parts of a rule stay in their order; elements of a set have none."""
    return [_unordered(without(RULE, item)) for item in found["nftables"] if "metainfo" not in item]


def _unordered(value: Any) -> Any:
    if isinstance(value, list):
        return [_unordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: sorted(map(_unordered, inner), key=json.dumps)
        if key in ("elem", "set") and isinstance(inner, list)
        else _unordered(inner)
        for key, inner in value.items()
    }


def flow(line: str) -> str:
    """Without the time that it has left, and numbers of its own."""
    words = line.split()
    return " ".join(words[:2] + [word for word in words[3:] if not word.startswith(("id=", "use="))])


def by(found: Any, key: str) -> list[Any]:
    """In the order of a name: links come in the order of the kernel's numbers."""
    return sorted(found, key=lambda item: str(item[key]))


def without(names: set[str], value: Any) -> Any:
    """`value` without the keys `names`, however deep they stand."""
    if isinstance(value, dict):
        return {key: without(names, inner) for key, inner in value.items() if key not in names}
    if isinstance(value, list):
        return [without(names, item) for item in value]
    return value


def steady(flags: list[str]) -> list[str]:
    return [flag for flag in flags if flag not in FLEETING]


def _side(queue: dict[str, Any]) -> str:
    return "ingress" if queue["kind"] == "ingress" else "root"


def _own(address: str | None) -> bool:
    """Link-local addresses, and routes to them: the kernel makes them, sooner or later."""
    return str(address).startswith(("fe80:", "ff00:"))


if __name__ == "__main__":
    main()
