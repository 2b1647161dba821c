"""The records of containers: `<root>/containers/<id>/record.json`, and `<root>/names/<name>` -> id.

A record is written whole or not at all, so it survives the death of any minirt process. It carries the boot id: after
a reboot, what it says of processes and namespaces is history. A name is claimed by making a symlink, which the kernel
lets only one process do.
"""

from __future__ import annotations

import os
import time

from cni_plugins.spec.record import record, replace
from minirt import files
from minirt.errors import Conflict, Damaged, NotFound, UsageError
from minirt.spec import HOST, ContainerSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

ROOT = "/var/lib/minirt"
STORIES = "/run/minirt/stories"  # a folder that is there while somebody looks on: what is done is told there, too
CREATED, RUNNING, EXITED = "created", "running", "exited"
SHORT = 12  # characters of an id that people are shown
_ID_LENGTH = 64
_NOTHING: dict[str, Any] = {}
_ASIDE = "."  # begins the name of a container's folder while it is being made
_GUESTS = "guests"  # the file that says so is empty
_TRACE = "trace"  # holds the path of a file
_STALE = 600.0  # seconds
_HEX = frozenset("0123456789abcdef")


@record
class Attached:
    """One attachment: its network's name, its interface, and all that DEL needs if nobody else remembers it.

    `source` and `config` are where the list came from and its text, `wishes` the capability args; `result` is what ADD
    answered (1.1.0 shape, as JSON), empty until it has.
    """

    network: str
    ifname: str
    source: str
    config: str
    wishes: dict[str, Any]
    result: dict[str, Any] = _NOTHING


@record
class Record:
    """What is known of a container. Times are seconds since the epoch, 0 for never; `pid` is 0 unless it runs.

    `attached` lists what still has to be deleted: it is empty once DEL has succeeded for all.
    """

    id: str
    spec: ContainerSpec
    status: str = CREATED
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    pid: int = 0
    pid_start: int = 0
    boot_id: str = ""
    netns: str = ""
    exit_code: int = 0
    error: str = ""
    attached: tuple[Attached, ...] = ()

    @property
    def short(self) -> str:
        return self.id[:SHORT]

    @property
    def name(self) -> str:
        return self.spec.name or self.short

    @property
    def hostname(self) -> str:
        spec = self.spec
        return spec.hostname or (os.uname().nodename if spec.network_mode == HOST else self.short)

    def to_json(self) -> dict[str, Any]:
        return self.__dict__ | {
            "spec": self.spec.to_json(),
            "attached": [item.__dict__ for item in self.attached],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Record:
        return cls(
            **document
            | {
                "spec": ContainerSpec.from_json(document["spec"]),
                "attached": tuple(Attached(**item) for item in document["attached"]),
            }
        )


def boot_id() -> str:
    return files.read("/proc/sys/kernel/random/boot_id").decode().strip()


def start_time(pid: int) -> int:
    """When `pid` started, in clock ticks after boot (proc(5), stat field 22); 0 when it is gone or a zombie.

    With the pid it names a process for good: pids are used again.
    """
    try:
        stat = files.read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = stat[stat.rindex(b")") + 2 :].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def open_first(record: Record) -> int:
    """A descriptor (pidfd_open(2)) for the container's first process, which names it for good; -1 when it is gone.

    Opened before it is looked at: what has the pid then is what the descriptor means.
    """
    if not record.pid or not record.pid_start or record.boot_id != boot_id():
        return -1
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return -1
    if start_time(record.pid) == record.pid_start:
        return pidfd
    os.close(pidfd)
    return -1


class Store:
    """All containers of this host. Paths of a container are `path(id, name-of-file)`."""

    def __init__(self, root: str = ROOT) -> None:
        self.containers = f"{root}/containers"
        self.names = f"{root}/names"

    def path(self, container_id: str, name: str = "") -> str:
        return os.path.join(self.containers, container_id, name)

    def create(self, spec: ContainerSpec) -> tuple[Record, files.Lock]:
        """Claim a new id, and the name if there is one; the container's lock is held. Raises Conflict."""
        os.makedirs(self.containers, mode=0o700, exist_ok=True)
        os.makedirs(self.names, mode=0o700, exist_ok=True)
        record = Record(os.urandom(_ID_LENGTH // 2).hex(), spec, created=time.time())
        lock = self._make_folder(record)
        if spec.name:
            try:
                self._claim(spec.name, record.id)
            except BaseException:
                _delete(self.path(record.id))
                raise
        return record, lock

    def _make_folder(self, record: Record) -> files.Lock:
        """The container's folder with its record, made aside and renamed: nobody meets one without the other."""
        aside = f"{self.containers}/{_ASIDE}{record.id}"
        os.mkdir(aside, 0o700)
        try:
            files.write_json(f"{aside}/record.json", record.to_json())
            lock = files.Lock(f"{aside}/lock")
            lock.make()
            lock.take()
            os.rename(aside, self.path(record.id))
        except BaseException:
            _delete(aside)
            raise
        return lock

    def lock(self, record: Record) -> files.Lock:
        """The container's lock: held by its supervisor while it lives, and by whoever changes it when it does not."""
        return files.Lock(self.path(record.id, "lock"))

    def note_guests(self, record: Record) -> None:
        """Somebody else is about to attach networks to it: what they are, only the cache of CNI will know."""
        files.write(self.path(record.id, _GUESTS), b"")

    def has_guests(self, record: Record) -> bool:
        """Whether whoever takes it down must ask for attachments that its record does not list."""
        return os.path.exists(self.path(record.id, _GUESTS))

    def note_trace(self, record: Record, path: str) -> None:
        """Whoever takes it down is asked to record that in the trace at `path`."""
        files.missing_ok(files.write, self.path(record.id, _TRACE), os.fsencode(path))

    def take_trace(self, record: Record) -> str:
        """The trace to record in, once; empty when nobody has asked for it."""
        path = self.path(record.id, _TRACE)
        if not os.path.exists(path):
            return ""
        text = os.fsdecode(files.read(path))
        files.missing_ok(os.unlink, path)
        return text

    def _claim(self, name: str, container_id: str) -> None:
        link = f"{self.names}/{name}"
        try:
            os.symlink(container_id, link)
        except FileExistsError:
            holder = os.readlink(link)
            if os.path.exists(self.path(holder)):
                raise Conflict(
                    f"the name {name!r} is taken by container {holder[:SHORT]}",
                    f"remove it with 'minirt rm {name}', or choose another --name",
                ) from None
            files.missing_ok(os.unlink, link)  # its holder's files were removed by hand
            self._claim(name, container_id)

    def save(self, record: Record) -> Record:
        files.write_json(self.path(record.id, "record.json"), record.to_json())
        return record

    def change(self, record: Record, **changes: Any) -> Record:
        """Save `record` with some fields changed; returns the new one."""
        return self.save(replace(record, **changes))

    def load(self, container_id: str) -> Record:
        """Raises NotFound, Damaged."""
        path = self.path(container_id, "record.json")
        try:
            return Record.from_json(files.read_json(path))
        except FileNotFoundError:
            if os.path.isdir(self.path(container_id)):
                raise _damaged(container_id, f"{path} is missing") from None
            raise NotFound(f"no container {container_id!r}", "'minirt ps -a' lists them") from None
        except NotADirectoryError:
            raise NotFound(f"no container {container_id!r}: a file stands in its place", f"remove {path}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(container_id, f"{path}: {error}") from None

    def salvage(self, container_id: str) -> Record:
        """A record in place of one that is lost: enough to take down what can be found without it."""
        names = os.listdir(self.names)
        name = next((name for name in names if os.readlink(f"{self.names}/{name}") == container_id), "")
        return Record(container_id, ContainerSpec("", name=name), EXITED)

    def all(self, damaged: Callable[[Damaged], None]) -> Iterator[Record]:
        """Every container, oldest first. One that is removed meanwhile is left out; one that cannot be read is told."""
        records = []
        for container_id in self.ids():
            try:
                records.append(self.load(container_id))
            except NotFound:
                continue
            except Damaged as error:
                damaged(error)
        yield from sorted(records, key=lambda record: record.created)

    def ids(self) -> list[str]:
        """Of all containers; folders that a killed creation has left aside are swept on the way."""
        try:
            found = os.listdir(self.containers)
        except FileNotFoundError:
            return []
        for name in found:
            if name.startswith(_ASIDE):
                _sweep(f"{self.containers}/{name}")
        return [name for name in found if not name.startswith(_ASIDE)]

    def find(self, reference: str) -> Record:
        """The container that a person means by a name, an id, or a unique prefix of an id. Raises NotFound."""
        if not reference or "/" in reference or reference in (".", ".."):
            raise UsageError(f"invalid container name {reference!r}")
        try:
            return self.load(os.readlink(f"{self.names}/{reference}"))
        except OSError:
            pass  # no such name: it may be an id
        if not _HEX.issuperset(reference):
            return self._nameless(reference)
        matches = [container_id for container_id in self.ids() if container_id.startswith(reference)]
        if len(matches) > 1:
            raise UsageError(
                f"{reference!r} is the beginning of {len(matches)} container ids",
                f"one of {', '.join(sorted(match[:SHORT] for match in matches))}",
            )
        return self.load(matches[0] if matches else reference)

    def _nameless(self, name: str) -> Record:
        """The container that was called `name`, when a removal was interrupted behind giving the name back."""
        for found in self.all(lambda _damaged: None):
            if found.spec.name == name:
                return found
        raise NotFound(f"no container {name!r}", "'minirt ps -a' lists them")

    def remove(self, record: Record) -> None:
        """Forget the container: the name first, so that nobody finds a half-removed one."""
        if record.spec.name:
            files.missing_ok(os.unlink, f"{self.names}/{record.spec.name}")
        # Aside first: what vanishes at once cannot be met half-removed, nor come to life again under somebody's lock.
        aside = f"{self.containers}/{_ASIDE}{record.id}"
        os.rename(self.path(record.id), aside)
        _delete(aside)


def _damaged(container_id: str, problem: str) -> Damaged:
    return Damaged(
        f"container {container_id[:SHORT]}: its record is damaged: {problem}",
        f"'minirt rm --force {container_id[:SHORT]}' takes down what can be found of it",
        container_id,
    )


def _sweep(aside: str) -> None:
    """Delete what a creation that was killed left; a living one takes no time at all."""
    try:
        if time.time() - os.stat(aside).st_mtime > _STALE:
            _delete(aside)
    except FileNotFoundError:
        pass  # it was alive


def _delete(folder: str) -> None:
    for name in os.listdir(folder):
        files.missing_ok(os.unlink, os.path.join(folder, name))
    files.missing_ok(os.rmdir, folder)  # `ps` may be sweeping it
