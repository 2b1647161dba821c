"""Kinds of links that a container can be given, as data; and the step by which one is born.

    macvlan, ipvlan, vlan    stand on a parent, a link of the host's or of the container's own
    dummy                    stands on nothing

A link is born in the container's namespace, under its final name, by one message: one that is moved there, or renamed
there, waits for an RCU grace period. The message goes to the parent's namespace and names the other by a descriptor.

Source: linux/if_link.h, and ip-link(8) for the words.
"""

from __future__ import annotations

from errno import EBUSY, EEXIST, EINVAL, EOPNOTSUPP

from cni_plugins.sdk import rtmsg
from cni_plugins.sdk.links import DeleteLink, LinkStep, SetLink
from cni_plugins.sdk.naming import digest
from cni_plugins.sdk.netlink import Message, NetlinkError, attribute, attributes, u16, u32
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Link, Rtnl
    from cni_plugins.spec.steps import Step


IFLA_MACVLAN_MODE, IFLA_MACVLAN_BC_QUEUE_LEN = 1, 7
IFLA_IPVLAN_MODE = 1
IFLA_VLAN_ID = 1

MACVLAN_MODES = {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}

_MODULES = {"vlan": "8021q"}  # where the kernel's module is not called as the kind is


@record
class Spot:
    """Where a link is born: as `ifname` in the namespace `inside`; `parent`, if any, is a link in `where`."""

    where: Namespace
    inside: Namespace
    ifname: str
    parent: str = ""


@record
class Kind:
    """A kind of link with what this one is told: `words` as ip-link(8) takes them, `data` as the kernel does.

    `inherits` says that it takes its parent's hardware address at its birth, whatever it is told.
    """

    name: str
    words: str = ""
    data: bytes = b""
    inherits: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.words}".rstrip()

    def birth(self, spot: Spot, mac: str, mtu: int) -> list[Step]:
        """What makes a link of it."""
        born = AddLink(spot.where, spot.inside, spot.ifname, self, spot.parent, "" if self.inherits else mac, mtu)
        return [born, *([SetLink(spot.inside, spot.ifname, mac=mac)] if self.inherits and mac else [])]

    def problem(self, _namespace: Namespace, link: Link) -> str:
        """Why `link`, of the namespace, is not what it was told to be; empty when it is."""
        there = attributes(link.data)
        if link.kind == self.name and all(there.get(key) == value for key, value in attributes(self.data).items()):
            return ""
        return f"is not of type {self}"

    def require(self, namespace: Namespace, code: int) -> None:
        """That the kernel has such links. Raises CniError `code`."""
        if not known(namespace.rtnl, self.name):
            raise missing(self.name, code)


def macvlan(mode: str, queue: int = 0) -> Kind:
    """`queue` is the length of the queue of broadcasts, 0 for the kernel's own."""
    data = u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])
    data += u32(IFLA_MACVLAN_BC_QUEUE_LEN, queue) if queue else b""
    words = f"mode {mode}" + (f" bcqueuelen {queue}" if queue else "")
    return Kind("macvlan", words, data, inherits=mode == "passthru")


def ipvlan(mode: str) -> Kind:
    return Kind("ipvlan", f"mode {mode}", u16(IFLA_IPVLAN_MODE, IPVLAN_MODES[mode]))


def vlan(number: int) -> Kind:
    return Kind("vlan", f"id {number}", u16(IFLA_VLAN_ID, number))


DUMMY = Kind("dummy")


@record
class AddLink(LinkStep):
    """A link in `inside`, down. `namespace` is its parent's, or `inside` itself."""

    namespace: Namespace
    inside: Namespace
    name: str
    kind: Kind
    parent: str = ""
    mac: str = ""
    mtu: int = 0

    def describe(self) -> str:
        words = f"link add {quoted(self.name)}"
        words += f" link {quoted(self.parent)}" if self.parent else ""
        words += f" address {self.mac}" if self.mac else ""
        words += f" mtu {self.mtu}" if self.mtu else ""
        words += "" if self.namespace == self.inside else f" netns {self.inside.name}"
        return self.namespace.command(f"{words} type {self.kind}")

    def messages(self) -> list[Message]:
        return [self._message()]

    def _message(self, index: int = 0) -> Message:
        return rtmsg.link_add(
            self.name,
            self.kind.name,
            self.kind.data,
            mac=self.mac,
            mtu=self.mtu,
            parent=self.namespace.index(self.parent) if self.parent else None,
            netns=None if self.namespace == self.inside else self.inside.fd,
            index=index,
        )

    def apply(self) -> None:
        """Until Linux 6.14 the kernel refuses a name that the parent's namespace has, too: a host with an eth0 could
        not give one to a container. It does not look when a number is asked for that nobody has."""
        try:
            super().apply()
        except NetlinkError as error:
            if error.errno != EEXIST or self.namespace == self.inside or self.inside.link(self.name) is not None:
                raise
            number = int.from_bytes(digest(self.inside.path, self.name, size=4), "big") >> 1 | 1 << 20
            try:
                self.namespace.rtnl.ask(self._message(number))
            except NetlinkError as second:
                raise second.during(self.describe()) from None

    def opposite(self) -> Step | None:
        return DeleteLink(self.inside, self.name)


# --- what a kernel has, and what it means by a refusal --------------------------------------------------------------


def known(rtnl: Rtnl, kind: str) -> bool:
    """Whether the kernel has links of `kind`; it loads the module where there is one. Raises NetlinkError.

    Nothing is made: what is asked for has no parent, and a hardware address of one octet.
    """
    message = rtmsg.link_add("", kind)
    probe = Message(message.kind, message.flags, message.body + attribute(rtmsg.IFLA_ADDRESS, b"\2"))
    (answer,) = rtnl.talk([probe])
    return not (isinstance(answer, NetlinkError) and answer.errno == EOPNOTSUPP)


def missing(kind: str, code: int) -> CniError:
    """The error for a kernel without `kind`."""
    module = _MODULES.get(kind, kind)
    return CniError(
        code,
        f"this kernel has no {kind}: it was built without, or its module cannot be loaded",
        f"`modprobe {module}` would say which; a module may be in a package of its own (linux-modules-extra)",
    )


def refusal(error: NetlinkError, step: AddLink, code: int) -> Exception:
    """The kernel's refusal of `step`, with what it means where that is known."""
    kind, parent = step.kind.name, step.parent
    if error.errno == EOPNOTSUPP and not known(step.namespace.rtnl, kind):
        return missing(kind, code)
    hints = {
        EBUSY: f"{parent} is a port of a bridge or a bond, or carries links of another kind: it serves one of them",
        EINVAL: f"{parent} may be one that no {kind} can stand on, or that one in mode passthru has to itself",
        EEXIST: f"another container, or the host, may have this {kind} of {parent}",
    }
    return CniError(code, str(error), hints[error.errno]) if error.errno in hints and parent else error
