"""Which firewall a host runs, found out without starting a program where there is nothing to find.

    firewalld   it is installed, and on the bus: whatever else is written would be refused by its rules
    iptables    its FORWARD chain holds rules or drops by default (docker, ufw, a hand-made script)
    nftables    else: nothing has to be let through, and a table of our own does the rest

A chain of another nftables table may drop as well. No rule of ours could let anything through it, for in nftables the
last word is a drop, and its owner knows best where to put one: STATUS names such chains.

Source: linux/netfilter/nf_tables.h; iptables' legacy form tells of its tables in /proc/net/ip_tables_names.
"""

from __future__ import annotations

from errno import ENOENT

from cni_plugins.sdk import program
from cni_plugins.sdk.netlink import NLM_F_ACK, Message, NetlinkError, attributes, string, text
from cni_plugins.sdk.nfnl import GENERIC, NFNL_SUBSYS_NFTABLES
from cni_plugins.sdk.records import read_file
from cni_plugins.sdk.walls import FIREWALLD, IPTABLES, NFTABLES
from cni_plugins.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.sdk.nfnl import Nftables

# Taken from the Linux kernel headers: linux/netfilter/nf_tables.h and linux/netfilter.h.
NFT_MSG_GETCHAIN = NFNL_SUBSYS_NFTABLES << 8 | 4
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY, NFTA_CHAIN_USE = 1, 3, 4, 5, 6
NFTA_HOOK_HOOKNUM = 1
NF_INET_FORWARD = 2
NF_DROP = 0
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}  # NFPROTO_*


@record
class Chain:
    """`rules` counts them; `drops` says that what no rule accepts is dropped."""

    family: str
    table: str
    name: str
    forwards: bool
    drops: bool
    rules: int

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


def choose(nftables: Nftables) -> str:
    """The backend that serves this host."""
    if program.present("firewalld"):
        from cni_plugins.sdk import firewalld

        if firewalld.running():
            return FIREWALLD
    return IPTABLES if iptables_rules(nftables) and _has_iptables() else NFTABLES


def _has_iptables() -> bool:
    return bool(program.present("iptables") and program.present("ip6tables"))


def iptables_rules(nftables: Nftables) -> bool:
    """Whether FORWARD of iptables or ip6tables does anything; in the legacy form, whether there is such a table.

    A kernel without nftables can have nothing but the legacy form.
    """
    if any("filter" in (read_file(f"/proc/net/{kind}_tables_names") or b"").decode().split() for kind in ("ip", "ip6")):
        return True
    names = text(NFTA_CHAIN_TABLE, "filter") + text(NFTA_CHAIN_NAME, "FORWARD")
    asked = [Message(NFT_MSG_GETCHAIN, NLM_F_ACK, GENERIC.pack(family, 0, 0) + names) for family in (2, 10)]
    try:
        answers = nftables.netlink.talk(asked)
    except OSError:
        return True
    refusals = [answer.errno for answer in answers if isinstance(answer, NetlinkError)]
    found = [_chain(answer[0]) for answer in answers if not isinstance(answer, NetlinkError)]
    return any(number != ENOENT for number in refusals) or any(chain.drops or chain.rules for chain in found)


def closed_chains(nftables: Nftables) -> list[Chain]:
    """The chains that drop what is forwarded, unless it is accepted in them. Reads all chains. Raises NetlinkError."""
    listed = nftables.netlink.dump(Message(NFT_MSG_GETCHAIN, 0, GENERIC.pack(0, 0, 0)))
    return [chain for chain in map(_chain, listed) if chain.forwards and chain.drops and chain.family]


def _chain(message: Message) -> Chain:
    found = attributes(message.body, GENERIC.size)
    hook = attributes(found.get(NFTA_CHAIN_HOOK, b""))
    number = int.from_bytes(hook.get(NFTA_HOOK_HOOKNUM, b"\xff"), "big")
    policy = int.from_bytes(found.get(NFTA_CHAIN_POLICY, b"\x01"), "big")
    return Chain(
        FAMILIES.get(message.body[0], ""),
        string(found.get(NFTA_CHAIN_TABLE)),
        string(found.get(NFTA_CHAIN_NAME)),
        number == NF_INET_FORWARD,
        policy == NF_DROP,
        int.from_bytes(found.get(NFTA_CHAIN_USE, b""), "big"),
    )
