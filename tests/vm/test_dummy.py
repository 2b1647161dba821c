"""The dummy plugin as a program: an address to listen on."""

from __future__ import annotations

import pytest
from support.leftovers import FOLDERS
from support.single import Wired, site
from support.site import IPV4, IPV6

__all__ = ["site"]

pytestmark = pytest.mark.leaves(*FOLDERS)


def test_a_program_listens_on_the_address_and_nobody_else_has_it(site: Wired) -> None:
    site.neighbour()
    site.box()
    site.machine.run("ip", "-n", "web", "link", "set", "lo", "up")
    conf = site.conf_of("dummy", IPV4, IPV6, runtimeConfig={"mac": "02:42:00:00:00:01"})
    (end,) = site.add(conf)["interfaces"]
    assert end["mac"] == site.link("eth0", "web")["address"] == "02:42:00:00:00:01"
    site.serve("web", "10.1.0.2")
    assert site.reaches("web", "10.1.0.2", 8080) == "10.1.0.2"
    assert site.reaches("web", "fd00:1::2") == "refused"
    assert not site.pings("lan", "10.1.0.2")
    site.delete(conf)
