"""VLANs of a bridge's port: which frames it takes and gives, with a tag or without (IEEE 802.1Q).

    access   100          frames without a tag belong to VLAN 100, and leave without one
    trunk    101, 200-210 frames with these tags pass, with their tags; those without one belong to VLAN 1

A bridge takes note of tags only when it filters VLANs. A bridge that a plugin made is told to; of one that is
somebody else's, whose traffic that would cut, the plugin demands it.

Source: bridge(8); linux/if_bridge.h. The kernel lists VLANs for one port at a time since Linux 5.6 (RTM_GETVLAN).
"""

from __future__ import annotations

from _struct import Struct
from errno import EOPNOTSUPP

from cni_plugins.sdk import naming, rtmsg
from cni_plugins.sdk.keys import refuse_slips
from cni_plugins.sdk.links import LinkStep
from cni_plugins.sdk.netlink import (
    NLM_F_ACK,
    Message,
    NetlinkError,
    attribute,
    attributes,
    each_attribute,
    integer,
    nested,
    text,
    u8,
)
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, NOT_AVAILABLE, CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.sdk.rtnl import Link, Rtnl
    from cni_plugins.spec.config import View

# Taken from the Linux kernel headers: linux/if_link.h, if_bridge.h, rtnetlink.h.
AF_BRIDGE = 7
IFLA_AF_SPEC = 26
IFLA_BR_VLAN_FILTERING = 7
IFLA_BRIDGE_VLAN_INFO = 2
PVID, UNTAGGED, RANGE_BEGIN, RANGE_END = 0x02, 0x04, 0x08, 0x10  # BRIDGE_VLAN_INFO_*
RTM_GETVLAN = 114
BRIDGE_VLANDB_ENTRY, BRIDGE_VLANDB_ENTRY_INFO, BRIDGE_VLANDB_ENTRY_RANGE = 1, 1, 2
_PORT = Struct("=BBHI")  # struct br_vlan_msg: family, reserved, reserved, index
_INFO = Struct("=HH")  # struct bridge_vlan_info: flags, VLAN
_LO = 1  # the first link of every namespace

DEFAULT, HIGHEST = 1, 4094


@record
class Vlans:
    """What a port is to have; nothing asked for is false. `trunk` are ranges, both ends included."""

    access: int = 0
    trunk: tuple[tuple[int, int], ...] = ()
    keep_default: bool = False

    def __bool__(self) -> bool:
        return bool(self.access or self.trunk)

    @property
    def untagged(self) -> int:
        """Where frames without a tag belong."""
        return self.access or DEFAULT

    def wanted(self) -> set[tuple[int, bool]]:
        """(VLAN, whether its frames go without a tag) of all that the port is to have."""
        tagged = {number for first, last in self.trunk for number in range(first, last + 1)} - {self.untagged}
        return {(self.untagged, True), *((number, False) for number in tagged)}


def read(conf: View) -> Vlans:
    """`vlan`, `vlanTrunk` and `preserveDefaultVlan`. Raises CniError 7 with the key's path."""
    trunk = tuple(ends for item in conf.views("vlanTrunk") for ends in _ranges(item))
    return Vlans(conf.integer("vlan", high=HIGHEST), trunk, conf.boolean("preserveDefaultVlan"))


def _ranges(item: View) -> Iterator[tuple[int, int]]:
    """{"id": 101}, {"minID": 200, "maxID": 210}, or both in one."""
    refuse_slips(item, ("id", "minID", "maxID"))
    number, first, last = (item.integer(key, low=1, high=HIGHEST) for key in ("id", "minID", "maxID"))
    if bool(first) != bool(last) or not (number or first):
        found = f"{'minID' if first else 'maxID'} stands alone" if first or last else "names no VLAN"
        raise CniError(INVALID_CONFIG, f"{item.path}: {found}", "expected id, or minID with maxID")
    if first > last:
        raise CniError(INVALID_CONFIG, f"{item.path}: minID {first} is greater than maxID {last}")
    if number:
        yield number, number
    if first:
        yield first, last


# --- steps ----------------------------------------------------------------------------------------------------------


@record
class FilterVlans(LinkStep):
    """Have a bridge take note of tags. Its ports stay together, in the VLAN that they all have from the beginning."""

    namespace: Namespace
    name: str

    def describe(self) -> str:
        return self.namespace.command(f"link set {quoted(self.name)} type bridge vlan_filtering 1")

    def messages(self) -> list[Message]:
        wish = text(rtmsg.IFLA_INFO_KIND, "bridge") + nested(rtmsg.IFLA_INFO_DATA, u8(IFLA_BR_VLAN_FILTERING, 1))
        head = rtmsg.IFINFO.pack(0, 0, self.namespace.index(self.name), 0, 0)
        return [Message(rtmsg.RTM_NEWLINK, NLM_F_ACK, head + nested(rtmsg.IFLA_LINKINFO, wish))]

    def apply(self) -> None:
        try:
            super().apply()
        except NetlinkError as error:
            raise (missing(INTERNAL) if error.errno == EOPNOTSUPP else error) from None


def missing(code: int) -> CniError:
    """What is said where the kernel has been built without."""
    return CniError(
        code, "this kernel's bridges do not filter VLANs", "it was built without CONFIG_BRIDGE_VLAN_FILTERING"
    )


def require(host: Namespace, bridge: Link | None) -> None:
    """That bridges here can filter VLANs. Raises CniError 50."""
    from cni_plugins.sdk.kinds import known  # asking has the kernel load what it has

    known(host.rtnl, "bridge")
    try:
        host.rtnl.dump(Message(RTM_GETVLAN, 0, _PORT.pack(AF_BRIDGE, 0, 0, _LO)))
    except NetlinkError as error:
        if error.errno == EOPNOTSUPP:  # else it is that lo is no bridge
            raise missing(NOT_AVAILABLE) from None
    if bridge is not None:
        prepare(host, bridge.name, bridge, NOT_AVAILABLE)


def filtering(bridge: Link) -> bool:
    """Whether a bridge takes note of tags."""
    return bool(integer(attributes(bridge.data).get(IFLA_BR_VLAN_FILTERING)))


def prepare(host: Namespace, name: str, bridge: Link | None, code: int = INTERNAL) -> list[FilterVlans]:
    """What a bridge needs for VLANs, a new one or one that is there. Raises CniError for somebody else's that does not
    filter."""
    if bridge is not None and filtering(bridge):
        return []
    if bridge is not None and bridge.mac != naming.derived_mac("bridge", bridge.name):
        raise CniError(
            code,
            f"{bridge.name} does not filter VLANs, and it was not made by this plugin",
            f"if nothing else needs it as it is: {FilterVlans(host, bridge.name).describe()}",
        )
    return [FilterVlans(host, name)]


@record
class SetVlans(LinkStep):
    """The VLANs of a port that is new. They go with it. Trunk first: what an untagged frame is has the last word."""

    namespace: Namespace
    name: str
    vlans: Vlans

    def describe(self) -> str:
        name, lines = quoted(self.name), []
        if not self.vlans.keep_default:
            lines.append(f"bridge vlan del dev {name} vid 1-{HIGHEST}")
        for first, last in self.vlans.trunk:
            lines.append(f"bridge vlan add dev {name} vid {first}" + (f"-{last}" if last > first else ""))
        lines.append(f"bridge vlan add dev {name} vid {self.vlans.untagged} pvid untagged")
        return "\n".join(map(self.namespace.shell, lines))

    def messages(self) -> list[Message]:
        index = self.namespace.index(self.name)
        found = [] if self.vlans.keep_default else [_change(rtmsg.RTM_DELLINK, index, DEFAULT, HIGHEST)]
        found += [_change(rtmsg.RTM_SETLINK, index, first, last) for first, last in self.vlans.trunk]
        return [*found, _change(rtmsg.RTM_SETLINK, index, self.vlans.untagged, self.vlans.untagged, PVID | UNTAGGED)]


def _change(kind: int, index: int, first: int, last: int, flags: int = 0) -> Message:
    """`bridge vlan add` (RTM_SETLINK) and `bridge vlan del` (RTM_DELLINK) `dev … vid FIRST-LAST`."""
    if first == last:
        spec = attribute(IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags, first))
    else:
        spec = attribute(IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags | RANGE_BEGIN, first))
        spec += attribute(IFLA_BRIDGE_VLAN_INFO, _INFO.pack(flags | RANGE_END, last))
    return Message(kind, NLM_F_ACK, rtmsg.IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + nested(IFLA_AF_SPEC, spec))


# --- what there is --------------------------------------------------------------------------------------------------


def of_port(rtnl: Rtnl, index: int) -> set[tuple[int, bool]]:
    """(VLAN, whether its frames go without a tag) of a port; one that untagged frames belong to is among those.
    Raises NetlinkError."""
    found: set[tuple[int, bool]] = set()
    for message in rtnl.dump(Message(RTM_GETVLAN, 0, _PORT.pack(AF_BRIDGE, 0, 0, index))):
        found.update(_entries(message.body))
    return found


def _entries(body: bytes) -> Iterator[tuple[int, bool]]:
    for kind, entry in each_attribute(body, _PORT.size):
        if kind == BRIDGE_VLANDB_ENTRY:
            inner = attributes(entry)
            flags, first = _INFO.unpack_from(inner[BRIDGE_VLANDB_ENTRY_INFO])
            last = integer(inner.get(BRIDGE_VLANDB_ENTRY_RANGE)) or first
            for number in range(first, last + 1):
                yield number, bool(flags & UNTAGGED)


def lacking(rtnl: Rtnl, port: Link, vlans: Vlans) -> Iterator[str]:
    """What a port lacks of its VLANs, and what it has besides, in words. Raises NetlinkError."""
    there, wanted = of_port(rtnl, port.index), vlans.wanted()
    for number, untagged in sorted(wanted - there):
        yield f"{port.name} is not in VLAN {number}, {'untagged' if untagged else 'tagged'}"
    for number, _untagged in sorted(there - wanted):
        if not (vlans.keep_default and number == DEFAULT):
            yield f"{port.name} is in VLAN {number}, which nobody asked for"
