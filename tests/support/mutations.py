"""Configurations that were right once: a valid document in which a few things are changed, taken away or put in.

What is drawn from nothing is refused at the first key. What differs from a good configuration in one place gets to the
code behind it, as the mistakes of people do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]

# Words that mean something somewhere, beside what has no meaning at all.
_WORDS = (
    *("", "0", "x", "eth0", "..", "a/b", "true", "nftables", "iptables", "tcp", "sctp", "icmp", "\0", "\ud800", "é"),
    *("10.1.0.1", "10.1.0.9", "10.1.0.0/28", "10.1.0.3/28", "10.1.0.0/33", "0.0.0.0/0", "10.9.0.0/16", "127.0.0.1"),
    *("fd00::/64", "fd00::1", "::/0", "::ffff:10.1.0.1", "02:00:00:00:00:09", "01:00:00:00:00:00", "1.0.0", "9.9.9"),
)
_NUMBERS = (0, 1, -1, 9, 80, 1500, 4095, 65535, 65536, 2**31, 2**32, 2**63, 2**64, 10**30, 0.5, -0.0, 1e300)
VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_WORDS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=2),
    max_leaves=4,
)


def _places(value: Any, here: Path = ()) -> Iterator[Path]:
    """Every place in a document, but the document itself."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*here, key)
        yield from _places(inner, (*here, key))


@st.composite
def mutations(
    draw: st.DrawFn, document: dict[str, Any], keys: Collection[str] = (), spare: Collection[str] = ()
) -> dict[str, Any]:
    """`document` with one to three changes. `keys` may be put in; a place with a key of `spare` on its way stays."""
    found = deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = [path for path in _places(found) if not set(path) & set(spare)]
        path = draw(st.sampled_from(places)) if places else ()
        holder: Any = found
        for key in path[:-1]:
            holder = holder[key]
        match draw(st.sampled_from(("change", "change", "remove", "add", "recase", "wrap"))):
            case "add" if keys:
                found[draw(st.sampled_from(sorted(keys)))] = draw(VALUES)
            case "remove" if path:
                del holder[path[-1]]
            case "recase" if path and isinstance(path[-1], str):
                holder[path[-1].swapcase()] = draw(VALUES)
            case "wrap" if path:
                holder[path[-1]] = [holder[path[-1]]]
            case _ if path:
                holder[path[-1]] = draw(VALUES)
    return found
