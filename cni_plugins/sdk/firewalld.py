"""firewalld: the daemon is asked to put a container's addresses into a zone, on the system bus.

It owns its rules and rewrites them at each reload, so nothing is written beside it: an address becomes a source of a
zone (`trusted`, unless another is asked for), as `firewall-cmd --zone=trusted --add-source=…` does at run time.

The bus is spoken to by a program. A D-Bus library would be one dependency more for one method call, a client of our
own a protocol that nobody comes here to read, and firewall-cmd, which is firewalld's own, loads Python and the whole of
firewalld's tree for it (0.3 s and more). busctl is part of systemd, and so on nearly every host that has firewalld:
8 ms; where it is missing, D-Bus's own dbus-send does the same.

Source: firewalld.dbus(5), "org.fedoraproject.FirewallD1.zone"; a failure begins with the name of its code.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import program
from cni_plugins.sdk.garbage import all_of
from cni_plugins.sdk.shares import Shares
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.ip import host_cidr
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_plugins.sdk.nfnl import Nftables
    from cni_plugins.sdk.walls import Wall
    from cni_plugins.spec.ip import Address

_NAME, _PATH = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
_ZONE = f"{_NAME}.zone"
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_SOCKETS = ("/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket")
_PATIENCE = 10  # seconds: a reload keeps everybody waiting for one or two
_SOURCES = Shares("firewall", "sources")


def steps(wall: Wall, _nftables: Nftables) -> list[Step]:
    return [AddSource(wall, address) for address in wall.addresses]


def release(wall: Wall, _nftables: Nftables) -> None:
    """Fine when firewalld is gone: what it was asked for at run time went with it."""

    def task(address: Address) -> Callable[[], None]:
        return AddSource(wall, address).undo

    all_of(*map(task, wall.addresses))


def undoing(wall: Wall, _nftables: Nftables) -> list[str]:
    return [command for address in wall.addresses if (command := AddSource(wall, address).describe_undo())]


def check(wall: Wall, _nftables: Nftables) -> None:
    for address in wall.addresses:
        if _call("querySource", wall.zone, str(host_cidr(address))) != "true":
            hint = "a reload of firewalld forgets what it was asked for at run time; connect the container anew"
            raise CniError(PLUGIN_SPECIFIC, f"firewalld: {address} is not in zone {wall.zone}", hint)


def status() -> None:
    """Raises CniError 50 when firewalld cannot be asked."""
    if not running():
        raise CniError(NOT_AVAILABLE, "firewalld does not run", "start it, or leave the key backend out")


def running() -> bool:
    """Whether firewalld is on the bus. No program is run where it is not installed, or where there is no bus."""
    installed = program.present("firewalld")
    return bool(installed) and _bus_there() and _ask(_BUS, "NameHasOwner", _NAME) == "true"


def _bus_there() -> bool:
    return bool(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")) or any(map(os.path.exists, _SOCKETS))


def take_over(addresses: Iterable[Address], zone: str) -> None:
    """Take what the reference plugin has put into `zone` out of it, unless an attachment of ours has it by now."""
    for address in addresses:
        if not any(_SOURCES.users(str(address))):
            _remove(zone, address)


def _remove(zone: str, address: Address) -> None:
    """Fine when it is in no zone, or in one that somebody else has put it into."""
    try:
        _call("removeSource", zone, str(host_cidr(address)))
    except CniError as error:
        if not error.msg.startswith(("firewalld: UNKNOWN_SOURCE", "firewalld: ZONE_CONFLICT")):
            raise


@record
class AddSource(Step):
    """An address of the wall in its zone. That it is there already is fine; that it is in another zone is not."""

    wall: Wall
    address: Address

    @property
    def _source(self) -> str:
        return str(host_cidr(self.address))

    def describe(self) -> str:
        return f"firewall-cmd --zone={self.wall.zone} --add-source={self._source}"

    def apply(self) -> None:
        with _SOURCES.locked():
            _SOURCES.join(self._thing, self.wall.network, self.wall.owner)
            try:
                _call("addSource", self.wall.zone, self._source)
            except CniError as error:
                if not error.msg.startswith("firewalld: ZONE_ALREADY_SET"):
                    raise

    def describe_undo(self) -> str:
        alone = _SOURCES.only(self._thing, self.wall.network, self.wall.owner)
        return f"firewall-cmd --zone={self.wall.zone} --remove-source={self._source}" if alone else ""

    def undo(self) -> None:
        with _SOURCES.locked():
            if _SOURCES.leave(self._thing, self.wall.network, self.wall.owner) and running():
                _remove(self.wall.zone, self.address)

    @property
    def _thing(self) -> str:
        return str(self.address)


_HINTS = {
    "INVALID_ZONE": (INVALID_CONFIG, "firewalldZone must be one that `firewall-cmd --get-zones` lists"),
    "ZONE_CONFLICT": (PLUGIN_SPECIFIC, "it is a source of another zone: `firewall-cmd --get-active-zones` shows which"),
}


def _call(method: str, zone: str, source: str) -> str:
    """Ask firewalld. Raises CniError that begins with firewalld's own code, 50 when it cannot be reached."""
    return _ask((_NAME, _PATH, _ZONE), method, zone, source)


def _ask(where: tuple[str, str, str], method: str, *words: str) -> str:
    """Call a method that takes strings; the one word that it gives back. Raises CniError."""
    name, path, interface = where
    busctl = program.present("busctl")
    if busctl:
        options = ("--system", "--auto-start=no", f"--timeout={_PATIENCE}", "call")
        said = program.run(busctl, *options, name, path, interface, method, "s" * len(words), *words)
    else:
        sender = program.find("dbus-send", "systemd or the dbus-bin")
        options = ("--system", "--print-reply=literal", f"--reply-timeout={_PATIENCE}000", f"--dest={name}")
        said = program.run(sender, *options, path, f"{interface}.{method}", *(f"string:{word}" for word in words))
    if said.exit == 0:
        return said.text.split()[-1].strip('"') if said.text.split() else ""
    return _refused(said.first)


def _refused(words: str) -> str:
    """`Call failed: CODE: text` of busctl, `Error NAME: CODE: text` of dbus-send."""
    code, _, text = words.partition(": ")[2].partition(": ")
    if not (code.isupper() and code.replace("_", "").isalpha()):
        raise CniError(NOT_AVAILABLE, "firewalld cannot be reached", words)
    number, hint = _HINTS.get(code, (PLUGIN_SPECIFIC, ""))
    raise CniError(number, f"firewalld: {code}: {text}", hint)
