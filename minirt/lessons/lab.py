"""The lab: a machine for one lesson, where nothing is lost that the learner breaks.

    terminal ── minirt lesson
                   │  a command line           ▲  its exit code
                   ▼                           │
    unshare ─ bash: network, mount and process namespaces of its own, empty /run, /etc/cni, /var/lib/cni, …

It has `lo` and nothing else, so a lesson shows the same everywhere, offline too, and the host's own networks and
firewall are never touched. bash is its process 1: when it ends, the kernel ends whatever still runs, and takes the
namespaces with all that is in them. Its streams are the terminal's own, so programs behave as they always do.

Source: unshare(1), pid_namespaces(7), mount_namespaces(7).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from minirt.errors import MinirtError

FOLDER = "/run/lab"
_EMPTY = ("/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/minirt", "/var/lib/containers")  # at first; and /run

# /sys shows the network namespace that it was mounted in. ip-netns(8) keeps its names in /run.
_FURNISH = f"""
set -e
mount -t tmpfs -o mode=755 lab /run
for folder in {" ".join(_EMPTY)}; do
    mount -t tmpfs -o mode=755 lab "$folder"
done
mkdir -p {FOLDER} /run/groups /etc/cni/net.d
mount --rbind /sys/fs/cgroup /run/groups
mount -t sysfs sysfs /sys
mount --move /run/groups /sys/fs/cgroup
rmdir /run/groups
ip link set lo up
cd {FOLDER}
set +e
lab_turn() {{ eval "$lab_line"; }}
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

# What would outlive the namespaces: the control groups of containers.
_TIDY = 'left=$(minirt ps --all --quiet); test -z "$left" || minirt rm --force $left'


class Lab:
    """Entered by `with`. Raises MinirtError when the machine cannot be had, or was lost (someone typed `exit`)."""

    def __enter__(self) -> Lab:
        self._made = [folder for folder in _EMPTY if not os.path.isdir(folder)]
        for folder in self._made:  # something to mount upon
            os.makedirs(folder)
        orders, self._orders = os.pipe()
        self._codes, codes = os.pipe()
        path = f"{os.path.dirname(os.path.abspath(sys.argv[0]))}:{os.environ.get('PATH', os.defpath)}"
        words = ("--net", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child")
        script = f"lab_orders={orders} lab_codes={codes}\n{_FURNISH}"
        try:
            self._bash = subprocess.Popen(  # noqa: S603
                ["unshare", *words, "bash", "-c", script],  # noqa: S607
                stdin=None if os.isatty(0) else subprocess.DEVNULL,
                pass_fds=(orders, codes),
                env=_environment() | {"PATH": path},
            )
        except FileNotFoundError as error:
            raise MinirtError("'unshare' is not installed", "it is in the package util-linux") from error
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
        try:
            self.holds(_TIDY)
        except (MinirtError, OSError):
            pass
        for end in (self._orders, self._codes):
            os.close(end)
        self._bash.wait()
        for folder in self._made:
            try:
                os.rmdir(folder)
            except OSError:
                pass  # somebody else's by now

    @property
    def pid(self) -> int:
        """Its process 1, as the host counts: who enters its namespaces is in the lab."""
        with open(f"/proc/{self._bash.pid}/task/{self._bash.pid}/children", encoding="ascii") as file:
            return int(file.read().split()[0])

    def run(self, line: str) -> int:
        """Have bash run a command line, on the terminal; its exit code. What it sets stays set."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for what the learner started
        try:
            os.write(self._orders, line.encode() + b"\0")
            return self._code()
        except BrokenPipeError:
            raise MinirtError("the lab is gone", "its shell has ended; begin the lesson again") from None
        finally:
            signal.signal(signal.SIGINT, before)

    def holds(self, question: str) -> bool:
        """Whether a command line succeeds, silently and without changing the shell."""
        return self.run(f"( {question}\n) </dev/null >/dev/null 2>&1") == 0

    def _code(self) -> int:
        text = b""
        while not text.endswith(b"\n"):
            if not (more := os.read(self._codes, 16)):
                raise MinirtError("the lab is gone", "its shell has ended; begin the lesson again")
            text += more
        return int(text)


def _environment() -> dict[str, str]:
    """The learner's own, less what would have plugins or networks looked for elsewhere."""
    strange = ("CNI_", "NETCONF", "CAP_ARGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}
