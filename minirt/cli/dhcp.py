"""minirt dhcp daemon: the bundled dhcp plugin's own program, in our place."""

from __future__ import annotations

import os

from minirt.cli.output import need_root
from minirt.cli.verb import VALUE, Option, Verb
from minirt.cni import executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTIONS = (
    Option(("--socketpath",), "Where to listen. [default: /run/cni/dhcp.minirt.sock]", VALUE, "PATH"),
    Option(("--pidfile",), "A file for the number of the process.", VALUE, "PATH"),
    Option(("--hostprefix",), "Where the host's files are, for a daemon that runs in a container.", VALUE, "PATH"),
    Option(("--broadcast",), "Have servers answer to the whole network."),
    Option(("--timeout",), "How long to wait for one answer. [default: 10s]", VALUE, "TIME"),
    Option(("--resendmax",), "The longest pause between two attempts. [default: 62s]", VALUE, "TIME"),
    Option(("--resendtimeout",), "When to give up an ADD that no server answers. [default: 45s]", VALUE, "TIME"),
)


def daemon(values: dict[str, Any]) -> int:
    need_root("dhcp daemon")
    given = [(option, values[option.key]) for option in _OPTIONS if values[option.key] != option.empty]
    words = [f"{option.names[0]}={value}" if option.kind == VALUE else option.names[0] for option, value in given]
    program = executor.program("dhcp")
    os.execv(program, [program, "daemon", *words])  # noqa: S606  # it takes over, signals and socket included


DAEMON = Verb(
    "daemon",
    "Get DHCP leases for the containers of networks whose IPAM plugin is dhcp, and keep them as long as the containers "
    "live. Runs in the foreground until a signal ends it; leases outlive it. TIME is written like 10s or 1m30s.",
    daemon,
    _OPTIONS,
)
