"""From a NetworkSpec to its network list: one table of drivers, with the options that each takes. Pure.

A driver is the plugin of that name. Docker's words are translated (`parent` is the plugin's `master`), and what a
docker or podman user takes for granted is made explicit: a default route, masquerade, published ports, wishes for
addresses. `--internal` leaves out all that would lead out of the network.
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.record import record
from minirt.cni.discovery import MARK
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from minirt.netadmin.spec import NetworkSpec, Subnet

HOST_LOCAL, STATIC, DHCP, NONE = "host-local", "static", "dhcp", "none"
VERSIONS = {"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"]}
EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def _link(text: str) -> str:
    try:
        return names.ifname(text)
    except CniError as error:
        raise ValueError(f"a link's name: {error.details}") from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            return int(text)
        raise ValueError(f"a number from {low} to {high}")

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text in words:
            return text
        raise ValueError(f"one of {', '.join(words)}")

    return read


def _yes(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


@record
class Driver:
    """A main plugin. `options` maps a word of -o to the plugin's key and the reader of its value (which raises
    ValueError with what it expected), `needed` are those that must be given. `routed` says that the host routes for it:
    it has the gateway's address, and can masquerade and publish ports. `capabilities` are those of the plugin itself.
    """

    options: Mapping[str, tuple[str, Callable[[str], Any]]]
    ipams: tuple[str, ...] = (HOST_LOCAL, STATIC, DHCP)
    needed: tuple[str, ...] = ()
    routed: bool = False
    capabilities: tuple[str, ...] = ("dns",)


_MTU = ("mtu", _number(68, 65535))
_PARENT = ("master", _link)
_MASQUERADE = ("ipMasq", _yes)
DRIVERS = {
    "bridge": Driver(
        {"bridge": ("bridge", _link), "mtu": _MTU, "vlan": ("vlan", _number(1, 4094)), "masquerade": _MASQUERADE},
        (HOST_LOCAL, STATIC, DHCP, NONE),
        routed=True,
        capabilities=("mac", "dns"),
    ),
    "macvlan": Driver(
        {"parent": _PARENT, "mtu": _MTU, "mode": ("mode", _one_of("bridge", "private", "vepa", "passthru"))},
        (HOST_LOCAL, STATIC, DHCP, NONE),
        capabilities=("mac", "dns"),
    ),
    "ipvlan": Driver({"parent": _PARENT, "mtu": _MTU, "mode": ("mode", _one_of("l2", "l3", "l3s"))}),
    "vlan": Driver({"parent": _PARENT, "mtu": _MTU, "vlan": ("vlanId", _number(1, 4094))}, needed=("parent", "vlan")),
    "ptp": Driver({"mtu": _MTU, "masquerade": _MASQUERADE}, (HOST_LOCAL,), routed=True),
}
# Words that docker and podman users have in their scripts.
ALIASES = {
    "com.docker.network.bridge.name": "bridge",
    "com.docker.network.bridge.enable_ip_masquerade": "masquerade",
    "com.docker.network.driver.mtu": "mtu",
    "bridge_name": "bridge",
    "macvlan_mode": "mode",
    "ipvlan_mode": "mode",
}


def parse_driver(text: str) -> str:
    if text not in DRIVERS:
        raise UsageError(f"no driver {text!r}", f"there are {', '.join(DRIVERS)}")
    return text


def parse_ipam(driver: str, text: str) -> str:
    if text not in (known := DRIVERS[driver].ipams):
        raise UsageError(f"--ipam-driver {text} does not serve --driver {driver}", f"it takes {', '.join(known)}")
    return text


def parse_options(driver: str, texts: Sequence[str]) -> dict[str, Any]:
    """The values of -o NAME=VALUE by the plugin's keys. Raises UsageError."""
    known = DRIVERS[driver].options
    found: dict[str, Any] = {}
    for text in texts:
        word, equals, value = text.partition("=")
        word = ALIASES.get(word, word)
        if word not in known or not equals:
            raise UsageError(f"invalid option {text!r} of driver {driver}", f"it takes {'=, '.join(known)}=")
        key, read = known[word]
        if key in found:
            raise UsageError(f"option {word} is given twice")
        try:
            found[key] = read(value)
        except ValueError as error:
            raise UsageError(f"invalid option {text!r}", f"expected {error}") from None
    if missing := [word for word in DRIVERS[driver].needed if known[word][0] not in found]:
        raise UsageError(f"driver {driver} needs {' and '.join(f'-o {word}=' for word in missing)}")
    return found


def check(spec: NetworkSpec, ipv6: bool) -> None:
    """Refuse what does not go together; `ipv6` says that a subnet is to be picked. Raises UsageError."""
    if spec.ipam != HOST_LOCAL and (spec.subnets or ipv6):
        raise UsageError(
            f"--subnet, --ip-range and --ipv6 are of no use with --ipam-driver {spec.ipam}",
            f"it is {HOST_LOCAL} that gives addresses out of a subnet",
        )
    if spec.gateways and (spec.ipam != STATIC or is_router(spec)):
        raise UsageError("--gateway needs a --subnet that it is in")
    if "ipMasq" in spec.options and not is_router(spec):
        raise UsageError("-o masquerade= is for a network that the host routes for, and this one it does not")


def document(spec: NetworkSpec, created: str) -> dict[str, Any]:
    """The list. `created` is when, for those who ask later."""
    routed = is_router(spec)
    main: dict[str, Any] = {"type": spec.driver} | dict(spec.options)
    if spec.driver == "bridge" and routed:
        main |= {"isDefaultGateway": True, "hairpinMode": True}
    if routed:
        main.setdefault("ipMasq", True)
    main["capabilities"] = dict.fromkeys((*DRIVERS[spec.driver].capabilities, *_wishes(spec)), True)
    if spec.ipam != NONE:
        main["ipam"] = _ipam(spec)
    mark: dict[str, Any] = {"created": created}
    mark |= {"internal": True} if spec.internal else {}
    mark |= {"labels": dict(spec.labels)} if spec.labels else {}
    plugins = [main, PORTMAP] if routed else [main]
    return {**VERSIONS, "name": spec.name, MARK: mark, "plugins": plugins}


def is_router(spec: NetworkSpec) -> bool:
    """Whether the host routes for this very network."""
    return DRIVERS[spec.driver].routed and spec.ipam in (HOST_LOCAL, STATIC) and not spec.internal


def _wishes(spec: NetworkSpec) -> tuple[str, ...]:
    """An address can be asked for where the IPAM plugin listens."""
    return ("ips",) if spec.ipam in (HOST_LOCAL, STATIC) else ()


def _ipam(spec: NetworkSpec) -> dict[str, Any]:
    ipam: dict[str, Any] = {"type": spec.ipam}
    if spec.subnets:
        ipam["ranges"] = [[_range(subnet)] for subnet in spec.subnets]
    routes: list[dict[str, str]] = []
    if not spec.internal and spec.driver != "bridge":  # a bridge makes its default routes itself
        routes += [{"dst": EVERYWHERE[subnet.cidr.family]} for subnet in spec.subnets]
        routes += [{"dst": EVERYWHERE[gateway.family], "gw": str(gateway)} for gateway in spec.gateways]
    return ipam | ({"routes": routes} if routes else {})


def _range(subnet: Subnet) -> dict[str, str]:
    said = {
        "subnet": subnet.cidr,
        "rangeStart": subnet.first,
        "rangeEnd": subnet.last,
        "gateway": subnet.gateway,
    }
    return {key: str(value) for key, value in said.items() if value is not None}
