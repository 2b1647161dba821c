"""Conditions of a configuration, in the language of nftables or in that of iptables, as one match of nft(8).

The reference plugin gives them to the backend that carries its rules: `["ip saddr 10.0.0.0/8"]` to nft, words like
`["!", "-d", "192.0.2.0/24"]` to iptables. The first letter tells which of the two they are. Here nftables is what
carries the rules: its own words are taken as they stand, as long as they stay one match, and those of iptables are
translated, the common matches of iptables(8) and iptables-extensions(8). Others are refused by name.

The law of this file: text in, text out. It is imported where there are conditions alone.
"""

from __future__ import annotations

from cni_plugins.spec import names
from cni_plugins.spec.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from cni_plugins.spec.ip import parse_address, parse_cidr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.spec.config import View

_MODULES = ("addrtype", "comment", "conntrack", "iprange", "mark", "multiport", "sctp", "state", "tcp", "udp")
_STATES = ("new", "established", "related", "invalid", "untracked")
_TYPES = ("unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit")
_PROTOCOLS = ("tcp", "udp", "sctp", "all")
_HIGHEST_PORT = 65535


def condition(conf: View, key: str, family: int) -> str:
    """The match that the list of words under `key` spells; empty where there is none. Raises CniError 2 or 7."""
    words = conf.strings(key)
    if not words:
        return ""
    if words[0][:1] in ("-", "!"):
        return _translated(words, conf.where(key), family)
    text = " ".join(words)
    if not _one_match(text):
        raise conf.wrong(key, "one match as nft(8) writes it, without ; # or line breaks, and with its brackets closed")
    return text


def _one_match(text: str) -> bool:
    """Whether it stays within the rule that it is put into. What it means is for nft to say."""
    depth = 0
    for letter in text:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter in ";#\\\n\r\0'" or depth < 0:
            return False
    return not depth and not text.count('"') % 2 and bool(text.strip())


# --- from iptables ----------------------------------------------------------------------------------------------------


def _translated(words: list[str], where: str, family: int) -> str:
    found = []
    rest = iter(words)
    negated = ""
    for word in rest:
        if word == "!":
            negated = "!= "
            continue
        value = next(rest, "")
        meant = _match(word, value, negated, family, where)
        if meant:
            found.append(meant)
        negated = ""
    if not found:
        raise CniError(INVALID_CONFIG, f"{where}: no condition is in {' '.join(words)!r}")
    return " ".join(found)


def _match(option: str, value: str, negated: str, family: int, where: str) -> str:
    """One option and its value; empty for those that match everything."""
    if (option in ("-m", "--match") and value in _MODULES) or option == "--comment":
        return ""
    write = _OPTIONS.get(option)
    if write is None:
        said = f"{option} {value}".strip()
        hint = 'say it as nft does, for instance "ip saddr 10.0.0.0/8" or "tcp dport != 22"'
        raise CniError(UNSUPPORTED_FIELD, f"{where}: cannot translate {said!r} for nftables", hint)
    try:
        return write(value, negated, "ip" if family == 4 else "ip6")
    except (ValueError, CniError) as error:
        raise CniError(INVALID_CONFIG, f"{where}: {option} {value!r}: {error}") from None


def _set(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{{ {', '.join(items)} }}"


def _addresses(side: str) -> Callable[[str, str, str], str]:
    def write(value: str, negated: str, family: str) -> str:
        return f"{family} {side} {negated}{_set([_address(item, family) for item in value.split(',')])}"

    return write


def _address(text: str, family: str) -> str:
    found = parse_cidr(text).network if "/" in text else parse_address(text)
    if found.family != (4 if family == "ip" else 6):
        raise ValueError(f"{text} is of the other family")
    return str(found)


def _range(side: str) -> Callable[[str, str, str], str]:
    def write(value: str, negated: str, family: str) -> str:
        return f"{family} {side} {negated}{'-'.join(_address(item, family) for item in value.split('-'))}"

    return write


def _link(value: str, negated: str, _family: str) -> str:
    name = names.ifname(value.removesuffix("+") or "x")
    if '"' in name or "*" in name or "\\" in name:
        raise ValueError("not the name of a link")
    return f'iifname {negated}"{value.removesuffix("+")}{"*" if value.endswith("+") else ""}"'


def _protocol(value: str, negated: str, _family: str) -> str:
    word = value.lower()
    if word not in _PROTOCOLS:
        raise ValueError(f"expected one of {', '.join(_PROTOCOLS)}")
    return "" if word == "all" else f"meta l4proto {negated}{word}"


def _ports(side: str) -> Callable[[str, str, str], str]:
    def write(value: str, negated: str, _family: str) -> str:
        return f"th {side} {negated}{_set([_port(item) for item in value.split(',')])}"

    return write


def _port(text: str) -> str:
    low, colon, high = text.partition(":")
    ends = [int(low or 0), int(high or _HIGHEST_PORT)] if colon else [int(low)]
    if not all(0 <= end <= _HIGHEST_PORT for end in ends):
        raise ValueError(f"ports go from 0 to {_HIGHEST_PORT}")
    return "-".join(map(str, ends))


def _type(side: str) -> Callable[[str, str, str], str]:
    def write(value: str, negated: str, _family: str) -> str:
        return f"fib {side} type {negated}{_set(_known(value, _TYPES))}"

    return write


def _state(value: str, negated: str, _family: str) -> str:
    return f"ct state {negated}{_set(_known(value, _STATES))}"


def _known(value: str, words: tuple[str, ...]) -> list[str]:
    found = value.lower().split(",")
    unknown = next((word for word in found if word not in words), "")
    if unknown:
        raise ValueError(f"{unknown} is none of {', '.join(words)}")
    return found


def _mark(value: str, negated: str, _family: str) -> str:
    wanted, slash, mask = value.partition("/")
    relation = negated or "== "
    return (
        f"meta mark & {int(mask, 0):#x} {relation}{int(wanted, 0):#x}"
        if slash
        else f"meta mark {relation}{int(wanted, 0):#x}"
    )


_OPTIONS: dict[str, Callable[[str, str, str], str]] = {
    **dict.fromkeys(("-s", "--source", "--src"), _addresses("saddr")),
    **dict.fromkeys(("-d", "--destination", "--dst"), _addresses("daddr")),
    **dict.fromkeys(("-i", "--in-interface"), _link),
    **dict.fromkeys(("-p", "--protocol"), _protocol),
    **dict.fromkeys(("--sport", "--source-port", "--sports", "--source-ports"), _ports("sport")),
    **dict.fromkeys(("--dport", "--destination-port", "--dports", "--destination-ports"), _ports("dport")),
    "--src-range": _range("saddr"),
    "--dst-range": _range("daddr"),
    "--src-type": _type("saddr"),
    "--dst-type": _type("daddr"),
    **dict.fromkeys(("--ctstate", "--state"), _state),
    "--mark": _mark,
}
