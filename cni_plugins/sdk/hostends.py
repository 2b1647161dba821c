"""The host's end of an attachment: a link that is known by its derived name and by what its alias says.

So it is found when the namespace, the previous result and the parent are gone, a link that only has come to have the
same name is never touched, and whose it is can be read in `ip link`.
"""

from __future__ import annotations

from cni_plugins.sdk import naming
from cni_plugins.sdk.links import DeleteLink
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace, sandbox_left
from cni_plugins.sdk.records import Owner
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_plugins.sdk.main import Request


@record
class Ends:
    """The two ends of an attachment: `port` in the host's namespace, `ifname` in the container's."""

    host: Namespace
    port: str
    port_mac: str
    alias: str
    inside: Namespace
    ifname: str
    mac: str
    who: tuple[str, Owner] = ("", Owner("", ""))  # network and attachment


def ends(request: Request, host: Namespace, inside: Namespace, mac: str = "") -> Ends:
    """The attachment's; `mac` is the container's hardware address, empty for the one that follows from its identity."""
    return Ends(
        host=host,
        port=naming.host_link(*request.identity),
        port_mac=naming.derived_mac(*request.identity, "port"),
        alias=naming.alias(*request.identity),
        inside=inside,
        ifname=request.ifname,
        mac=mac or naming.derived_mac(*request.identity),
        who=(request.network, Owner(request.container_id, request.ifname)),
    )


def refuse_twice(request: Request, host: Namespace, inside: Namespace) -> None:
    """Before anything is done, and before IPAM is asked: whose failed ADD would take back what the first one got."""
    if inside.link(request.ifname) is not None:
        raise CniError(
            INTERNAL,
            f"{request.netns} already has an interface {request.ifname}",
            "an attachment is added once; DEL takes it down",
        )
    end = host.link(naming.host_link(*request.identity))
    if end is not None:
        whose = f"it is {end.alias!r}" if end.alias else "it is nobody's that we know"
        raise CniError(INTERNAL, f"the host already has a link {end.name}, which this attachment needs", whose)


def delete(request: Request) -> None:
    """By its name on the host, which needs no namespace; one that another plugin made, from inside."""
    with Namespace() as host:
        end = host.link(naming.host_link(*request.identity))
        if end is not None and end.alias == naming.alias(*request.identity):
            do(DeleteLink(host, end.name))
            return
    inside = sandbox_left(request.netns)
    if inside is not None:
        with inside:
            link = inside.link(request.ifname)
            if link is not None and link.kind == "veth":
                do(DeleteLink(inside, link.name))


def collect(network: str, valid: Collection[Owner]) -> None:
    """GC: delete the links that carry the network's name and nobody's who is alive."""
    alive = {naming.alias(network, owner.container_id, owner.ifname) for owner in valid}
    with Namespace() as host:
        for link in host.rtnl.all_links():
            if link.alias.startswith(naming.alias_prefix(network)) and link.alias not in alive:
                do(DeleteLink(host, link.name))
