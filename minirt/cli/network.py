"""minirt network ls, inspect, create, rm, reload, prune"""

from __future__ import annotations

import sys

from cni_plugins.spec.jsontext import dumps
from minirt.cli import engine
from minirt.cli.output import each, need_root, table, warn
from minirt.cli.verb import MANY, VALUE, Argument, Option, Verb
from minirt.errors import MinirtError, UsageError
from minirt.netadmin import drivers, report, spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.netadmin.catalog import Entry

HEAD = ("NAME", "DRIVER", "SUBNETS", "PLUGINS", "CONTAINERS", "FILE")
NETWORKS = (Argument("networks", "NETWORK...", many=True),)


def ls(values: dict[str, Any]) -> int:
    need_root("network ls")
    if values["format"] not in (None, "table", "json"):
        raise UsageError(f"invalid format {values['format']!r}", "table or json")
    entries = engine.catalog().entries()
    good = [entry for entry in entries if entry.network]
    if values["format"] == "json":
        for entry in entries:
            print(dumps(report.row(entry), indent=0))
        return 0
    if values["quiet"]:
        for entry in good:
            print(entry.network.name if entry.network else "")
    else:
        print(table(HEAD, map(_cells, good)))
    for entry in entries:
        if entry.problem:
            warn(entry.problem if entry.network is None else f"{entry.path}: {entry.problem}")
    return 0


def _cells(entry: Entry) -> tuple[str, ...]:
    """An empty cell is a dash, so that a line has as many words as the head."""
    row = report.row(entry)
    lists = (",".join(row[key]) or "-" for key in ("Subnets", "Plugins", "Containers"))
    return (row["Name"], row["Driver"], *lists, row["File"])


def inspect(values: dict[str, Any]) -> int:
    need_root("network inspect")
    catalog = engine.catalog()
    documents = []
    code = 0
    for name in values["networks"]:
        try:
            entry = catalog.find(name)
        except MinirtError as error:
            error.show()
            code = 1
        else:
            documents += [report.document(entry, entry.network)] if entry.network else []
    sys.stdout.write(dumps(documents) + "\n")
    return code


def asked(values: dict[str, Any]) -> spec.NetworkSpec:
    """What the command line asks for. Raises UsageError."""
    driver = drivers.parse_driver(values["driver"] or "bridge")
    ipam = drivers.parse_ipam(driver, values["ipam_driver"] or drivers.HOST_LOCAL)
    listed = bool(values["subnet"] or values["ip_range"])
    gateways = values["gateway"]
    return spec.NetworkSpec(
        name=spec.parse_name(values["network"]),
        driver=driver,
        ipam=ipam,
        subnets=spec.parse_subnets(values["subnet"], gateways, values["ip_range"]) if listed else (),
        gateways=() if listed else spec.parse_gateways(gateways),
        internal=values["internal"],
        options=drivers.parse_options(driver, values["opt"]),
        labels=spec.parse_labels(values["label"]),
    )


def create(values: dict[str, Any]) -> int:
    wanted = asked(values)
    need_root("network create")
    engine.catalog().create(wanted, values["ipv6"], values["force"])
    print(wanted.name)
    return 0


def rm(values: dict[str, Any]) -> int:
    need_root("network rm")
    return each(values["networks"], engine.catalog().remove)


def reload(values: dict[str, Any]) -> int:
    if bool(values["containers"]) == values["all"]:
        raise UsageError("which containers?", "name them, or say --all")
    need_root("network reload")
    reloader = engine.reloader()
    return each(reloader.running() if values["all"] else values["containers"], reloader.reload)


def prune(values: dict[str, Any]) -> int:
    need_root("network prune")
    catalog = engine.catalog()
    names = catalog.unused()
    if names and not values["force"] and not _agreed(names):
        return 1
    return each(names, catalog.remove)


def _agreed(names: list[str]) -> bool:
    """Whether the person at the terminal wants it. Raises UsageError where nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError(f"this removes {', '.join(names)}, and there is no terminal to ask at", "--force does not ask")
    sys.stderr.write(f"minirt: remove {', '.join(names)}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


LS = Verb(
    "ls",
    "List the networks of /etc/cni/net.d in the order in which a default is looked for: containers that name none join "
    "the first. Files that cannot be used are told of on standard error.",
    ls,
    (
        Option(("--quiet", "-q"), "Print names only."),
        Option(("--format",), "table, or json: an object on each line.", VALUE, "FORMAT"),
    ),
)
INSPECT = Verb(
    "inspect",
    "Print all that is known of networks as a JSON list, with docker's field names, and the list itself (CNIList).",
    inspect,
    (),
    NETWORKS,
)
CREATE = Verb(
    "create",
    "Write the list of a new network into /etc/cni/net.d and print its name. Without --subnet a free one is taken. "
    "Nobody's default changes: the file sorts last, and bears a mark by which minirt passes over it.",
    create,
    (
        Option(("--driver", "-d"), f"{', '.join(drivers.DRIVERS)}. [default: bridge]", VALUE, "DRIVER"),
        Option(("--subnet",), "Its addresses; one of each family.", MANY, "CIDR"),
        Option(("--gateway",), "Gateway of a subnet. [default: its first address]", MANY, "IP"),
        Option(("--ip-range",), "Give containers addresses out of this part of a subnet only.", MANY, "CIDR"),
        Option(("--ipv6",), "Add an IPv6 subnet of its own (fd00::/8) if none is given."),
        Option(("--internal",), "Nothing leads out of it: no default route, masquerade or published ports."),
        Option(
            ("--opt", "-o"),
            "parent= (link of the host), mtu=, mode=, vlan=, bridge=, masquerade=, as the driver takes them.",
            MANY,
            "NAME=VALUE",
        ),
        Option(
            ("--ipam-driver",),
            "host-local, static (addresses are asked for), dhcp, none (no addresses). [default: host-local]",
            VALUE,
            "DRIVER",
        ),
        Option(("--label",), "Note this in the list, for `inspect`.", MANY, "KEY[=VALUE]"),
        Option(("--force",), "Create it even where a subnet or the bridge is in use."),
    ),
    (Argument("network", "NETWORK"),),
)
RM = Verb(
    "rm",
    "Remove the files of networks that nobody is attached to, and print their names. Links are left alone.",
    rm,
    (),
    NETWORKS,
)
RELOAD = Verb(
    "reload",
    "Have the networks of running containers made anew, when somebody has flushed what their plugins keep on the host "
    "(`nft flush ruleset`, a restart of firewalld): each is left and joined again (DEL, ADD) with the addresses that "
    "it has. Connections stay, packets of some tens of milliseconds are lost.",
    reload,
    (Option(("--all", "-a"), "All running containers."),),
    (Argument("containers", "[CONTAINER]...", many=True, required=False),),
)
PRUNE = Verb(
    "prune",
    "Remove the networks made by `minirt network create` that no container is attached to, or names.",
    prune,
    (Option(("--force", "-f"), "Do not ask."),),
)
