"""Gateways of VLANs: a link of the host's that leads to a port of a bridge, and so into one of its VLANs.

    cni0 ──┬── veth…      a container in VLAN 100
           └── veth…      VLAN 100 too; its other end is cni0.100, which has the gateway's address

The first attachment that needs one makes it, the last one takes it away: who uses it is written down in
/run/cni/bridge/.gateways, so that DEL and GC need neither result nor namespace, and count nothing.
"""

from __future__ import annotations

from cni_plugins.sdk import bridges, checks, garbage, naming
from cni_plugins.sdk.links import AddSharedAddress, AddVeth, DeleteLink, SetLink, Together, wait_running
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace
from cni_plugins.sdk.records import Owner
from cni_plugins.sdk.shares import Shares
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.sdk.vlans import SetVlans, Vlans
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.result import Result

_GATEWAYS = Shares(*bridges.GATEWAYS)


def _alias(name: str) -> str:
    return f"cni-gateway {name}"


@record
class UseGateway(Step):
    """The gateway of a VLAN, made unless it is there, and noted as used by an attachment."""

    host: Namespace
    bridge: str
    vlan: int
    mtu: int
    network: str
    owner: Owner

    @property
    def name(self) -> str:
        return bridges.gateway_name(self.bridge, self.vlan)

    @property
    def port(self) -> str:
        return naming.host_link("gateway", self.bridge, str(self.vlan))

    def describe(self) -> str:
        """Nothing, where another attachment has made it."""
        there = self.host.link(self.name) is not None
        return "" if there else "\n".join(step.describe() for step in self._steps())

    def _steps(self) -> list[Step]:
        macs = [naming.derived_mac("gateway", self.bridge, str(self.vlan), end) for end in ("port", "end")]
        pair = AddVeth(self.host, self.port, macs[0], self.host, self.name, macs[1], self.bridge, self.mtu)
        alias = _alias(self.name)
        named = (SetLink(self.host, self.port, alias=alias), SetLink(self.host, self.name, alias=alias))
        return [
            Together(self.host, (pair, *named)),
            SetVlans(self.host, self.port, Vlans(self.vlan)),
            SetSysctl(self.host, f"net/ipv6/conf/{self.port}/accept_ra", "0", optional=True),
            *bridges.alone(self.host, self.name),
            SetLink(self.host, self.name, up=True),
        ]

    def apply(self) -> None:
        with _GATEWAYS.locked():
            _GATEWAYS.join(self.name, self.network, self.owner)
            try:
                if self._missing():
                    with Plan() as plan:
                        plan.do(*self._steps())
                    wait_running(self.host, self.port)
            except BaseException:
                self.undo()
                raise

    def _missing(self) -> bool:
        """Raises CniError for a link of that name that does not lead to the bridge."""
        link = self.host.link(self.name)
        if link is None:
            return True
        port = self.host.rtnl.link(link.peer) if link.kind == "veth" else None
        if port is None or port.master != self.host.index(self.bridge):
            hint = f"the gateway of VLAN {self.vlan} is to have this name; rename the link, or take another VLAN"
            raise CniError(INTERNAL, f"{self.name} exists and does not lead to {self.bridge}", hint)
        if not link.up:
            SetLink(self.host, self.name, up=True).apply()
        return False

    def undo(self) -> None:
        """`leave` tells of it."""
        leave(self.host, self.network, self.owner)


@record
class AddGatewayAddress(AddSharedAddress):
    """An address on the gateway of a VLAN: undo leaves it where another attachment than this uses the gateway."""

    network: str
    owner: Owner

    def opposite(self) -> Step | None:
        others = set(_GATEWAYS.users(self.link)) - {(self.network, self.owner)}
        return None if others else super().opposite()


def leave(host: Namespace, network: str, owner: Owner) -> None:
    """An attachment needs its gateway no more; the last one takes it along. Fine when there is nothing of it."""
    for name in _GATEWAYS.things():
        if (network, owner) not in _GATEWAYS.users(name):
            continue
        with _GATEWAYS.locked():
            if _GATEWAYS.leave(name, network, owner):
                link = host.link(name)
                if link is not None and link.alias == _alias(name):
                    do(DeleteLink(host, name))


def check(host: Namespace, bridge: Link, vlan: int, result: Result) -> None:
    """That the gateway of a VLAN is there and leads to the bridge. Raises CniError 100."""
    end = checks.link(host, bridges.gateway_name(bridge.name, vlan), "veth", result)
    port = checks.link(host, end.peer, "veth", result)
    checks.port(port, bridge, end)
    checks.vlans(host, bridge, port, Vlans(vlan))


def collect(network: str, valid: Collection[Owner]) -> None:
    """GC: leave for all attachments of `network` that are not `valid`."""
    with Namespace() as host:
        garbage.collect(_GATEWAYS.owners(network), valid, lambda owner: leave(host, network, owner))
