"""Conditions in the words of iptables mean in nftables what iptables-translate(8) says they mean."""

from __future__ import annotations

import pytest
from support.machine import Machine

from cni_plugins.sdk.conditions import condition
from cni_plugins.spec.config import View
from cni_plugins.spec.errors import CniError

WORDS = [
    "-s 10.0.0.0/8",
    "! -s 10.1.2.3/8",
    "-s 10.0.0.1",
    "! --source 10.0.0.0/8 --destination 192.0.2.1/32",
    "-i eth0",
    "! -i eth+",
    "-p tcp --sport 1024:",
    "-p udp --dport 53",
    "-p tcp -m tcp ! --dport :80",
    "-p tcp -m multiport --dports 80,443,8000:8010",
    "-p sctp -m multiport ! --sports 1,2",
    "-m iprange --src-range 10.0.0.1-10.0.0.9",
    "-m iprange ! --dst-range 10.0.0.1-10.0.0.9",
    "-m addrtype --src-type LOCAL",
    "-m addrtype ! --dst-type BROADCAST",
    "-m conntrack --ctstate NEW",
    "-m mark --mark 0x10",
    "-m mark ! --mark 0x10/0xf0",
]


def _ours(words: str, family: int = 4) -> str:
    return condition(View({"conditionsV4": words.split()}), "conditionsV4", family)


def _theirs(machine: Machine, words: str, program: str = "iptables-translate") -> str:
    said = machine.text(program, "-A", "X", *words.split(), "-j", "RETURN")
    return said.partition("filter X ")[2].partition(" counter return")[0]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.leaves("nft *")
def test_translated_conditions_are_the_same_rules(machine: Machine, words: str) -> None:
    script = "".join(
        f"add table ip {name}\nadd chain ip {name} X\nadd rule ip {name} X {match} return\n"
        for name, match in (("ours", _ours(words)), ("theirs", _theirs(machine, words)))
    )
    machine.run("nft", "-f", "-", input=script)
    rules = [machine.text("nft", "list", "chain", "ip", name, "X").split() for name in ("ours", "theirs")]
    found = [" ".join(words[words.index("X") + 2 :]) for words in rules]
    for protocol in ("tcp", "udp", "sctp"):  # `tcp sport` says the protocol and the port at once
        found = [rule.replace(f"meta l4proto {protocol} th ", f"{protocol} ") for rule in found]
        found = [rule.replace(f"ip protocol {protocol} {protocol} ", f"{protocol} ") for rule in found]
    assert found[0] == found[1]


def test_words_that_say_the_same_in_ipv6(machine: Machine) -> None:
    assert (
        _ours("! -s fd00::1/8", 6)
        == "ip6 saddr != fd00::/8"
        == _theirs(machine, "! -s fd00::/8", "ip6tables-translate")
    )
    assert _ours("-s fd00::1,fd00::2", 6) == "ip6 saddr { fd00::1, fd00::2 }"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("-m set --match-set x src", 2, "cannot translate '-m set'"),
        ("-j ACCEPT", 2, "cannot translate '-j ACCEPT'"),
        ("-s", 7, "-s ''"),
        ("-s host.example", 7, "-s 'host.example'"),
        ("-i a/b", 7, "-i 'a/b'"),
        ('-i x";accept', 7, "not the name of a link"),
        ("-p icmp", 7, "expected one of tcp, udp"),
        ("--dport 70000", 7, "ports go from 0 to 65535"),
        ("--ctstate OLD", 7, "old is none of new"),
        ("-m comment --comment hello", 7, "no condition is in"),
    ],
)
def test_what_cannot_be_said_is_told(words: str, code: int, told: str) -> None:
    with pytest.raises(CniError) as error:
        _ours(words)
    assert error.value.code == code and told in error.value.msg and "conditionsV4: " in error.value.msg
