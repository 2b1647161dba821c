"""macvlan and tap as programs: what holds for every plugin that gives a container one link. See support.single."""

from __future__ import annotations

import pytest
from support.leftovers import FOLDERS
from support.single import Laws, site

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)


class TestOneLink(Laws):
    @pytest.fixture(params=["macvlan", "tap"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)
