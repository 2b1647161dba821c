"""Routing rules: which table an address is looked up in, by where the packet comes from (ip-rule(8)).

The routes of a table go with their link, a rule stays until somebody deletes it. So ours carry a mark of their own, by
which they are known when the link has gone. Source: linux/fib_rules.h; a rule's message is laid out as a route's.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, ENOENT, ESRCH

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.links import LinkStep
from cni_plugins.sdk.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    NetlinkError,
    attribute,
    attributes,
    integer,
    u8,
    u32,
)
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.sdk.rtmsg import AF_INET, AF_INET6, RTMSG, RTN_UNICAST, LinkRoute
from cni_plugins.spec.ip import Address, Cidr
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Rtnl
    from cni_plugins.spec.steps import Step

# Taken from the Linux kernel headers: linux/rtnetlink.h, fib_rules.h.
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
FRA_SRC, FRA_TABLE, FRA_PROTOCOL = 2, 15, 21
FR_ACT_TO_TBL = 1

OURS = 109  # who made a rule, as `ip rule` shows it; of those that nobody has taken (/etc/iproute2/rt_protos)


@record
class Rule:
    """Packets that come from `source` go by `table`. `protocol` says who made the rule."""

    source: Cidr
    table: int
    protocol: int = OURS


# --- requests ---------------------------------------------------------------------------------------------------------


def _message(kind: int, flags: int, rule: Rule) -> Message:
    table = rule.table if rule.table < 256 else 0  # the old field has 8 bits; the attribute counts
    body = RTMSG.pack(rule.source.address.af, 0, rule.source.length, 0, table, 0, 0, FR_ACT_TO_TBL, 0)
    body += attribute(FRA_SRC, rule.source.address.packed) + u32(FRA_TABLE, rule.table)
    return Message(kind, flags, body + (u8(FRA_PROTOCOL, rule.protocol) if rule.protocol else b""))


def rule_add(rule: Rule) -> Message:
    """`ip rule add from SOURCE lookup TABLE`, before the rules that there are."""
    return _message(RTM_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, rule)


def rule_delete(rule: Rule) -> Message:
    """`ip rule del from SOURCE lookup TABLE`"""
    return _message(RTM_DELRULE, NLM_F_ACK, rule)


def rules_dump(family: int) -> Message:
    """`ip rule show`; `family` is AF_INET or AF_INET6."""
    return Message(RTM_GETRULE, 0, RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def table_dump(family: int, table: int) -> Message:
    """`ip route show table TABLE`"""
    body = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0) + u32(rtmsg.RTA_TABLE, table)
    return Message(rtmsg.RTM_GETROUTE, 0, body)


# --- what is read -----------------------------------------------------------------------------------------------------


def rules(rtnl: Rtnl) -> list[Rule]:
    """The rules of both families that go by where a packet comes from, in their order. Raises NetlinkError."""
    found = []
    for family in (AF_INET, AF_INET6):
        for reply in _dump(rtnl, rules_dump(family)):
            _family, _dst, length, _tos, table, *_rest = RTMSG.unpack_from(reply.body)
            told = attributes(reply.body, RTMSG.size)
            if FRA_SRC in told:
                packed = told[FRA_SRC]
                source = Cidr(Address(4 if len(packed) == 4 else 6, int.from_bytes(packed, "big")), length)
                found.append(Rule(source, integer(told.get(FRA_TABLE), table), integer(told.get(FRA_PROTOCOL))))
    return found


def is_empty(rtnl: Rtnl, table: int) -> bool:
    """Whether the table has no routes. The kernel looks at that one alone."""
    return not any(_dump(rtnl, table_dump(family, table)) for family in (AF_INET, AF_INET6))


def _dump(rtnl: Rtnl, message: Message) -> list[Message]:
    """What is listed; nothing of a table that is not there, or of a family that the kernel lacks."""
    try:
        return rtnl.dump(message)
    except NetlinkError as error:
        if error.errno in (ENOENT, EAFNOSUPPORT):
            return []
        raise


# --- steps ------------------------------------------------------------------------------------------------------------


@record
class AddRule(LinkStep):
    """One that is there already, whoever made it, is an error."""

    namespace: Namespace
    rule: Rule

    def describe(self) -> str:
        return rule_command(self.namespace, "add", self.rule)

    def messages(self) -> list[Message]:
        return [rule_add(self.rule)]

    def opposite(self) -> Step | None:
        return DeleteRule(self.namespace, self.rule)


@record
class DeleteRule(LinkStep):
    """Fine when it is gone."""

    done = (ENOENT, ESRCH)
    namespace: Namespace
    rule: Rule

    def describe(self) -> str:
        return rule_command(self.namespace, "del", self.rule)

    def messages(self) -> list[Message]:
        return [rule_delete(self.rule)]


@record
class PutRoute(LinkStep):
    """A route of a link, in the place of one with the same destination and priority; `before` is what that was."""

    namespace: Namespace
    link: str
    route: LinkRoute
    before: LinkRoute | None = None

    def describe(self) -> str:
        return route_command(self.namespace, "replace", self.link, self.route)

    def messages(self) -> list[Message]:
        return [rtmsg.route_replace(self.route)]

    def opposite(self) -> Step | None:
        before = self.before
        return (PutRoute if before else TakeRoute)(self.namespace, self.link, before or self.route)


@record
class TakeRoute(LinkStep):
    """A route of a link, deleted. Fine when it is gone."""

    done = (ENOENT, ESRCH)
    namespace: Namespace
    link: str
    route: LinkRoute

    def describe(self) -> str:
        return route_command(self.namespace, "del", self.link, self.route)

    def messages(self) -> list[Message]:
        return [rtmsg.route_delete(self.route)]

    def opposite(self) -> Step | None:
        return ReturnRoute(self.namespace, self.link, self.route)


@record
class ReturnRoute(LinkStep):
    """A route that was taken from a link."""

    namespace: Namespace
    link: str
    route: LinkRoute

    def describe(self) -> str:
        return route_command(self.namespace, "prepend", self.link, self.route)

    def messages(self) -> list[Message]:
        return [rtmsg.route_add(self.route)]


def rule_command(namespace: Namespace, verb: str, rule: Rule) -> str:
    family = "-6 " if rule.source.family == 6 else ""
    mark = f" protocol {rule.protocol}" if rule.protocol else ""
    return namespace.command(f"{family}rule {verb} from {rule.source} lookup {rule.table}{mark}")


def route_command(namespace: Namespace, verb: str, link: str, route: LinkRoute) -> str:
    words = "-6 " if route.dst.family == 6 else ""
    words += f"route {verb} {route.dst if route.dst.length else 'default'}"
    words += f" via {route.gw}" if route.gw else ""
    words += f" dev {quoted(link)}{' onlink' if route.onlink else ''} proto {route.protocol} table {route.table}"
    words += f" metric {route.priority}" if route.priority else ""
    words += f" scope {route.scope}" if route.scope else ""
    words += f" src {route.source}" if route.source else ""
    words += f" mtu {route.mtu}" if route.mtu else ""
    words += f" advmss {route.advmss}" if route.advmss else ""
    return namespace.command(words)
