"""`minirt`: the way in. Decides who reads the command line, and how a failure is told.

Start-up is the cost: a well-formed command line reaches its verb without click.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.verb import Verb

VERSION = "0.1.0"
_OBJECTS = (
    50_000  # between two looks for dead cycles: a run makes half as many and no cycles, and looking costs it 2 ms
)
SEE_DEBUG = "'minirt --debug …' shows where it happened"


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    gc.set_threshold(_OBJECTS)
    _open_the_closed()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or (141 if isinstance(error, BrokenPipeError) else _tell(error, 1))
    # Nothing is left to tidy: skipping the interpreter's own taking-apart saves 1 to 2 ms.
    os._exit(code)


def _open_the_closed() -> None:
    """Put /dev/null where a standard stream is closed: the next file we open would get its number, and a lock or log
    of a container would then be taken for its input or output."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(fd, True)
    os.close(fd)
    # A stream that was closed when the interpreter started is None to it.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def run(argv: list[str]) -> int:
    """The exit code of `minirt ARGV…`; failures are printed to standard error, with a hint."""
    from minirt.cli import settings, verbs

    argv = settings.take(argv)
    if argv == ["--version"]:
        print(f"minirt {VERSION}")
        return 0
    found = verbs.split(argv)
    try:
        return _dispatch(argv, found)
    except BaseException as error:
        if settings.debug:
            import traceback

            traceback.print_exc()
        return _tell(error, found[0].failure if found else 2)


def _tell(error: BaseException, failure: int) -> int:
    """Print what went wrong, and give the exit code; `failure` is the verb's own where the error has none to say."""
    from minirt.errors import MinirtError, because

    match error:
        case MinirtError():
            error.show()
            return failure if error.exit_code == MinirtError.exit_code else error.exit_code
        case BrokenPipeError():
            return 141  # as a shell reports a program that SIGPIPE ended
        case OSError():
            MinirtError(f"{error.filename or 'the kernel'}: {because(error)}", SEE_DEBUG).show()
        case Exception():
            MinirtError(f"{type(error).__name__}: {error}", SEE_DEBUG).show()
        case _:  # a signal that ended us: ctrl-C, or one that came while a container was being set up
            return getattr(error, "exit_code", 130)
    return failure


def _dispatch(argv: list[str], found: tuple[Verb, list[str]] | None) -> int:
    if found is not None:
        from minirt.cli.verb import read, start

        verb, words = found
        values = read(verb, words)
        if values is not None:
            return start(verb, values)
    from minirt.cli import clicked

    return clicked.run(argv, VERSION)


if __name__ == "__main__":
    main()
