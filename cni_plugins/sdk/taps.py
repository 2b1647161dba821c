"""Taps: links whose other end is a program, a virtual machine's monitor for instance (tun(4), linux/if_tun.h).

A tap is no link that rtnetlink can make: a descriptor of /dev/net/tun is given a name by TUNSETIFF, in the namespace
where it was opened, and what it made stays when it is closed, because TUNSETPERSIST says so. Until then whatever dies
leaves nothing.
"""

from __future__ import annotations

import os
from _struct import Struct
from fcntl import ioctl

from cni_plugins.sdk.kinds import Kind, Spot
from cni_plugins.sdk.links import DeleteLink, SetLink
from cni_plugins.sdk.netlink import u8, u32
from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.errors import INTERNAL, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.rtnl import Link

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI = 0x0002, 0x0100, 0x1000
IFLA_TUN_OWNER, IFLA_TUN_GROUP, IFLA_TUN_TYPE, IFLA_TUN_PERSIST, IFLA_TUN_MULTI_QUEUE = 1, 2, 3, 6, 7

SELINUX = "/sys/fs/selinux/enforce"
LABEL = "/proc/thread-self/attr/exec"  # the context of what this thread executes next

_IFREQ = Struct("=16sH22x")  # struct ifreq, as far as TUNSETIFF reads it: name and flags


@record
class Tap(Kind):
    """A tap as it is asked for, see `tap`."""

    owner: int | None = None
    group: int | None = None
    multi_queue: bool = False
    bridge: str = ""
    label: str = ""

    def __str__(self) -> str:
        return f"tuntap {self.words}"

    def birth(self, spot: Spot, mac: str, mtu: int) -> list[Step]:
        steps: list[Step] = [AddTap(spot.inside, spot.ifname, self)]
        if mac or mtu or self.bridge:
            steps.append(SetLink(spot.inside, spot.ifname, mac=mac, mtu=mtu, master=self.bridge))
        return steps

    def problem(self, namespace: Namespace, link: Link) -> str:
        bridge = namespace.link(self.bridge) if self.bridge else None
        if self.bridge and (bridge is None or bridge.index != link.master):
            return f"is no port of {self.bridge}"
        return super().problem(namespace, link)

    def require(self, _namespace: Namespace, code: int) -> None:
        os.close(_open(code))


def tap(owner: int | None, group: int | None, multi_queue: bool = False, bridge: str = "", label: str = "") -> Tap:
    """`owner` and `group` are those who may open it besides root, by number; `bridge` is one in the container that it
    is to be a port of; `label` the SELinux context it is made under, empty for the plugin's own."""
    words = "mode tap" + ("" if owner is None else f" user {owner}") + ("" if group is None else f" group {group}")
    data = u8(IFLA_TUN_TYPE, IFF_TAP) + u8(IFLA_TUN_PERSIST, 1) + u8(IFLA_TUN_MULTI_QUEUE, multi_queue)
    data += b"" if owner is None else u32(IFLA_TUN_OWNER, owner)
    data += b"" if group is None else u32(IFLA_TUN_GROUP, group)
    words += " multi_queue" if multi_queue else ""
    return Tap("tun", words, data, False, owner, group, multi_queue, bridge, label)


@record
class AddTap(Step):
    """A tap that stays, down. It must not be there yet: TUNSETIFF would be content with another's."""

    namespace: Namespace
    name: str
    tap: Tap

    def describe(self) -> str:
        words = f"ip {self._words()}"
        return self.namespace.shell(f"runcon {quoted(self.tap.label)} {words}" if self.tap.label else words)

    def _words(self) -> str:
        return f"tuntap add dev {quoted(self.name)} {self.tap.words}"

    def apply(self) -> None:
        """Raises CniError, or OSError that begins with the command."""
        with self.namespace.inside():
            if self.tap.label:
                self._labelled()
                return
            fd = _open(INTERNAL)
            try:
                self._make(fd)
            except OSError as error:
                raise OSError(error.errno, f"{self.describe()}: {error.strerror}") from error
            finally:
                os.close(fd)

    def _make(self, fd: int) -> None:
        tap = self.tap
        flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if tap.multi_queue else 0)
        ioctl(fd, TUNSETIFF, _IFREQ.pack(self.name.encode(), flags))
        for request, number in ((TUNSETOWNER, tap.owner), (TUNSETGROUP, tap.group)):
            if number is not None:
                ioctl(fd, request, number)
        ioctl(fd, TUNSETPERSIST, 1)

    def _labelled(self) -> None:
        """A tap has the context of the process that makes it, and that changes when a program is executed: `ip`."""
        from cni_plugins.sdk import program  # for this key alone

        path = program.find("ip", "iproute2")
        try:
            _write(LABEL, self.tap.label)
        except OSError as error:
            text = f"selinuxContext: SELinux refuses {self.tap.label!r}: {error.strerror}"
            raise CniError(INTERNAL, text) from None
        try:
            said = program.run(path, *self._words().split())
        finally:
            _write(LABEL, "\0")
        if said.exit:
            raise CniError(INTERNAL, f"{self.describe()}: {said.first}")

    def opposite(self) -> Step | None:
        return DeleteLink(self.namespace, self.name)


def refuse_label(label: str, key: str) -> None:
    """Where there is no SELinux. Raises CniError 2."""
    if label and not os.path.exists(SELINUX):
        raise CniError(
            UNSUPPORTED_FIELD,
            f"{key}: {label!r} is not supported: this kernel runs without SELinux",
            "leave the key out",
        )


def _open(code: int) -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise CniError(
            code, f"cannot make a tap: {DEVICE}: {error.strerror}", "`modprobe tun` where the kernel has it as a module"
        ) from None


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
