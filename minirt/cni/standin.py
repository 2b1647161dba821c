"""A program that stands where a foreign plugin looks for its delegate, tells the runtime of the call, and passes it on.

A plugin calls its delegate by searching CNI_PATH. Of ours we know when, because they tell; of others' we know when the
first folder of CNI_PATH has a program of the delegate's name that tells in their place (see `cni_plugins.sdk.narration`
for the messages), and then runs the one that is found in the other folders: with the same environment, but for
CNI_PATH, with the same standard input, and with its output, exit code or signal for its own.

    minirt ──▶ bridge (anybody's) ──▶ host-local, the stand-in ──▶ host-local
       ▲                                   │
       └──────────── CNI_STEPS_FD ─────────┘

It is used only while somebody listens. The programs are a few lines each, written beside the bundled plugins when they
are first needed; where that cannot be, the call goes unseen.
"""

from __future__ import annotations

import os
import sys
from resource import RLIMIT_CORE, setrlimit
from select import select
from signal import SIG_DFL, SIGINT, SIGKILL, SIGPIPE, SIGXFSZ, signal

from cni_plugins.spec.names import STEPS_FD, parameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, NoReturn

    from minirt.cni.call import Calling

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FOLDER = "delegates"  # beside that of the bundled plugins
_DELEGATING = ("ipam", "delegate")  # keys under which a plugin finds the type that it calls
_LONGEST = 1 << 16  # characters of an answer that are told


def environment(call: Calling) -> Mapping[str, str]:
    """What a foreign plugin is given, so that its calls are seen: `call.env` with the stand-ins first in CNI_PATH."""
    from minirt.cni import executor

    folders = call.env.get("CNI_PATH", "").split(":")
    delegates = [name for name in _types(call.config) if _find(name, folders)]
    if not delegates:
        return call.env
    folder = os.path.join(os.path.dirname(executor.bundled()), _FOLDER)
    try:
        for name in delegates:
            _write(f"{folder}/{name}")
    except (OSError, ValueError):
        return call.env
    return {**call.env, "CNI_PATH": f"{folder}:{call.env.get('CNI_PATH', '')}"}


def _types(config: Mapping[str, Any]) -> Iterator[str]:
    for key in _DELEGATING:
        inner = config.get(key)
        name = inner.get("type") if isinstance(inner, dict) else None
        if isinstance(name, str) and name:
            yield os.path.basename(name)


def _find(name: str, folders: Iterable[str]) -> str:
    """Its path; empty where none of the folders has such a program. Like everybody's search it takes the first file of
    that name, whether that can be executed or not."""
    paths = (os.path.join(folder, name) for folder in folders if folder)
    return next((path for path in paths if os.path.isfile(path)), "")


def _write(path: str) -> None:
    """Raises OSError."""
    from minirt import files

    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    lines = (f"#!{os.path.realpath(sys.executable)} -IS", "import sys", f"sys.path.append({here!r})")
    text = "\n".join((*lines, "from minirt.cni.standin import main", "main()", "")).encode()
    if os.path.exists(path) and files.read(path) == text:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    files.write(path, text, 0o755)


# --- the stand-in itself ----------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Be the delegate."""
    signal(SIGINT, SIG_DFL)
    ours, name = os.path.split(os.path.abspath(sys.argv[0]))
    folders = [folder for folder in os.environ.get("CNI_PATH", "").split(":") if folder]
    others = [folder for folder in folders if os.path.abspath(folder) != ours]
    path = _find(name, others)
    if not path:
        from cni_plugins.spec.jsontext import dumps

        print(dumps({"code": 999, "msg": f"plugin {name!r} not found in {':'.join(others) or 'CNI_PATH'}"}))
        sys.exit(1)
    env = {**os.environ, "CNI_PATH": ":".join(others)}
    _run(name, path, env)


def _run(name: str, path: str, env: dict[str, str]) -> NoReturn:
    command = env.get("CNI_COMMAND", "")
    stdin = os.memfd_create("stdin")
    asked = _whole(0) if command != "VERSION" else b""  # for which nobody may be writing there
    _write_all(stdin, asked)
    os.lseek(stdin, 0, os.SEEK_SET)
    config = {"stdin": asked.decode(errors="replace")} if len(asked) < _LONGEST else {}
    _tell({"call": name, "command": command, "path": path, "env": parameters(env), **config})
    pipes = [os.pipe() for _ in ("stdout", "stderr")]
    parent = os.getpid()
    if not (pid := os.fork()):
        _become(path, env, (stdin, *(end for _, end in pipes)), parent)
    for _, end in pipes:
        os.close(end)
    said = _passed_on({source: number for number, (source, _) in enumerate(pipes, 1)})
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = [said[number].decode(errors="backslashreplace")[:_LONGEST] for number in (1, 2)]
    _tell({"answered": name, "command": command, "exit": status, "stdout": texts[0], "stderr": texts[1]})
    if status < 0:
        signal(-status, SIG_DFL)
        setrlimit(RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), -status)
    os._exit(status)


def _passed_on(sources: dict[int, int]) -> dict[int, bytes]:
    """Hand on what comes from `sources` to the descriptors behind them, until all have ended, as it comes; the
    beginning of each."""
    said = dict.fromkeys(sources.values(), b"")
    while sources:
        for source in select(list(sources), [], [])[0]:
            number, chunk = sources[source], os.read(source, _LONGEST)
            said[number] += chunk[: _LONGEST - len(said[number])]
            try:
                _write_all(number, chunk)
            except OSError:
                chunk = b""  # nobody reads: the delegate hears of it as it would without us
            if not chunk:
                os.close(source)
                del sources[source]
    return said


def _become(path: str, env: dict[str, str], streams: tuple[int, ...], parent: int) -> NoReturn:
    """The delegate itself. Who ends us means the delegate, so it ends with us (prctl(2), PR_SET_PDEATHSIG)."""
    import ctypes

    try:
        for ignored in (SIGPIPE, SIGXFSZ):  # by our interpreter
            signal(ignored, SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, SIGKILL)
        if os.getppid() == parent:
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
            os.execve(path, [path], env)  # noqa: S606  # no shell is wanted
    except OSError as error:
        _write_all(2, f"{path}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _whole(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


def _write_all(fd: int, text: bytes) -> None:
    with open(fd, "wb", closefd=False) as file:
        file.write(text)


def _tell(what: dict[str, Any]) -> None:
    """Whose delegate it is, the runtime knows."""
    import _socket

    from cni_plugins.spec.jsontext import dumps

    number = os.environ.get(STEPS_FD, "").partition(":")[0]
    if not number.isdigit():
        return
    try:
        channel = _socket.socket(fileno=int(number))
    except OSError:
        return  # the plugin closes what it does not know
    try:
        if (channel.family, channel.type) == (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
            channel.send(dumps({"plugin": "", "verb": "", **what}, indent=0).encode(errors="replace"))
    except OSError:
        pass
    finally:
        channel.detach()
