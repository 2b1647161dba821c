"""The loopback plugin: raises `lo` in the container, which every container has and nobody else raises.

It has no keys of its own and takes no notice of CNI_IFNAME. In a chain it passes the previous result on.
"""

from __future__ import annotations

from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.main import Plugin, do
from cni_plugins.sdk.netns import sandbox, sandbox_left
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.ip import parse_network
from cni_plugins.spec.result import Interface, Ip, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.spec.ip import Cidr

LO = 1  # the first link of every namespace
_OF_LOOPBACK = (parse_network("127.0.0.0/8"), parse_network("::1/128"))


def raised(namespace: Namespace) -> SetLink:
    """The whole of ADD, as a step."""
    return SetLink(namespace, "lo", up=True)


def add(request: Request) -> Result:
    with sandbox(request.netns) as namespace:
        _refuse_others(_addresses(namespace))
        do(raised(namespace))
        if request.prev_result is not None:
            return request.prev_result
        link = namespace.rtnl.link(LO)
        lo = Interface("lo", "00:00:00:00:00:00", link.mtu if link else 0, request.netns)
        return Result((lo,), tuple(Ip(cidr, interface=0) for cidr in _first_of_each_family(_addresses(namespace))))


def _addresses(namespace: Namespace) -> list[Cidr]:
    """127.0.0.1 and ::1 are not among them before lo is up: the kernel gives them then."""
    return [found.cidr for found in namespace.rtnl.addresses(LO)]


def _refuse_others(addresses: Iterable[Cidr]) -> None:
    for cidr in addresses:
        if not any(cidr.address in network for network in _OF_LOOPBACK):
            raise CniError(INTERNAL, f"lo has the address {cidr}, which is not a loopback address")


def _first_of_each_family(addresses: list[Cidr]) -> list[Cidr]:
    found = [next((cidr for cidr in addresses if cidr.family == family), None) for family in (4, 6)]
    return [cidr for cidr in found if cidr is not None]


def delete(request: Request) -> None:
    namespace = sandbox_left(request.netns)
    if namespace is not None:
        with namespace:
            do(SetLink(namespace, "lo", up=False))


def check(request: Request) -> None:
    with sandbox(request.netns) as namespace:
        link = namespace.rtnl.link(LO)
        if link is None or not link.up:
            raise CniError(INTERNAL, f"lo is down in {request.netns}", f"{raised(namespace).describe()} raises it")
        from cni_plugins.sdk.sysctl import read_sysctl  # for this verb alone

        there = [str(cidr.address) for cidr in _addresses(namespace)]
        ipv6 = read_sysctl(namespace, "net/ipv6/conf/lo/disable_ipv6") == "0"
        for address in ("127.0.0.1", "::1") if ipv6 else ("127.0.0.1",):
            if address not in there:
                raise CniError(INTERNAL, f"lo does not have the address {address} in {request.netns}")


def status(request: Request) -> None:
    """Every kernel has one; what could be wrong is the configuration."""
    from cni_plugins.sdk.keys import refuse_near_misses  # for this verb alone

    refuse_near_misses(request.conf, ())


PLUGIN = Plugin("loopback", add=add, delete=delete, check=check, status=status)
