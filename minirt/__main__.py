"""`minirt`: the way in. Decides who reads the command line, and how a failure is told.

Start-up is the cost: a well-formed command line reaches its verb without click.
"""

from __future__ import annotations

import os
import sys

VERSION = "0.1.0"


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or 141  # as a shell reports a program that SIGPIPE ended
    # Nothing is left to tidy: skipping the interpreter's own taking-apart saves 1 to 2 ms.
    os._exit(code)


def run(argv: list[str]) -> int:
    """The exit code of `minirt ARGV…`; failures are printed to standard error, with a hint."""
    from minirt.cli import settings
    from minirt.errors import MinirtError

    argv = settings.take(argv)
    if argv == ["--version"]:
        print(f"minirt {VERSION}")
        return 0
    try:
        return _dispatch(argv)
    except MinirtError as error:
        failure: BaseException = error
        code = error.exit_code
    except KeyboardInterrupt as error:
        failure, code = error, 130
    except BrokenPipeError as error:
        failure, code = error, 141
    if settings.debug:
        import traceback

        traceback.print_exception(failure)
    if isinstance(failure, MinirtError):
        failure.show()
    return code


def _dispatch(argv: list[str]) -> int:
    from minirt.cli import verb as reading
    from minirt.cli import verbs
    from minirt.errors import UsageError

    found = verbs.split(argv)
    if found is not None:
        verb, words = found
        values = reading.read(verb, words)
        if values is not None:
            return verb.body(values)
    from minirt.cli import clicked

    try:
        return clicked.run(argv, VERSION)
    except UsageError as error:
        error.exit_code = found[0].failure if found else 2
        raise


if __name__ == "__main__":
    main()
