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
one that was not run to its end. An answer has `left_out` where a plugin told more of its work than is kept: how many
steps and calls are not there. Of the environment the variables of the contract are written down with their values; of
the others, which plugins inherit from the runtime, the names alone: they are nobody's business, and may be secrets. A
configuration can hold some too, so the file is its owner's alone (mode 600), also one that was there and was not.
"""

from __future__ import annotations

import errno
import os
import time

from cni_plugins.spec.jsontext import JsonError, dumps, loads
from cni_plugins.spec.names import inherited, parameters
from minirt import files
from minirt.cni.call import Answered, Calling
from minirt.errors import Conflict, KernelRefused, NotFound, because
from minirt.log import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.cni.call import Event
    from minirt.cni.inside import Stepping

FORMAT = 1
_LONGEST = 4096  # bytes of a trace's first line, and more than it ever has
_KIND, _REGULAR = 0o170000, 0o100000  # of a file's mode
_OTHERS = 0o077
# Of what plugins tell while one call of the runtime's is made: lines, and bytes.
_MOST_LINES, _MOST_TOLD = 1000, 1 << 20
_MOST_SAID = 1 << 20  # characters of what a plugin prints; no answer has as many
_NO_ROOM = "its answer is not recorded: plugins told more than a trace keeps of one call"


class Recorder:
    """Appends what it is told of plugins to the file at `path`. Raises Conflict for what is no trace, NotFound and
    KernelRefused for what cannot be written; all before anything is recorded.

    A trace is a regular file: it is added to, and read again; a pipe or a terminal would have plugins wait for whoever
    reads. The file is opened anew for each line, since a process that goes into the background closes what it has open.
    With `hold` it stays open, for a process that enters other namespaces.
    """

    def __init__(self, path: str, command: str, hold: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._fd = -1
        self._typed = os.getpid()
        self._command = command
        self._start()
        try:
            fd = self._opened()
        except OSError as error:
            folder = os.path.dirname(self.path)
            if not os.path.exists(folder):
                raise NotFound(f"no folder {folder!r}", "--trace makes the file that it names, and no folder") from None
            raise KernelRefused(f"open {self.path}", error, "--trace names a file, which is appended to") from error
        try:
            self._refuse_others(fd)
        except BaseException:
            os.close(fd)
            raise
        if hold:
            self._fd = fd
        else:
            os.close(fd)

    def _start(self) -> None:
        """A run of its own for this process: after a fork both record, and neither knows how far the other is."""
        self._pid = os.getpid()
        self._run = f"{time.time_ns():x}-{self._pid}"
        self._begun = False
        self._calls = 0
        self._open: list[tuple[int, Calling]] = []
        self._lines = self._told = self._left_out = 0  # of the runtime's call that is being made

    def _refuse_others(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        if mode & _KIND != _REGULAR:
            raise Conflict(f"{self.path} is not a regular file", "a trace is added to, and read again: name a file")
        text = os.pread(fd, _LONGEST, 0)
        try:
            head = loads(text.partition(b"\n")[0]) if text else {"trace": FORMAT}
        except JsonError:
            head = None
        if not isinstance(head, dict) or "trace" not in head:
            raise Conflict(f"{self.path} is there, and no trace", "name another file: a trace is only added to traces")
        if head["trace"] != FORMAT:
            problem = f"{self.path} is a trace of format {str(head['trace'])[:20]!r}, and this minirt writes {FORMAT}"
            raise Conflict(problem, "name another file")
        if mode & _OTHERS:
            try:
                os.fchmod(fd, mode & 0o700)
            except OSError as error:
                raise KernelRefused(f"chmod 600 {self.path}", error, "a trace is its owner's alone") from error

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
        if not call.by:
            self._lines = self._told = self._left_out = 0
        by = self._number(call.by) if call.by else 0
        if call.by and not by:
            return  # the caller's line is not there: the disk was full
        others = sorted(inherited(call.env))
        line = (
            {"call": self._calls + 1, "run": self._run, "by": by, "time": timestamp(time.time_ns())}
            | {"command": call.command, "network": call.network, "plugin": call.plugin, "path": call.path}
            | {"env": parameters(call.env), "inherited": others, "stdin": dict(call.config)}
        )
        if by and not self._fits(line):
            self._left_out += 1
        elif self._write(line):
            self._calls += 1
            self._open.append((self._calls, call))

    def _number(self, plugin: str) -> int:
        """Of the innermost call of `plugin` that has not been answered; of the outermost call, where there is none."""
        numbers = [number for number, call in self._open if call.plugin == plugin]
        return numbers[-1] if numbers else self._open[0][0] if self._open else 0

    def _stepping(self, step: Stepping) -> None:
        line = {"step": step.text, "run": self._run, "call": self._number(step.plugin), "undo": step.undo}
        if not line["call"]:
            return
        if self._fits(line):
            self._write(line)
        else:
            self._left_out += 1

    def _answered(self, answer: Answered) -> None:
        number = next((number for number, call in self._open if call is answer.call), 0)
        if not number:
            return  # its call is not there
        self._open = [(other, call) for other, call in self._open if other != number]
        said = {key: _beginning(text.decode(errors="backslashreplace")) for key, text in _streams(answer)}
        line: dict[str, Any] = {"answer": number, "run": self._run, "exit": answer.exit, **said}
        line |= {"seconds": round(answer.seconds, 6), "problem": answer.problem}
        if answer.call.by and not self._fits(line):
            line |= {"stdout": "", "stderr": "", "problem": _NO_ROOM}
        elif not answer.call.by and self._left_out:
            line["left_out"] = self._left_out
        self._write(line)

    def _fits(self, line: dict[str, Any]) -> bool:
        """Whether there is room for one more line of what plugins tell: one that never stops fills no disk."""
        size = len(dumps(line, indent=0))
        if self._lines >= _MOST_LINES or self._told + size > _MOST_TOLD:
            return False
        self._lines += 1
        self._told += size
        return True

    def _write(self, line: dict[str, Any]) -> bool:
        """A line, whole or not at all. That the disk is full is no reason to fail for those who are at work.
        Whether it has been written."""
        lines = [line]
        if not self._begun:
            now = timestamp(time.time_ns())
            lines.insert(0, {"trace": FORMAT, "run": self._run, "time": now, "command": self._command})
        text = "".join(f"{dumps(item, indent=0)}\n" for item in lines)
        try:
            fd = self._opened() if self._fd < 0 else self._fd
            try:
                if os.fstat(fd).st_mode & _KIND != _REGULAR:
                    raise OSError(errno.EINVAL, "it is not a regular file any more")
                files.append(fd, text.encode(errors="replace"))  # half a character in JSON could not be read again
                self._begun = True
            finally:
                if fd != self._fd:
                    os.close(fd)
        except OSError as error:
            self._complain(error)
            return False
        return True

    def _complain(self, error: OSError) -> None:
        """Once, to whoever typed the command; nobody reads what a process in the background says."""
        if self._typed and os.getpid() == self._typed:
            from minirt.terminal import tell  # for failures alone

            self._typed = 0
            tell(f"minirt: the trace {self.path} is not whole: {because(error)}\n")

    def _opened(self) -> int:
        """Without waiting: for the other end of a pipe, say, which is refused then."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)


def _beginning(text: str) -> str:
    """Of a flood the beginning, and how much more there was."""
    more = len(text) - _MOST_SAID
    return text if more <= 0 else f"{text[:_MOST_SAID]}… {more} more characters are not recorded"


def _streams(answer: Answered) -> tuple[tuple[str, bytes], ...]:
    return ("stdout", answer.stdout), ("stderr", answer.stderr)
