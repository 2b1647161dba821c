"""What plugins keep on the host for a running container, made anew after somebody has flushed it.

`nft flush ruleset`, or a restart of firewalld, takes masquerade and published ports away, and no plugin is told. The
contract has no verb to ask for them again, so each network of the container is left and joined anew (DEL and ADD),
asking for the addresses and the hardware address that it has: any plugin, whoever wrote it, makes all that it makes.
The processes of the container stay, and so do their connections: a TCP socket outlives its interface when the address
comes back. Packets are lost meanwhile: for 45 to 90 ms with the bundled plugins, and for a second or so with others,
if neighbours who asked in between must ask again.

Addresses can only stay where the list takes such wishes (capabilities `ips` and `mac`). Where it does not, nothing is
touched, and the person is told why.
"""

from __future__ import annotations

import os

from cni_plugins.spec import convert
from cni_plugins.spec.config import parse_list
from cni_plugins.spec.errors import CniError
from cni_plugins.spec.record import replace
from minirt.cni.request import Attachment, unsupported
from minirt.errors import ConfigError, Conflict
from minirt.report import attachment as reported
from minirt.state import RUNNING, Attached, open_first
from minirt.supervise import deaf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.spec.result import Result
    from minirt.cni.cache import Entry
    from minirt.cni.operations import Cni
    from minirt.containers import Containers
    from minirt.state import Record

_INSIDE = "1.1.0"  # the version in which records keep results


class Reloader:
    """Has the networks of running containers made anew."""

    def __init__(self, containers: Containers, cni: Cni) -> None:
        self._containers = containers
        self._cni = cni

    def running(self) -> list[str]:
        """The ids of the running containers that are attached to networks."""
        running = [record for record in self._containers.all() if record.status == RUNNING]
        return [record.id for record in running if any(self._attached(record))]

    def reload(self, reference: str) -> str:
        """Have all networks of the container made anew; its name. Raises NotFound, Conflict, PluginError."""
        record = self._containers.find(reference)
        _refuse_dead(record)
        attachments = [_again(record, *known) for known in self._attached(record)]
        if not attachments:
            raise Conflict(f"container {record.name!r} is attached to no network")
        with deaf():  # between DEL and ADD the container has no network
            self._cni.renew_all(attachments, lambda: _refuse_dead(record), lambda *made: self._keep(record.id, *made))
        return record.name

    def _attached(self, record: Record) -> Iterator[tuple[Attached, tuple[tuple[str, str], ...]]]:
        """What minirt has attached to the container, then what others have; each with its CNI_ARGS."""
        ours = {(item.network, item.ifname): item for item in record.attached}
        entries = {(entry.network, entry.ifname): entry for entry in self._cni.cache.entries(record.id)}
        for key, item in ours.items():
            yield item, entries[key].args if key in entries else ()
        for key, entry in entries.items():
            if key not in ours:
                yield _remembered(entry), entry.args

    def _keep(self, container_id: str, attachment: Attachment, result: Result) -> None:
        """Write the new result down, in the record of the container if it has the attachment.

        A container's end waits for the lock under which this runs, and is written down after it: it is not lost.
        """
        record = self._containers.store.load(container_id)
        wishes, document = dict(attachment.capability_args), convert.encode(result, _INSIDE)
        key = attachment.network.name, attachment.ifname
        attached = tuple(
            replace(item, wishes=wishes, result=document) if (item.network, item.ifname) == key else item
            for item in record.attached
        )
        self._containers.store.change(record, attached=attached)


def _refuse_dead(record: Record) -> None:
    """Once its first process is gone, the container's networks are being deleted for good. Raises Conflict."""
    pidfd = open_first(record) if record.status == RUNNING else -1
    if pidfd < 0:
        raise Conflict(f"container {record.name!r} is not running", "'minirt start' makes its networks anew anyway")
    os.close(pidfd)


def _remembered(entry: Entry) -> Attached:
    """An attachment of which only the cache tells. Raises ConfigError."""
    source = f"the remembered list of {entry.network}"
    try:
        result = convert.encode(convert.decode(dict(entry.result)), _INSIDE)
    except CniError as error:
        raise ConfigError(str(error), where=source) from None
    return Attached(entry.network, entry.ifname, source, entry.config, dict(entry.capability_args), result)


def _again(record: Record, item: Attached, args: tuple[tuple[str, str], ...]) -> Attachment:
    """The attachment as it was made, asking for the addresses that came of it. Raises Conflict, ConfigError."""
    try:
        network = parse_list(item.config, item.source)
    except CniError as error:
        raise ConfigError(str(error)) from None
    addresses = [ip["address"] for ip in item.result.get("ips", ())]
    wishes: dict[str, Any] = {"ips": addresses, "mac": reported(item)["MacAddress"]}
    wishes = {capability: value for capability, value in wishes.items() if value}
    if missing := unsupported(network, wishes):
        raise Conflict(
            f"{item.ifname} of container {record.name!r} would come back with other addresses: no plugin of network "
            f"{network.name!r} takes {' or '.join(map(repr, missing))}",
            f'a plugin that can says "capabilities": {{"{missing[0]}": true}} in {network.source}, before the '
            "container is started; 'minirt stop' and 'minirt start' make its networks anew",
        )
    return Attachment(network, record.id, record.netns, item.ifname, args, item.wishes | wishes)
