"""Measuring: subjects in turn, round by round, so that a busy moment of the machine hits them all; medians; a table."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Command:
    """A program to be timed from its start to its end. It is given /dev/null, and must succeed."""

    argv: Sequence[str]
    env: Mapping[str, str]
    stdin: str = os.devnull

    def __call__(self) -> tuple[float, bytes]:
        """Run it; the milliseconds it took, and its standard output. Raises RuntimeError when it fails."""
        files = [os.open(self.stdin, os.O_RDONLY), os.memfd_create("stdout"), os.memfd_create("stderr")]
        streams = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(files)]
        began = time.perf_counter()
        pid = os.posix_spawn(self.argv[0], list(self.argv), self.env, file_actions=streams)
        _, status = os.waitpid(pid, 0)
        taken = (time.perf_counter() - began) * 1000
        _, stdout, stderr = (os.pread(fd, 1 << 16, 0) for fd in files)
        for fd in files:
            os.close(fd)
        if status:
            said = (stdout + stderr).decode(errors="replace")
            raise RuntimeError(f"{' '.join(self.argv)}: exit {os.waitstatus_to_exitcode(status)}\n{said}")
        return taken, stdout


@dataclass
class Subject:
    """Who is measured: `measure` does one round and gives the milliseconds of each of its phases."""

    name: str
    measure: Callable[[], Mapping[str, float]]
    target: float | None = None
    """What the ratio of the first subject to this one should be at most, where somebody has set that."""
    times: dict[str, list[float]] = field(default_factory=dict)

    def round(self) -> None:
        for phase, taken in self.measure().items():
            self.times.setdefault(phase, []).append(taken)


def interleaved(subjects: Sequence[Subject], rounds: int) -> None:
    """One round of each that does not count, which fills caches and writes what is written once; then `rounds`."""
    for subject in subjects:
        subject.measure()
    for _ in range(rounds):
        for subject in subjects:
            subject.round()


def table(title: str, subjects: Sequence[Subject]) -> str:
    """Median and lower quartile in milliseconds, and the ratio of the first subject's median to each other's."""
    lines = [title]
    for phase in subjects[0].times:
        head = f"  {phase:44} {'median':>8} {'p25':>8} {'ratio':>7} {'at most':>8}"
        lines += ["", head.rstrip() if any(subject.target for subject in subjects) else head.removesuffix(" at most")]
        ours = statistics.median(subjects[0].times[phase])
        lines += [_line(subject, phase, ours) for subject in subjects if phase in subject.times]
    return "\n".join(line.rstrip() for line in lines)


def _line(subject: Subject, phase: str, ours: float) -> str:
    times = subject.times[phase]
    median = statistics.median(times)
    quartile = statistics.quantiles(times, n=4)[0] if len(times) > 1 else median
    target = f"{subject.target:8.2f}" if subject.target else ""
    return f"    {subject.name:42} {median:8.1f} {quartile:8.1f} {ours / median:7.2f} {target}"
