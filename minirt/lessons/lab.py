"""The lab: a machine for one lesson, where nothing is lost that the learner breaks.

    terminal ── minirt lesson ─────────────── keeper: waits for the end, however it comes, and removes
                   │  a command line           ▲  its exit code                what was made outside
                   ▼                           │
    unshare ─ bash: network, mount and process namespaces of its own, empty /run, /etc/cni, /var/lib/cni, …;
              other files, but for those below /tmp, can only be read

It has `lo` and nothing else, so a lesson shows the same everywhere, offline too, and the host's own networks and
firewall are never touched. bash is its process 1: when it ends, the kernel ends whatever still runs, and takes the
namespaces with all that is in them. It ends with the teacher, however the teacher ends (PR_SET_PDEATHSIG). Its streams
are the terminal's own, so programs behave as they always do.

Source: unshare(1), setpriv(1), pid_namespaces(7), mount_namespaces(7), cgroups(7).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable

from minirt import cgroup
from minirt.errors import MinirtError

FOLDER = "/run/lab"
_EMPTY = ("/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/minirt", "/var/lib/containers")  # at first; and /run
_SHOWN_LINES = 8

# /sys shows the network namespace that it was mounted in. ip-netns(8) keeps its names in /run. bash names the file that
# a function is from before what it has to say of the learner's line.
_FURNISH = f"""
set -e
mount --bind /tmp /tmp
while read -r _ folder _; do
    case $folder in
        /proc|/proc/*|/sys|/sys/*|/dev|/dev/*|/run|/run/*|/tmp|/tmp/*) ;;
        *) mount -o remount,bind,ro "$(printf %b "$folder")" || true ;;
    esac
done </proc/self/mounts
mount -t tmpfs -o mode=755 lab /run
for folder in {" ".join(_EMPTY)}; do
    if ! test -d "$folder"; then  # something to mount upon, in a layer of the lab's own over the folder above
        above=${{folder%/*}} layer=/run${{folder%/*}}
        mkdir -p "$layer/upper" "$layer/work"
        mount -t overlay -o "lowerdir=$above,upperdir=$layer/upper,workdir=$layer/work" lab "$above"
        mkdir "$folder"
        mount -o remount,bind,ro "$above"
    fi
    mount -t tmpfs -o mode=755 lab "$folder"
done
mount -t tmpfs -o mode=755 lab /run
mkdir -p {FOLDER} /run/groups /etc/cni/net.d
mount --rbind {cgroup.MOUNT} /run/groups
mount -t sysfs sysfs /sys
mount --move /run/groups {cgroup.MOUNT}
rmdir /run/groups
for group in $lab_groups; do
    mkdir "$group"
    mount --bind "$group" "${{group%/*}}"
done
ip link set lo up
cd {FOLDER}
echo 'lab_turn() {{ eval "$lab_line"; }}' >lab
PATH= . lab
rm lab
set +e
command_not_found_handle() {{ echo "$1: command not found" >&2; return 127; }}
trap 'test -z "$lab_busy" || return 130' INT  # ctrl-C ends the whole line, loops too
lab_busy=
echo 0 >&"$lab_codes"
while IFS= read -r -d '' lab_line <&"$lab_orders"; do
    lab_busy=yes
    eval lab_turn "$lab_orders<&-" "$lab_codes>&-"
    echo "$?" >&"$lab_codes"
    lab_busy=
done
"""

# The kernel lets go of a group a little after its last process has ended.
_KEEP = """
read -r _
for group in $1; do
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        test -d "$group" || break
        find "$group" -depth -type d -exec rmdir {} + && break
        sleep 0.1
    done
done
"""


class Lab:
    """Entered by `with`. Raises MinirtError when the machine cannot be had, or was lost (someone typed `exit`)."""

    def __enter__(self) -> Lab:
        groups = " ".join(f"{root}/minirt-lab-{os.getpid()}" for root in _hierarchies())
        self._keeper = subprocess.Popen(  # noqa: S603
            ["sh", "-c", _KEEP, "keeper", groups],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # it outlives the terminal
        )
        orders, self._orders = os.pipe()
        self._codes, codes = os.pipe()
        path = f"{os.path.dirname(os.path.abspath(sys.argv[0]))}:{os.environ.get('PATH', os.defpath)}"
        words = ("--net", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")
        script = f"lab_orders={orders} lab_codes={codes} lab_groups='{groups}'\n{_FURNISH}"
        try:
            self._bash = subprocess.Popen(  # noqa: S603
                ["setpriv", "--pdeathsig", "KILL", "unshare", *words, "bash", "-c", script],  # noqa: S607
                stdin=None if os.isatty(0) else subprocess.DEVNULL,
                pass_fds=(orders, codes),
                env=_environment() | {"PATH": path},
            )
        except FileNotFoundError as error:
            raise MinirtError("'setpriv' is not installed", "it is in the package util-linux") from error
        finally:
            os.close(orders)
            os.close(codes)
        try:
            self._code()
        except MinirtError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._orders, self._codes):
            os.close(end)
        self._bash.wait()
        self._keeper.communicate()

    def renew(self, lines: Iterable[str]) -> None:
        """Be another machine, on which these command lines have been run, silently."""
        before = signal.signal(signal.SIGINT, lambda *_: None)  # one that is ignored would be so in the lab, for good
        try:
            self.__exit__()
            self.__enter__()
            for line in lines:
                self.run(f"{{ {line}\n}} </dev/null >/dev/null 2>&1")
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def pid(self) -> int:
        """Its process 1, as the host counts: who enters its namespaces is in the lab."""
        with open(f"/proc/{self._bash.pid}/task/{self._bash.pid}/children", encoding="ascii") as file:
            return int(file.read().split()[0])

    def run(self, line: str) -> int:
        """Have bash run a command line, on the terminal; its exit code. What it sets stays set."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for what the learner started
        try:
            os.write(self._orders, os.fsencode(line) + b"\0")
            return self._code()
        except BrokenPipeError:
            raise MinirtError("the lab is gone", "its shell has ended; begin the lesson again") from None
        finally:
            signal.signal(signal.SIGINT, before)
            _take_terminal()

    def holds(self, question: str) -> bool:
        """Whether a command line succeeds, silently and without changing the shell."""
        return self.run(f"( {question}\n) </dev/null >/dev/null 2>&1") == 0

    def show(self, question: str, columns: int) -> None:
        """Have the beginning of a command line's answer printed, set off."""
        answer = f"( {question}\n) </dev/null 2>&1 | {{ grep -a . || echo '(nothing)'; }}"
        self.run(f"{answer} | head -n {_SHOWN_LINES} | expand | cut -c -{columns - 4} | sed 's/^/    /'")

    def _code(self) -> int:
        text = b""
        while not text.endswith(b"\n"):
            if not (more := os.read(self._codes, 16)):
                raise MinirtError("the lab is gone", "its shell has ended; begin the lesson again")
            text += more
        return int(text)


def _hierarchies() -> list[str]:
    """The roots where minirt makes its control groups: the lab has each from a group of its own."""
    roots = [cgroup.MOUNT, *(f"{cgroup.MOUNT}/{name}" for name in cgroup.V1_HIERARCHIES)]
    return [root for root in roots if os.path.exists(f"{root}/cgroup.procs")][:1]


def _take_terminal() -> None:
    """A shell with job control, in there, gives the terminal back to nobody: who owned it is out of its sight."""
    if not os.isatty(0) or os.tcgetpgrp(0) == os.getpgrp():
        return
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # what else stops who takes a terminal
    try:
        os.tcsetpgrp(0, os.getpgrp())
    finally:
        signal.signal(signal.SIGTTOU, before)


def _environment() -> dict[str, str]:
    """The learner's own, less what would have plugins or networks looked for elsewhere."""
    strange = ("CNI_", "NETCONF", "CAP_ARGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}
