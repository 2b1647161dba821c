"""What it costs a run to tell of itself: `minirt run --rm host true`, told on standard error, recorded, or looked at in
a browser, beside the same run that tells nothing. A ratio of 0.91 is a run that takes 10 % longer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from support.house import TOP
from support.machine import Machine
from support.peers import LISTS

from bench.measure import Command, Subject
from minirt.explain.story import somebody_serves

LIST = TOP / "configs/minirt.conflist"
TRACE = Path("/run/peers/trace")
PROGRAM = os.path.join(os.path.dirname(sys.executable), "minirt")
PATIENCE = 20.0  # seconds for a server to come up, of which none is counted


def subjects(_machine: Machine) -> list[Subject]:
    """A run that tells nothing first."""
    LISTS.mkdir(parents=True, exist_ok=True)
    TRACE.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(LIST, LISTS / LIST.name)
    return [
        Subject("nothing told", _Run()),
        Subject("--explain", _Run("--explain")),
        Subject("--explain=full", _Run("--explain=full")),
        Subject("--explain=json", _Run("--explain=json")),
        Subject("--trace FILE", _Run(f"--trace={TRACE}")),
        Subject("with minirt serve looking on", _LookedAt()),
    ]


class _Run:
    """One command, one phase."""

    def __init__(self, *flags: str) -> None:
        self._command = Command((PROGRAM, "run", "--rm", "--quiet", *flags, "host", "true"), dict(os.environ))

    def __call__(self) -> Mapping[str, float]:
        with suppress(FileNotFoundError):
            TRACE.unlink()  # a trace is written on
        return {"run, to the end of DEL": self._command()[0]}


class _LookedAt(_Run):
    """The same while a server looks on, which is there for this round alone."""

    def __call__(self) -> Mapping[str, float]:
        argv = [PROGRAM, "serve", "--port", "0"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603
            try:
                deadline = time.monotonic() + PATIENCE
                while not somebody_serves():
                    if time.monotonic() > deadline:
                        raise RuntimeError("minirt serve does not come up")
                    time.sleep(0.02)
                return super().__call__()
            finally:
                server.terminate()
