"""static: the addresses, routes and DNS that the configuration spells out. It keeps nothing and holds nothing.

    addresses of the configuration  + IP in CNI_ARGS      unless the runtime asks in another place
    args.cni.ips                                          instead of all those
    runtimeConfig.ips                                     instead of all others

GATEWAY in CNI_ARGS gives a gateway to each of the first that is of its subnet and has none; addresses asked for in the
two other places have none. What is different from the reference plugin of this name: CHECK misses an address that the
result has not.
"""

from __future__ import annotations

from cni_plugins.sdk import keys
from cni_plugins.sdk.main import Plugin
from cni_plugins.spec import versions
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import Ip, Result, dns_from_json, ip_from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.config import View
    from cni_plugins.spec.ip import Address

ADDRESS = ("address", "gateway")
KEYS = ("type", "addresses", "routes", "dns")
DIFFERENT = PLUGIN_SPECIFIC  # CHECK: the result has not what the configuration says


def configure(request: Request) -> Result:
    """What ADD answers. Raises CniError 7 with the path of what is wrong."""
    if not request.conf.has("ipam"):
        raise CniError(INVALID_CONFIG, "ipam: missing", 'expected an object with the type "static"')
    view = request.conf.view("ipam")
    keys.refuse_near_misses(view, KEYS)
    ips = _asked_for(request) or _configured(request, view)
    families = [ip.address.family for ip in ips]
    if not versions.at_least(request.version, "0.3.0") and len(set(families)) < len(families):
        text = f"CNI version {request.version} does not support more than 1 address per family"
        raise CniError(INVALID_CONFIG, text)
    return Result(ips=tuple(ips), routes=keys.routes(view), dns=dns_from_json(view.view("dns")))


def _asked_for(request: Request) -> list[Ip]:
    """What the runtime asks for, in the stronger of two places."""
    for view in (request.conf.view("runtimeConfig"), request.conf.view("args").view("cni")):
        if texts := view.strings("ips"):
            return [_ip(text, f"{view.where('ips')}[{place}]") for place, text in enumerate(texts)]
    return []


def _configured(request: Request, view: View) -> list[Ip]:
    """The configuration's own addresses and those of CNI_ARGS, which are asked for in words of one variable."""
    ips = []
    for item in view.views("addresses"):
        keys.refuse_slips(item, ADDRESS)
        ips.append(ip_from_json(item))
    ips += [_ip(text, "IP in CNI_ARGS") for text in _words(request.args.get("IP", ""))]
    gateways = tuple(map(_gateway, _words(request.args.get("GATEWAY", ""))))
    return [_with_one_of(gateways, ip) for ip in ips]


def _with_one_of(gateways: tuple[Address, ...], ip: Ip) -> Ip:
    """With the last of `gateways` that is of the address's subnet, unless it has one."""
    fitting = [gateway for gateway in gateways if gateway in ip.address]
    return replace(ip, gateway=fitting[-1]) if fitting and not ip.gateway else ip


def _words(text: str) -> Iterator[str]:
    return (word.strip() for word in text.split(",")) if text else iter(())


def _ip(text: str, where: str) -> Ip:
    try:
        return Ip(parse_cidr(text))
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{where}: {error}") from None


def _gateway(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"GATEWAY in CNI_ARGS: {error}") from None


def add(request: Request) -> Result:
    return configure(request)


def delete(request: Request) -> None:
    """Nothing: no address is held."""


def check(request: Request) -> None:
    """Whether the result has every address, with the gateway where one is configured."""
    wanted = configure(request)
    if request.prev_result is None:
        raise CniError(INVALID_CONFIG, "prevResult is missing", "CHECK compares with what ADD gave")
    found = {ip.address: ip.gateway for ip in request.prev_result.ips}
    for ip in wanted.ips:
        if ip.address not in found:
            raise CniError(DIFFERENT, f"prevResult.ips does not have the address {ip.address}")
        if ip.gateway and found[ip.address] != ip.gateway:
            text = f"prevResult.ips: {ip.address} has the gateway {found[ip.address]}, not {ip.gateway}"
            raise CniError(DIFFERENT, text)


def status(request: Request) -> None:
    configure(request)


# gc is left out: nothing is held that an attachment could have left behind.
PLUGIN = Plugin(
    "static",
    add=add,
    delete=delete,
    check=check,
    status=status,
    about="CNI static plugin: the addresses that the configuration spells out",
)
