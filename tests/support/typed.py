"""What a person would have got by typing: the commands of an account, run by `sh` in a fresh network, and all that the
kernel then has to show (`kernelstate`), to be compared with what the plugins left. Left out of both is what
`kernelstate` names, and hardware addresses that were drawn by lot.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cni_plugins.sdk import launcher
from cni_plugins.spec.config import NetworkList, parse_list
from minirt.cni.call import STOPPED, TOLD, Answered, Calling
from minirt.cni.executor import Executor
from minirt.cni.inside import Stepping
from minirt.cni.operations import Cni
from minirt.cni.request import Attachment
from minirt.explain.account import COMMAND, UNDO, Account, Item
from support.machine import Machine

BOXES = ("box", "other")
_LOOK = ("/usr/bin/python3", "-IS", str(Path(__file__).with_name("kernelstate.py")))
_MAC = re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b")
_CALL = "CNI_COMMAND="  # what a step that is a call of a delegate begins with

FRESH = """
mount -t tmpfs none /run
mkdir -p /var/lib/cni
mount -t tmpfs none /var/lib/cni
ip link set lo up
ip netns add box
ip netns add other
"""
TYPE = """
said=$(sh -ec {command} 2>&1) || echo FAILED {command}: "$said" >&2
"""


def look(flows: bool = False) -> Any:
    """All that there is to see of this network, and of the namespaces in it."""
    done = subprocess.run([*_LOOK, _asked(flows)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _asked(flows: bool) -> str:
    return json.dumps({"boxes": BOXES, "flows": flows})


class Accounted:
    """Attachments to one list, and `told`, all the commands that their ADDs, DELs and GCs have told of, in order.

    `setup` is typed before, `there` has been typed on this machine already."""

    def __init__(
        self,
        machine: Machine,
        plugins: Sequence[dict[str, Any]],
        setup: Sequence[str] = (),
        there: Sequence[str] = (),
        **wishes: Any,
    ) -> None:
        folder = Path("/run/plugins")
        launcher.write(str(folder))
        for box in BOXES:
            machine.netns(box)
        for line in setup:
            machine.run("sh", "-ec", line)
        self._setup, self._wishes = (*there, *setup), wishes
        self._network = _network("net", plugins)
        self.told: list[str] = []
        self.steps = 0  # that were told of, each of one command or several; of those that undo others none
        self._refused = -1
        self._account = Account(self._hear)
        self._cni, self._asking = (
            Cni(Executor((str(folder),)), watch=self._watch, steps=kind) for kind in (TOLD, STOPPED)
        )

    def _watch(self, event: Calling | Answered | Stepping) -> None:
        if isinstance(event, Stepping) and not event.undo and not event.text.startswith(_CALL):
            self.steps += 1
            if self.steps == self._refused:
                raise KeyboardInterrupt
        self._account.event(event)

    def _hear(self, item: Item) -> None:
        if item.kind in (COMMAND, UNDO):
            self.told.append(item.text)

    def _attachment(self, box: str, **wishes: Any) -> Attachment:
        return Attachment(self._network, f"c-{box}", f"/run/netns/{box}", "eth0", (), self._wishes | wishes)

    def add_another(self, plugins: Sequence[dict[str, Any]]) -> None:
        """A second interface, of another network, for the first box."""
        self._cni.add(Attachment(_network("another", plugins), "c-box", "/run/netns/box", "eth1"))

    def add(self, box: str = "box", **wishes: Any) -> None:
        self._cni.add(self._attachment(box, **wishes))

    def delete(self, box: str = "box") -> None:
        self._cni.delete(self._attachment(box))

    def collect(self) -> None:
        """The plugins' GC, of what nobody knows any more."""
        shutil.rmtree("/var/lib/cni/results")
        self._cni.gc(self._network, ())

    def give_up(self, step: int) -> None:
        """An ADD of which somebody refuses the step of that number: the plugin takes back what it has done, and the
        plugins before it are called for DEL."""
        self._refused = self.steps + step
        with pytest.raises(KeyboardInterrupt):
            self._asking.add(self._attachment("box"))

    def differs(self) -> list[str]:
        """Where what is there now is not what typing has made."""
        flows = any("conntrack" in line for line in self._setup)
        words = [*self.told, *self._setup]
        return differences(masked(look(flows), words), masked(typed(self.told, self._setup, flows), words))


def _network(name: str, plugins: Sequence[dict[str, Any]]) -> NetworkList:
    return parse_list(json.dumps({"cniVersion": "1.1.0", "name": name, "plugins": plugins}), f"{name}.conflist")


def masked(found: Any, words: Iterable[str]) -> Any:
    """With one name for all hardware addresses that nobody has spoken of in `words`."""
    known = {mac.lower() for mac in _MAC.findall("\n".join(words))}
    text = _MAC.sub(lambda mac: mac[0] if mac[0].lower() in known else "random", json.dumps(found))
    return json.loads(text)


def typed(commands: Sequence[str], setup: Sequence[str] = (), flows: bool = False) -> Any:
    """Run `commands` by `sh`, one by one, in a fresh network with the namespaces of `BOXES`; what is there then."""
    lines = ["set -e", FRESH, *setup]
    lines += [TYPE.format(command=_quoted(command)) for command in commands]
    script = "\n".join([*lines, f"exec {' '.join(map(_quoted, (*_LOOK, _asked(flows))))}"])
    argv = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def differences(wanted: Any, found: Any, path: str = "") -> list[str]:
    """Where two looks are not the same, a line each."""
    if wanted == found:
        return []
    if isinstance(wanted, dict) and isinstance(found, dict):
        keys = sorted(wanted.keys() | found.keys())
        return [line for key in keys for line in differences(wanted.get(key), found.get(key), f"{path}/{key}")]
    if isinstance(wanted, list) and isinstance(found, list):
        missing = [item for item in wanted if item not in found]
        more = [item for item in found if item not in wanted]
        if len(missing) == len(more) == 1:
            return differences(missing[0], more[0], f"{path}[]")
        lines = [f"{path}: - {item}" for item in missing] + [f"{path}: + {item}" for item in more]
        return lines or [f"{path}: in another order: {wanted} typed {found}"]
    return [f"{path}: {wanted} typed {found}"]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
