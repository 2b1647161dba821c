"""A link whose neighbours are reached one by one: no route to a whole subnet leads out of it (ip-route(8)).

                                   host                                  container
    an address of its own          AddAddress 10.1.0.1/32                AddLoneAddress 10.1.0.2/24
    who is at the other end        AddHostRoute 10.1.0.2                 AddRouteFrom 10.1.0.1
    all others                                                           AddRouteFrom 10.1.0.0/24 via 10.1.0.1

Steps like those of `links`, for links that are not part of an Ethernet with others on it.
"""

from __future__ import annotations

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.links import AddAddress, AddRoute, DeleteRoute, LinkStep, resolve
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.ip import host_cidr
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.netlink import Message
    from cni_plugins.sdk.rtmsg import LinkRoute
    from cni_plugins.spec.ip import Address
    from cni_plugins.spec.steps import Step


@record
class AddLoneAddress(AddAddress):
    """An address that brings no route to its subnet."""

    def describe(self) -> str:
        return f"{super().describe()} noprefixroute"

    def messages(self) -> list[Message]:
        return [rtmsg.address_add(self.namespace.index(self.link), self.cidr, connected=False)]


@record
class AddRouteFrom(AddRoute):
    """A route whose packets carry `source`, unless their sender has chosen an address."""

    source: Address

    def _command(self, verb: str) -> str:
        return f"{super()._command(verb)} src {self.source}"

    def _resolved(self) -> LinkRoute:
        return replace(super()._resolved(), source=self.source)


@record
class AddHostRoute(LinkStep):
    """The way to one address. Another way to it that is there already is an error: its packets would be stolen."""

    namespace: Namespace
    link: str
    address: Address

    def describe(self) -> str:
        return self._command("add")

    def _command(self, verb: str) -> str:
        family = "-6 " if self.address.family == 6 else ""
        return self.namespace.command(f"{family}route {verb} {host_cidr(self.address)} dev {quoted(self.link)}")

    def _resolved(self) -> LinkRoute:
        return resolve(Route(host_cidr(self.address)), self.namespace.index(self.link))

    def messages(self) -> list[Message]:
        return [rtmsg.route_add(self._resolved(), only=True)]

    def opposite(self) -> Step | None:
        return DeleteRoute(self.namespace, self._command("del"), self._resolved())
