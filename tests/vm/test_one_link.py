"""ipvlan, vlan and dummy as programs: what holds for every plugin that gives a container one link. See support.single.

Here the host has an eth0 that containers' links of that name stand on, which kernels before 6.14 make a difficulty of.
"""

from __future__ import annotations

import pytest
from support.leftovers import FOLDERS
from support.single import Basics, site

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)


class TestOneLink(Basics):
    versions = (
        "0.3.1",
        "1.1.0",
    )  # the others are asked of macvlan and tap, by the same code; a program takes long here

    @pytest.fixture(params=["ipvlan", "vlan", "dummy"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)
