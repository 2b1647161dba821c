"""The host's end of an attachment: a link that is known by its derived name and by what its alias says.

So it is found when the namespace, the previous result and the parent are gone, a link that only has come to have the
same name is never touched, and whose it is can be read in `ip link`.
"""

from __future__ import annotations

from cni_plugins.sdk import naming
from cni_plugins.sdk.links import DeleteLink
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace, sandbox_left
from cni_plugins.spec.errors import INTERNAL, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.records import Owner


def identity(request: Request) -> tuple[str, str, str]:
    """What an attachment is known by."""
    return request.network, request.container_id, request.ifname


def refuse_twice(request: Request, host: Namespace, inside: Namespace) -> None:
    """Before anything is done, and before IPAM is asked: whose failed ADD would take back what the first one got."""
    if inside.link(request.ifname) is not None:
        raise CniError(
            INTERNAL,
            f"{request.netns} already has an interface {request.ifname}",
            "an attachment is added once; DEL takes it down",
        )
    end = host.link(naming.host_link(*identity(request)))
    if end is not None:
        whose = f"it is {end.alias!r}" if end.alias else "it is nobody's that we know"
        raise CniError(INTERNAL, f"the host already has a link {end.name}, which this attachment needs", whose)


def delete(request: Request) -> None:
    """By its name on the host, which needs no namespace; one that another plugin made, from inside."""
    with Namespace() as host:
        end = host.link(naming.host_link(*identity(request)))
        if end is not None and end.alias == naming.alias(*identity(request)):
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
