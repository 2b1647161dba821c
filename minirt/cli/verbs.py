"""Which verbs there are, where each is defined, and its line in the help. Imports none of them."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.verb import Verb

# words -> (module, summary); the module holds the verb under its last word's name in capitals.
TABLE = {
    ("run",): ("minirt.cli.run", "Run a command in a new container"),
    ("start",): ("minirt.cli.lifecycle", "Start containers that have stopped"),
    ("stop",): ("minirt.cli.lifecycle", "Stop containers: SIGTERM, and SIGKILL after a while"),
    ("kill",): ("minirt.cli.lifecycle", "Send a signal to containers"),
    ("wait",): ("minirt.cli.lifecycle", "Wait until containers stop, print their exit codes"),
    ("rm",): ("minirt.cli.lifecycle", "Remove containers"),
    ("exec",): ("minirt.cli.execute", "Run a command in a running container"),
    ("ps",): ("minirt.cli.look", "List containers"),
    ("logs",): ("minirt.cli.look", "Print what a container has written"),
    ("inspect",): ("minirt.cli.look", "Print all that is known of containers, as JSON"),
    ("serve",): ("minirt.cli.serve", "Show what there is, and what is done, in a browser"),
    ("lesson",): ("minirt.cli.lesson", "Learn how a container gets its network, in ten lessons"),
    ("network", "ls"): ("minirt.cli.network", "List networks, and who is attached"),
    ("network", "inspect"): ("minirt.cli.network", "Print all that is known of networks, as JSON"),
    ("network", "graph"): ("minirt.cli.picture", "Draw networks: as text, mermaid, dot or SVG"),
    ("network", "path"): ("minirt.cli.picture", "Walk a packet: routes, bridge ports, rules that match it"),
    ("network", "create"): ("minirt.cli.network", "Make a network"),
    ("network", "rm"): ("minirt.cli.network", "Remove networks"),
    ("network", "reload"): ("minirt.cli.network", "Restore what a flush of the firewall took from containers"),
    ("network", "prune"): ("minirt.cli.network", "Remove created networks that nobody uses"),
    ("cni", "add"): ("minirt.cli.cni", "Attach a network namespace to a network"),
    ("cni", "del"): ("minirt.cli.cni", "Detach it"),
    ("cni", "check"): ("minirt.cli.cni", "Ask whether it is still attached as it was"),
    ("cni", "gc"): ("minirt.cli.cni", "Remove what is left of attachments that are not alive"),
    ("cni", "status"): ("minirt.cli.cni", "Ask whether a network could take another attachment"),
    ("cni", "version"): ("minirt.cli.cni", "Show plugins, the versions they speak, and where they lie"),
    ("cni", "exec"): ("minirt.cli.cni_exec", "Call one plugin by hand"),
    ("cni", "trace"): ("minirt.cli.trace", "Show recorded calls of plugins: tree, JSON, mermaid, SVG"),
    ("cni", "replay"): ("minirt.cli.trace", "Run recorded calls again, and show what differs"),
    ("dhcp", "daemon"): ("minirt.cli.dhcp", "Get DHCP leases for containers, and keep them"),
    ("plugin", "install"): ("minirt.cli.plugin", "Write the bundled plugins' programs into a folder"),
}

# What minirt starts itself with; not in the help.
HIDDEN = {("supervise",): ("minirt.cli.supervise", "")}

GROUPS = {
    ("cni",): "Put CNI plugins to work on any network namespace, as cnitool does",
    ("dhcp",): "Serve networks whose addresses a DHCP server gives",
    ("network",): "Look after the networks that containers can join",
    ("plugin",): "Look after the bundled CNI plugins",
}


def children(prefix: tuple[str, ...]) -> dict[str, str]:
    """The words that may follow `prefix`, with their summaries."""
    depth = len(prefix)
    found = {words: summary for words, (_, summary) in TABLE.items()} | GROUPS
    return {
        words[depth]: summary for words, summary in found.items() if len(words) == depth + 1 and words[:depth] == prefix
    }


def load(words: tuple[str, ...]) -> Verb:
    """The verb of `words`, importing the one module that holds it."""
    module = (TABLE | HIDDEN)[words][0]
    __import__(module)
    verb: Verb = getattr(sys.modules[module], words[-1].upper())
    return verb


def split(argv: list[str]) -> tuple[Verb, list[str]] | None:
    """The verb that `argv` begins with, and the words after it; None when there is none."""
    for length in (1, 2):
        words = tuple(argv[:length])
        if words in TABLE or words in HIDDEN:
            return load(words), argv[length:]
    return None
