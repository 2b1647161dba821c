"""Keys of a configuration that several plugins have, read once for all of them.

Every function raises CniError with the key's path: 7 for a value that is wrong, 2 for one that is not served.
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.mac import unicast_mac
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import dns_from_json, route_from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Dns, Route

# The keys that any plugin may be given.
EVERYBODYS = ("cniVersion", "name", "type", "args", "capabilities", "ipam", "dns", "prevResult", "runtimeConfig")
_DNS = ("nameservers", "domain", "search", "options")
_ROUTE = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
_ELSEWHERE = {"gateway": "gw", "metric": "priority"}  # what a route's keys are called by others
_SHORTEST = 4  # shorter words are a letter away from too many others


def refuse_unserved(conf: View, harmless: Mapping[str, tuple[object, ...]]) -> None:
    """Refuse the keys of `harmless`, unless they have one of the values that ask for nothing."""
    for key, values in harmless.items():
        value = conf.get(key)
        # `in` alone would take false for 0.
        if value is not None and not any(type(value) is type(known) and value == known for known in values):
            raise CniError(UNSUPPORTED_FIELD, f"{conf.where(key)}: {dumps(value, indent=0)[:80]} is not supported")


def refuse_near_misses(conf: View, known: Iterable[str]) -> None:
    """Refuse a key that is nobody's, but a slip of the pen away from one of `known` or from one that every plugin has.

    Keys that nobody knows are legal (P4): other people's tools put theirs beside ours. A misspelt one would be left
    out of account in silence, and its author would look for the fault elsewhere. So would he of wishes that are no
    object, in a plugin that takes none.
    """
    conf.view("runtimeConfig")
    refuse_slips(conf, (*EVERYBODYS, *known))
    refuse_slips(conf.view("dns"), _DNS)


def refuse_slips(view: View, known: Iterable[str]) -> None:
    """The same for an object that has the keys of `known`, and none of everybody's."""
    words = {key.casefold(): key for key in known}
    for key in view.document:
        word = key.casefold()
        near = "" if word in words else next((words[other] for other in words if _near(word, other)), "")
        if near:
            raise CniError(INVALID_CONFIG, f"{view.where(key)}: unknown key", f"did you mean {near}?")


def _near(word: str, meant: str) -> bool:
    return (len(word) >= _SHORTEST or (len(word), len(meant)) == (3, 4)) and _slip(word, meant)


def _slip(word: str, meant: str) -> bool:
    """Whether they differ in one letter (another, one more, one less), in two that changed places, or in _ and -."""
    word, meant = (text.replace("_", "").replace("-", "") for text in (word, meant))
    while word and word[:1] == meant[:1]:
        word, meant = word[1:], meant[1:]
    while word and word[-1:] == meant[-1:]:
        word, meant = word[:-1], meant[:-1]
    return (len(word) <= 1 and len(meant) <= 1) or (len(word) == 2 and word == meant[::-1])


def routes(conf: View) -> tuple[Route, ...]:
    """The key `routes`, whose objects may have slips of the pen, too, or the words that others have for the keys."""
    found = []
    for view in conf.views("routes"):
        refuse_slips(view, _ROUTE)
        for key, meant in _ELSEWHERE.items():
            if view.has(key):
                raise CniError(INVALID_CONFIG, f"{view.where(key)}: unknown key", f"did you mean {meant}?")
        found.append(route_from_json(view))
    return tuple(found)


def link_name(conf: View, key: str, default: str = "") -> str:
    """A link's name; empty only where `default` is."""
    name = conf.string(key) or default
    try:
        return names.ifname(name) if name else ""
    except CniError as error:
        raise CniError(INVALID_CONFIG, f"{conf.where(key)}: {error.msg}", error.details) from None


def requested_mac(request: Request) -> str:
    """The hardware address asked for, or empty; the strongest of the three places counts (CONVENTIONS.md)."""
    for where, text in (
        ("runtimeConfig.mac", request.conf.view("runtimeConfig").string("mac")),
        ("args.cni.mac", request.conf.view("args").view("cni").string("mac")),
        ("MAC in CNI_ARGS", request.args.get("MAC", "")),
    ):
        try:
            if text:
                return unicast_mac(text)
        except ValueError as error:
            raise CniError(INVALID_CONFIG, f"{where}: {error}") from None
    return ""


def own_mac(conf: View) -> str:
    """The key `mac`, weakest of the places where an address is asked for: see `requested_mac`."""
    try:
        return unicast_mac(conf.string("mac")) if conf.string("mac") else ""
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"{conf.where('mac')}: {error}") from None


def one_of(conf: View, key: str, words: Iterable[str], default: str) -> str:
    """A word out of several."""
    word = conf.string(key) or default
    if word not in words:
        raise conf.wrong(key, f"one of {', '.join(words)}")
    return word


def own_dns(conf: View) -> Dns | None:
    """The configuration's `dns`, which counts instead of IPAM's when any of its fields is there, be it empty.

    Field by field, what the runtime asks for goes before it: the capability `dns` (CONVENTIONS.md), which upstream's
    plugins honour on Windows only.
    """
    asked, view = conf.view("runtimeConfig").view("dns"), conf.view("dns")
    given = any(view.has(key) for key in ("nameservers", "domain", "search", "options"))
    names_of = {"nameservers": "servers", "search": "searches", "options": "options"}
    wishes = {field: tuple(words) for field, key in names_of.items() if (words := asked.strings(key))}
    return replace(dns_from_json(view), **wishes) if given or wishes else None


def masquerade(conf: View) -> bool:
    """`ipMasq`, by the backend that there is."""
    backend = conf.string("ipMasqBackend")
    if backend == "iptables":
        raise CniError(
            UNSUPPORTED_FIELD,
            f'{conf.where("ipMasqBackend")}: "iptables" is not supported',
            'masquerade is an nftables element a subnet here; leave the key out, or say "nftables"',
        )
    if backend not in ("", "nftables"):
        raise conf.wrong("ipMasqBackend", '"nftables"')
    return conf.boolean("ipMasq")
