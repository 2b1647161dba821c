"""What a container is asked to be: records that survive in its state file, and the parsers of docker-shaped flags.

Every parser takes the text as a person types it and raises UsageError with what was expected.
"""

from __future__ import annotations

import os

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.ip import bracketed, parse_address, parse_cidr
from cni_plugins.spec.record import record
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_COMMAND = ("/bin/sh",)
HOST_IMAGE = "host"  # this machine's own files
PROTOCOLS = ("tcp", "udp", "sctp")
_LONGEST_NAME = 128  # of a container; it is also the name of a file
_LONGEST_HOSTNAME = 64  # __NEW_UTS_LEN
# Words of --network that name no network list (docker's and podman's).
NONE, HOST, OF_CONTAINER, OF_PATH = "none", "host", "container:", "ns:"


@record
class Port:
    """One published port; `host_ip` empty means every address of the host."""

    host: int
    container: int
    protocol: str = "tcp"
    host_ip: str = ""

    def __str__(self) -> str:
        address = f"{bracketed(self.host_ip)}:" if self.host_ip else ""
        return f"{address}{self.host}->{self.container}/{self.protocol}"


@record
class Network:
    """One `--network`: a list's name (empty: the default one) and what is asked of the attachment."""

    name: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    ifname: str = ""


@record
class Volume:
    """One `-v`: a path of the host, where it shows in the container, and mount options."""

    source: str
    target: str
    options: tuple[str, ...] = ()


@record
class Dns:
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@record
class ContainerSpec:
    """All that `minirt run` was asked for. `networks` is empty for the host's default network."""

    image: str
    rootfs: bool = False
    name: str = ""
    args: tuple[str, ...] = DEFAULT_COMMAND
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    user: str = ""
    hostname: str = ""
    tty: bool = False
    interactive: bool = False
    read_only: bool = False
    remove: bool = False
    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    dns: Dns = Dns()
    volumes: tuple[Volume, ...] = ()

    @property
    def network_mode(self) -> str:
        """`none`, `host`, `container:…`, `ns:…`; empty when network lists are attached."""
        first = self.networks[0].name if self.networks else ""
        return first if is_mode(first) else ""

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = _plain(self)
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ContainerSpec:
        parts: dict[str, Any] = dict(document)
        parts["args"] = tuple(parts["args"])
        parts["env"] = tuple((name, value) for name, value in parts["env"])
        parts["networks"] = tuple(Network(**(item | {"ips": tuple(item["ips"])})) for item in parts["networks"])
        parts["ports"] = tuple(Port(**item) for item in parts["ports"])
        parts["dns"] = Dns(**{key: tuple(value) for key, value in parts["dns"].items()})
        parts["volumes"] = tuple(Volume(**(item | {"options": tuple(item["options"])})) for item in parts["volumes"])
        return cls(**parts)


def _plain(value: Any) -> Any:
    """Records as objects and tuples as lists, all the way down."""
    if hasattr(value, "__match_args__"):
        return {key: _plain(item) for key, item in value.__dict__.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def is_mode(name: str) -> bool:
    return name in (NONE, HOST) or name.startswith((OF_CONTAINER, OF_PATH))


def parse_name(text: str) -> str:
    if len(text) > _LONGEST_NAME:
        raise UsageError(f"invalid container name {text[:20]!r}…", f"it is longer than {_LONGEST_NAME} characters")
    try:
        return names.container_id(text)
    except CniError as error:
        raise UsageError(f"invalid container name {text!r}", error.details) from None


def parse_hostname(text: str) -> str:
    """A host name that the kernel takes (sethostname(2)), and that can stand in a line of /etc/hosts."""
    if len(text.encode()) > _LONGEST_HOSTNAME or parse_word(text) != text:
        raise UsageError(f"invalid host name {text[:80]!r}", f"it is longer than {_LONGEST_HOSTNAME} bytes")
    return text


def parse_word(text: str) -> str:
    """Something that becomes a word of a line in a file of the container's /etc."""
    if not text or not text.isprintable() or any(char.isspace() for char in text):
        raise UsageError(f"invalid word {text[:80]!r}", "it is empty, or holds white space or control characters")
    return text


def parse_number(text: str, what: str, most: int, least: int = 0) -> int:
    """Decimal digits, from `least` to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise UsageError(f"invalid {what} {text[:20]!r}", f"expected a number from {least} to {most}")
    return int(text)


def _port_range(text: str, whole: str) -> range:
    first, _, last = text.partition("-")
    bounds = [int(part) if part.isascii() and part.isdigit() else 0 for part in (first, last or first)]
    if not 1 <= bounds[0] <= bounds[1] <= 65535:
        raise UsageError(f"invalid port {text!r} in {whole!r}", "ports are 1 to 65535, ranges are FIRST-LAST")
    return range(bounds[0], bounds[1] + 1)


def parse_ports(text: str) -> tuple[Port, ...]:
    """`[HOSTIP:]HOSTPORT:PORT[/tcp|udp|sctp]`; both ports may be ranges of one length."""
    shape = "expected [HOSTIP:]HOSTPORT:CONTAINERPORT[/tcp|udp|sctp]"
    numbers, _, protocol = text.partition("/")
    protocol = protocol.lower() or PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        raise UsageError(f"invalid protocol {protocol!r} in {text!r}", f"one of {', '.join(PROTOCOLS)}")
    rest, colon, container_text = numbers.rpartition(":")
    if not colon:
        raise UsageError(f"invalid published port {text!r}: no host port", shape)
    host_ip, _, host_text = rest.rpartition(":")
    host_ip = host_ip.removeprefix("[").removesuffix("]")
    if host_ip:
        host_ip = parse_ip(host_ip, text)
    host, container = _port_range(host_text, text), _port_range(container_text, text)
    if len(host) != len(container):
        raise UsageError(f"invalid published port {text!r}: the ranges differ in length", shape)
    return tuple(Port(a, b, protocol, host_ip) for a, b in zip(host, container, strict=True))


def parse_ip(text: str, whole: str = "") -> str:
    """An address in its canonical spelling."""
    try:
        return str(parse_address(text))
    except ValueError as error:
        raise UsageError(f"{error}{f' (in {whole!r})' if whole and whole != text else ''}") from None


def parse_requested_ip(text: str) -> str:
    """`--ip`: an address, a prefix length may follow."""
    if "/" not in text:
        return parse_ip(text)
    try:
        return str(parse_cidr(text))
    except ValueError as error:
        raise UsageError(str(error)) from None


def parse_mac(text: str) -> str:
    """A unicast hardware address, as Go's parser takes it, in its canonical spelling."""
    from cni_plugins.spec.mac import unicast_mac  # for this flag alone

    try:
        return unicast_mac(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def parse_ifname(text: str) -> str:
    try:
        return names.ifname(text)
    except CniError as error:
        raise UsageError(str(error)) from None


def parse_network(text: str) -> Network:
    """`NETWORK[:ip=…,mac=…,ifname=…]`, or one of the modes `none`, `host`, `container:ID`, `ns:PATH`."""
    if is_mode(text):
        return Network(text)
    name, _, options = text.partition(":")
    try:
        names.network(name)
    except CniError as error:
        raise UsageError(str(error)) from None
    found: dict[str, list[str]] = {"ip": [], "mac": [], "ifname": []}
    for option in filter(None, options.split(",")):
        key, equals, value = option.partition("=")
        if not (equals and value and key in found):
            raise UsageError(f"invalid option {option!r} in --network {text!r}", "options are ip=, mac= and ifname=")
        found[key].append(value)
    if len(found["mac"]) > 1 or len(found["ifname"]) > 1:
        raise UsageError(f"--network {text!r} gives mac or ifname twice")
    return Network(
        name,
        tuple(parse_requested_ip(ip) for ip in found["ip"]),
        "".join(map(parse_mac, found["mac"])),
        "".join(map(parse_ifname, found["ifname"])),
    )


def choose_networks(choices: Sequence[str], ips: Sequence[str], mac: str) -> tuple[Network, ...]:
    """The `--network` flags with `--ip` and `--mac-address`, which belong to the first of them."""
    networks = [parse_network(text) for text in choices]
    modes = [network.name for network in networks if is_mode(network.name)]
    if modes and len(networks) > 1:
        raise UsageError(f"--network {modes[0]} excludes other networks")
    if modes and (ips or mac):
        raise UsageError(f"--ip and --mac-address need a network, not --network {modes[0]}")
    if not ips and not mac:
        return tuple(networks)
    first = networks[0] if networks else Network()
    if (ips and first.ips) or (mac and first.mac):
        raise UsageError("the address is given twice: by --ip or --mac-address, and by --network")
    asked = Network(
        first.name,
        tuple(map(parse_requested_ip, ips)) or first.ips,
        parse_mac(mac) if mac else first.mac,
        first.ifname,
    )
    return (asked, *networks[1:])


def parse_volume(text: str) -> Volume:
    """`SOURCE:TARGET[:OPTION,…]`; a SOURCE that begins with `.` is relative to the working directory."""
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not source or not target.startswith("/"):
        raise UsageError(f"invalid volume {text!r}", "expected SOURCE:TARGET[:ro], TARGET being absolute")
    if source.startswith("."):
        try:
            source = f"{os.getcwd()}/{source}"
        except FileNotFoundError:
            raise UsageError(f"invalid volume {text!r}: the working directory is gone") from None
    if not source.startswith("/"):
        raise UsageError(f"invalid volume {text!r}: {source!r} is not a path", "there are no named volumes here")
    return Volume(source, target, tuple(filter(None, options.split(","))))


def parse_env(text: str, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE`, or `NAME` for the value it has in `environment` (nothing when it has none)."""
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise UsageError(f"invalid environment variable {text!r}", "expected NAME=VALUE or NAME")
    if equals:
        return ((name, value),)
    return ((name, environment[name]),) if name in environment else ()
