"""The switches that stand before the verb, and where things lie; read once, asked for anywhere in the command line."""

from __future__ import annotations

debug = False
plain_exec = False


def take(argv: list[str]) -> list[str]:
    """Set the switches that `argv` begins with; returns what follows them."""
    global debug, plain_exec
    for index, word in enumerate(argv):
        if word == "--debug":
            debug = True
        elif word == "--plain-exec":
            plain_exec = True
        else:
            return argv[index:]
    return []
