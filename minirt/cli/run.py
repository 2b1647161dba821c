"""minirt run"""

from __future__ import annotations

import os

from minirt.cli import engine
from minirt.cli.output import need_root
from minirt.cli.verb import EXIT_CODES, EXPLAIN, MANY, TRACE_FILE, VALUE, Argument, Option, Verb
from minirt.errors import UsageError
from minirt.spec import (
    DEFAULT_COMMAND,
    ContainerSpec,
    Dns,
    choose_networks,
    parse_env,
    parse_hostname,
    parse_ip,
    parse_name,
    parse_ports,
    parse_volume,
    parse_word,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (
    Option(("--detach", "-d"), "Run in the background and print the container's id."),
    Option(("--rm",), "Remove the container when its command ends."),
    Option(("--name",), "Name it, for use in place of its id.", VALUE, "NAME"),
    Option(("--interactive", "-i"), "Keep standard input open."),
    Option(("--tty", "-t"), "Give the command a terminal."),
    Option(("--env", "-e"), "Set an environment variable; NAME alone takes it from here.", MANY, "NAME[=VALUE]"),
    Option(("--workdir", "-w"), "Working directory inside the container.", VALUE, "DIR"),
    Option(("--user", "-u"), "User, and group, to run as.", VALUE, "USER[:GROUP]"),
    Option(("--hostname", "-h"), "Host name of the container.", VALUE, "NAME"),
    Option(
        ("--publish", "-p"),
        "Publish a port of the container on the host; both may be ranges.",
        MANY,
        "[IP:]HOSTPORT:PORT[/PROTO]",
    ),
    Option(
        ("--network", "--net"),
        "A network of /etc/cni/net.d, once for each interface; or none, host, container:ID, ns:PATH.",
        MANY,
        "NETWORK[:ip=IP,mac=MAC,ifname=NAME]",
    ),
    Option(("--ip",), "Ask the first network for this address (one of each family).", MANY, "IP"),
    Option(("--mac-address",), "Ask the first network for this MAC address.", VALUE, "MAC"),
    Option(("--dns",), "Use this name server.", MANY, "IP"),
    Option(("--dns-search",), "Use this search domain.", MANY, "DOMAIN"),
    Option(("--dns-option",), "Use this resolver option.", MANY, "OPTION"),
    Option(("--volume", "-v"), "Show a path of the host inside the container.", MANY, "SRC:DST[:ro]"),
    Option(("--read-only",), "Make the container's root read-only."),
    Option(
        ("--entrypoint",),
        "Program to run in place of the image's; COMMAND are its arguments.",
        VALUE,
        "PROGRAM",
        bare=True,  # none, as docker has it
    ),
    Option(("--rootfs",), "IMAGE is a directory that holds a root file system."),
    Option(("--quiet", "-q"), "Print no notices."),
    *EXPLAIN,
    TRACE_FILE,
)


def spec(values: dict[str, Any]) -> ContainerSpec:
    """What the command line asks for. Raises UsageError."""
    if not values["image"]:
        raise UsageError("the name of the image is empty", "'minirt run --help' shows what IMAGE can be")
    entrypoint = (values["entrypoint"],) if values["entrypoint"] else ()
    return ContainerSpec(
        image=values["image"],
        rootfs=values["rootfs"],
        name=parse_name(values["name"]) if values["name"] else "",
        args=entrypoint + values["command"] or DEFAULT_COMMAND,
        env=tuple(pair for text in values["env"] for pair in parse_env(text, os.environ)),
        workdir=values["workdir"] or "/",
        user=values["user"] or "",
        hostname=parse_hostname(values["hostname"]) if values["hostname"] else "",
        tty=values["tty"],
        interactive=values["interactive"],
        read_only=values["read_only"],
        remove=values["rm"],
        networks=choose_networks(values["network"], values["ip"], values["mac_address"] or ""),
        ports=tuple(port for text in values["publish"] for port in parse_ports(text)),
        dns=Dns(
            tuple(map(parse_ip, values["dns"])),
            tuple(map(parse_word, values["dns_search"])),
            tuple(map(parse_word, values["dns_option"])),
        ),
        volumes=tuple(parse_volume(text) for text in values["volume"]),
    )


def run(values: dict[str, Any]) -> int:
    asked = spec(values)
    need_root("run")
    account = engine.account(values, "minirt run", detached=values["detach"])
    containers = engine.make(values["quiet"], account, engine.recorder(values, "run"))
    if not values["detach"]:
        return containers.run(asked)
    print(containers.run_detached(asked))
    return 0


RUN = Verb(
    "run",
    "Run COMMAND in a new container of IMAGE: `host`, which is this machine's own files under a throw-away layer, or, "
    "with --rootfs, a directory. Options end at IMAGE.",
    run,
    OPTIONS,
    (Argument("image", "IMAGE"), Argument("command", "[COMMAND [ARG]...]", many=True, required=False)),
    stops=True,
    failure=125,
    epilog=EXIT_CODES,
)
