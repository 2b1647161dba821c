"""What the runtime tells of its steps is true where control groups are of the second version."""

from __future__ import annotations

import pytest
from support import leftovers
from support.command import Command
from support.typedrun import check_exec, check_run

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "directory *", "file *", "netns *", "cgroup *", "mount *")


def test_the_commands_of_a_run_make_the_same_container(minirt: Command) -> None:
    check_run(minirt)


def test_the_commands_of_exec_lead_into_the_same_container(minirt: Command) -> None:
    check_exec(minirt)
