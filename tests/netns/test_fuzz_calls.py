"""Drawn sequences of calls against the kernel: whatever happened, what is deleted or collected at the end is gone.

Bridge with host-local, on a machine of its own: ADD with configurations that are right or nearly so, ADD that is killed
on its way, CHECK, DEL, GC, namespaces that vanish, in any order. An ADD that fails changes nothing; CHECK never does.
The judges are `ip`, `nft` and the files.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from support.command import eventually
from support.leftovers import SHARED
from support.machine import Machine
from support.mutations import mutations
from support.plugins import Answer, Plugins
from support.properties import given
from support.site import Site

BOXES = ("a", "b")
CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "bridge",
    "bridge": "cni0",
    "isGateway": True,
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.1.0.0/28"}], [{"subnet": "fd00:1::/64"}]],
        "routes": [{"dst": "10.9.0.0/16"}],
    },
    "runtimeConfig": {"mac": "02:00:00:00:00:03"},
}
SPARE = ("name", "type", "bridge", "dataDir", "cniVersion", "mtu")  # other places would be used, or other plugins asked
ATTACHMENTS = [(box, ifname) for box in BOXES for ifname in ("eth0", "net1")]
WHO = st.sampled_from(ATTACHMENTS)
# `mac` is left out: two interfaces with the same one would be refused by nobody, and prove nothing.
PLAIN = {key: value for key, value in CONF.items() if key != "runtimeConfig"}
CALLS = st.one_of(
    st.tuples(st.just("ADD"), WHO, st.just(PLAIN) | mutations(CONF, ("vlan", "hairpinMode", "ipam"), SPARE)),
    st.tuples(st.just("KILL"), WHO, st.integers(0, 40)),
    st.tuples(st.just("CHECK"), WHO, st.booleans()),
    st.tuples(st.just("DEL"), WHO, st.booleans()),
    st.tuples(st.just("GC"), st.sets(WHO), st.none()),
    st.tuples(st.just("LOSE"), st.sampled_from(BOXES), st.none()),
)


class Play:
    """One drawn sequence, on a machine of its own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.plugins = site.plugins
        self.results: dict[tuple[str, str], dict[str, Any]] = {}
        for box in BOXES:
            site.box(box)

    def call(self, command: str, who: tuple[str, str], conf: dict[str, Any], netns: bool = True) -> Answer:
        box, ifname = who
        path = f"/run/netns/{box}" if netns else ""
        answer = self.plugins.call(command, conf, path, container=box, ifname=ifname)
        assert "Traceback" not in answer.stderr, answer
        if answer.exit:
            assert answer.error["code"] and answer.error["msg"], answer
            assert not any(word in answer.error["msg"] for word in ("Error:", "Exception")), answer
        return answer

    def play(self, kind: str, subject: Any, more: Any) -> None:
        getattr(self, kind.lower())(subject, more)

    def add(self, who: tuple[str, str], conf: dict[str, Any]) -> None:
        before = self.state()
        answer = self.call("ADD", who, conf)
        if answer.exit:
            assert self.state() == before, answer
        else:
            self.results[who] = answer.result

    def kill(self, who: tuple[str, str], milliseconds: int) -> None:
        """An ADD that is killed on its way. A runtime has to DEL then, before anything else."""
        box, ifname = who
        if who in self.results:
            return
        process = self.plugins.start("ADD", PLAIN, f"/run/netns/{box}", container=box, ifname=ifname)
        time.sleep(milliseconds / 1000)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.delete(who, True)

    def check(self, who: tuple[str, str], known: bool) -> None:
        before = self.state()
        conf = PLAIN | ({"prevResult": self.results[who]} if known and who in self.results else {})
        self.call("CHECK", who, conf)
        assert self.state() == before

    def delete(self, who: tuple[str, str], netns: bool) -> None:
        answer = self.call("DEL", who, PLAIN, netns)
        assert (answer.exit, answer.document) == (0, None), answer
        self.results.pop(who, None)

    del_ = delete

    def gc(self, alive: set[tuple[str, str]], _: None) -> None:
        valid = [{"containerID": box, "ifname": ifname} for box, ifname in sorted(alive)]
        answer = self.call("GC", ATTACHMENTS[0], PLAIN | {"cni.dev/valid-attachments": valid})
        assert answer.exit == 0, answer
        self.results = {who: result for who, result in self.results.items() if who in alive}

    def lose(self, box: str, _: None) -> None:
        """A namespace goes, and the kernel takes what was in it away when it comes to it."""
        if os.path.exists(f"/run/netns/{box}"):
            self.site.machine.run("ip", "netns", "del", box)
            alive = sum(os.path.exists(f"/run/netns/{name}") for name, _ifname in self.results)
            eventually(lambda: len(self.site.ports()) == alive)

    def state(self) -> tuple[Any, ...]:
        """What an attachment may have left anywhere."""
        machine = self.site.machine
        inside = {box: machine.links(box) for box in BOXES if os.path.exists(f"/run/netns/{box}")}
        records = sorted(str(path) for path in Path("/run/cni").rglob("*") if path.is_file())
        return self.site.leases(), self.site.ports(), machine.elements(), inside, records

    def nothing_is_left(self) -> None:
        leases, ports, elements, inside, records = self.state()
        assert (leases, ports, elements, records) == (set(), set(), [], [])
        assert all(links == {"lo"} for links in inside.values()), inside


@settings(max_examples=12)
@given(calls=st.lists(CALLS, min_size=3, max_size=10), collected=st.booleans())
def test_P9_P10_P18_whatever_was_called_in_whatever_order_nothing_is_left_of_it(
    calls: list[tuple[str, Any, Any]], collected: bool
) -> None:
    with TemporaryDirectory() as folder, Machine() as machine:
        machine.leaves(*SHARED)
        site = Site(machine, Plugins(machine, f"{folder}/bin"))
        play = Play(site)
        for kind, subject, more in calls:
            play.play("del_" if kind == "DEL" else kind, subject, more)
        if collected:
            play.gc(set(), None)
        for who in ATTACHMENTS if not collected else ():
            play.delete(who, netns=False)
        play.nothing_is_left()
        site.close()
        assert machine.leftovers() == []
