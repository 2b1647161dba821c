"""What an interface looks like and which sysctls it has: changed, and given back as they were.

What is changed was written down before, so that whoever comes next can take it back: in the reference plugin's file
and format (`<folder>/<container>_<ifname>.json`), so that either can undo what the other did. Beside its keys stand
`sysctl`, which the reference plugin does not give back, and `attachment`, which says whose the file is and where it
holds: a file that an earlier life of the container left behind must not be taken for this one's.
"""

from __future__ import annotations

import os

from cni_plugins.sdk.links import SetLink
from cni_plugins.sdk.main import do
from cni_plugins.sdk.netns import Namespace, sandbox_left
from cni_plugins.sdk.records import Owner, read_file, write_file
from cni_plugins.sdk.sysctl import SetSysctl
from cni_plugins.spec.config import View, decode
from cni_plugins.spec.errors import INTERNAL, CniError
from cni_plugins.spec.jsontext import dumps
from cni_plugins.spec.record import record
from cni_plugins.spec.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.sdk.rtnl import Link

_SUFFIX = ".json"
_KEYS = {"txqlen": "txQLen"}  # attributes that the reference plugin spells in another way


@record
class Looks:
    """Attributes of a link; None for one that is left alone."""

    mac: str | None = None
    promisc: bool | None = None
    mtu: int | None = None
    allmulti: bool | None = None
    txqlen: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if value is not None}

    def of(self, link: Link) -> Looks:
        """How `link` looks, as far as these would change it."""
        return Looks(**{name: getattr(link, name) for name in self.given})

    def setters(self, namespace: Namespace, link: str) -> list[SetLink]:
        """A step for each: the kernel does not take back the first when it refuses the second."""
        return [SetLink(namespace, link, **{name: value}) for name, value in self.given.items()]


@record
class Swap(Step):
    """A step whose undoing is another step."""

    step: Step
    back: Step

    def describe(self) -> str:
        return self.step.describe()

    def apply(self) -> None:
        self.step.apply()

    def opposite(self) -> Step | None:
        return self.back


# --- what is written down ---------------------------------------------------------------------------------------------


@record
class Place:
    """Which link in which namespace: the link's index, and the namespace's inode, which no other has while it lives."""

    netns: str
    inode: int
    link: int


@record
class Backup:
    """What an attachment's interface and sysctls were. `owner` and `place` are None in the reference plugin's files."""

    looks: Looks
    sysctls: tuple[tuple[str, str], ...] = ()
    network: str = ""
    owner: Owner | None = None
    place: Place | None = None

    def to_json(self) -> dict[str, Any]:
        found = {_KEYS.get(name, name): value for name, value in self.looks.given.items()}
        if self.sysctls:
            found["sysctl"] = dict(self.sysctls)
        if self.owner and self.place:
            whose = {"network": self.network, "containerID": self.owner.container_id, "ifname": self.owner.ifname}
            found["attachment"] = whose | self.place.__dict__
        return found

    def older(self, other: Backup) -> Backup:
        """What both were, `other` before this one: of a value that both have, the older is the original."""
        looks = Looks(**(self.looks.given | other.looks.given))
        sysctls = tuple((dict(self.sysctls) | dict(other.sysctls)).items())
        return Backup(looks, sysctls, self.network, self.owner, self.place)


def path_of(folder: str, owner: Owner) -> str:
    return os.path.join(folder, f"{owner.container_id}_{owner.ifname}{_SUFFIX}")


def load(path: str) -> Backup | None:
    """What was kept there; None where there is nothing, or nothing that makes sense. Raises OSError."""
    text = read_file(path)
    if text is None:
        return None
    try:
        return _from_json(View(decode(text, path)))
    except CniError:
        return None


def _from_json(view: View) -> Backup:
    has = view.has
    looks = Looks(
        view.string("mac") if has("mac") else None,
        view.boolean("promisc") if has("promisc") else None,
        view.integer("mtu") if has("mtu") else None,
        view.boolean("allmulti") if has("allmulti") else None,
        view.integer("txQLen") if has("txQLen") else None,
    )
    values = view.view("sysctl")
    sysctls = tuple((key, values.string(key)) for key in values.document)
    if not view.has("attachment"):
        return Backup(looks, sysctls)
    whose = view.view("attachment")
    owner = Owner(whose.string("containerID"), whose.string("ifname"))
    place = Place(whose.string("netns"), whose.integer("inode", high=2**64 - 1), whose.integer("link"))
    return Backup(looks, sysctls, whose.string("network"), owner, place)


@record
class Keep(Step):
    """Write `backup` down at `path`; `before` is what stood there."""

    path: str
    backup: Backup
    before: Backup | None = None

    def describe(self) -> str:
        return ""  # of the kernel's state nothing

    def apply(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        write_file(self.path, f"{dumps(self.backup.to_json())}\n".encode())

    def undo(self) -> None:
        if self.before is not None:
            write_file(self.path, f"{dumps(self.before.to_json())}\n".encode())
        else:
            forget(self.path)


def forget(path: str) -> None:
    """Remove the file; fine when there is none."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass


def backups(folder: str) -> Iterator[tuple[str, Backup]]:
    """Every file of `folder` that says whose it is, with its path: the cost grows with the host, so for GC alone."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        found = load(path) if name.endswith(_SUFFIX) and not name.startswith(".") else None
        if found is not None and found.owner is not None:
            yield path, found


# --- there, and back --------------------------------------------------------------------------------------------------


def merged(path: str, backup: Backup) -> tuple[Backup, Backup | None]:
    """What to write at `path`, and what to put there again when that fails. Raises CniError.

    A plugin may stand in a list twice: what the first of them found is the original, and stays.
    """
    before = load(path)
    if before is None or before.owner is None:
        return backup, None
    if before.owner != backup.owner:
        raise CniError(INTERNAL, f"{path} is what {before.owner} was before it was tuned", "give one another dataDir")
    same = (before.network, before.place) == (backup.network, backup.place)
    return (backup.older(before), before) if same else (backup, None)


def give_back(namespace: Namespace, ifname: str, backup: Backup) -> Iterator[OSError]:
    """Have everything be as it was, where it is still there; what the kernel refuses is told and no more."""
    if backup.place is not None and os.fstat(namespace.fd).st_ino != backup.place.inode:
        return  # another namespace has come to that path since
    link = namespace.link(ifname)
    ours = link is not None and (backup.place is None or backup.place.link in (0, link.index))
    steps: list[Step] = [*backup.looks.setters(namespace, ifname)] if ours else []
    for key, value in backup.sysctls:
        if ours or ifname not in key.split("/"):
            steps.append(SetSysctl(namespace, key, value, optional=True))
    for step in steps:
        try:
            do(step)
        except OSError as error:
            yield error


def release(path: str, backup: Backup, netns: str, ifname: str) -> list[OSError]:
    """Give back what `path` tells of, in the namespace if it still lives, and remove the file."""
    namespace = sandbox_left(netns)
    problems: list[OSError] = []
    if namespace is not None:
        with namespace:
            problems = list(give_back(namespace, ifname, backup))
    forget(path)
    return problems
