"""Writing a trace: one line of JSON for each thing that happens, appended at once, so that what a killed minirt has
recorded is there, and the processes that a container's life takes (`run -d`, its supervisor, `rm`) share one file.

    {"trace": 1, "run": "18d0c3…", "time": "2026-11-24T04:19:11.123456789Z", "command": "minirt run"}
    {"call": 1, "run": …, "by": 0, "time": …, "command": "ADD", "network": "lab", "plugin": "bridge", "path": "/…",
     "env": {"CNI_COMMAND": "ADD", …}, "inherited": ["HOME", …], "stdin": {"cniVersion": "1.0.0", …}}
    {"step": "ip link add …", "run": …, "call": 1, "undo": false}
    {"call": 2, "run": …, "by": 1, …}                                    bridge calls its delegate
    {"answer": 2, "run": …, "exit": 0, "stdout": "…", "stderr": "…", "seconds": 0.0012, "problem": ""}
    {"answer": 1, …}

A run is one process that records; `run` names it, and its calls are numbered from 1. `by` is the number of the call
whose plugin called, 0 for the runtime's own. `exit` is minus the signal's number for a plugin that one ended, null for
one that was not run to its end. Of the environment the variables of the contract are written down with their values;
of the others, which plugins inherit from the runtime, the names alone: they are nobody's business, and may be secrets.
A configuration can hold some too, so the file is its owner's alone (mode 600).
"""

from __future__ import annotations

import os
import time

from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.names import STEPS_FD
from minirt.cni.call import Answered, Calling
from minirt.errors import Conflict, KernelRefused, because
from minirt.log import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.cni.call import Event
    from minirt.cni.inside import Stepping

FORMAT = 1
_OF_THE_CONTRACT = "CNI_"
_LONGEST = 4096  # bytes of a trace's first line, and more than it ever has
_KIND, _REGULAR = 0o170000, 0o100000  # of a file's mode


class Recorder:
    """Appends what it is told of plugins to the file at `path`. Raises Conflict for a file that is no trace,
    KernelRefused for one that cannot be written; both before anything is recorded.

    The file is opened anew for each line, since a process that goes into the background closes what it has open. With
    `hold` it stays open, for a process that enters other namespaces.
    """

    def __init__(self, path: str, command: str, hold: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._fd = -1
        self._typed = os.getpid()
        self._command = command
        self._start()
        self._refuse_others()
        if hold:
            self._fd = self._opened()

    def _start(self) -> None:
        """A run of its own for this process: after a fork both record, and neither knows how far the other is."""
        self._pid = os.getpid()
        self._run = f"{time.time_ns():x}-{self._pid}"
        self._begun = False
        self._calls = 0
        self._open: list[tuple[int, Calling]] = []

    def _refuse_others(self) -> None:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with open(fd, "rb") as file:
                regular = os.fstat(fd).st_mode & _KIND == _REGULAR
                first = file.readline(_LONGEST) if regular else b""  # a terminal would wait, and /dev/full never end
        except OSError as error:
            raise KernelRefused(f"open {self.path}", error, "--trace names a file, which is appended to") from error
        try:
            fits = not first or "trace" in loads(first)
        except (JsonError, TypeError):
            fits = False
        if not fits:
            raise Conflict(f"{self.path} is there, and no trace", "name another file: a trace is only added to traces")

    def event(self, event: Event) -> None:
        """For `Cni(watch=)`."""
        if os.getpid() != self._pid:
            self._start()
        if isinstance(event, Calling):
            self._calling(event)
        elif isinstance(event, Answered):
            self._answered(event)
        else:
            self._stepping(event)

    def _calling(self, call: Calling) -> None:
        self._calls += 1
        by = self._number(call.by) if call.by else 0
        self._open.append((self._calls, call))
        env = {key: text for key, text in call.env.items() if key.startswith(_OF_THE_CONTRACT) and key != STEPS_FD}
        inherited = sorted(key for key in call.env if not key.startswith(_OF_THE_CONTRACT))
        self._write(
            {"call": self._calls, "run": self._run, "by": by, "time": timestamp(time.time_ns())}
            | {"command": call.command, "network": call.network, "plugin": call.plugin, "path": call.path}
            | {"env": env, "inherited": inherited, "stdin": dict(call.config)}
        )

    def _number(self, plugin: str) -> int:
        """Of the innermost call of `plugin` that has not been answered; of the outermost call, where there is none."""
        numbers = [number for number, call in self._open if call.plugin == plugin]
        return numbers[-1] if numbers else self._open[0][0] if self._open else 0

    def _stepping(self, step: Stepping) -> None:
        self._write({"step": step.text, "run": self._run, "call": self._number(step.plugin), "undo": step.undo})

    def _answered(self, answer: Answered) -> None:
        number = next((number for number, call in self._open if call is answer.call), 0)
        self._open = [(other, call) for other, call in self._open if other != number]
        said = {key: text.decode(errors="backslashreplace") for key, text in _streams(answer)}
        self._write(
            {"answer": number, "run": self._run, "exit": answer.exit, **said}
            | {"seconds": round(answer.seconds, 6), "problem": answer.problem}
        )

    def _write(self, line: dict[str, Any]) -> None:
        """A line, whole or not at all. That the disk is full is no reason to fail for those who are at work."""
        lines = [line]
        if not self._begun:
            self._begun = True
            now = timestamp(time.time_ns())
            lines.insert(0, {"trace": FORMAT, "run": self._run, "time": now, "command": self._command})
        text = "".join(f"{dumps(item, indent=0)}\n" for item in lines)
        try:
            fd = self._opened() if self._fd < 0 else self._fd
            try:
                os.write(fd, text.encode(errors="replace"))  # half a character in JSON could not be read again
            finally:
                if fd != self._fd:
                    os.close(fd)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        """Once, to whoever typed the command; nobody reads what a process in the background says."""
        if self._typed and os.getpid() == self._typed:
            self._typed = 0
            text = f"minirt: the trace {self.path} is not whole: {because(error)}\n"
            os.write(2, text.encode(errors="backslashreplace"))

    def _opened(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _streams(answer: Answered) -> tuple[tuple[str, bytes], ...]:
    return ("stdout", answer.stdout), ("stderr", answer.stderr)
