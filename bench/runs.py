"""The whole run: `minirt run --rm host true`, and what comes to the same elsewhere.

Everybody uses the built-in network list: a dual-stack bridge with masquerade, host-local, portmap. The shell script
does by hand what a runtime does, with the bridge plugin alone: no portmap, no records, nothing undone on failure.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from support.house import TOP
from support.machine import Machine
from support.peers import GO_PLUGINS, LISTS, Podman, WithoutCni, bundle

from bench.measure import Command, Subject
from cni_plugins.sdk import launcher

LIST = TOP / "configs/minirt.conflist"
NETWORK = "minirt"
OURS = "/run/peers/plugins"
SCRIPT = Path("/run/peers/script")
BY_HAND = """#!/bin/sh
set -e
export CNI_COMMAND=ADD CNI_CONTAINERID=bench CNI_NETNS=/run/netns/bench CNI_IFNAME=eth0 CNI_PATH={plugins}
ip netns add bench
{plugins}/bridge <{conf} >/dev/null
crun run --bundle {bundle} bench
CNI_COMMAND=DEL {plugins}/bridge <{conf}
ip netns del bench
"""


def subjects(machine: Machine) -> list[Subject]:
    """minirt first, which the others' ratios are to."""
    LISTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(LIST, LISTS / LIST.name)
    by_hand = _by_hand(machine)
    launcher.write(OURS)
    return [
        Subject("minirt", _minirt()),
        Subject("minirt, plugins as programs", _minirt(switches=("--plain-exec",))),
        Subject("minirt, Go plugins", _minirt(env={"CNI_PATH": GO_PLUGINS})),
        Subject("shell script: ip netns, crun, Go bridge", by_hand, target=1.0),
        *_podmans(machine),
    ]


class _Timed:
    """One command, one phase."""

    def __init__(self, command: Command) -> None:
        self._command = command

    def __call__(self) -> Mapping[str, float]:
        return {"run, to the end of DEL": self._command()[0]}


def _minirt(switches: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> _Timed:
    program = os.path.join(os.path.dirname(sys.executable), "minirt")
    return _Timed(Command((program, *switches, "run", "--rm", "host", "true"), os.environ | dict(env or {})))


def _by_hand(machine: Machine) -> _Timed:
    folder = bundle(machine, "/run/netns/bench", "/bin/true")
    conf = Path("/run/peers/bridge.json")
    document = json.loads(LIST.read_text(encoding="utf-8"))
    plugin = document["plugins"][0] | {"name": document["name"], "cniVersion": document["cniVersion"]}
    conf.write_text(json.dumps(plugin), encoding="utf-8")
    SCRIPT.write_text(BY_HAND.format(plugins=GO_PLUGINS, conf=conf, bundle=folder), encoding="utf-8")
    return _Timed(Command(("/bin/sh", str(SCRIPT)), dict(os.environ)))


def _podmans(machine: Machine) -> list[Subject]:
    """podman with either plugins, each with its own store; none where it was built without CNI."""
    try:
        return [
            Subject("podman, Go plugins", _podman(Podman(machine, [GO_PLUGINS], "podman-go")), target=0.35),
            Subject("podman, our plugins", _podman(Podman(machine, [OURS], "podman-ours"))),
        ]
    except WithoutCni as error:
        print(f"without podman: {error}", file=sys.stderr)
        return []


def _podman(podman: Podman) -> _Timed:
    argv, env = podman.argv("run", "--rm", "--network", NETWORK, "box", "true")
    return _Timed(Command(argv, env))
