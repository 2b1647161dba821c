"""The front page: what it tells a newcomer to type does what it says."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from support.command import PROGRAM, Command, bridge

TOP = Path(PROGRAM).parents[2]
BLOCKS = re.findall(r"^```console\n(.*?)^```", (TOP / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    return [line.removeprefix("# ") for line in block.splitlines() if line.startswith("# ")]


def prepare(minirt: Command, block: str) -> None:
    """The networks that a block names, and the leave to have them."""
    minirt.machine.leaves("link cni*", "address * dev cni*", "file /opt/cni/bin/*", "directory /etc/cni/net.d")
    for name, subnet in (("blue", "10.10.0.0/24"), ("green", "10.20.0.0/24")):
        if f"--network {name}" in block:
            minirt.network(name, bridge(f"cni-{name}", subnet))


def run(machine: Command, line: str) -> str:
    path = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    done = machine.machine.run("bash", "-ec", line, cwd=str(TOP), env=os.environ | {"PATH": path}, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_first_container_shows_what_the_page_shows(minirt: Command) -> None:
    block = next(block for block in BLOCKS if "ip -br addr" in block)
    shown = run(minirt, commands(block)[-1])
    assert [line.split()[0].partition("@")[0] for line in shown.splitlines()] == ["lo", "eth0"]
    promised = next(line for line in block.splitlines() if line.startswith("eth0")).split()
    for address in promised[2:4]:  # the first container of a network gets the address that the page shows
        assert address in shown


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_commands_runs(minirt: Command, number: int) -> None:
    prepare(minirt, BLOCKS[number])
    for line in commands(BLOCKS[number]):
        run(minirt, line)
        if " -d " in line:
            run(minirt, "sleep 0.7")  # a person takes longer than that to type the next line


def test_the_account_is_as_the_page_shows_it(minirt: Command) -> None:
    """Every line, in that order; `…` stands for anything, alone on its line for any lines."""
    block = next(block for block in BLOCKS if "--explain host true" in block)
    run(minirt, "minirt run --rm -q host true")  # whoever reads in order has run some: the bridge is there
    argv = [PROGRAM, *commands(block)[-1].split()[1:]]
    told = minirt.machine.run(*argv, cwd=str(TOP)).stderr.splitlines()
    shown = [line for line in block.splitlines() if line != "…" and not line.startswith("# ")]
    place = -1
    for line in shown:
        pattern = "(.*)".join(map(re.escape, line.split("…")))
        found = [number for number, real in enumerate(told) if number > place and re.fullmatch(pattern, real)]
        assert found, (line, told[place:])
        place = found[0]
