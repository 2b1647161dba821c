"""The daemon's command line, with the options of the reference plugin's daemon, and where it finds pyroute2."""

from __future__ import annotations

import argparse
import os
import re
import sys

from cni_plugins.sdk.dhcp.wire import SOCKET
from cni_plugins.sdk.launcher import home
from cni_plugins.spec.record import record

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@record
class Settings:
    """Times in seconds."""

    socketpath: str
    pidfile: str
    hostprefix: str
    broadcast: bool
    timeout: float
    resendmax: float
    resendtimeout: float


def start(argv: list[str]) -> int:
    """The program `dhcp daemon …`; its exit code."""
    settings = read(argv)
    if isinstance(settings, int):
        return settings
    try:
        find_pyroute2()
    except ImportError as error:
        print(f"dhcp: error: {error}", file=sys.stderr)
        return 1
    from cni_plugins.sdk.dhcp import process  # it needs what was just found

    return process.main(settings)


def read(argv: list[str]) -> Settings | int:
    """What `argv`, the words after the program's name, says; the exit code when there is no daemon to be."""
    parser = _parser()
    try:
        values = vars(parser.parse_args(argv))
    except SystemExit as end:
        return int(end.code or 0)
    del values["command"]
    return Settings(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "dhcp",
        description="The daemon of the dhcp plugin: gets leases for containers and keeps them, in the foreground.",
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["daemon"])
    add = parser.add_argument
    add("--socketpath", "-socketpath", "--socket", default=SOCKET, metavar="PATH", help="where to listen [%(default)s]")
    add("--pidfile", "-pidfile", default="", type=_absolute, metavar="PATH", help="a file for the process's number")
    add("--hostprefix", "-hostprefix", default="", metavar="PATH", help="where the host's files are, for a container")
    add("--broadcast", "-broadcast", action="store_true", help="have servers answer to all of the network")
    for name, default, text in (
        ("timeout", "10s", "how long to wait for one answer"),
        ("resendmax", "62s", "the longest pause between two attempts"),
        ("resendtimeout", "45s", "when to give up an ADD that nobody answers"),
    ):
        add(f"--{name}", f"-{name}", default=default, type=seconds, metavar="TIME", help=f"{text} [{default}]")
    return parser


def _absolute(text: str) -> str:
    if text and not os.path.isabs(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path")
    return text


def seconds(text: str) -> float:
    """A length of time as Go writes it: 10s, 1m30s, 500ms; a bare number is seconds."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    if text.isascii() and text.isdigit():
        parts = [(text, "s")]
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) not in (text, f"{text}s") or total <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time (expected one like 10s or 1m30s)")
    return total


def find_pyroute2() -> None:
    """Have pyroute2 importable: a launcher starts the interpreter without any folder of packages.

    It lies beside this package where both were installed; in the environment that scripts/setup makes in a checkout;
    or where the interpreter looks by itself. Raises ImportError with a sentence.
    """
    try:
        import pyroute2.dhcp.enums.bootp
    except ImportError:
        _look_around()
    try:
        import pyroute2.dhcp.enums.bootp  # noqa: F401
    except ImportError as error:
        raise ImportError(f"the daemon needs pyroute2 0.9 ({error}); `pip install pyroute2` gets it") from None


def _look_around() -> None:
    import site

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in [name for name in sys.modules if name.split(".")[0] == "pyroute2"]:
        del sys.modules[name]  # an older one, which was found before
    sys.path.append(os.path.join(home(), ".venv", "lib", version, "site-packages"))
    sys.path += site.getsitepackages()
