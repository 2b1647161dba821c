"""Keys that stand twice in a JSON object, for those who must refuse them.

The last one counts (`jsontext`), as in Go; where two of them are a contradiction, the author should hear of it.
"""

from __future__ import annotations

from _json import make_scanner

from cni_plugins.spec.jsontext import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Object(dict[str, "Any"]):
    """A JSON object that remembers which of its keys stood in the text more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _value in pairs]
        self.repeated = [name for name in self if names.count(name) > 1]


class _Rules(Rules):
    object_pairs_hook = Object


_scan = make_scanner(_Rules)  # type: ignore[arg-type]  # typeshed says it takes its own kind


def objects(source: bytes) -> Object:
    """The object that `source` spells, all objects inside it of that kind. `source` has been read as JSON before."""
    text = source.decode().removeprefix("\ufeff")
    value: Object = _scan(text, text.index("{"))[0]
    return value
