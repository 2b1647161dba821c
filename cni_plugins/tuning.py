"""The tuning plugin: sysctls of the container's network, and what its interface looks like (chained).

    host          cni0 ──┬── veth1a2b3c4d
    ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
    container          eth0   mac, mtu, txQLen, promisc, allmulti
                              /proc/sys/net/…/conf/eth0/…  and the namespace's own

What is to be changed is written down first, then changed, and taken back on DEL where the namespace lives on: a
device of the host's that the container had lent returns as it was. `sdk.tuned` tells where that is kept.

The keys have the reference plugin's meaning. Different is that sysctls are given back as well, that the result has the
new MTU, that CHECK takes `4096 131072` for the same as the kernel's own spacing, and that DEL leaves no file behind.
"""

from __future__ import annotations

import os

from cni_plugins.sdk import chained, keys, tuned
from cni_plugins.sdk.main import Plugin, new_plan, warn
from cni_plugins.sdk.netns import sandbox
from cni_plugins.sdk.records import Owner, read_file
from cni_plugins.sdk.sysctl import SetSysctl, read_sysctl
from cni_plugins.sdk.tuned import Backup, Keep, Looks, Place, Swap
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import INVALID_CONFIG, NOT_AVAILABLE, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.mac import unicast_mac
from cni_plugins.spec.record import record
from cni_plugins.spec.repeats import Object, objects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step

KEYS = ("sysctl", "mac", "mtu", "promisc", "allmulti", "txQLen", "dataDir")
FOLDER = "/run/cni/tuning"
ALLOWLIST = "/etc/cni/tuning/allowlist.conf"


# --- the configuration ------------------------------------------------------------------------------------------------


@record
class Sysctl:
    """`name` as it was written, with its path in the configuration; `key` in slash style, below /proc/sys."""

    name: str
    where: str
    key: str
    value: str


@record
class Config:
    sysctls: tuple[Sysctl, ...] = ()
    looks: Looks = Looks()
    folder: str = FOLDER


def configure(request: Request) -> Config:
    """Raises CniError 7. Of four places the later counts: the keys, CNI_ARGS, runtimeConfig, args.cni."""
    conf = request.conf
    keys.refuse_near_misses(conf, KEYS)
    args = conf.view("args").view("cni")
    both = (conf, args)
    looks = Looks(
        mac=_mac(request, args),
        promisc=_last_boolean("promisc", both) or None,  # false asks for nothing
        mtu=_last_integer("mtu", both) or None,
        allmulti=_last_boolean("allmulti", both),
        txqlen=_last_integer("txQLen", both),
    )
    return Config(tuple(_sysctls(request)), looks, conf.string("dataDir") or FOLDER)


def _mac(request: Request, args: View) -> str | None:
    places = (
        (request.conf.string("mac"), "mac"),
        (request.args.get("MAC", ""), "MAC in CNI_ARGS"),
        (request.conf.view("runtimeConfig").string("mac"), "runtimeConfig.mac"),
    )
    text, where = next((place for place in reversed(places) if place[0]), ("", ""))
    if args.has("mac"):
        text, where = args.string("mac"), args.where("mac")
    try:
        return unicast_mac(text) if text else None
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{where}: {error}") from None


def _last_boolean(key: str, views: tuple[View, ...]) -> bool | None:
    return [None, *(view.boolean(key) for view in views if view.has(key))][-1]


def _last_integer(key: str, views: tuple[View, ...]) -> int | None:
    return [None, *(view.integer(key, high=2**31 - 1) for view in views if view.has(key))][-1]


def _sysctls(request: Request) -> Iterator[Sysctl]:
    """Each once; those of args.cni instead of the configuration's."""
    document = View(objects(request.stdin))
    found: dict[str, Sysctl] = {}
    for view in (document.view("sysctl"), document.view("args").view("cni").view("sysctl")):
        here = [_sysctl(view, name, request.ifname) for name in view.document]
        keys_here = [sysctl.key for sysctl in here]
        repeated = [item.name for item in here if keys_here.count(item.key) > 1]
        if isinstance(view.document, Object):
            repeated += view.document.repeated
        if repeated:
            raise CniError(INVALID_CONFIG, f"{view.where(repeated[0])}: duplicated sysctl keys are not allowed")
        found |= {sysctl.key: sysctl for sysctl in here}
    return iter(found.values())


def _sysctl(view: View, name: str, ifname: str) -> Sysctl:
    value = view.string(name)
    key = _slashed(name).replace("IFNAME", ifname or "IFNAME", 1)
    folder, *parts = key.split("/")
    if folder != "net" or not parts or any(part in ("", ".", "..") for part in parts):
        raise CniError(
            INVALID_CONFIG, f"{view.where(name)}: invalid net sysctl key", "only those below net/ are the container's"
        )
    return Sysctl(name, view.where(name), key, value)


def _slashed(name: str) -> str:
    """sysctl(8): whichever of '.' and '/' comes first parts the words, and the other may be in one of them."""
    first = next((char for char in name if char in "./"), "/")
    return name.removeprefix("/") if first == "/" else name.translate({46: 47, 47: 46})


def _refuse_forbidden(sysctls: tuple[Sysctl, ...]) -> None:
    """What the host's administrator allows: a regular expression a line, found anywhere in the key as it was written.
    Without the file, everything."""
    text = read_file(ALLOWLIST) if sysctls else None
    if text is None:
        return
    import re  # only hosts with such a file pay for it

    try:
        allowed = [re.compile(line.strip()) for line in text.decode().splitlines() if line.strip()]
    except (re.error, UnicodeDecodeError) as error:
        raise CniError(INVALID_CONFIG, f"{ALLOWLIST}: not a regular expression a line: {error}") from None
    for sysctl in sysctls:
        if not any(pattern.search(sysctl.name) for pattern in allowed):
            lines = ", ".join(pattern.pattern for pattern in allowed) or "none"
            raise CniError(INVALID_CONFIG, f"{sysctl.where}: not allowed by {ALLOWLIST}", f"allowed are: {lines}")


# --- the verbs --------------------------------------------------------------------------------------------------------


def add(request: Request) -> Result:
    result = chained.previous(request)
    config = configure(request)
    _refuse_forbidden(config.sysctls)
    with sandbox(request.netns) as inside, new_plan() as plan:
        plan.do(*steps(request, config, inside, _look(request, config, inside)))
    fields = {name: value for name, value in config.looks.given.items() if name in ("mac", "mtu")}
    return chained.changed(request, result, **fields)


def _look(request: Request, config: Config, inside: Namespace) -> Backup:
    """How everything is that will be changed. Raises CniError for what is not there."""
    link = inside.link(request.ifname)
    if link is None and config.looks.given:
        raise CniError(PLUGIN_SPECIFIC, f"there is no interface {request.ifname} in {request.netns}")
    values = {}
    for sysctl in config.sysctls:
        try:
            found = read_sysctl(inside, sysctl.key)
        except PermissionError:
            continue  # it can only be written: there is nothing to give back
        if found is None:
            problem = f"{sysctl.where}: the kernel has no such key in {request.netns}"
            raise CniError(PLUGIN_SPECIFIC, problem, f"looked for /proc/sys/{sysctl.key}")
        values[sysctl.key] = found
    place = Place(request.netns, os.fstat(inside.fd).st_ino, link.index if link else 0)
    looks = config.looks.of(link) if link else Looks()
    return Backup(looks, tuple(values.items()), request.network, _owner(request), place)


def _owner(request: Request) -> Owner:
    return Owner(request.container_id, request.ifname)


def steps(request: Request, config: Config, inside: Namespace, now: Backup) -> list[Step]:
    """What ADD does: all is written down before anything is changed. Nothing, where there is nothing to change."""
    path = tuned.path_of(config.folder, _owner(request))
    found: list[Step] = []
    for sysctl in config.sysctls:
        step = SetSysctl(inside, sysctl.key, sysctl.value)
        before = dict(now.sysctls).get(sysctl.key)
        found.append(step if before is None else Swap(step, SetSysctl(inside, sysctl.key, before)))
    there = config.looks.setters(inside, request.ifname)
    back = now.looks.setters(inside, request.ifname)
    found += map(Swap, there, back)
    return [Keep(path, *tuned.merged(path, now)), *found] if found else []


def delete(request: Request) -> None:
    """By the file alone. What the kernel does not take back is told, but no reason to keep a container from going."""
    path = tuned.path_of(_folder(request), _owner(request))
    backup = tuned.load(path)
    if backup is None:
        tuned.forget(path)
        return
    if backup.owner is None or (backup.network, backup.owner) == (request.network, _owner(request)):
        netns = request.netns or (backup.place.netns if backup.place else "")
        for problem in tuned.release(path, backup, netns, request.ifname):
            warn(f"tuning: not given back: {problem}")


def _folder(request: Request) -> str:
    try:
        return request.conf.string("dataDir") or FOLDER
    except CniError:
        return FOLDER


def check(request: Request) -> None:
    """What later plugins of the list changed is in the result: hardware address and MTU count as that says."""
    result = chained.previous(request)
    config = configure(request)
    told = chained.interface(request, result)
    expected = config.looks.given
    if told is not None:
        later = {"mac": told.mac.lower(), "mtu": told.mtu}
        expected |= {name: value for name, value in later.items() if value and name in expected}
    with sandbox(request.netns) as inside:
        for sysctl in config.sysctls:
            _check_sysctl(inside, sysctl)
        link = inside.link(request.ifname)
        if link is None:
            raise CniError(PLUGIN_SPECIFIC, f"there is no interface {request.ifname} in {request.netns}")
        for name, value in expected.items():
            if getattr(link, name) != value:
                found = f"has {name} {getattr(link, name)}, not {value}"
                raise CniError(PLUGIN_SPECIFIC, f"{request.ifname} in {request.netns} {found}")


def _check_sysctl(inside: Namespace, sysctl: Sysctl) -> None:
    try:
        found = read_sysctl(inside, sysctl.key)
    except PermissionError:
        return  # it can only be written
    if found is None:
        raise CniError(PLUGIN_SPECIFIC, f"sysctl {sysctl.key} is there no more in {inside.path}")
    if found.split() != sysctl.value.split():
        raise CniError(PLUGIN_SPECIFIC, f"sysctl {sysctl.key} in {inside.path} is {found!r}, not {sysctl.value!r}")


def gc(request: Request) -> None:
    """What was kept for those who are no more; where their namespaces live, it is given back."""
    from cni_plugins.sdk import garbage

    valid = garbage.valid_attachments(request.conf)
    for path, backup in tuned.backups(_folder(request)):
        if backup.owner is None or backup.place is None or backup.network != request.network or backup.owner in valid:
            continue
        for problem in tuned.release(path, backup, backup.place.netns, backup.owner.ifname):
            warn(f"tuning: not given back to {backup.owner}: {problem}")


def status(request: Request) -> None:
    """The configuration makes sense, its sysctls are allowed, and what is changed can be written down."""
    config = configure(request)
    try:
        _refuse_forbidden(config.sysctls)
    except OSError as error:
        raise CniError(NOT_AVAILABLE, f"{ALLOWLIST} cannot be read: {error.strerror}") from None
    folder = config.folder
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder) or "."
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise CniError(NOT_AVAILABLE, f"dataDir {config.folder}: {folder} is not a directory that can be written to")


PLUGIN = Plugin("tuning", add=add, delete=delete, check=check, gc=gc, status=status)
