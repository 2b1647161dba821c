"""Start-up is the cost: what a process imports before it does its work, and how long it takes over a bare interpreter.

Modules are counted, because a module more is how a start-up grows: whoever adds one raises the number here and says in
the commit why it is worth its price. Times are medians of interleaved runs; their ratio to a bare interpreter's is
judged, generously, for machines differ and this one may be busy.
"""

from __future__ import annotations

import pytest
from support import startup
from support.startup import C_MODULES, MINIRT, PYTHON, budget, imported, milliseconds, plugin

from cni_plugins.sdk import launcher

VERSION = {"CNI_COMMAND": "VERSION"}

# Our own modules, the same for every verb: a plugin imports what its ADD needs before it knows that it is asked for
# its version. tests/netns/test_startup_of_plugins.py counts what ADD, CHECK and DEL import beyond.
OURS = {
    "bridge": 40,
    "dummy": 35,
    "firewall": 28,
    "host-local": 26,
    "ipvlan": 35,
    "loopback": 22,
    "macvlan": 35,
    "portmap": 34,
    "tap": 36,
    "vlan": 35,
}
OURS |= {"host-device": 38, "ptp": 40, "static": 19, "win-bridge": 17, "win-overlay": 17}
OURS |= {"dhcp": 27, "bandwidth": 28, "sbr": 27, "tuning": 28, "vrf": 31}


@pytest.mark.parametrize("name", launcher.NAMES)
def test_a_plugin_imports_what_its_budget_names(name: str) -> None:
    assert budget(imported(plugin(name), VERSION), C_MODULES, OURS[name]) == []


def test_the_version_of_minirt_costs_hardly_a_module() -> None:
    assert budget(imported(("-c", MINIRT, "--version"), {}), C_MODULES, 5) == []


def test_a_mistake_on_the_command_line_is_where_click_comes_in() -> None:
    """The count works: where click is imported, it is seen."""
    assert "click is dear" in budget(imported(("-c", MINIRT, "--help"), {}), C_MODULES, 5)


def test_times_stay_near_those_of_a_bare_interpreter() -> None:
    commands = {"bare": (PYTHON, "-IS", "-c", "import os"), "minirt": (PYTHON, "-IS", "-c", MINIRT, "--version")}
    commands |= {name: (PYTHON, "-IS", *plugin(name)) for name in launcher.NAMES}
    medians = milliseconds(commands, VERSION, rounds=11)
    ratios = {name: round(time / medians["bare"], 2) for name, time in medians.items()}
    assert {name: ratio for name, ratio in ratios.items() if ratio > 2.5} == {}, f"{startup.__name__}: {medians}"
