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
            return _behind_the_verb(argv[index:])
    return []


def _behind_the_verb(argv: list[str]) -> list[str]:
    """`minirt cni --explain add …` is `minirt cni add --explain …`."""
    if argv[0] != "cni":
        return argv
    end = 1
    while argv[end:] and argv[end].startswith(("--explain", "--step")):
        end += 1
    return [argv[0], *argv[end : end + 1], *argv[1:end], *argv[end + 1 :]]
