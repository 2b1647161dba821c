"""The plugins' own example lists, as configurations to call them with."""

from __future__ import annotations

import json
from typing import Any

from support.house import TOP


def example(name: str) -> dict[str, Any]:
    """The plugin's object in the first example list that has one, or as little as it could be called with."""
    for path in sorted((TOP / "configs").glob("*.conflist"), key=lambda path: (path.stem != name, path.stem)):
        for plugin in json.loads(path.read_text(encoding="utf-8"))["plugins"]:
            if name in (plugin["type"], plugin.get("ipam", {}).get("type")):
                return {**plugin, "type": name}
    return {"type": name}
