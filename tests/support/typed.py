"""What a person would have got by typing: the commands of an account, run by `sh` in a fresh network, and all that the
kernel then has to show, to be compared with what the plugins left.

The judge is a script of its own, run by the distribution's Python in the namespaces as they are: links, addresses,
routes, rules, ports of bridges, queues and filters, nftables, and the sysctls of networks, as `ip`, `bridge`, `tc`,
`nft` and /proc show them. Left out is what differs between two networks that are the same: indexes, handles, counters,
random hardware addresses, and how far the kernel has come with what it does by itself.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cni_plugins.sdk import launcher
from cni_plugins.spec.config import parse_list
from minirt.cni.executor import Executor
from minirt.cni.operations import Cni
from minirt.cni.request import Attachment
from minirt.explain.account import COMMAND, UNDO, Account, Item
from support.machine import Machine

LOOK = r"""
import glob, json, os, re, subprocess, sys

DROP = {"ifindex", "stats64", "stats", "link_index", "link_netnsid", "operstate", "group", "qlen", "handle", "packets",
        "bytes", "created_time", "expires", "dynamic", "valid_life_time", "preferred_life_time", "cache", "flags",
        "tentative", "gc_timer", "hello_timer", "tcn_timer", "topology_change_timer", "bridge_id", "designated_root",
        "root_id", "designated_port", "designated_bridge", "state", "hold_timer", "message_age_timer", "no", "id",
        "forward_delay_timer", "num_tx_queues", "num_rx_queues", "iif_index", "parentdev", "metainfo", "promiscuity",
        "allmulti", "max_mtu", "min_mtu", "gso_max_size", "gso_max_segs", "tso_max_size", "tso_max_segs",
        "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size", "inet6_addr_gen_mode", "key", "installed", "used",
        "drops", "overlimits", "requeues", "backlog", "last_used", "first_used", "root_port", "root_path_cost", "port"}

def own(item):
    # What the kernel makes by itself, sooner or later: link-local addresses, and routes to them.
    return isinstance(item, dict) and str(item.get("dst", item.get("local", ""))).startswith(("fe80:", "ff00:"))

def clean(value):
    if isinstance(value, dict):
        return {key: clean(item) for key, item in value.items() if key not in DROP}
    if isinstance(value, list):
        kept = (clean(item) for item in value if not own(item))
        return sorted(kept, key=lambda item: json.dumps(item, sort_keys=True))
    return value

def show(inside, *argv):
    done = subprocess.run([*inside, *argv], capture_output=True, text=True)
    text = done.stdout.strip()
    try:
        return clean(json.loads(text)) if text else []
    except ValueError:
        return text

def flags(inside):
    links = json.loads(subprocess.run([*inside, "ip", "-j", "link"], capture_output=True, text=True).stdout or "[]")
    keep = {"UP", "PROMISC", "ALLMULTI", "NOARP", "MULTICAST"}
    return {link["ifname"]: sorted(set(link["flags"]) & keep) for link in links}

def place(inside):
    yield "flags", flags(inside)
    for name, argv in {
        "links": "ip -j -d link", "addresses": "ip -j addr", "routes": "ip -j route show table all",
        "routes6": "ip -j -6 route show table all", "rules": "ip -j rule", "rules6": "ip -j -6 rule",
        "ports": "bridge -j -d link", "vlans": "bridge -j vlan", "queues": "tc -j qdisc show",
    }.items():
        yield name, show(inside, *argv.split())
    queued = show(inside, "tc", "-j", "qdisc", "show")
    for link in sorted({queue["dev"] for queue in queued if queue["kind"] != "noqueue"}):
        for parent in ("root", "ingress"):
            yield f"filters {link} {parent}", show(inside, "tc", "-j", "filter", "show", "dev", link, parent)
    yield "sysctls", sysctls(inside)
    yield "nftables", show(inside, "nft", "-j", "list", "ruleset")

SYSCTLS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/*/arp_notify",
           "net/ipv4/conf/*/route_localnet", "net/ipv4/conf/*/rp_filter", "net/ipv6/conf/*/accept_ra",
           "net/ipv6/conf/*/accept_dad", "net/ipv6/conf/*/disable_ipv6", "net/ipv6/conf/*/ndisc_notify",
           "net/ipv6/conf/*/keep_addr_on_down", "net/ipv6/conf/*/enhanced_dad", "net/core/somaxconn")

def sysctls(inside):
    script = "; ".join(f"for f in /proc/sys/{path}; do echo $f $(cat $f 2>&1); done" for path in SYSCTLS)
    return subprocess.run([*inside, "sh", "-c", script], capture_output=True, text=True).stdout.splitlines()

found = {"host": dict(place([]))}
for path in sorted(glob.glob("/run/netns/*")):
    name = os.path.basename(path)
    if name in sys.argv[1:]:
        found[name] = dict(place(["nsenter", "--net=" + path]))
print(json.dumps(found))
"""

BOXES = ("box", "other")
_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")

FRESH = """
mount -t tmpfs none /run
ip link set lo up
ip netns add box
ip netns add other
{setup}
"""


def look() -> Any:
    """All that the kernel has to show of this network, and of the namespaces in it."""
    done = subprocess.run(["/usr/bin/python3", "-IS", "-c", LOOK, *BOXES], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Accounted:
    """Attachments to one list, and `told`, all the commands that their ADDs and DELs have told of."""

    def __init__(
        self, machine: Machine, plugins: Sequence[dict[str, Any]], setup: Sequence[str] = (), **wishes: Any
    ) -> None:
        folder = Path("/run/plugins")
        launcher.write(str(folder))
        for box in BOXES:
            machine.netns(box)
        for line in setup:
            machine.run("sh", "-ec", line)
        self._setup, self._wishes = setup, wishes
        self.told: list[str] = []
        self._cni = Cni(Executor((str(folder),)), watch=Account(self._hear).event, steps="told")
        document = {"cniVersion": "1.1.0", "name": "net", "plugins": plugins}
        self._network = parse_list(json.dumps(document), "net.conflist")

    def _hear(self, item: Item) -> None:
        assert item.kind != UNDO
        if item.kind == COMMAND:
            self.told.append(item.text)

    def add(self, box: str = "box", **wishes: Any) -> None:
        self._cni.add(Attachment(self._network, f"c-{box}", f"/run/netns/{box}", "eth0", (), self._wishes | wishes))

    def delete(self, box: str = "box") -> None:
        self._cni.delete(Attachment(self._network, f"c-{box}", f"/run/netns/{box}", "eth0"))

    def differs(self) -> list[str]:
        """Where what is there now is not what typing has made."""
        known = {mac.lower() for mac in _MAC.findall("\n".join([*self.told, *self._setup]))}

        def masked(found: Any) -> Any:
            text = _MAC.sub(lambda mac: mac[0] if mac[0].lower() in known else "random", json.dumps(found))
            return json.loads(text)

        return differences(masked(look()), masked(typed(self.told, self._setup)))


def typed(commands: Sequence[str], setup: Sequence[str] = ()) -> Any:
    """Run `commands` by `sh`, one by one, in a fresh network with the namespaces of `BOXES`; what is there then."""
    lines = ["set -e", FRESH.format(setup="\n".join(setup))]
    lines += [f"sh -ec {_quoted(command)} >/dev/null || echo FAILED {_quoted(command)} >&2" for command in commands]
    script = "\n".join([*lines, f"exec /usr/bin/python3 -IS -c {_quoted(LOOK)} {' '.join(BOXES)}"])
    argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # conntrack(8) complains where nobody has sent anything yet.
    failed = [line for line in done.stderr.splitlines() if "conntrack" not in line]
    assert failed == [], "\n".join(failed)
    return json.loads(done.stdout)


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two looks are not the same, a line each."""
    if wanted == found:
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(wanted.keys() | found.keys())
        return [line for key in keys for line in differences(wanted.get(key), found.get(key), f"{path}/{key}")]
    if isinstance(wanted, list) and isinstance(found, list):
        missing = [item for item in wanted if item not in found]
        more = [item for item in found if item not in wanted]
        if len(missing) == len(more) == 1:
            return differences(missing[0], more[0], f"{path}[]") or [f"{path}: in another order"]
        return [f"{path}: - {item}" for item in missing] + [f"{path}: + {item}" for item in more]
    return [f"{path}: {wanted} typed {found}"]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
