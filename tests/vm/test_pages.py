"""The pages of those plugins whose links the host's kernel lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import pages
from support.command import Command


@pytest.mark.parametrize("page", pages.pages(second_kernel=True), ids=lambda page: page.stem)
def test_the_example_of_a_page_does_what_is_shown_there(minirt: Command, page: Path) -> None:
    pages.run(minirt, page)
