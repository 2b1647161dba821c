"""Containers as people handle them: run, start, stop, kill, wait, remove, execute. The library behind the verbs.

    created ──start──▶ running ──end──▶ exited ──rm──▶ (gone)
                          ▲                │
                          └─────start──────┘

While a container lives, its supervisor holds the container's lock: the foreground `minirt run` itself, or the process
that a detached one left behind. A record that says "running" with nobody holding the lock tells that the supervisor
died, or the host was restarted: whoever comes by first takes the container down (`_settle`).
"""

from __future__ import annotations

import os
import select
import time

from cni_plugins.spec.record import replace
from minirt import cgroup, files, join, namespaces, streams
from minirt.errors import Conflict, Damaged, MinirtError, NotFound, because
from minirt.monitor import in_background
from minirt.process import Process
from minirt.sandbox import Sandbox
from minirt.shelf import Shelf
from minirt.signals import signal
from minirt.state import EXITED, RUNNING, boot_id, open_first
from minirt.streams import Streams
from minirt.supervise import deaf, forwarding, interrupting, until_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeVar

    from minirt.child import Child
    from minirt.cni.operations import Cni
    from minirt.explain.account import Account
    from minirt.explain.remote import Telling
    from minirt.files import Lock
    from minirt.monitor import Report
    from minirt.spec import ContainerSpec
    from minirt.state import Record, Store

    T = TypeVar("T")

_TELL = "explain."  # the sockets by which those who stop a container ask what is done then; behind it, their pid
LOST = 255  # the exit code of a workload whose end nobody saw
_SOON = 2.0  # seconds in which those who waited for a container's end have seen it
_LOOK_AGAIN = 0.05  # seconds between looks at a container that somebody is busy with


class Containers(Shelf):
    """All containers of this host, to look at and to work on. `notice` is told, in a sentence each, what a person may
    want to know.

    `supervisor` is the command line of the process that stays with a detached container, an absolute path first; it is
    given the words that `minirt.supervisor` reads. `account` is told what is done (`--explain`); in
    the file at `trace` calls of plugins are recorded, also by those who take containers down for us (`--trace`).
    """

    def __init__(
        self,
        store: Store,
        cni: Cni,
        notice: Callable[[str], None],
        supervisor: tuple[str, ...],
        account: Account | None = None,
        trace: str = "",
    ) -> None:
        super().__init__(store, notice, self._take_down)
        self._account = account
        self._trace = trace
        self._cni = cni
        self._supervisor = supervisor

    def _sandbox(self, record: Record) -> Sandbox:
        return Sandbox(self.store, self._cni, record, self._account)

    def _take_down(self, record: Record) -> Record:
        """What its dead supervisor left. Raises NotFound when nothing of it stays."""
        with self._alone(record):
            record = self.store.load(record.id)
            if record.status != EXITED:
                restarted = record.boot_id not in ("", boot_id())  # empty: it had not come far
                reason = "the host was restarted" if restarted else "its supervisor died"
                self._notice(f"container {record.name}: {reason}; taking it down")
                self._finish(self._sandbox(record), LOST, reason)
                record = self.store.load(record.id)
            return record

    def _alone(self, record: Record) -> Lock:
        """Its lock, taken, for a block. Raises NotFound when it has just been removed."""
        lock = self.store.lock(record)
        try:
            lock.take()
        except FileNotFoundError:
            raise NotFound(f"no container {record.name!r}", "it has just been removed") from None
        return lock

    # --- from nothing to an end --------------------------------------------------------------------------------------

    def run(self, spec: ContainerSpec) -> int:
        """Run a new container in the foreground; its exit code. On failure nothing is left."""
        streams.check(spec)
        return self._create_and(spec, lambda record, _lock: self._live(record))

    def run_detached(self, spec: ContainerSpec) -> str:
        """Run a new container in the background; its id, once its workload has been started."""
        return self._create_and(spec, self._leave_behind)

    def _create_and(self, spec: ContainerSpec, live: Callable[[Record, Lock], T]) -> T:
        record, lock = self.store.create(spec)
        try:
            return live(record, lock)
        except BaseException:
            left = self.store.load(record.id)
            if left.status != EXITED:  # who should have brought it up was killed, and has taken nothing down
                with deaf():
                    self._finish(self._sandbox(left), LOST, keep=True)
                left = self.store.load(record.id)
            # What is still there could not be taken down: `rm` needs the record to try again.
            if not (left.attached or left.netns):
                self.store.remove(left)
            raise

    def start(self, reference: str) -> int:
        """Run a container that has stopped again, in the foreground; its exit code."""
        streams.check(self.find(reference).spec)
        return self._live(self._take_stopped(reference)[0])

    def start_detached(self, reference: str) -> None:
        """Run a container that has stopped again, in the background; one that runs is no error."""
        if self.find(reference).status != RUNNING:
            self._leave_behind(*self._take_stopped(reference))

    def _take_stopped(self, reference: str) -> tuple[Record, Lock]:
        """A container that does not run, and its lock. Raises Conflict when it runs, or cannot be disconnected."""
        record = self.find(reference)
        lock = self.store.lock(record)
        deadline = time.monotonic() + _SOON
        while record.status == RUNNING or not lock.take(wait=False):  # those who waited for its end hold it, too
            if record.status == RUNNING or time.monotonic() > deadline:
                raise Conflict(f"container {reference!r} is running")
            time.sleep(_LOOK_AGAIN)
        try:
            box = self._sandbox(self.store.load(record.id))
            box.down()  # nothing, unless a DEL failed at the end of its earlier life
            return box.record, lock
        except BaseException:
            lock.release()
            raise

    def _leave_behind(self, record: Record, lock: Lock) -> str:
        """Let a process of its own see the container through; returns its id when the workload has been started."""
        keep = (lock.fd, *(self._account.fds if self._account is not None else ()))
        try:
            in_background(lambda report: self._begin(record, report, lock.fd), self._notice, keep=keep)
        finally:
            lock.hand_over()
        return record.id

    def _begin(self, record: Record, report: Report, lock: int) -> NoReturn:
        """Start the workload, then become the small process that watches it: our children stay our children."""
        self._notice = self._cni.tell = report.notice  # we have no terminal any more
        box, flow = self._prepare(record, attached=False)
        try:
            with interrupting():
                child = box.up(flow, self._notice)
                report.ready()
                os.set_inheritable(lock, True)
                self._have_traced(record)
                words = [record.id, str(child.pid), *flow.hand_over(child.pidfd, child.terminal)]
                os.execv(self._supervisor[0], [*self._supervisor, *words])  # noqa: S606  # no shell is wanted
        except BaseException as error:
            self._fail(box, error)
            raise

    def _live(self, record: Record) -> int:
        """From namespace to exit code in the foreground, and back to nothing. The caller holds the container's lock."""
        box, flow = self._prepare(record, attached=True)
        try:
            with interrupting():
                code = _watch(box.up(flow, self._notice), flow)
        except BaseException as error:
            self._fail(box, error)
            raise
        with deaf():
            self._finish(box, code)
        return code

    def _prepare(self, record: Record, attached: bool) -> tuple[Sandbox, Streams]:
        flow = Streams(record.spec, self.store.path(record.id, "log"), attached)
        return self._sandbox(record), flow

    def _fail(self, box: Sandbox, error: BaseException) -> None:
        with deaf():
            self._finish(box, LOST, str(error), keep=True)

    def ended(self, container_id: str, code: int, account: Account | None = None) -> None:
        """For its supervisor: the workload has ended with `code`. `account` is told, unless somebody else has asked."""
        telling = self._asker(container_id)
        if telling is not None:
            account = telling.account
        self._account = account
        if account is not None:
            self._cni.listen(account.event, account.steps)
        with deaf():
            self._finish(self._sandbox(self.store.load(container_id)), code)
            if telling is not None:
                telling.done()

    def _asker(self, container_id: str) -> Telling | None:
        """The first of those who want to know of its end that is still there."""
        places = [name for name in os.listdir(self.store.path(container_id, "")) if name.startswith(_TELL)]
        if not places:
            return None
        from minirt.explain import remote

        answers = (remote.answer(self.store.path(container_id, name)) for name in places)
        return next((telling for telling in answers if telling is not None), None)

    def _finish(self, box: Sandbox, code: int, error: str = "", keep: bool = False) -> None:
        """Take down what is left, and write down how it ended; a --rm container is forgotten, unless `keep`."""
        self._listen(box.record)
        try:
            box.down()
        except (MinirtError, OSError) as problem:
            error = f"{error}; {problem}" if error else str(problem)
            keep = True
            self._notice(f"container {box.record.name} is not taken down whole: {problem}")
            self._notice(f"'minirt rm {box.record.name}' tries again, with --force it goes on whatever fails")
        try:
            self.store.lock(box.record).leave(str(code))
            if box.record.spec.remove and not keep:
                self.store.remove(box.record)
            else:
                box.change(status=EXITED, exit_code=code, finished=time.time(), pid=0, pid_start=0, error=error)
        except OSError as problem:  # a full disk: all that is lost is the note; whoever looks next writes it
            self._notice(f"container {box.record.name}: its end could not be written down: {problem}")

    def _have_traced(self, record: Record) -> None:
        """Somebody else is going to take it down: ask for that to be recorded too."""
        if self._trace:
            self.store.note_trace(record, self._trace)

    def _listen(self, record: Record) -> None:
        """Record what others have asked for, unless that is done already."""
        path = self.store.take_trace(record)
        if not path or path == self._trace:
            return
        from minirt.trace.recorder import Recorder

        try:
            self._cni.listen(Recorder(path, "minirt, at the end of its workload").event)
        except MinirtError as error:
            self._notice(f"container {record.name}: its end is not recorded: {error}")

    # --- while it lives ----------------------------------------------------------------------------------------------

    def execute(self, reference: str, asked: ContainerSpec) -> int:
        """Run another process in the container; its exit code. What `asked` leaves open is as the container's own."""
        record = self.find(reference)
        streams.check(asked)
        if self._account is not None:
            self._account.joins(record)
        pidfd = self._process(record)
        flow = Streams(asked, "", attached=True)
        process = Process(
            asked.args,
            record.spec.env + asked.env,
            asked.workdir or record.spec.workdir,
            asked.user or record.spec.user,
            asked.tty,
            flow.size,
        )
        try:
            child = join.execute(
                pidfd, process, cgroup.of(record.id), flow.stdin, flow.stdout, flow.stderr, self._account
            )
        finally:
            os.close(pidfd)
            flow.given()
        return _watch(child, flow)

    def kill(self, reference: str, number: int) -> None:
        """Send a signal to the first process. Raises Conflict when it does not run."""
        pidfd = self._process(self.find(reference))
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            raise Conflict(f"container {reference!r} has just ended") from None
        finally:
            os.close(pidfd)

    def stop(self, reference: str, number: int, grace: float) -> None:
        """Send `number`, and SIGKILL if it has not ended after `grace` seconds; returns once it is taken down.

        One that does not run is no error: that is what was asked for.
        """
        record = self.find(reference)
        while record.status != RUNNING and self.is_alive(record):  # it is being started, or taken down
            time.sleep(_LOOK_AGAIN)
            record = self._settle(self.store.load(record.id))
        if record.status != RUNNING:
            return
        try:
            pidfd = self._process(record)
        except Conflict:
            pass  # it has just ended
        else:
            self._have_traced(record)
            if self._account is not None:
                self._account.ends(record, number, grace)
                self._told(record, self._account, lambda: _end(pidfd, number, grace))
            else:
                _end(pidfd, number, grace)
        files.missing_ok(self.store.lock(record).wait_for_holder)
        try:
            self._settle(self.store.load(record.id))  # it may have been killed before it was done
        except NotFound:
            pass

    def _told(self, record: Record, account: Account, end: Callable[[], None]) -> None:
        """Have it taken down by the process that stays with it, which tells us of it."""
        from minirt.explain import remote

        lock = self.store.lock(record)
        try:
            request = remote.Request(self.store.path(record.id, f"{_TELL}{os.getpid()}"))
        except OSError as error:
            account.fact(f"its end cannot be told: {because(error)}")
            end()
        else:
            try:
                end()
                if not request.hear(account, lock.held):
                    account.fact("told elsewhere: by its 'minirt run', where that runs, or to somebody who asked first")
            finally:
                request.close()

    def _process(self, record: Record) -> int:
        """A descriptor for the first process (pidfd_open(2)), which names it for good. Raises Conflict."""
        pidfd = open_first(record) if record.status == RUNNING else -1
        if pidfd >= 0:
            return pidfd
        raise Conflict(f"container {record.name!r} is not running", f"'minirt start {record.name}' starts it again")

    def wait(self, reference: str) -> int:
        """Its exit code, once it has stopped."""
        record = self.find(reference)
        code = self.store.lock(record).wait_for_holder()
        try:
            return self._settle(self.store.load(record.id)).exit_code
        except NotFound:
            return int(code or LOST)  # a --rm container: its supervisor has left the code for us

    def remove(self, reference: str, force: bool = False) -> None:
        """Remove a stopped container, or with `force` any. Raises Conflict, PluginError."""
        try:
            record = self.find(reference)
        except Damaged as error:
            if not force:
                raise
            self._remove_damaged(error.name)
            return
        try:
            lock = self._take_from_its_supervisor(record, force)
            box = self._sandbox(self.store.load(record.id))
        except (NotFound, FileNotFoundError):
            return  # its supervisor removed it, or somebody who was asked to do the same
        try:
            box.down(force)
        finally:
            if not (box.record.attached or box.record.netns):  # else it is needed to try again
                self.store.remove(box.record)
            lock.release()

    def _remove_damaged(self, container_id: str) -> None:
        """Take down what can be found without the record: the namespace by its name, attachments in the cache."""
        record = replace(self.store.salvage(container_id), netns=namespaces.path_of(container_id))
        self.store.note_guests(record)
        lock = self.store.lock(record)
        lock.make()
        with lock:
            try:
                self._sandbox(record).down(force=True)
            finally:
                self.store.remove(record)

    def _take_from_its_supervisor(self, record: Record, force: bool) -> Lock:
        """Its lock, after ending it by `force`. Who is starting it, or taking it down, is waited for: without knowing
        which it is, for the one holds the lock as long as the workload lives. Raises Conflict, NotFound."""
        lock = self.store.lock(record)
        while not lock.take(wait=False):
            record = self.store.load(record.id)
            if record.status != RUNNING:
                time.sleep(_LOOK_AGAIN)
            elif force:
                self.stop(record.id, signal.SIGKILL, 0)
            else:
                hint = f"'minirt stop {record.name}' first, or 'minirt rm --force'"
                raise Conflict(f"container {record.name!r} is running", hint)
        return lock


def _watch(child: Child, flow: Streams) -> int:
    """Pass signals, keys and output on until the child has ended; its exit code."""
    with forwarding(child.pidfd), flow.terminal(child.terminal):
        return until_end(child.pid, child.pidfd, flow.pumps(child.terminal))


def _end(pidfd: int, number: int, grace: float) -> None:
    """Ask the process to end, and make it after `grace` seconds. Closes `pidfd`."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    try:
        for each, patience in ((number, grace), (signal.SIGKILL, float("inf"))):
            signal.pidfd_send_signal(pidfd, each)
            if poll.poll(None if patience == float("inf") else patience * 1000):
                return
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
