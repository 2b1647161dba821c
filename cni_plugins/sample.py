"""A template for a plugin of your own: small, but it works. Copy it, and put your policy in the place of this one.

It is chained behind a plugin that makes an interface, and gives that interface an MTU, because (say) the network below
is a tunnel that takes something off each packet:

    {"type": "sample", "mtu": 1400}

What you need not care for, because `sdk.main` has done it before a handler is called: the environment (all that is
missing is named at once), standard input, JSON, names, versions, the guard against the host's own namespace, prevResult
in whatever version it was written; and after it: the result in the version asked for, error objects and exit codes.

To be a program, a plugin needs its line in `sdk.launcher.NAMES`; `minirt plugin install` writes the program then. This
one has none: a template is not installed.

The order in which you will want to write: `configure`, `steps`, `add`, then `check`, and `delete` with care.
Source: SPEC.md 1.1.0, "Section 2: Execution Protocol", and CONVENTIONS.md for names of keys that others use too.
"""

from __future__ import annotations

# These are imported on the way of every container's start: nothing dear (json, re, socket, subprocess, typing, …).
from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.main import Plugin, new_plan
from cni_plugins.sdk.netns import sandbox
from cni_plugins.spec.errors import INVALID_CONFIG, PLUGIN_SPECIFIC, CniError
from cni_plugins.spec.record import record, replace

TYPE_CHECKING = False  # types cost nothing at run time: mypy takes this for true, the interpreter does not
if TYPE_CHECKING:
    from cni_plugins.sdk.main import Request
    from cni_plugins.sdk.netns import Namespace
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step

CHANGED = PLUGIN_SPECIFIC  # codes from 100 on are the plugin's own: say here what each means

_LOWEST, _HIGHEST = 68, 65535  # RFC 791: every link takes 68 bytes; and no IPv4 packet is longer


@record
class Config:
    """The plugin's own keys, checked. One record, so that nobody reads the configuration anywhere else."""

    mtu: int


def configure(conf: View) -> Config:
    """Raises CniError 7, which names the key's path, what it was and what was expected: `View` sees to that.

    Keys that are not ours are left alone: the runtime, and other people's tools, put theirs beside them.
    """
    if not conf.has("mtu"):
        raise CniError(INVALID_CONFIG, "mtu is missing", f"an integer from {_LOWEST} to {_HIGHEST}")
    return Config(conf.integer("mtu", low=_LOWEST, high=_HIGHEST))


def steps(namespace: Namespace, ifname: str, config: Config) -> list[Step]:
    """What ADD does, as data: tests compare it without root, and each step says the command that a person would type.

    A step of your own is a frozen `@record` with describe(), apply() and, where something can be taken back,
    opposite(): the step that does so, which SetLink has not, for an MTU goes with its link.
    """
    return [SetLink(namespace, ifname, mtu=config.mtu)]


def add(request: Request) -> Result:
    """Read everything before touching anything; then the steps, which a Plan takes back when one of them fails."""
    result = _previous(request)
    config = configure(request.conf)
    with sandbox(request.netns) as namespace, new_plan() as plan:
        plan.do(*steps(namespace, request.ifname, config))
    return _with_mtu(result, request, config.mtu)


def delete(request: Request) -> None:
    """Nothing: what we set goes with the interface, which is its maker's to remove.

    A plugin that leaves something on the host removes it here, and bears that it is gone: also without CNI_NETNS
    (`netns.sandbox_left`), without prevResult, with a configuration that ADD would refuse, and twice. So it does not
    call `configure`, but goes by what it wrote down on ADD (`records.AttachmentRecords`).
    """


def check(request: Request) -> None:
    """Is what ADD made still there? Only our own: what later plugins changed is theirs, and stands in prevResult."""
    said = [found.mtu for found in _previous(request).interfaces if _ours(found.sandbox, found.name, request)]
    expected = max(said, default=0) or configure(request.conf).mtu  # before 1.1.0 a result has no MTU
    with sandbox(request.netns) as namespace:
        link = namespace.rtnl.link(request.ifname)
    if link is None:
        raise CniError(CHANGED, f"there is no link {request.ifname} in {request.netns}")
    if link.mtu != expected:
        raise CniError(CHANGED, f"{request.ifname} in {request.netns} has the MTU {link.mtu}, not {expected}")


def status(request: Request) -> None:
    """Could ADD be served? Code 50 (NOT_AVAILABLE) for what is missing; here only the configuration can be wrong."""
    configure(request.conf)


def _previous(request: Request) -> Result:
    if request.prev_result is None:
        raise CniError(INVALID_CONFIG, "prevResult is missing", "put sample behind the plugin that makes the interface")
    return request.prev_result


def _with_mtu(result: Result, request: Request, mtu: int) -> Result:
    """The result of the plugins before, with what we changed. Results are frozen; `replace` makes another."""
    changed = tuple(
        replace(found, mtu=mtu) if _ours(found.sandbox, found.name, request) else found for found in result.interfaces
    )
    return replace(result, interfaces=changed)


def _ours(netns: str, name: str, request: Request) -> bool:
    return (netns, name) == (request.netns, request.ifname)


# gc is left out: there is nothing of ours on the host that could be left behind. A plugin that passes its configuration
# to an IPAM plugin has `ipam.delegate` in delete, check, gc and status, and `ipam.Lease` as the first step of add.
PLUGIN = Plugin("sample", add=add, delete=delete, check=check, status=status, about="CNI sample plugin: an MTU")
