"""bench/run works, and leaves nothing behind: one round of everything. What it measured is judged by people."""

from __future__ import annotations

import subprocess

import pytest
from support.house import TOP


@pytest.mark.parametrize("table", ["run", "told", "plugins"])
def test_a_round_of_the_bench_gives_a_table(table: str) -> None:
    done = subprocess.run(
        [TOP / "bench/run", "-n", "1", table], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("    ")]
    assert len(rows) >= 4
    assert all(float(row[-3]) >= 0 for row in rows)
