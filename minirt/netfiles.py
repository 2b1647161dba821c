"""The three files that tell a container who it is on the network: /etc/hosts, /etc/hostname, /etc/resolv.conf.

Pure functions from CNI results to text; the lifecycle writes them after ADD, the container sees them by bind mounts.
"""

from __future__ import annotations

from cni_plugins.spec.ip import parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_plugins.spec.result import Result
    from minirt.spec import Dns

NAMES = ("hosts", "hostname", "resolv.conf")
_LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
"""
# Where systemd-resolved keeps the servers behind its own 127.0.0.53, which nobody inside a container can reach.
RESOLVED = "/run/systemd/resolve/resolv.conf"


def hostname(name: str) -> str:
    return f"{name}\n"


def hosts(hostname: str, name: str, results: Iterable[Result]) -> str:
    """Local names, then each address of the container with its host name and, where it differs, its own name."""
    words = hostname if name in ("", hostname) else f"{hostname} {name}"
    addresses = [ip.address.address for result in results for ip in result.ips]
    return _LOCAL + "".join(f"{address}\t{words}\n" for address in addresses)


def resolv_conf(asked: Dns, results: Sequence[Result], of_host: str) -> str:
    """What `--dns` asked for, else what the networks say, else the host's text without servers on its loopback.

    Each of the three kinds of line is decided for itself: `--dns` alone keeps the search list of the network.
    """
    told = [result.dns for result in results if result.dns]
    servers = asked.servers or tuple(server for dns in told for server in dns.nameservers)
    searches = asked.searches or tuple(
        word for dns in told for word in (dns.search or ((dns.domain,) if dns.domain else ()))
    )
    options = asked.options or tuple(option for dns in told for option in dns.options)
    if not (servers or searches or options):
        return reachable(of_host)
    lines = [f"nameserver {server}" for server in servers]
    if not servers:
        lines = [line for line in reachable(of_host).splitlines() if line.startswith("nameserver")]
    lines += [f"search {' '.join(searches)}"] if searches else []
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"


def reachable(text: str) -> str:
    """A resolv.conf without the servers that only the host itself can reach: those on its loopback."""
    return "".join(line for line in text.splitlines(keepends=True) if not _on_loopback(line.split()))


def _on_loopback(words: list[str]) -> bool:
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        address = parse_address(words[1].partition("%")[0])
    except ValueError:
        return False
    return address.value >> 24 == 127 if address.family == 4 else address.value == 1


def of_host(read: Sequence[str]) -> str:
    """The first of the texts (the host's resolv.conf, then resolved's) that names a server a container can reach."""
    for text in read:
        if "nameserver" in reachable(text):
            return text
    return read[0] if read else ""
