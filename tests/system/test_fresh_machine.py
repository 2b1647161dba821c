"""The README's promises, on machines where nothing is installed: one command sets up and shows the main job, another
runs the tests, a third makes a lab of a laptop."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.fresh import FreshMachine, base_system

# A network of the machine's own: links and rules are made there, once the packages are installed. With a neighbour, so
# that it has an address other than localhost.
ISOLATED = """
unshare --net sh -euc '
    ip link set lo up
    ip link add uplink type veth peer name neighbour
    ip addr add 192.0.2.7/24 dev uplink
    ip link set uplink up
    ip link set neighbour up
    {}
'
"""

# What one types on the left of the lab is seen on the right. `script` is the terminal; it hangs up when nobody types.
IN_THE_LAB = """
mkfifo /tmp/keys
exec 3<>/tmp/keys
TERM=xterm script --quiet --command 'stty cols 200 rows 60; lab' /dev/null <&3 >/dev/null &
shows() { # PANE TEXT
    for _ in $(seq 200); do
        sleep 0.1
        if tmux -L lab capture-pane -p -t ":.$1" 2>/dev/null | grep -F -e "$2"; then return; fi
    done
    echo "pane $1 does not show: $2"
    tmux -L lab capture-pane -p -t ":.$1"
    exit 1
}
shows 0 'A root shell in /minirt'
tmux -L lab send-keys -t :.0 'minirt run -d --name web -p 8080:80 host sleep 600' Enter
shows 1 'default via 10.143.0.1 dev eth0'
tmux -L lab send-keys -t :.0 'minirt rm --force web; exit' Enter
wait
"""


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with _folder() as folder:
        base_system(folder)
        yield folder


@pytest.fixture(scope="module")
def fresh(base: Path) -> Iterator[FreshMachine]:
    with _folder() as folder:
        yield FreshMachine(folder, base)


@pytest.fixture
def lab(base: Path) -> Iterator[FreshMachine]:
    """As a laptop shares it: its own .venv is there, and a link is a file with the link's text (Git for Windows)."""
    with _folder() as folder:
        machine = FreshMachine(folder, base)
        (folder / "minirt/.venv").mkdir()
        (folder / "minirt/.venv/pyvenv.cfg").write_text("home = C:\\Python312\n")
        for link in (path for path in (folder / "minirt").rglob("*") if path.is_symlink()):
            text = str(link.readlink())
            link.unlink()
            link.write_text(text)
        yield machine


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="minirt-fresh-", dir="/var/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_a_machine_with_nothing_but_its_base_system_runs_the_demonstration(fresh: FreshMachine) -> None:
    assert "absent" in fresh.run("command -v python3 git ip nft || echo absent")
    installed = fresh.run("scripts/setup curl")
    assert "setup: installing from the distribution: python3 python3-venv " in installed
    assert "setup: ready: /minirt/.venv/bin/minirt" in installed

    shown = fresh.run(ISOLATED.format("scripts/demo"))
    assert shown.count("Hello from a container of minirt") == 3, shown
    assert "http://192.0.2.7:8080/" in shown and shown.count(": none left") == 4, shown

    began = time.monotonic()
    assert "installing" not in fresh.run(ISOLATED.format("scripts/demo"))
    assert time.monotonic() - began < 20, "a second run takes seconds"


@pytest.mark.timeout(300)
def test_what_setup_cannot_have_is_one_sentence_with_the_reason(fresh: FreshMachine) -> None:
    said = fresh.run("scripts/setup no-such-package 2>&1 || echo exit $?").splitlines()
    assert said[-1] == "exit 1"
    assert said[-2].startswith("setup: error: installing no-such-package with apt-get failed: Unable to locate package")
    assert "/minirt/.setup.log" in said[-2]


@pytest.mark.timeout(900)
def test_the_second_command_sets_up_what_the_tests_need_and_runs_them(fresh: FreshMachine) -> None:
    shown = fresh.run("scripts/test -q tests/unit/test_flags.py tests/netns/test_loopback.py")
    assert "setup: installing from the distribution: " in shown
    assert re.search(r"^\d+ passed in ", shown, re.MULTILINE), shown


@pytest.mark.timeout(900)
def test_a_laptop_has_a_lab_with_one_command(lab: FreshMachine) -> None:
    """As Vagrant does it at every start: the script is copied to the machine, and run as root."""
    provision = "install -m 755 vagrant/provision /tmp/vagrant-shell && /tmp/vagrant-shell /minirt"
    shown = lab.run(f"{provision}\ncat /etc/motd")
    assert "setup: installing from the distribution: " in shown and "setup: ready: /minirt/.venv/bin/minirt" in shown
    assert "  lab  " in shown
    assert (lab.path / "minirt/.venv/pyvenv.cfg").read_text() == "home = C:\\Python312\n", "the laptop's is left alone"

    (lab.path / "root/in-the-lab").write_text(IN_THE_LAB)
    again = lab.run(f"{provision}\n{ISOLATED.format('sh -eu /root/in-the-lab')}")  # the mounts went, as with a restart
    assert "installing" not in again
    assert "default via 10.143.0.1 dev eth0" in again
