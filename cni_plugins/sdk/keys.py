"""Keys of a configuration that several plugins have, read once for all of them.

Every function raises CniError with the key's path: 7 for a value that is wrong, 2 for one that is not served.
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.mac import unicast_mac
from cni_plugins.spec.record import replace
from cni_plugins.spec.result import dns_from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_plugins.sdk.main import Request
    from cni_plugins.spec.config import View
    from cni_plugins.spec.result import Dns


def refuse_unserved(conf: View, harmless: Mapping[str, tuple[object, ...]]) -> None:
    """Refuse the keys of `harmless`, unless they have one of the values that ask for nothing."""
    for key, values in harmless.items():
        value = conf.get(key)
        # `in` alone would take false for 0.
        if value is not None and not any(type(value) is type(known) and value == known for known in values):
            raise CniError(UNSUPPORTED_FIELD, f"{conf.where(key)}: {dumps(value, indent=0)[:80]} is not supported")


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
