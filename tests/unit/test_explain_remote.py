"""The fifo by which the one who asked for a container's end is told of it."""

from __future__ import annotations

import os
from pathlib import Path

from minirt.explain import remote


def test_what_was_told_is_shown_while_its_teller_is_still_there(tmp_path: Path) -> None:
    path = str(tmp_path / "tell")
    request = remote.Request(path)
    writer = os.open(path, os.O_WRONLY)
    os.write(writer, b"{}\n")
    assert request.show(lambda _item: None)
    os.close(writer)
    request.close()
    assert not os.path.exists(path)
