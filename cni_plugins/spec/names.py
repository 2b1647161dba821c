"""What the contract allows as identifiers (SPEC.md, "Parameters"; the exact rules are those of the Go libraries), and
the words of the wire that both halves say.

Each function returns the name or raises CniError with the code that the reference libraries answer.
"""

from __future__ import annotations

from cni_plugins.spec.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ALNUM = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_INNER = _ALNUM | frozenset("_.-")
MAX_IFNAME = 15  # IFNAMSIZ less its NUL, in bytes

VALID_ATTACHMENTS = "cni.dev/valid-attachments"
EARLY_ATTACHMENTS = "cni.dev/attachments"  # the same in early texts of 1.1.0; libcni sends both
STEPS_FD = "CNI_STEPS_FD"  # our own: names the socket on which a plugin tells of its steps (sdk/narration)
REFUSED = b"n"  # the answer to a step there that is not to be taken
LENT_SOCKET = "CNI_NFNL_FD"  # our own: names the nftables socket that a runtime leaves to its plugins

# The variables by which a plugin is called; the last is the skeleton's of the reference plugins (pkg/skel).
PARAMETERS = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE")
OURS = (STEPS_FD, LENT_SOCKET)


def parameters(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is the contract's, and may be told: whatever else is called CNI_… is somebody's own."""
    return {key: text for key, text in env.items() if key in PARAMETERS}


def inherited(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment is neither the contract's nor our own way of lending something."""
    return {key: text for key, text in env.items() if key not in PARAMETERS and key not in OURS}


def _plain(name: str) -> bool:
    """`^[a-zA-Z0-9][a-zA-Z0-9_.\\-]*$`"""
    return name[:1] in _ALNUM and _INNER.issuperset(name) if name else False


def container_id(name: str) -> str:
    if not _plain(name):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"invalid container ID {name!r}",
            "expected a letter or digit, then letters, digits, '_', '.' or '-'",
        )
    return name


def network(name: str) -> str:
    if not _plain(name):
        raise CniError(
            INVALID_CONFIG,
            f"invalid network name {name!r}" if name else "missing network name",
            "expected a letter or digit, then letters, digits, '_', '.' or '-'",
        )
    return name


def ifname(name: str) -> str:
    if not name:
        problem = "it is empty"
    elif len(name.encode(errors="surrogateescape")) > MAX_IFNAME:  # an environment's bytes may be no UTF-8
        problem = f"it is longer than {MAX_IFNAME} bytes"
    elif name in (".", ".."):
        problem = "'.' and '..' are not names"
    elif any(char in "/:" or char.isspace() for char in name):
        problem = "it holds '/', ':' or white space"
    elif "%" in name:  # the libraries let it pass, and the kernel would make a link of another name
        problem = "it holds '%', which the kernel takes for the place of a number"
    else:
        return name
    raise CniError(INVALID_ENVIRONMENT, f"invalid interface name {name!r}", problem)


def plugin_type(name: str) -> str:
    """A file name without separators: CVE-2021-20206 was a `type` with `../` in it."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise CniError(INVALID_CONFIG, f"invalid plugin type {name!r}", "expected the file name of a plugin")
    return name


_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/:@+,=")


def quoted(word: str) -> str:
    """`word` as a POSIX shell takes it for one word."""
    return word if word and _PLAIN.issuperset(word) else "'" + word.replace("'", "'\\''") + "'"


def unquoted(text: str, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Each character of `text`, and whether a single quote is open behind it, as a shell reads it. Outside of quotes a
    backslash takes the next character for what it is: both come as nothing. `inside` is how the text begins."""
    escaped = False
    for char in text:
        if escaped or (char == "\\" and not inside):
            escaped = not escaped
            yield "", inside
        else:
            inside ^= char == "'"
            yield char, inside


def unfinished(text: str) -> bool:
    """Whether a single quote is open at the end of `text`."""
    if "\\" not in text:
        return text.count("'") % 2 == 1
    *_, (_, inside) = unquoted(text)
    return inside
