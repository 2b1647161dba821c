"""VRFs: links that are a table of routes, for the links that are put into them (Documentation/networking/vrf.rst).

A link that changes its master is taken down and up again by the kernel: its connected routes come back in the other
table, all others are gone, and so may be its IPv6 addresses. So they are noted before, and put there again.
"""

from __future__ import annotations

import time

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.kinds import Kind
from cni_plugins.sdk.links import LinkStep
from cni_plugins.sdk.netlink import Message, NetlinkError, attributes, integer, u32
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.sdk.rtmsg import AF_INET, AF_INET6, IFA_F_NOPREFIXROUTE, RT_TABLE_MAIN, LinkRoute
from cni_plugins.sdk.rules import PutRoute, is_empty
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Link, LinkAddress, Rtnl

# Taken from the Linux kernel headers: linux/if_link.h, rtnetlink.h, asm/errno.h.
IFLA_VRF_TABLE = 1
RTPROT_KERNEL = 2
_NOT_YET = (22, 101, 113)  # EINVAL, ENETUNREACH, EHOSTUNREACH: what a route leads to, or its source, is not there yet
_RESERVED = (253, 254, 255)  # the tables default, main and local
_PATIENCE = 0.5  # seconds


def kind(table: int) -> Kind:
    return Kind("vrf", f"table {table}", u32(IFLA_VRF_TABLE, table))


def table_of(vrf: Link) -> int:
    return integer(attributes(vrf.data).get(IFLA_VRF_TABLE))


def free_table(rtnl: Rtnl) -> int:
    """The first that no VRF has, and no route is in."""
    taken = {table_of(link) for link in rtnl.all_links() if link.kind == "vrf"}
    table = 1
    while table in taken or table in _RESERVED or not is_empty(rtnl, table):
        table += 1
    return table


@record
class Kept:
    """What a link has that may be gone when its master has changed."""

    addresses: tuple[LinkAddress, ...] = ()
    routes: tuple[LinkRoute, ...] = ()


def keep(rtnl: Rtnl, index: int) -> Kept:
    """The link's IPv6 addresses and its routes, but for those that the kernel makes by itself."""
    addresses = tuple(found for found in rtnl.addresses(index, AF_INET6) if found.scope == rtmsg.RT_SCOPE_UNIVERSE)
    routes = [route for family in (AF_INET, AF_INET6) for route in rtnl.routes(index, family)]
    ours = (route for route in routes if route.protocol != RTPROT_KERNEL)
    return Kept(addresses, tuple(sorted(ours, key=lambda route: route.gw is not None)))


@record
class Enslave(Step):
    """Put a link into a VRF, with its addresses and routes."""

    namespace: Namespace
    link: str
    vrf: str
    table: int
    kept: Kept = Kept()

    def describe(self) -> str:
        first = self.namespace.command(f"link set {quoted(self.link)} master {quoted(self.vrf)}")
        return self._moved(first, self.table)

    def describe_undo(self) -> str:
        return self._moved(Free(self.namespace, self.link).describe(), RT_TABLE_MAIN)

    def _moved(self, move: str, table: int) -> str:
        link, lines = quoted(self.link), [move]
        for found in self.kept.addresses:
            lone = " noprefixroute" if found.flags & IFA_F_NOPREFIXROUTE else ""
            lines.append(self.namespace.command(f"addr replace {found.cidr} dev {link} nodad{lone}"))
        return "\n".join([*lines, *(route.describe() for route in self._routes(table))])

    def apply(self) -> None:
        index = self.namespace.index(self.vrf)
        try:
            self.namespace.rtnl.ask(rtmsg.link_set(self.link, master=index))
        except NetlinkError as error:
            raise error.during(self.describe().splitlines()[0]) from None
        try:
            self._bring_back(self.table)
        except BaseException as error:
            try:
                self.undo()
            except OSError as failure:
                error.add_note(f"not undone: {failure}")
            raise

    def undo(self) -> None:
        Free(self.namespace, self.link).apply()
        self._bring_back(RT_TABLE_MAIN)

    def _routes(self, table: int) -> list[PutRoute]:
        """Routes of the main table in `table`, and others in their own."""
        tables = {RT_TABLE_MAIN: table}
        routes = (replace(route, table=tables.get(route.table, route.table)) for route in self.kept.routes)
        return [PutRoute(self.namespace, self.link, route) for route in routes]

    def _bring_back(self, table: int) -> None:
        index = self.namespace.index(self.link)
        there = {found.cidr for found in self.namespace.rtnl.addresses(index, AF_INET6)}
        for found in self.kept.addresses:
            if found.cidr not in there:
                connected = not found.flags & IFA_F_NOPREFIXROUTE
                self.namespace.rtnl.ask(rtmsg.address_add(index, found.cidr, connected=connected))
        deadline = time.monotonic() + _PATIENCE
        for step in self._routes(table):
            _patiently(step, deadline)


def _patiently(step: PutRoute, deadline: float) -> None:
    """What the kernel had taken before, it takes again: a gateway that is nobody's neighbour by now, without asking."""
    pause = 0.005
    while True:
        try:
            step.apply()
            return
        except NetlinkError as error:
            if error.errno not in _NOT_YET:
                raise
            if time.monotonic() > deadline:
                if step.route.gw is None or step.route.onlink:
                    raise
                step = replace(step, route=replace(step.route, onlink=True))
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


@record
class Free(LinkStep):
    """Take a link out of whatever it is in."""

    namespace: Namespace
    link: str

    def describe(self) -> str:
        return self.namespace.command(f"link set {quoted(self.link)} nomaster")

    def messages(self) -> list[Message]:
        return [rtmsg.link_set(self.link, master=0)]
