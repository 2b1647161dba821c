"""Steps on links: made, set, given addresses and routes, deleted; and several of them as one batch.

Links are named, as a person names them; the kernel's numbers are looked up when a step is applied, never listed. Steps
of one namespace that stand `Together` travel in one system call. What an undo leaves out dies with something else that
is undone: a link takes its addresses, its routes and, for a veth, its other end with it.
"""

from __future__ import annotations

import time
from errno import EADDRNOTAVAIL, EEXIST, ENODEV, ESRCH

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.netlink import NetlinkError
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.sdk.rtmsg import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, LinkRoute
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.netlink import Message
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.ip import Cidr
    from cni_plugins.spec.result import Route

_GONE = (ENODEV, EADDRNOTAVAIL, ESRCH)  # what an undo may find: its work was done by somebody else


class LinkStep(Step):
    """A step that is a few messages to one namespace. Raises NetlinkError that begins with the step's command.

    `done` are the refusals that say that somebody else has done its work already: these are fine.
    """

    done = tuple[int, ...]()
    namespace: Namespace

    def messages(self) -> list[Message]:
        raise NotImplementedError

    def apply(self) -> None:
        _send(self.namespace, (self,))

    def undo(self) -> None:
        try:
            super().undo()
        except OSError as error:
            if error.errno not in _GONE:
                raise


def _send(namespace: Namespace, steps: tuple[LinkStep, ...]) -> None:
    """Apply `steps` by one system call. The kernel goes on after a refusal, so what it did of the others is undone."""
    owners, messages = [], []
    for step in steps:
        for message in step.messages():
            owners.append(step)
            messages.append(message)
    answers = namespace.rtnl.talk(messages)
    errors = [answer for answer in answers if isinstance(answer, NetlinkError)]
    refusals = [error for error in errors if error.errno not in owners[error.index].done]
    if not refusals:
        return
    not_ours = [owners[error.index] for error in errors]
    for step in reversed(steps):
        if step not in not_ours:
            step.undo()
    raise refusals[0].during(owners[refusals[0].index].describe())


@record
class Together(Step):
    """Link steps of one namespace, sent as one batch: all of them, or none."""

    namespace: Namespace
    steps: tuple[LinkStep, ...]

    def describe(self) -> str:
        return "\n".join(step.describe() for step in self.steps)

    def apply(self) -> None:
        _send(self.namespace, self.steps)

    def undo(self) -> None:
        for step in reversed(self.steps):
            step.undo()

    def describe_undo(self) -> str:
        return "\n".join(filter(None, (step.describe_undo() for step in reversed(self.steps))))


@record
class AddBridge(LinkStep):
    """A bridge, down. Its own hardware address is given, so that it does not follow its ports' as they come and go."""

    namespace: Namespace
    name: str
    mac: str
    mtu: int = 0

    def describe(self) -> str:
        return self.namespace.command(f"link add {quoted(self.name)} address {self.mac}{_mtu(self.mtu)} type bridge")

    def messages(self) -> list[Message]:
        return [rtmsg.link_add(self.name, "bridge", mac=self.mac, mtu=self.mtu)]

    def opposite(self) -> Step | None:
        """Unless another container has been connected to it meanwhile."""
        link = self.namespace.link(self.name)
        empty = link is not None and not self.namespace.rtnl.ports(link.index)
        return DeleteLink(self.namespace, self.name) if empty else None


@record
class AddVeth(LinkStep):
    """A veth pair: this end up and a port of `master`, the other in another namespace, under its final name, down."""

    namespace: Namespace
    name: str
    mac: str
    peer_namespace: Namespace
    peer: str
    peer_mac: str
    master: str = ""
    mtu: int = 0

    def describe(self) -> str:
        mtu = _mtu(self.mtu)
        ours = f"link add {quoted(self.name)} up address {self.mac}{mtu}"
        ours += f" master {quoted(self.master)}" if self.master else ""
        theirs = f"peer name {quoted(self.peer)} address {self.peer_mac}{mtu}"
        theirs += f" netns {self.peer_namespace.name}" if self.peer_namespace != self.namespace else ""
        return self.namespace.command(f"{ours} type veth {theirs}")

    def messages(self) -> list[Message]:
        return [
            rtmsg.veth_add(
                self.name,
                self.peer,
                netns=self.peer_namespace.fd,
                mac=self.mac,
                peer_mac=self.peer_mac,
                mtu=self.mtu,
                master=self.namespace.index(self.master) if self.master else None,
            )
        ]

    def opposite(self) -> Step | None:
        return DeleteLink(self.namespace, self.name)


@record
class SetLink(LinkStep):
    """What is None, empty or 0 stays as it is."""

    namespace: Namespace
    name: str
    up: bool | None = None
    promisc: bool | None = None
    mac: str = ""
    mtu: int = 0
    alias: str = ""
    allmulti: bool | None = None
    txqlen: int | None = None
    master: str = ""

    def describe(self) -> str:
        words = f"link set {quoted(self.name)}"
        words += "" if self.up is None else " up" if self.up else " down"
        words += "" if self.promisc is None else f" promisc {_on(self.promisc)}"
        words += "" if self.allmulti is None else f" allmulticast {_on(self.allmulti)}"
        words += "" if self.txqlen is None else f" txqueuelen {self.txqlen}"
        words += f" address {self.mac}" if self.mac else ""
        words += f" alias {quoted(self.alias)}" if self.alias else ""
        words += f" master {quoted(self.master)}" if self.master else ""
        return self.namespace.command(words + _mtu(self.mtu))

    def messages(self) -> list[Message]:
        return [
            rtmsg.link_set(
                self.name,
                up=self.up,
                promisc=self.promisc,
                allmulti=self.allmulti,
                mac=self.mac,
                mtu=self.mtu,
                txqlen=self.txqlen,
                alias=self.alias,
                master=self.namespace.index(self.master) if self.master else None,
            )
        ]


@record
class SetPort(LinkStep):
    """Whether a bridge sends back out of this port what came in by it, and whether it passes nothing between this and
    other isolated ones. What is None stays as it is."""

    namespace: Namespace
    name: str
    hairpin: bool | None = None
    isolated: bool | None = None

    def describe(self) -> str:
        words = "" if self.hairpin is None else f" hairpin {_on(self.hairpin)}"
        words += "" if self.isolated is None else f" isolated {_on(self.isolated)}"
        return self.namespace.command(f"link set {quoted(self.name)} type bridge_slave{words}")

    def messages(self) -> list[Message]:
        return [rtmsg.port_set(self.name, hairpin=self.hairpin, isolated=self.isolated)]

    def opposite(self) -> Step | None:
        """A port that is new goes by itself; one that is somebody else's is as ports are."""
        hairpin, isolated = (None if on is None else not on for on in (self.hairpin, self.isolated))
        return SetPort(self.namespace, self.name, hairpin, isolated)


@record
class DeleteLink(LinkStep):
    """A link that is gone already is fine. Waits for an RCU grace period: the most expensive step there is."""

    done = (ENODEV,)
    namespace: Namespace
    name: str

    def describe(self) -> str:
        return self.namespace.command(f"link del {quoted(self.name)}")

    def messages(self) -> list[Message]:
        return [rtmsg.link_delete(self.name)]

    def apply(self) -> None:
        self.namespace.forget(self.name)
        super().apply()


@record
class AddAddress(LinkStep):
    """An address, usable at once: IPv6 without duplicate address detection."""

    namespace: Namespace
    link: str
    cidr: Cidr

    def describe(self) -> str:
        extra = " nodad" if self.cidr.family == 6 else " brd +" if self.cidr.length < 31 else ""
        return self.namespace.command(f"addr add {self.cidr} dev {quoted(self.link)}{extra}")

    def messages(self) -> list[Message]:
        return [rtmsg.address_add(self.namespace.index(self.link), self.cidr)]

    def opposite(self) -> Step | None:
        return DeleteAddress(self.namespace, self.link, self.cidr)


@record
class AddSharedAddress(AddAddress):
    """An address on a bridge, for all who are connected to it: another ADD may have placed it a moment ago, and undo
    leaves it where others have a port besides `port`, which is ours."""

    done = (EEXIST,)
    port: str

    def opposite(self) -> Step | None:
        others = {link.name for link in self.namespace.rtnl.ports(self.namespace.index(self.link))} - {self.port}
        return None if others else super().opposite()


@record
class DeleteAddress(LinkStep):
    namespace: Namespace
    link: str
    cidr: Cidr

    def describe(self) -> str:
        return self.namespace.command(f"addr del {self.cidr} dev {quoted(self.link)}")

    def messages(self) -> list[Message]:
        return [rtmsg.address_delete(self.namespace.index(self.link), self.cidr)]

    def opposite(self) -> Step | None:
        return AddAddress(self.namespace, self.link, self.cidr)


@record
class AddRoute(LinkStep):
    """A route out of a link that is up. One without a gateway reaches its destination on the link itself.

    Another one to the same destination is no obstacle, as it would be to `ip route add`: of IPv4 the new one comes
    before it, of IPv6 they share the packets.
    """

    namespace: Namespace
    link: str
    route: Route

    def describe(self) -> str:
        return self._command("prepend")

    def _command(self, verb: str) -> str:
        route = self.route
        words = f"route {verb} {'default' if not route.dst.length else route.dst}"
        if not route.dst.length and route.dst.family == 6:
            words = "-6 " + words
        words += f" via {route.gw}" if route.gw else ""
        words += f" dev {quoted(self.link)}"
        words += f" table {route.table}" if route.table is not None else ""
        words += f" metric {route.priority}" if route.priority else ""
        words += f" scope {route.scope}" if route.scope is not None else ""
        words += f" advmss {route.advmss}" if route.advmss else ""
        return self.namespace.command(words + _mtu(route.mtu))

    def _resolved(self) -> LinkRoute:
        return resolve(self.route, self.namespace.index(self.link))

    def messages(self) -> list[Message]:
        return [rtmsg.route_add(self._resolved())]

    def opposite(self) -> Step | None:
        return DeleteRoute(self.namespace, self._command("del"), self._resolved())


@record
class DeleteRoute(LinkStep):
    """A route, deleted. `command` is what a person would type: the kernel's own form of it does not tell the link."""

    namespace: Namespace
    command: str
    route: LinkRoute

    def describe(self) -> str:
        return self.command

    def messages(self) -> list[Message]:
        return [rtmsg.route_delete(self.route)]


def resolve(route: Route, index: int) -> LinkRoute:
    """What the kernel makes of a result's route: table main, and scope link where there is no gateway (IPv4 only)."""
    scope = route.scope
    if scope is None or route.dst.family == 6:
        scope = RT_SCOPE_LINK if route.gw is None and route.dst.family == 4 else RT_SCOPE_UNIVERSE
    table = RT_TABLE_MAIN if not route.table else route.table
    return LinkRoute(route.dst, route.gw, index, route.priority, table, scope, route.mtu, route.advmss)


def wait_running(namespace: Namespace, name: str, seconds: float = 2.5) -> Link | None:
    """The link, as soon as frames pass over it, or as it is after so long. The kernel tells a bridge of its port's
    carrier a moment after the carrier is there; until then it drops what the port receives."""
    pause = 0.0005
    while True:
        link = namespace.rtnl.link(name)
        if link is None or link.running or seconds <= 0:
            return link
        from cni_plugins.sdk import carrier  # mostly frames pass by now

        carrier.notice(namespace, name)
        time.sleep(pause)
        seconds -= pause
        pause = min(pause * 2, 0.05)


def _mtu(mtu: int) -> str:
    return f" mtu {mtu}" if mtu else ""


def _on(on: bool) -> str:
    return "on" if on else "off"
