"""The host-device plugin: a link that the host has already goes into the container, for as long as that runs.

    host          eth0     eth1, 0000:03:00.0  ──┐            ┌──▶ eth1
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄
    container                                    └──▶ eth0 ───┘

Which one it is, is said by its name, its hardware address, its path below /sys/devices or its place on a bus; the first
of these that is given counts. Without IPAM it gets no address. A device that a program works without the kernel (DPDK)
has no link: then IPAM alone is asked.

The keys have the reference plugin's meaning. Different is that the link comes back as it was: up, with its addresses
and its alias; that DEL does its work without a namespace, also where the kernel has put the device back already; and
that IPAM's `dns` counts where there is no own one.
"""

from __future__ import annotations

from cni_plugins.sdk import devices, garbage, ipam, keys, layer3, sysdevices
from cni_plugins.sdk.devices import Lend
from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.main import Plugin, new_plan
from cni_plugins.sdk.netns import Namespace, sandbox
from cni_plugins.sdk.records import AttachmentRecords, Owner
from cni_plugins.sdk.single import Remember
from cni_plugins.spec.errors import INTERNAL, INVALID_CONFIG, NOT_AVAILABLE, CniError
from cni_plugins.spec.mac import mac_bytes, mac_text
from cni_plugins.spec.record import record, replace
from cni_plugins.spec.result import Interface, Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.rtnl import Link
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Dns
    from cni_plugins.spec.steps import Step

KEYS = ("device", "hwaddr", "kernelpath", "pciBusID", "DPDKMode")

# --- the configuration ----------------------------------------------------------------------------------------------


@record
class Config:
    """Which device: the first of these that is not empty says it. `driver` is what makes it a program's own, and has
    no link; `dns` is None where IPAM's counts."""

    device: str = ""
    mac: str = ""
    path: str = ""
    pci: str = ""
    auxiliary: str = ""
    driver: str = ""
    layer3: bool = False
    dns: Dns | None = None

    def __str__(self) -> str:
        words = ("device", self.device), ("hwaddr", self.mac), ("kernelpath", self.path), ("pciBusID", self.pci)
        return next((f"{key} {value}" for key, value in words if value), f"deviceID {self.auxiliary}")


def configure(request: Request, code: int = INTERNAL) -> Config:
    """Raises CniError 7 for a wrong value; `code` for a device that the runtime asks for and that is on no bus."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    pci, auxiliary = _asked_for(conf.view("runtimeConfig"), code)
    pci = pci or ("" if auxiliary else sysdevices.device_id(conf, "pciBusID"))
    config = Config(
        device=keys.link_name(conf, "device"),
        mac=_hwaddr(conf),
        path=sysdevices.kernel_path(conf, "kernelpath"),
        pci=pci,
        auxiliary=auxiliary,
        driver=sysdevices.user_space_driver(pci) if pci else "DPDKMode" if conf.boolean("DPDKMode") else "",
        layer3=ipam.wanted(request),
        dns=keys.own_dns(conf),
    )
    if not (config.device or config.mac or config.path or config.pci or config.auxiliary):
        text = "one of device, hwaddr, kernelpath and pciBusID is needed"
        raise CniError(INVALID_CONFIG, text, "or runtimeConfig.deviceID, from a runtime that manages devices")
    return config


def _asked_for(wishes: View, code: int) -> tuple[str, str]:
    """The PCI or the auxiliary device that the runtime asks for; it counts instead of `pciBusID`."""
    name = sysdevices.device_id(wishes, "deviceID")
    if not name or sysdevices.is_pci(name):
        return name, ""
    if sysdevices.is_auxiliary(name):
        return "", name
    raise CniError(code, f"{wishes.where('deviceID')}: {name} is neither a PCI nor an auxiliary device of this host")


def _hwaddr(conf: View) -> str:
    text = conf.string("hwaddr")
    try:
        return mac_text(mac_bytes(text)) if text else ""
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{conf.where('hwaddr')}: {error}") from None


def find(host: Namespace, config: Config, code: int) -> Link:
    """The device's link on the host. Raises CniError `code` when there is none."""
    link: Link | None
    if config.device:
        link = host.link(config.device)
    elif config.mac:  # the kernel has no question for it: every link is looked at, as for nothing else
        link = next((link for link in host.rtnl.all_links() if link.mac == config.mac), None)
    else:
        folders = [config.path] if config.path else sysdevices.folders_of_pci(config.pci)
        if config.auxiliary:
            folders = [f"{sysdevices.AUXILIARY}/{config.auxiliary}"]
        link = next(sysdevices.links_of(host, *folders), None)
    if link is None:
        whose = devices.borrower(config.device or config.mac)
        raise CniError(
            code, f"{config}: there is no such link on this host", whose or "`ip link` lists those there are"
        )
    return link


# --- the verbs ------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    config = configure(request)
    owner, records = _mine(request)
    with Namespace() as host, sandbox(request.netns) as inside, new_plan() as plan:
        lease = ipam.Lease(request) if config.layer3 else None
        if config.driver:
            plan.do(*([lease] if lease is not None else []))
            return _result(request, config, lease.result(plan) if lease is not None else Result())
        _refuse_twice(request, inside)
        lent = devices.describe(host, find(host, config, INTERNAL), request.netns)
        plan.do(Remember(records, owner, lent.to_json()))
        if lease is not None:
            plan.do(lease)
        plan.do(Lend(host, inside, request.ifname, lent))
        result = lease.result(plan) if lease is not None else Result()
        plan.do(*_raised(inside, request.ifname, config, result))
        return _result(request, config, result, inside.link(request.ifname))


def _mine(request: Request) -> tuple[Owner, AttachmentRecords]:
    return Owner(request.container_id, request.ifname), AttachmentRecords(devices.PLUGIN, request.network)


def _refuse_twice(request: Request, inside: Namespace) -> None:
    """Before anything is done, and before IPAM is asked: whose failed ADD would take back what the first one got."""
    hint = "an attachment is added once; DEL takes it down"
    if inside.link(request.ifname) is not None:
        raise CniError(INTERNAL, f"{request.netns} already has an interface {request.ifname}", hint)
    owner, records = _mine(request)
    lent = devices.remembered(records, owner)
    if lent is not None and devices.holds(lent, owner.ifname):
        raise CniError(
            INTERNAL, f"{owner} of network {request.network} has {lent.device} in {lent.netns} already", hint
        )


def _raised(inside: Namespace, ifname: str, config: Config, result: Result) -> list[Step]:
    if not config.layer3:
        return [SetLink(inside, ifname, up=True)]
    if not result.ips:
        raise CniError(INTERNAL, "the IPAM plugin gave no IP address")
    return layer3.configure(inside, ifname, result.ips, result.routes)


def _result(request: Request, config: Config, result: Result, link: Link | None = None) -> Result:
    if link is None and not config.driver:
        raise CniError(INTERNAL, f"{request.ifname} is not in {request.netns} any more: somebody took it away")
    mac, mtu = (link.mac, link.mtu) if link is not None else ("", 0)
    return Result(
        (Interface(request.ifname, mac, mtu, request.netns, pci_id=config.pci),),
        tuple(replace(ip, interface=0) for ip in result.ips),
        result.routes,
        config.dns if config.dns is not None else result.dns,
    )


def delete(request: Request) -> None:
    """All that can be done is tried; the first failure is raised at the end."""
    owner, records = _mine(request)
    released = ipam.begin(request)
    garbage.all_of(lambda: devices.give_back(records, owner, request.netns), released)


def check(request: Request) -> None:
    from cni_plugins.sdk import checks  # for this verb alone

    config = configure(request)
    result = checks.expected(request)
    if not config.driver:
        with sandbox(request.netns) as inside:
            found = inside.link(request.ifname)
            link = checks.link(inside, request.ifname, found.kind if found is not None else "", result)
            mtu = next((item.mtu for item in result.interfaces if item.name == link.name and item.sandbox), 0)
            if mtu and link.mtu != mtu:
                raise checks.fault(f"{link.name} in {inside.path} has the MTU {link.mtu}, not {mtu}")
            checks.neighbours(inside, request.ifname, [ip.address for ip in result.ips])
            checks.routes(inside, request.ifname, result.routes, result.ips)
    ipam.delegate(request)


def gc(request: Request) -> None:
    """Links first: what still runs has lost its connection before another can be given its address."""
    valid = garbage.valid_attachments(request.conf)
    records = AttachmentRecords(devices.PLUGIN, request.network)
    garbage.all_of(
        lambda: garbage.collect(records.owners(), valid, lambda owner: devices.give_back(records, owner)),
        lambda: ipam.delegate(request),
    )


def status(request: Request) -> None:
    """Could ADD be served? Not while a container has the device."""
    config = configure(request, NOT_AVAILABLE)
    if not config.driver:
        with Namespace() as host:
            find(host, config, NOT_AVAILABLE)
    ipam.delegate(request)


PLUGIN = Plugin("host-device", add=add, delete=delete, check=check, gc=gc, status=status)
