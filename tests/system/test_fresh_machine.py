"""The README's promise, on a machine where nothing is installed: one command sets up, and shows the main job."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fresh import FreshMachine

# A network of the machine's own: links and rules are made there, once the packages are installed. With a neighbour, so
# that it has an address other than localhost.
ISOLATED = """
unshare --net sh -euc '
    ip link set lo up
    ip link add uplink type veth peer name neighbour
    ip addr add 192.0.2.7/24 dev uplink
    ip link set uplink up
    ip link set neighbour up
    {}
'
"""


@pytest.fixture(scope="module")
def fresh() -> Iterator[FreshMachine]:
    folder = Path(tempfile.mkdtemp(prefix="minirt-fresh-", dir="/var/tmp"))
    try:
        machine = FreshMachine(folder)
        machine.make()
        yield machine
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_a_machine_with_nothing_but_its_base_system_runs_the_demonstration(fresh: FreshMachine) -> None:
    assert "absent" in fresh.run("command -v python3 git ip nft || echo absent")
    installed = fresh.run("scripts/setup curl")
    assert "setup: installing from the distribution: python3 python3-venv " in installed
    assert "setup: ready: /minirt/.venv/bin/minirt" in installed

    shown = fresh.run(ISOLATED.format("scripts/demo"))
    assert shown.count("Hello from a container of minirt") == 3, shown
    assert "http://192.0.2.7:8080/" in shown and shown.count(": none left") == 4, shown

    began = time.monotonic()
    assert "installing" not in fresh.run(ISOLATED.format("scripts/demo"))
    assert time.monotonic() - began < 20, "a second run takes seconds"


@pytest.mark.timeout(300)
def test_what_setup_cannot_have_is_one_sentence_with_the_reason(fresh: FreshMachine) -> None:
    said = fresh.run("scripts/setup no-such-package 2>&1 || echo exit $?").splitlines()
    assert said[-1] == "exit 1"
    assert said[-2].startswith("setup: error: installing no-such-package with apt-get failed: Unable to locate package")
    assert "/minirt/.setup.log" in said[-2]
