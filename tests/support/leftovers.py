"""What a test left behind on its machine, as lines that a person can read and a pattern (fnmatch) can name.

    link v0            address 10.1.0.1/24 dev v0     route 10.2.0.0/16 via 10.1.0.2 dev v0     rule 100 from 10.3.0.1
    netns box          nft table inet t     nft rule inet t input     nft element inet t ports 8080: 10.1.0.2
    mount /run/x       file /run/x          directory /run/x          process 17 sleep 60      cgroup pids/x

What the kernel adds by itself (link-local addresses, the routes and rules that every namespace has) is not listed.
A directory is listed when it is empty. The programs asked are the distribution's, never our own code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# What ip-netns(8) and mount(8) make at their first use, for themselves.
TOOLS = ("mount /run/netns", "directory /run/netns", "directory /run/mount", "file /run/mount/utab")

# What the plugins leave on purpose, for pytest.mark.leaves: the bridge with its addresses, the tables with the rules
# that are written once, the folders of the stores, the group above the containers' own. Elements of sets, reservations
# and records are not among them.
BRIDGE = ("link cni*", "address * dev cni*")
TABLES = ("nft table * cni_*", "nft chain * cni_*", "nft rule * cni_*")
STORES = ("file /var/lib/cni/networks/*/lock", "file /var/lib/cni/networks/*/last_reserved_ip.*")
FOLDERS = ("directory /run/*", "directory /var/lib/cni/*", *STORES)
CGROUPS = ("cgroup minirt", "cgroup */minirt")
SHARED = (*BRIDGE, *TABLES, *FOLDERS, *CGROUPS)

PINS = "/run/netns"
HOST = ("/run/cni", "/run/minirt", "/var/lib/cni", "/var/lib/minirt")  # where plugins and runtime keep what they know

Run = Callable[..., str]
"""Runs a program on the machine and returns its standard output."""


def network(run: Run, netns: str = "") -> Iterator[str]:
    """Links, addresses, routes and rules of a namespace; `netns` is a name, empty for the machine's own."""
    ip = ("ip", "-n", netns) if netns else ("ip",)
    text = run(*ip, "-j", "-b", "-", input="addr show\nroute show table all\nrule show\n")
    links, routes, rules = (json.loads(line or "[]") for line in text.splitlines())
    rules += json.loads(run(*ip, "-6", "-j", "rule", "show") or "[]")
    place = f"in netns {netns}: " if netns else ""
    for line in (*_links(links), *map(_route, filter(_ours, routes)), *_rules(rules)):
        yield place + line


def _links(links: Iterable[dict[str, Any]]) -> Iterator[str]:
    for link in links:
        name = link["ifname"]
        if name != "lo":
            yield f"link {name}"
        for address in link["addr_info"]:
            if address["scope"] != "link" and address["local"] not in ("127.0.0.1", "::1"):
                yield f"address {address['local']}/{address['prefixlen']} dev {name}"


def _ours(route: dict[str, Any]) -> bool:
    return route.get("protocol") != "kernel"


def _route(route: dict[str, Any]) -> str:
    words = [f"{key} {route[key]}" for key in ("gateway", "dev", "table") if key in route]
    return " ".join(["route", route["dst"], *words]).replace("gateway", "via")


def _rules(rules: Iterable[dict[str, Any]]) -> Iterator[str]:
    for rule in rules:
        # The kernel makes l3mdev's with the first vrf, and keeps it.
        if rule["priority"] not in (0, 32766, 32767) and "l3mdev" not in rule:
            yield f"rule {rule['priority']} from {rule['src']}"


def nftables(run: Run) -> Iterator[str]:
    """Tables, chains, rules, and the elements of sets and maps. A set without elements is part of its table."""
    for item in json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]:
        for kind, body in item.items():
            if kind == "metainfo":
                continue
            if kind == "rule":
                yield f"nft rule {body['family']} {body['table']} {body['chain']}"
            elif kind in ("set", "map"):
                for element in body.get("elem", ()):
                    yield f"nft element {body['family']} {body['table']} {body['name']} {_element(element)}"
            elif kind == "table":
                yield f"nft table {body['family']} {body['name']}"
            else:
                yield f"nft {kind} {body['family']} {body['table']} {body['name']}"


def _element(element: Any) -> str:
    """An element's key, and what a map gives for it, as `nft -j` shows them, made flat."""
    if isinstance(element, dict):
        element = element["elem"]["val"] if "elem" in element else list(element.values())
        return _element(element)
    if isinstance(element, list):
        return " ".join(_element(part) for part in element)
    return str(element)


def namespaces() -> list[str]:
    """The named namespaces, those of `ip netns`."""
    return sorted(os.listdir(PINS)) if os.path.isdir(PINS) else []


def mounts() -> Iterator[str]:
    """Every mount of the mount namespace, but for the pins of named namespaces."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    return (f"mount {point}" for point in points if not point.startswith(f"{PINS}/"))


def files(folders: Iterable[str]) -> Iterator[str]:
    """Files, and directories that are empty, below `folders`; the pins of named namespaces are none."""
    for top in folders:
        for folder, inner, names in os.walk(top):
            if not inner and not names and folder != top:
                yield f"directory {folder}"
            if folder != PINS:
                yield from (f"file {os.path.join(folder, name)}" for name in names)


def host(run: Run) -> set[str]:
    """What may not change on the machine that the tests run on, whatever they do on machines of their own."""
    pins = (f"netns {name}" for name in namespaces())
    return {*network(run), *nftables(run), *mounts(), *files(HOST), *pins} - {*TOOLS}
