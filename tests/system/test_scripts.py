"""The scripts that a newcomer starts with, on a machine where their packages are installed already.

tests/system/test_fresh_machine.py runs them where nothing is.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, eventually
from support.house import TOP
from support.machine import Machine

DEMO = str(TOP / "scripts/demo")
OTHER = '{"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "loopback"}]}'


@pytest.fixture
def uplink(machine: Machine) -> None:
    """An address by which the neighbours know this machine."""
    machine.ip("link", "add", "uplink", "type", "veth", "peer", "name", "neighbour")
    machine.ip("addr", "add", "192.0.2.7/24", "dev", "uplink")
    machine.leaves("link uplink", "link neighbour", "address 192.0.2.7/24 dev uplink")
    machine.ip("link", "set", "uplink", "up")
    machine.ip("link", "set", "neighbour", "up")


def _nothing_is_left(text: str) -> bool:
    return text.count(": none left") == 4 and "LEFT BEHIND" not in text


@pytest.mark.usefixtures("uplink")
def test_the_demonstration_shows_the_main_job_and_leaves_nothing(minirt: Command) -> None:
    text = minirt.machine.run(DEMO).stdout
    assert text.count("Hello from a container of minirt") == 3, "over the bridge, by the host's address, by localhost"
    assert "http://192.0.2.7:8080/" in text and "http://127.0.0.1:8080/" in text
    assert _nothing_is_left(text)
    assert _nothing_is_left(minirt.machine.run(DEMO).stdout), "the second time it finds the bridge and the tables there"


def test_the_demonstration_leaves_other_networks_as_they_are(minirt: Command) -> None:
    minirt.machine.leaves("file /etc/cni/net.d/10-other.conflist")
    lists = Path("/etc/cni/net.d")
    lists.mkdir()
    (lists / "10-other.conflist").write_text(OTHER, encoding="utf-8")
    assert _nothing_is_left(minirt.machine.run(DEMO).stdout)
    assert [path.name for path in lists.iterdir()] == ["10-other.conflist"]
    assert (lists / "10-other.conflist").read_text(encoding="utf-8") == OTHER


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demonstration_that_is_interrupted_takes_everything_down(minirt: Command, number: signal.Signals) -> None:
    """As from a terminal, the whole group gets the signal."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "process_group": 0}
    with subprocess.Popen([DEMO], text=True, **options) as demo:
        assert demo.stdout is not None
        next(line for line in demo.stdout if line.startswith("4."))
        os.killpg(demo.pid, number)
        demo.stdout.read()
        assert demo.wait(30) == 128 + number
    assert minirt.ok("ps", "-aq") == ""
    eventually(lambda: minirt.machine.links() <= {"lo", "minirt0"})


@pytest.mark.parametrize("script", ["setup", "demo"])
def test_without_root_there_is_one_sentence(script: str) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*as_nobody, TOP / "scripts" / script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{script}: error: ") and done.stderr.count("\n") == 1
    assert f"sudo scripts/{script}" in done.stderr
