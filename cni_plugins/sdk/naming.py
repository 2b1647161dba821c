"""Names and hardware addresses that follow from what they stand for, so that they need no record.

An attachment is network + container + interface name; none of the three can hold a space or a '/'. Its host link's
name is derived from them, so DEL finds the link when the namespace is gone; the link's alias spells them, so that DEL
and GC never touch a link that has come to have the same name, and `ip link` tells a person whose it is.
"""

from __future__ import annotations

from _blake2 import blake2s  # hashlib would load openssl: 4 ms

from cni_plugins.sdk.records import read_file
from cni_plugins.spec.mac import mac_text

_MULTICAST, _LOCAL = 0x01, 0x02  # bits of the first octet: group, and locally administered (IEEE 802-2014, 8.2)
_LONGEST_ALIAS = 255  # IFALIASZ less its NUL


def digest(*identity: str, size: int) -> bytes:
    """`size` bytes that are the same whenever `identity` is."""
    return blake2s("/".join(identity).encode(), digest_size=size).digest()


def host_link(network: str, container_id: str, ifname: str) -> str:
    """The name of an attachment's link on the host: "veth" and 8 hex digits, the shape that the Go plugins use."""
    return "veth" + digest(network, container_id, ifname, size=4).hex()


def alias(network: str, container_id: str, ifname: str) -> str:
    """What is written on an attachment's host link: "cni NETWORK CONTAINER IFNAME"; a long container is hashed."""
    plain = f"{alias_prefix(network)}{container_id} {ifname}"
    if len(plain.encode()) <= _LONGEST_ALIAS:
        return plain
    short = f"{alias_prefix(network)}#{digest(container_id, size=16).hex()} {ifname}"
    if len(short.encode()) <= _LONGEST_ALIAS:
        return short
    return f"cni #{digest(network, container_id, ifname, size=16).hex()}"


def alias_prefix(network: str) -> str:
    """What the aliases of a network's links begin with."""
    return f"cni {network} "


def comment(network: str, container_id: str, ifname: str) -> str:
    """What is written on an attachment's elements in nftables: "NETWORK CONTAINER IFNAME"; what is long is hashed."""
    return f"{_short(network, 40)} {_short(container_id, 64)} {ifname}"


def of_container(text: str, container_id: str) -> bool:
    """Whether a comment is that of one of the container's attachments."""
    return text.split(" ")[1:2] == [_short(container_id, 64)]


def of_network(text: str, network: str) -> bool:
    """Whether a comment is that of one of the network's attachments."""
    return text.split(" ")[:1] == [_short(network, 40)]


def holder(text: str) -> str:
    """Whom a comment names, in words."""
    words = text.split(" ")
    return told(*words) if len(words) == 3 else repr(text)


def told(network: str, container_id: str, ifname: str) -> str:
    """An attachment in words. Of the ids that engines draw (64 hex digits) 12 say which, as in their own lists."""
    drawn = len(container_id) == 64 and not container_id.strip("0123456789abcdef")
    return f"container {container_id[:12] if drawn else container_id} (network {network}, {ifname})"


def _short(word: str, longest: int) -> str:
    """nft refuses to read back a comment of more than 128 bytes."""
    return word if len(word) <= longest else "#" + digest(word, size=16).hex()


def derived_mac(*identity: str) -> str:
    """A hardware address of this machine's own that is the same whenever `identity` is (46 bits of a hash).

    It is given to links explicitly, which keeps udev and NetworkManager from changing it afterwards, and it keeps
    neighbours' caches right when a container comes back. The machine's id takes part: names are not unique between
    hosts whose containers share an Ethernet.
    """
    packed = digest(machine_id(), *identity, size=6)
    return mac_text(bytes([packed[0] & ~_MULTICAST | _LOCAL]) + packed[1:])


def machine_id() -> str:
    """machine-id(5), else the boot's own id."""
    for path in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        found = (read_file(path) or b"").decode(errors="replace").strip()
        if found:
            return found
    return ""
