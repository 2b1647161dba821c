"""To be told of a run costs it little. `bench/run told` says how much; here is what would be noticed."""

from __future__ import annotations

import os
import statistics

import pytest
from support import leftovers
from support.command import PROGRAM

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "file /run/trace")

ROUNDS = 12
MOST = 1.25  # of the processor's time that an untold run takes; 1.11 to 1.15 were measured, on a busy machine


def seconds(*flags: str) -> float:
    """The processor's time that a run takes with all that it starts and waits for."""
    nowhere = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)]
    argv = [PROGRAM, "run", "--rm", "--quiet", *flags, "host", "true"]
    pid = os.posix_spawn(PROGRAM, argv, dict(os.environ), file_actions=nowhere)
    _pid, status, usage = os.wait4(pid, 0)
    assert status == 0
    return usage.ru_utime + usage.ru_stime


@pytest.mark.usefixtures("minirt")
@pytest.mark.parametrize("flag", ["--explain", "--explain=json", "--trace=/run/trace"])
def test_a_run_that_is_told_of_takes_hardly_more_of_the_processor(flag: str) -> None:
    """Pairs, one behind the other, are alike busy; the median of their ratios is nobody's bad moment."""
    seconds(), seconds(flag)
    ratios = [seconds(flag) / seconds() for _ in range(ROUNDS)]
    assert statistics.median(ratios) < MOST, sorted(round(ratio, 2) for ratio in ratios)
