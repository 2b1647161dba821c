"""The mark of packets that are going to be masqueraded: a bit of it, or what a chain of iptables would make of it.

Kubernetes has a chain that marks (KUBE-MARK-MASQ) and masquerades what is marked. A chain of iptables cannot be called
from a table of our own, but what it does to the mark can be read, once an ADD, and be done here as well: the packet
goes on with the mark to whoever waits for it.

The law of this file: it asks the iptables program, and changes nothing.
"""

from __future__ import annotations

from cni_plugins.sdk import program
from cni_plugins.spec.errors import NOT_AVAILABLE, UNSUPPORTED_FIELD, CniError

ALL = 0xFFFFFFFF
NONE = (ALL, 0)  # no change
_PROGRAMS = {4: "iptables", 6: "ip6tables"}


def change(bit: int, chain: str, family: int) -> tuple[int, int]:
    """How a mark is changed, as (keep, flip): it becomes `mark & keep ^ flip`. `bit` is -1, `chain` empty where none is
    asked for. Raises CniError where the chain is missing or does something else."""
    if chain:
        return _of_chain(chain, family)
    return (ALL & ~(1 << bit), 1 << bit) if bit >= 0 else NONE


def _of_chain(chain: str, family: int) -> tuple[int, int]:
    name = _PROGRAMS[family]
    said = program.run(program.find(name, "iptables"), "-w", "-t", "nat", "-S", chain)
    if said.exit:
        hint = "whoever makes the chain has to come first; leave the key out, and packets are masqueraded here"
        raise CniError(NOT_AVAILABLE, f"externalSetMarkChain: {name} has no chain {chain} in table nat", hint)
    keep, flip = NONE
    for line in said.text.splitlines():
        if line.startswith("-A "):
            mask, value = _of_rule(line, chain)
            keep, flip = keep & mask, flip & mask ^ value
    return keep, flip


def _of_rule(line: str, chain: str) -> tuple[int, int]:
    words = line.split()
    if len(words) == 6 and words[2:5] == ["-j", "MARK", "--set-xmark"]:
        value, _slash, mask = words[5].partition("/")
        return ALL & ~int(mask or "0xffffffff", 16), int(value, 16)
    hint = "a chain of rules like -j MARK --set-xmark 0x4000/0x4000 is what can be served"
    raise CniError(UNSUPPORTED_FIELD, f"externalSetMarkChain: a rule of {chain} does more than mark: {line}", hint)
