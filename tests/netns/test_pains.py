"""What users of the reference plugins suffer from, each asked of both sides: none of it happens here."""

from __future__ import annotations

import os

import pytest
from support.leftovers import SHARED
from support.plugins import Plugins
from support.sides import reference_fails
from support.site import IPV4, LEASES, Site

pytestmark = pytest.mark.leaves(*SHARED)


@pytest.fixture
def site(side: Plugins) -> Site:
    return Site(side.machine, side)


@reference_fails("refuses the path and keeps the link and the address", "p#685")
def test_a_namespace_whose_file_the_unmount_left_behind_is_gone_for_del(site: Site) -> None:
    conf = site.conf(IPV4)
    path = site.box()
    site.add(conf)
    site.machine.run("umount", path)
    site.delete(conf)
    os.unlink(path)
    assert not list((LEASES / "net").glob("10.*"))
