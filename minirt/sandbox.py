"""One container from nothing to a waiting workload, and back to nothing.

    runtime                          process 1                      plugins
      make the network namespace
      clone ─────────────────────────▶ mounts, root, terminal
      ADD, network by network ─────────────────────────────────────▶ bridge, host-local, portmap …
      hosts, resolv.conf ◀──────────── ready ──────────────────────── results
      go ────────────────────────────▶ exec

Process 1 prepares its root while the plugins work, and waits for the last word before it becomes the workload: when
that starts, its network is there. What is going to be done stands in the record before it is done, so whoever finds
the record of a dead minirt can take it down. `down` is the only way back, after a failure in the middle as at the end,
and bears that anything it looks for is gone.
"""

from __future__ import annotations

import os
import select
import time

from cni_plugins.spec import convert
from cni_plugins.spec.config import parse_list
from cni_plugins.spec.record import replace
from cni_plugins.spec.steps import Plan
from minirt import cgroup, files, init, namespaces, netfiles, networks
from minirt.cni.request import Attachment
from minirt.errors import Conflict, MinirtError, NotFound
from minirt.process import Process
from minirt.rootfs import Rootfs
from minirt.signals import signal
from minirt.spec import HOST, HOST_IMAGE, NONE, OF_CONTAINER, OF_PATH, Volume
from minirt.state import RUNNING, Attached, boot_id, open_first, start_time
from minirt.supervise import ENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cni_plugins.spec.result import Result
    from cni_plugins.spec.steps import Step
    from minirt.cgroup import NoCgroup
    from minirt.child import Child
    from minirt.cni.operations import Cni
    from minirt.explain.account import Account
    from minirt.state import Record, Store
    from minirt.streams import Streams

RESOLVERS = ("/etc/resolv.conf", netfiles.RESOLVED)  # the second is behind the first where systemd-resolved runs
_INSIDE = "1.1.0"  # the version in which results are kept


class Sandbox:
    """The kernel's side of one container. `record` is always what the state file says of it."""

    def __init__(self, store: Store, cni: Cni, record: Record, account: Account | None = None) -> None:
        self._store = store
        self._cni = cni
        self._account = account
        self.record = record

    def _do(self, *steps: Step) -> None:
        """Told, if anybody wants to know."""
        Plan(self._account.step if self._account is not None else None).do(*steps)

    def change(self, **changes: Any) -> None:
        """Write down what has changed."""
        self.record = self._store.change(self.record, **changes)

    # --- up ----------------------------------------------------------------------------------------------------------

    def up(self, streams: Streams, notice: Callable[[str], None]) -> Child:
        """Make everything, and start the workload. Raises MinirtError; the caller then calls `down`."""
        self._refuse_unknown_image()
        netns = self._namespace()
        selection = networks.select(self.record.spec, self.record.id, netns)
        for text in selection.notices:
            notice(text)
        if self._account is not None:
            self._account.begins(self.record, selection)
        planned = tuple(map(_planned, selection.attachments))
        self.change(netns=netns, attached=planned, boot_id=boot_id(), error="")
        if self._owns_namespace():
            self._do(*namespaces.network_steps(self.record.id))
        group = cgroup.of(self.record.id)
        self._do(*group.steps())
        self._write_netfiles(())
        child: Child | None = None
        # An interrupt between a child's birth and the name it gets here would leave it running with nobody to end it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            beside = self._account.beside("process 1", "unshare --pid --fork") if self._account is not None else None
            telling: dict[str, Any] = {} if beside is None else {"watch": beside.tell, "keep": (beside.fd,)}
            asked = self._init(group, streams.size)
            child = init.launch(asked, streams.stdin, streams.stdout, streams.stderr, **telling)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            streams.given()
            self._connect(selection.attachments)
            if beside is not None:
                beside.listen(child)
            child.wait_ready()
            self.change(status=RUNNING, pid=child.pid, pid_start=start_time(child.pid), started=time.time())
            if self._account is not None:
                self._account.starts(self.record)
            child.go()
        except BaseException:
            if child is not None:
                child.kill()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child

    def _refuse_unknown_image(self) -> None:
        """Before anything is made. Raises NotFound."""
        spec = self.record.spec
        if spec.rootfs or spec.image == HOST_IMAGE:
            return
        hint = (
            f"the one image that is built in is {HOST_IMAGE!r}, this machine's own files; "
            "with --rootfs, IMAGE is a directory"
        )
        if self._account is not None and spec.image in ("short", "full", "json"):
            hint = f"behind --explain it needs an equals sign: --explain={spec.image}"
        raise NotFound(f"no image {spec.image!r}", hint)

    def _init(self, group: NoCgroup, size: tuple[int, int]) -> init.Spec:
        """Process 1 as `init` needs to know it."""
        spec = self.record.spec
        etc = tuple(Volume(self._netfile(name), f"/etc/{name}") for name in netfiles.NAMES)
        return init.Spec(
            Process(spec.args, spec.env, spec.workdir, spec.user, spec.tty, size),
            Rootfs(os.path.abspath(spec.image) if spec.rootfs else "", spec.read_only, etc + spec.volumes),
            self.record.hostname,
            self.record.netns,
            group,
        )

    def _connect(self, attachments: Sequence[Attachment]) -> None:
        """ADD every network, and tell the container what came of it."""
        try:
            results = self._cni.add_all(attachments)
        except Exception as error:  # an interrupt may have ended the taking back too: `down` sees to it then
            if getattr(error, "__notes__", ()):  # something could not be taken back: once more, whatever fails
                try:
                    self._cni.delete_all(attachments, force=True)
                except MinirtError as again:
                    error.add_note(f"tried again: {again}")
            self.change(attached=())
            raise
        made = zip(self.record.attached, results, strict=True)
        # Not yet to the disk: `running` follows, and until then the plan is as good.
        self.record = replace(
            self.record,
            attached=tuple(replace(item, result=convert.encode(result, _INSIDE)) for item, result in made),
        )
        self._write_netfiles(results)
        if self._account is not None:
            self._account.connected(self.record)

    def _owns_namespace(self) -> bool:
        return self.record.spec.network_mode in ("", NONE)

    def _namespace(self) -> str:
        """The path of the network namespace; empty for the host's own. Raises NotFound, Conflict."""
        mode = self.record.spec.network_mode
        if mode == HOST:
            return ""
        if mode.startswith(OF_PATH):
            return os.path.abspath(mode.removeprefix(OF_PATH))
        if mode.startswith(OF_CONTAINER):
            return self._partner(mode).netns
        return namespaces.path_of(self.record.id)

    def _partner(self, mode: str) -> Record:
        partner = self._store.find(mode.removeprefix(OF_CONTAINER))
        if partner.status != RUNNING:
            raise Conflict(f"container {partner.name!r} is not running: its network cannot be joined")
        return partner

    # --- the files that say who it is --------------------------------------------------------------------------------

    def _netfile(self, name: str) -> str:
        """The host's path of a file that the container sees in /etc; one that joins another's network shares its."""
        mode = self.record.spec.network_mode
        owner = self._partner(mode) if mode.startswith(OF_CONTAINER) and name != "hostname" else self.record
        return self._store.path(owner.id, name)

    def _write_netfiles(self, results: Sequence[Result]) -> None:
        """Written in place: the container has these very files (inodes) bound into its /etc."""
        spec = self.record.spec
        texts = {"hostname": netfiles.hostname(self.record.hostname)}
        if not spec.network_mode.startswith(OF_CONTAINER):
            known = [files.read(path).decode(errors="replace") for path in RESOLVERS if os.path.exists(path)]
            # Only the host's own network reaches the name servers on the host's loopback.
            of_host = "".join(known[:1]) if spec.network_mode == HOST else netfiles.of_host(known)
            texts["hosts"] = netfiles.hosts(self.record.hostname, spec.name, results)
            texts["resolv.conf"] = netfiles.resolv_conf(spec.dns, results, of_host)
        for name, text in texts.items():
            with open(self._netfile(name), "w") as file:
                os.fchmod(file.fileno(), 0o644)  # whatever the umask says: any user of the container reads them
                file.write(text)

    # --- down --------------------------------------------------------------------------------------------------------

    def down(self, force: bool = False) -> None:
        """Take down whatever there is of it. Raises PluginError when a network could not be left: what is needed to
        try again is kept then. With `force` everything is tried, and what fails is told after that."""
        if self._account is not None:
            self._account.goes_down()
        self._kill()
        attachments = (*map(self._attachment, self.record.attached), *self._guests())
        failure = None
        try:
            if attachments:
                self._cni.delete_all(attachments, force)
        except MinirtError as error:
            if not force:
                raise
            failure = error
        if self._owns_namespace() and self.record.netns:
            self._do(namespaces.UnpinNetns(self.record.id))
        self._do(*cgroup.of(self.record.id).removal())
        self.record = replace(self.record, attached=(), netns="")
        if failure is not None:
            raise failure

    def _kill(self) -> None:
        """End process 1 if it lives, and with it all of its pid namespace."""
        pidfd = open_first(self.record)
        if pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select((pidfd,), (), ())
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def _guests(self) -> list[Attachment]:
        """Attachments that others made for it (`minirt cni add --container`)."""
        if not self._store.has_guests(self.record):
            return []
        ours = {(item.network, item.ifname) for item in self.record.attached}
        known = self._cni.recall_all(self.record.id)
        return [replace(item, netns=self._netns()) for item in known if (item.network.name, item.ifname) not in ours]

    def _netns(self) -> str:
        return self.record.netns if os.path.exists(self.record.netns) else ""

    def _attachment(self, item: Attached) -> Attachment:
        """What ADD was given, from the record; the plugins' namespace is left out when it is gone."""
        network = parse_list(item.config, item.source)
        return Attachment(network, self.record.id, self._netns(), item.ifname, (), item.wishes)


def _planned(attachment: Attachment) -> Attached:
    """An attachment before it is made: with all that DEL needs, should nobody come to write its result down."""
    network = attachment.network
    return Attached(network.name, attachment.ifname, network.source, network.text, dict(attachment.capability_args))
