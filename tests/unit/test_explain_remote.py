"""The fifo by which the one who asked for a container's end is told of it."""

from __future__ import annotations

import os
from pathlib import Path

from cni_plugins.spec.jsontext import dumps
from minirt.explain import remote
from minirt.explain.account import Item


def test_what_was_told_is_shown_while_its_teller_is_still_there(tmp_path: Path) -> None:
    path = str(tmp_path / "tell")
    request = remote.Request(path)
    writer = os.open(path, os.O_WRONLY)
    items = [Item("command", "bridge", "ip link del x", 1, why="gone"), Item("answer", "bridge", "done", to="runtime")]
    os.write(writer, "".join(f"{dumps(item.to_json(), indent=0)}\n" for item in items).encode() + b'{"kind": "comm')
    shown: list[Item] = []
    assert request.show(shown.append)
    assert shown == items  # what is cut off is left out
    os.close(writer)
    request.close()
    assert not os.path.exists(path)
