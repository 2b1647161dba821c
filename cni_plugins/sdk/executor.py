"""Running plugins: the one place where a program of CNI_PATH is found, started, listened to and, if need be, killed.

`Spawn` executes the program. `Fork` does so too, except when the program found is a launcher of ours: then it forks
this interpreter and runs the plugin in the child, which saves Python's start-up. Both give the plugin the same world:
a process group of its own, default signals, exactly the environment it was given, and no descriptor but 0, 1, 2 and
those that the caller names. A runtime runs its plugins through this, and a plugin its IPAM.

How a call goes on and ends is `call.py`'s business; the whole way, with the caller to the left:

    start   pipes, stdin's first 64 KiB      ──▶  setpgid, dup2 0-2, close the rest, exec  (or plugin's main)
    wait    rest of stdin, until it is taken ──▶  read
            collect                          ◀──  answer, log
            pidfd readable: drain, reap      ◀──  exit
            too late, too much: SIGKILL      ──▶  the group
"""

from __future__ import annotations

import gc
import os
import sys
from errno import EACCES, ENOENT, ENOEXEC, ETXTBSY
from time import sleep

from cni_plugins.sdk import launcher
from cni_plugins.sdk.call import Call, ExecutorError, Pipes, StoppedError
from cni_plugins.sdk.main import Outcome, Plugin, main, warn
from cni_plugins.spec import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    from cni_plugins.sdk.call import Ear
else:
    import _signal

__all__ = ["Call", "ExecutorError", "Fork", "NotFoundError", "Outcome", "Spawn", "StartError", "StoppedError", "find"]

_callers_streams: list[object] = []
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM, _signal.SIGQUIT)
_BUSY_DELAYS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # seconds between attempts while the file is being written

_CANNOT = {
    EACCES: "it is not executable (chmod +x), or its file system is mounted noexec",
    ENOENT: "its interpreter or loader does not exist",
    ENOEXEC: "it is neither a program for this machine nor a script with a #! line",
    ETXTBSY: "it is being written to",
}


class NotFoundError(ExecutorError):
    """No file of that name in any of `directories`."""

    def __init__(self, plugin_type: str, directories: Sequence[str]) -> None:
        self.plugin_type = plugin_type
        self.directories = tuple(directories)
        super().__init__(f"plugin {plugin_type!r} not found in {', '.join(directories) or 'no folder at all'}")


class StartError(ExecutorError):
    """The kernel refused to execute the file; the cause is the OSError."""


def find(plugin_type: str, directories: Sequence[str]) -> str:
    """The first regular file of that name; links are followed, whether it is executable is not asked, as in libcni.

    Raises CniError 7 for a name that is none, NotFoundError.
    """
    names.plugin_type(plugin_type)
    for directory in directories:
        path = os.path.join(directory, plugin_type)
        if os.path.isfile(path):
            return path
    raise NotFoundError(plugin_type, directories)


class Spawn:
    """Executes programs. With `own_group` off they stay in the caller's process group, to be killed along with it."""

    def __init__(self, own_group: bool = True) -> None:
        self.own_group = own_group

    def start(
        self,
        path: str,
        env: Mapping[str, str],
        stdin: bytes,
        timeout: float | None = None,
        keep_fds: Sequence[int] = (),
    ) -> Call:
        """Start the program at `path`; it runs beside the caller until `wait`. `timeout` is in seconds, from now.

        `keep_fds` stay open in it under their numbers. Raises StartError, OSError.
        """
        pipes = Pipes(stdin)
        call: Call | None = None
        # A handler that raises while the program is being started would leave it running with nobody to end it.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDING)
        try:
            try:
                call = Call(path, self._start(path, env, pipes, keep_fds), pipes, timeout, self.own_group)
            finally:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
        except BaseException:
            if call is None:
                pipes.close()
            else:
                call.kill()
            raise
        return call

    def run(
        self,
        path: str,
        env: Mapping[str, str],
        stdin: bytes,
        timeout: float | None = None,
        keep_fds: Sequence[int] = (),
        ear: Ear | None = None,
    ) -> Outcome:
        """`start` and `wait`."""
        return self.start(path, env, stdin, timeout, keep_fds).wait(ear)

    def _start(self, path: str, env: Mapping[str, str], pipes: Pipes, keep_fds: Sequence[int]) -> int:
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(pipes.theirs)]
        # A descriptor put onto itself loses its close-on-exec flag (posix_spawn_file_actions_adddup2(3)).
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in keep_fds]
        # Closing what exec would close anyway is harmless, and so is closing the listing's own descriptor.
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _strays(keep_fds) if fd not in pipes.theirs]
        for delay in (*_BUSY_DELAYS, None):
            try:
                return os.posix_spawn(
                    path,
                    [path],
                    env,
                    file_actions=actions,
                    setpgroup=0 if self.own_group else os.getpgrp(),
                    setsigmask=(),
                    setsigdef=_signal.valid_signals(),
                )
            except OSError as error:
                if error.errno != ETXTBSY or delay is None:
                    why = _CANNOT.get(error.errno or 0, error.strerror or "")
                    raise StartError(f"cannot start plugin {path}: {why}") from error
                sleep(delay)
        raise AssertionError("the last attempt returns or raises")


class Fork(Spawn):
    """Runs launchers of ours in a fork of this interpreter, executes all else.

    With `preload` a plugin's module is loaded here, once, and is there in every fork: for callers that run several
    plugins, or one several times. Without, the fork loads it while its caller goes on.
    """

    def __init__(self, own_group: bool = True, preload: bool = True) -> None:
        super().__init__(own_group)
        self.preload = preload

    def _start(self, path: str, env: Mapping[str, str], pipes: Pipes, keep_fds: Sequence[int]) -> int:
        plugin_type = os.path.basename(path)
        if not (launcher.is_ours(plugin_type, path) and os.access(path, os.X_OK)):
            return super()._start(path, env, pipes, keep_fds)
        if self.preload:
            try:
                _plugin(plugin_type)
                if names.STEPS_FD in env:
                    import cni_plugins.sdk.narration  # noqa: F401  # what it will tell its steps by
            except Exception:  # noqa: S110  # it will fail again in the fork, which is the place to say so
                pass
        pid = os.fork()
        if self.own_group:
            try:
                os.setpgid(pid, pid)  # on both sides: neither may go on before it is so
            except ProcessLookupError:
                pass  # the child has ended already
        if not pid:
            _become(plugin_type, path, env, pipes, keep_fds)
        return pid


def _plugin(plugin_type: str) -> Plugin:
    module = __import__(f"cni_plugins.{launcher.NAMES[plugin_type]}", fromlist=["PLUGIN"])
    plugin: Plugin = module.PLUGIN
    return plugin


def _strays(keep_fds: Sequence[int]) -> list[int]:
    """Every descriptor of this process that no plugin should have (and one that is closed already, the listing's own).

    The caller's own may be close-on-exec throughout; those that it was born with seldom are.
    """
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and fd not in keep_fds]


# --- the child of a fork ---------------------------------------------------------------------------------------------


def _become(plugin_type: str, path: str, env: Mapping[str, str], pipes: Pipes, keep_fds: Sequence[int]) -> NoReturn:
    """Be the plugin, as if executed. Nothing of the caller's runs again: no frame returns, no object is collected."""
    try:
        # A caller's object in a dead cycle may own a descriptor: collected here, it would close the plugin's own.
        gc.freeze()
        _reset_signals()
        _lay_out_descriptors(pipes, keep_fds)
        _change_environment(env)
        sys.argv = [path]
        # Text that waits in the caller's streams must not come out here, so the old objects stay, unused; the new
        # ones live as long as the process.
        _callers_streams.extend((sys.stdin, sys.stdout, sys.stderr))
        sys.stdin, sys.stdout, sys.stderr = (
            open(0, closefd=False),  # noqa: SIM115
            open(1, "w", closefd=False),  # noqa: SIM115
            open(2, "w", closefd=False),  # noqa: SIM115
        )
        main(_plugin(plugin_type))
    except BaseException as error:
        warn(f"{path}: {type(error).__name__}: {error}")
    finally:
        os._exit(1)


def _change_environment(env: Mapping[str, str]) -> None:
    """Only what differs: setenv(3) costs, and a caller's environment is most of a plugin's."""
    for name in os.environ.keys() - env.keys():
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _reset_signals() -> None:
    """Handlers as in a Python just started, nothing blocked."""
    _signal.set_wakeup_fd(-1)
    # All of them: what getsignal knows nothing of may be a handler of C's, readline's or faulthandler's.
    for number in _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP}:
        _signal.signal(number, _signal.SIG_DFL)
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_IGN)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _lay_out_descriptors(pipes: Pipes, keep_fds: Sequence[int]) -> None:
    for number, fd in enumerate(pipes.theirs):
        os.dup2(fd, number)
    for fd in _strays(keep_fds):
        try:
            os.close(fd)
        except OSError:
            pass  # the listing's own
    for fd in keep_fds:
        os.set_inheritable(fd, True)
