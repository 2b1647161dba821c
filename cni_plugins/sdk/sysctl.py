"""Sysctls of a network namespace (sysctl(8), Documentation/networking/ip-sysctl.rst).

Keys are in slash style throughout ("net/ipv4/conf/eth0.100/arp_notify"): a dot may be part of an interface's name.
"""

from __future__ import annotations

import os

from cni_plugins.sdk.netns import Namespace, quoted
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step


def read_sysctl(namespace: Namespace, key: str) -> str | None:
    """The value, or None where the kernel has no such key. Raises OSError: PermissionError for what can only be
    written."""
    with namespace.inside():
        return _read(_path(key))


@record
class SetSysctl(Step):
    """Write `value`, unless it is there already: /proc/sys may be read-only, and a write can have effects.

    With `optional` a kernel that has no such key is left alone (IPv6 can be missing altogether). There is no undo: a
    key of a link goes with the link, and forwarding may have come to be relied upon by others.
    """

    namespace: Namespace
    key: str
    value: str
    optional: bool = False

    def describe(self) -> str:
        return self.namespace.shell(f"sysctl -w {quoted(f'{self.key}={self.value}')}")

    def apply(self) -> None:
        with self.namespace.inside():
            try:
                found = _read(_path(self.key))
            except PermissionError:  # route/flush, for one, is there to be written alone
                found = ""
            if found == self.value or (found is None and self.optional):
                return
            try:
                _write(_path(self.key), self.value)
            except OSError as error:
                raise OSError(error.errno, f"{self.describe()}: {error.strerror}") from error


def _path(key: str) -> str:
    return f"/proc/sys/{key}"


def _read(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, f"{value}\n".encode())
    finally:
        os.close(fd)
