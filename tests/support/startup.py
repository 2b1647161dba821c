"""What a process imports, and how long it takes: measured on the program itself, from outside.

`-X importtime` makes the interpreter name every module it imports on standard error; nothing has to be added to what
is measured. Modules that a bare interpreter has at its start, or with `import os`, are not counted: they are its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from functools import cache

from cni_plugins.sdk import launcher
from support.house import PACKAGES, TOP, within

PYTHON = os.path.realpath(sys.executable)
FOLDERS = [str(TOP), sysconfig.get_path("platlib")]
MINIRT = f"import sys; sys.path += {FOLDERS!r}; from minirt.__main__ import main; main()"

# Each costs a short process about as much as all its work (milliseconds over a bare interpreter of Python 3.11).
# What stands in for them is in cni_plugins/spec (jsontext, record, ip) and in C (_socket, _signal, _ctypes).
DEAR = (
    *(
        "argparse",
        "asyncio",
        "click",
        "collections",
        "contextlib",
        "ctypes",
        "dataclasses",
        "email",
        "enum",
        "functools",
    ),
    *(
        "hashlib",
        "importlib",
        "inspect",
        "ipaddress",
        "json",
        "logging",
        "pathlib",
        "prctl",
        "pyroute2",
        "re",
        "shutil",
    ),
    *("signal", "site", "socket", "subprocess", "tempfile", "threading", "traceback", "typing", "urllib"),
)

# C modules that are cheap: under half a millisecond each, many of them in the interpreter already.
C_MODULES = {
    *("__future__", "_blake2", "_ctypes", "_json", "_socket", "_struct", "binascii", "errno", "fcntl", "gc", "math"),
    *("_prctl", "_sha512", "array", "select", "struct", "termios"),
}


def plugin(name: str) -> tuple[str, ...]:
    """The arguments that make an interpreter the plugin, as its launcher does."""
    return ("-c", launcher.text(name).decode())


def names(report: str) -> set[str]:
    """The modules in what `-X importtime` printed."""
    lines = (line.split("|") for line in report.splitlines() if line.startswith("import time:") and "[us]" not in line)
    return {fields[2].strip() for fields in lines}


@cache
def bare() -> frozenset[str]:
    return frozenset(names(_run(("-c", "import os"), {}, "")))


def _run(arguments: Sequence[str], env: Mapping[str, str], stdin: str) -> str:
    argv = [PYTHON, "-IS", "-X", "importtime", *arguments]
    done = subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr[-2000:]}"
    return done.stderr


def imported(arguments: Sequence[str], env: Mapping[str, str], stdin: str = "") -> set[str]:
    """The modules that a bare interpreter imports for `arguments`, children that it forks included."""
    return names(_run(arguments, env, stdin)) - bare()


def budget(found: set[str], others: set[str], ours: int) -> list[str]:
    """What breaks a budget: modules of others that are not in `others`, and more than `ours` of our own."""
    own = {name for name in found if within(name, *PACKAGES)}
    breaks = [f"{name} is dear" for name in sorted(found) if within(name, *DEAR)]
    breaks += [f"{name} is not in the budget" for name in sorted(found - own - others)]
    if len(own) > ours:
        breaks.append(f"{len(own)} modules of our own, {ours} in the budget: {' '.join(sorted(own))}")
    return breaks


def milliseconds(commands: Mapping[str, tuple[str, ...]], env: Mapping[str, str], rounds: int) -> dict[str, float]:
    """The median time of each command, from start to end, measured in turn so that a busy moment hits them all."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    null = os.open(os.devnull, os.O_RDWR)
    streams = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
    for _ in range(rounds):
        for name, argv in commands.items():
            began = time.perf_counter()
            pid = os.posix_spawn(argv[0], argv, env, file_actions=streams)
            _, status = os.waitpid(pid, 0)
            times[name].append((time.perf_counter() - began) * 1000)
            assert status == 0, f"{name}: exit {os.waitstatus_to_exitcode(status)}"
    os.close(null)
    return {name: statistics.median(values) for name, values in times.items()}
