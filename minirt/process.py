"""The last steps of a process before it becomes the workload, the same for process 1 and for `exec`.

They run inside the container, as root until `Become`, and read nothing of the host any more: a module imported here
would come from the container's files, with the host's rights. Order matters: bounding set, groups, user, capabilities
(capabilities(7)); the command is looked up as the user who is to execute it.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EINVAL, ELOOP, ENOENT, ENOEXEC, ENOSYS, ENOTDIR, EPERM

from cni_plugins.spec.names import quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step
from minirt import caps, sys, user
from minirt.errors import CommandNotExecutable, CommandNotFound, SetupFailed, because
from minirt.kernel import KernelStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from cni_plugins.spec.steps import Plan
else:
    import _signal

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERM = "xterm"

_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
_UMASK = 0o022
_MOST_INTERPRETERS = 5  # as many `#!` lines in a row as the kernel follows
_FIRST_LINE = 256  # BINPRM_BUF_SIZE


@record
class Process:
    """A command and who runs it. `user` is USER[:GROUP] or empty; `size` is rows and columns of the terminal."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    terminal: bool = False
    size: tuple[int, int] = (0, 0)


@record
class Command:
    """What is to be executed, all questions answered."""

    path: str
    args: tuple[str, ...]
    env: dict[str, str]


def environment(given: tuple[tuple[str, str], ...], hostname: str, home: str, terminal: bool) -> dict[str, str]:
    """What the workload finds in its environment: what docker sets, then what was asked for. Nothing of ours."""
    env = {"PATH": PATH, "HOSTNAME": hostname, "HOME": home}
    if terminal:
        env["TERM"] = TERM
    return env | dict(given)


def reset() -> None:
    """Undo what an interpreter, or whoever started it, does to a process: handlers, ignored signals, mask, umask.

    Python ignores SIGPIPE and SIGXFSZ, and both would stay ignored by whatever is executed.
    """
    for number in _signal.valid_signals():
        try:
            _signal.signal(number, _signal.SIG_DFL)
        except OSError as error:
            if error.errno != EINVAL:  # KILL and STOP
                raise
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    os.umask(_UMASK)
    try:
        sys.join_session_keyring()
    except OSError as error:
        if error.errno not in (ENOSYS, EPERM):  # a kernel without keys, or a sandbox around us
            raise


def settle(process: Process, owned: tuple[int, ...], plan: Plan) -> Command:
    """Become the user of `process` in its directory, without the rights it must not have; find its command.

    `owned` are those of the standard streams that the user is to own: the workload's terminal, or pipes to us. Raises
    UsageError, NotFound (the user), CommandNotFound, CommandNotExecutable, SetupFailed, KernelRefused, OSError.
    """
    person = user.resolve(process.user, user.read(user.PASSWD), user.read(user.GROUP))
    if person.uid and owned:
        plan.do(Own(owned, person.uid))
    if _entered(process.cwd, plan):
        plan.do(Become(person))
    else:  # a network file system that refuses root; the user may
        plan.do(Become(person))
        if not _entered(process.cwd, plan):
            raise SetupFailed(f"working directory {process.cwd!r}: permission denied")
    env = environment(process.env, os.uname().nodename, person.home, process.terminal)
    return Command(find(process.args[0], env.get("PATH", PATH)), process.args, env)


def _entered(path: str, plan: Plan) -> bool:
    """Whether we may."""
    try:
        plan.do(Enter(path))
    except PermissionError:
        return False
    return True


@record
class Enter(Step):
    """This process into its working directory, which is made if it is missing."""

    path: str

    def describe(self) -> str:
        return "" if self.path == "/" else f"mkdir -p {quoted(self.path)} && cd {quoted(self.path)}"

    def apply(self) -> None:
        """Raises PermissionError, SetupFailed."""
        try:
            os.makedirs(self.path, mode=0o755, exist_ok=True)
            os.chdir(self.path)
            inside = os.getcwd()
        except PermissionError:
            raise
        except OSError as error:
            text = f"working directory {self.path!r}: {because(error)}"
            raise SetupFailed(text, "choose another with --workdir") from error
        # One outside our root, reached through a descriptor in /proc, would read "(unreachable)" (CVE-2024-21626).
        if not inside.startswith("/"):
            raise SetupFailed(f"working directory {self.path!r} is not inside the container")


@record
class Own(KernelStep):
    """Standard streams to the user, who may open them again by name then."""

    streams: tuple[int, ...]
    uid: int

    def describe(self) -> str:
        return f"chown {self.uid} {' '.join(_STREAMS[fd] for fd in self.streams)}"

    def change(self) -> None:
        for fd in self.streams:
            os.fchown(fd, self.uid, -1)


@record
class Become(KernelStep):
    """This process as another user, without the rights that no process of a container may have."""

    person: user.User

    def describe(self) -> str:
        ids = f"--reuid={self.person.uid} --regid={self.person.gid}"
        groups = f"--groups={','.join(map(str, self.person.groups))}" if self.person.groups else "--clear-groups"
        kept = ",".join(f"+{name.lower()}" for name in caps.DEFAULT)
        return f"setpriv {ids} {groups} --inh-caps=-all --bounding-set=-all,{kept} --no-new-privs"

    def change(self) -> None:
        kept = caps.mask(caps.DEFAULT)
        caps.bound(kept)
        os.setgroups(self.person.groups)
        os.setresgid(*[self.person.gid] * 3)
        os.setresuid(*[self.person.uid] * 3)
        caps.keep(kept)
        caps.conceal()  # a change of user or of rights sets both anew
        caps.die_with_parent(_signal.SIGKILL)

    def hint(self, error: OSError) -> str:
        if error.errno == EPERM:
            return "this needs root with CAP_SETUID, CAP_SETGID and CAP_SETPCAP, which some sandboxes withhold"
        return KernelStep.hint(self, error)


def find(name: str, path: str) -> str:
    """The file that `name` means: itself if it has a slash, else the first executable one in `path`.

    Raises CommandNotFound, CommandNotExecutable.
    """
    if not name:
        raise CommandNotFound("the command is empty")
    if "/" in name:
        _check(name, name)
        return name
    refused: CommandNotExecutable | None = None
    for directory in filter(None, path.split(":")):
        try:
            _check(f"{directory}/{name}", name)
        except CommandNotFound:
            continue
        except CommandNotExecutable as error:
            refused = refused or error
        else:
            return f"{directory}/{name}"
    raise refused or CommandNotFound(f"no command {name!r} in the container", f"PATH there is {path}")


def _check(path: str, name: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            raise CommandNotFound(f"no command {name!r} in the container") from None
        raise CommandNotExecutable(f"cannot execute {name!r}: {because(error)}") from None
    if stat.S_ISDIR(mode):
        raise CommandNotExecutable(f"cannot execute {path!r}: it is a directory")
    if not stat.S_ISREG(mode) or not os.access(path, os.X_OK):
        raise CommandNotExecutable(f"cannot execute {path!r}: permission denied", "is its x bit set?")
    _refuse_magic(path, name)


def _refuse_magic(path: str, name: str) -> None:
    """Refuse a program, or interpreter of a script, that is reached through /proc/PID/exe and the like.

    It would be our own interpreter: a file of the host, which the container could then open for writing through its
    /proc/self/exe (CVE-2019-5736).
    """
    for _ in range(_MOST_INTERPRETERS):
        try:
            first = _first_line(path)
        except OSError as error:
            if error.errno == ELOOP:
                raise CommandNotExecutable(f"cannot execute {name!r}: {path!r} is a program of the host") from None
            return  # who may execute it and not read it is not root, and cannot write to the host's programs either
        words = first[2:].split(maxsplit=1)
        if not first.startswith(b"#!") or not words:
            return
        path = os.fsdecode(words[0])


def _first_line(path: str) -> bytes:
    fd = sys.openat2(sys.AT_FDCWD, path, os.O_RDONLY | os.O_NONBLOCK, sys.RESOLVE_NO_MAGICLINKS)
    try:
        return os.read(fd, _FIRST_LINE).split(b"\n", 1)[0]
    finally:
        os.close(fd)


def execute(command: Command) -> None:
    """Become the command. Only returns by CommandNotFound or CommandNotExecutable."""
    _refuse_magic(command.path, command.args[0])
    sys.close_range(3, -1, sys.CLOSE_RANGE_CLOEXEC)
    try:
        os.execve(command.path, command.args, command.env)  # noqa: S606
    except OSError as error:
        raise _refusal(command, error) from None


def _refusal(command: Command, error: OSError) -> CommandNotExecutable | CommandNotFound:
    name = command.args[0]
    if error.errno == ENOENT:
        return CommandNotFound(
            f"cannot execute {name!r}: what it needs to run is missing", "its #! interpreter, or its dynamic loader"
        )
    hints = {
        ENOEXEC: "it has no #! line, or was built for another architecture",
        EACCES: "the file and its interpreter need their x bits, on a mount without noexec",
    }
    return CommandNotExecutable(f"cannot execute {name!r}: {because(error)}", hints.get(error.errno or 0, ""))
