"""From what a container asks for to the attachments that CNI is to make: lists, interfaces, wishes."""

from __future__ import annotations

from cni_plugins.spec.record import record
from minirt.cni import discovery
from minirt.cni.request import Attachment, unsupported
from minirt.errors import UsageError
from minirt.spec import OF_CONTAINER, Dns, Network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cni_plugins.spec.config import NetworkList
    from minirt.spec import ContainerSpec

# A capability of the contract (CONVENTIONS.md), and the flag by which a person asked for it.
FLAGS = {"portMappings": "--publish", "ips": "--ip", "mac": "--mac-address", "dns": "--dns"}


@record
class Selection:
    """The attachments of a container in order, and what the person at the terminal should know of the choice."""

    attachments: tuple[Attachment, ...]
    notices: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()  # for each attachment, why it is this network


def select(spec: ContainerSpec, container_id: str, netns: str, directory: str = discovery.DIRECTORY) -> Selection:
    """The attachments that `spec` asks for; none for a network mode. Raises UsageError, NotFound, ConfigError.

    What is asked of no network in particular goes to those that take it: published ports to the first one, name
    servers to all. A wish that nobody can grant is refused here, before anything is made.
    """
    if spec.network_mode:
        if spec.ports:
            raise UsageError(f"--publish needs a network, not --network {spec.network_mode}")
        if spec.network_mode.startswith(OF_CONTAINER) and spec.dns != Dns():
            raise UsageError("--dns is not possible with --network container:…: that one's /etc/resolv.conf is shared")
        return Selection(())
    asked = spec.networks or (Network(),)
    choices = [discovery.by_name(item.name, directory) if item.name else discovery.default(directory) for item in asked]
    notices = dict.fromkeys(warning for choice in choices for warning in choice.warnings)
    for choice in choices:
        if choice.builtin:
            notices[f"{choice.reason}, taking the built-in network {choice.network.name!r}"] = None
    networks = [choice.network for choice in choices]
    ports = _takers(networks, "portMappings", wanted=bool(spec.ports))[:1]
    dns = _takers(networks, "dns", wanted=bool(spec.dns.servers or spec.dns.searches or spec.dns.options))
    attachments = []
    for index, (item, network, ifname) in enumerate(zip(asked, networks, _interfaces(asked), strict=True)):
        wishes = _own_wishes(item)
        _refuse(network, wishes)
        if index in ports:
            wishes["portMappings"] = _port_mappings(spec)
        if index in dns:
            wishes["dns"] = {key: list(words) for key, words in spec.dns.__dict__.items()}
        attachments.append(Attachment(network, container_id, netns, ifname, (), wishes))
    return Selection(tuple(attachments), tuple(notices), tuple(choice.reason for choice in choices))


def _interfaces(asked: Sequence[Network]) -> list[str]:
    """eth0, eth1, … in order, each unless the network was given another name. Raises UsageError on a clash."""
    names = [item.ifname or f"eth{index}" for index, item in enumerate(asked)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two networks would both be interface {name!r}", "give each its own ifname=")
    return names


def _own_wishes(item: Network) -> dict[str, Any]:
    """What is asked of this very network."""
    wishes: dict[str, Any] = {"ips": list(item.ips)} if item.ips else {}
    return wishes | ({"mac": item.mac} if item.mac else {})


def _takers(networks: Sequence[NetworkList], capability: str, wanted: bool) -> list[int]:
    """Which of the networks have a plugin that takes `capability`; none when it is not wanted."""
    if not wanted:
        return []
    takers = [index for index, network in enumerate(networks) if not unsupported(network, [capability])]
    if not takers:
        _refuse(networks[0], [capability])
    return takers


def _refuse(network: NetworkList, wishes: Sequence[str] | dict[str, Any]) -> None:
    for capability in unsupported(network, wishes):
        raise UsageError(
            f"{FLAGS[capability]} is not possible on network {network.name!r}: no plugin of its list takes "
            f"{capability!r}",
            f'a plugin that can says "capabilities": {{"{capability}": true}} in {network.source}',
        )


def _port_mappings(spec: ContainerSpec) -> list[dict[str, Any]]:
    return [
        {"hostPort": port.host, "containerPort": port.container, "protocol": port.protocol}
        | ({"hostIP": port.host_ip} if port.host_ip else {})
        for port in spec.ports
    ]
