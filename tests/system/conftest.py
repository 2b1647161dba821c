"""`minirt`: the command on the test's own machine; nothing may be left but its furniture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.command import CONTAINERS, Command
from support.machine import Machine


@pytest.fixture
def minirt(machine: Machine) -> Iterator[Command]:
    command = Command(machine)
    yield command
    if CONTAINERS.exists():
        left = [path.name for path in CONTAINERS.iterdir()]
        for name in left:
            command("rm", "--force", name)
        assert left == [], "containers left over"
