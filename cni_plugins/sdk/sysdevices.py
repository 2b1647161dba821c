"""Devices as /sys knows them: the link of a PCI or auxiliary device, or of a path below /sys/devices (sysfs(5)).

/sys shows the network namespace that it was mounted in, the host's: it is never asked about a container's.
"""

from __future__ import annotations

import os

from cni_plugins.spec.errors import INVALID_CONFIG, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.config import View

PCI, AUXILIARY, DEVICES = "/sys/bus/pci/devices", "/sys/bus/auxiliary/devices", "/sys/devices"
# Drivers that hand a device over to programs, which then work it without the kernel (DPDK): it has no link.
USER_SPACE = ("vfio-pci", "uio_pci_generic", "igb_uio")


def device_id(conf: View, key: str) -> str:
    """A device's name on its bus; empty without one. Raises CniError 7."""
    name = conf.string(key)
    if "/" in name or name in (".", ".."):
        raise conf.wrong(key, "a device's name on its bus, like 0000:00:1f.6")
    return name


def kernel_path(conf: View, key: str) -> str:
    """A path below /sys/devices; empty without one. Raises CniError 7."""
    path = conf.string(key)
    if path and not os.path.normpath(path).startswith(f"{DEVICES}/"):
        raise CniError(INVALID_CONFIG, f"{conf.where(key)}: {path!r} must be absolute and begin with {DEVICES}/")
    return os.path.normpath(path) if path else ""


def is_pci(name: str) -> bool:
    return os.path.isdir(os.path.join(PCI, name))


def is_auxiliary(name: str) -> bool:
    return os.path.isdir(os.path.join(AUXILIARY, name))


def user_space_driver(pci: str) -> str:
    """The driver that hands the PCI device to programs; empty when it has another one, or none."""
    driver = os.path.basename(os.path.realpath(os.path.join(PCI, pci, "driver")))
    return driver if driver in USER_SPACE else ""


def links_of(host: Namespace, *folders: str) -> Iterator[Link]:
    """The links whose names stand in the `net` below one of the folders, a device's own first."""
    for folder in folders:
        for name in _list(os.path.join(folder, "net")):
            if (link := host.link(name)) is not None:
                yield link


def folders_of_pci(pci: str) -> list[str]:
    """A PCI device, and the virtio devices that may stand between it and its link."""
    top = os.path.join(PCI, pci)
    return [top, *(os.path.join(top, name) for name in _list(top) if name.startswith("virtio"))]


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
