"""`--explain`, as a person at the terminal sees it. Of `--step` and of foreign plugins: test_explain_step.py,
test_explain_foreign.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

import pytest
from support import leftovers
from support.command import PROGRAM, Command, bridge

pytestmark = pytest.mark.leaves(*leftovers.SHARED, "link *", "address *", "nft *", "directory *", "file *")


def items(stderr: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def run(minirt: Command, *words: str) -> subprocess.CompletedProcess[str]:
    done = minirt("run", "--rm", "--quiet", *words)
    assert done.returncode == 0, done.stderr
    return done


def test_the_account_tells_who_did_what_in_its_order(minirt: Command) -> None:
    done = run(minirt, "--explain", "-p", "8080:80", "host", "echo", "hello")
    assert done.stdout == "hello\n"
    order = (
        "as eth0: /etc/cni/net.d holds no network lists",
        "$ ip netns add $ID",
        "runtime → bridge   ADD eth0 on network minirt",
        "bridge → host-local   ADD eth0 on network minirt",
        "host-local → bridge   address 10.143.0.2/20, gateway 10.143.0.1",
        "$ ip -n $ID addr add 10.143.0.2/20 dev eth0 brd +",
        "bridge → runtime   interface eth0",
        "runtime → portmap   ADD eth0 on network minirt",
        "nft 'create element inet cni_portmap any4",
        "process 1",
        "$ unshare --mount --uts --ipc --cgroup",
        "pivot_root",
        "runtime → portmap   DEL eth0 on network minirt",
        "runtime → bridge   DEL eth0 on network minirt",
        "$ ip netns delete $ID",
    )
    places = [done.stderr.find(words) for words in order]
    assert -1 not in places, (order[places.index(-1)], done.stderr)
    assert places == sorted(places), done.stderr


def test_lines_fit_in_100_columns_and_have_no_colours_in_a_pipe(minirt: Command) -> None:
    for form in ("short", "full"):
        stderr = run(minirt, f"--explain={form}", "host", "true").stderr
        assert "\x1b" not in stderr
        # What cannot be broken without being another word stays whole: a path, or what stands in quotes.
        long = [line.removesuffix("\\") for line in stderr.splitlines() if len(line) > 100]
        assert [line for line in long if len(re.findall(r"(?:[^' ]|'[^']*')+", line)) > 2] == []


def test_a_terminal_gets_colours_unless_it_wants_none(minirt: Command) -> None:
    line = f"{PROGRAM} run --rm -q --explain host true"
    argv = ["script", "-qec", line, "/dev/null"]
    plain = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    assert "\x1b[1;36mruntime" in minirt.machine.run(*argv, env=plain).stdout
    assert "\x1b" not in minirt.machine.run(*argv, env=plain | {"NO_COLOR": "1"}).stdout


def test_short_full_and_json_tell_of_the_same_commands(minirt: Command) -> None:
    run(minirt, "host", "true")  # bridge and table stay, and need not be made again
    told = items(run(minirt, "--explain=json", "host", "true").stderr)
    kinds = {item["kind"] for item in told}
    assert kinds == {"fact", "command", "call", "answer"}
    call = next(item for item in told if item["kind"] == "call")
    assert call["details"]["environment"]["CNI_COMMAND"] == "ADD"
    assert call["details"]["configuration"]["type"] == "bridge"
    answer = next(item for item in told if item["kind"] == "answer" and item["who"] == "bridge")
    assert answer["details"]["result"]["interfaces"][-1]["name"] == "eth0"
    full = run(minirt, "--explain=full", "host", "true").stderr
    assert "CNI_IFNAME=eth0" in full and '"type": "bridge"' in full and "table inet cni_masquerade" not in full
    assert full.count("$ ") == sum(item["kind"] == "command" for item in told) + 1  # and the ID


def test_an_add_that_fails_tells_what_it_takes_back(minirt: Command) -> None:
    minirt.network("broken", bridge("cni-x", "10.9.0.0/30"), {"type": "tuning", "sysctl": {"net.nonsense.x": "1"}})
    done = minirt("run", "--rm", "--explain", "--network", "broken", "host", "true")
    assert done.returncode == 125
    assert "tuning → runtime   error 100: " in done.stderr
    assert "runtime → bridge   DEL eth0 on network broken" in done.stderr


def test_what_a_plugin_undoes_itself_is_told_as_undone(minirt: Command) -> None:
    minirt.network("full", bridge("cni-x", "10.9.0.0/30"))
    first = minirt.ok("run", "-d", "--network", "full", "host", "sleep", "100")
    done = minirt("run", "--rm", "--explain", "--network", "full", "host", "true")
    assert done.returncode == 125
    assert "undo: ip link del veth" in done.stderr and "host-local → bridge   error 101: " in done.stderr
    minirt.ok("rm", "--force", first)


def test_the_other_verbs_tell_too(minirt: Command) -> None:
    """Also of what a process in the background does."""
    detached = minirt("run", "-d", "--quiet", "--name", "web", "--explain", "host", "sleep", "100")
    assert "runtime → bridge   ADD eth0" in detached.stderr and "process 1" in detached.stderr
    inside = minirt("exec", "--explain", "web", "true")
    assert "$ nsenter --target" in inside.stderr and "$ setpriv" in inside.stderr
    stopped = minirt("stop", "--time", "0", "--explain", "web")
    assert stopped.stdout == "web\n"
    for line in ("runtime → bridge   DEL eth0", "$ ip link del veth", "$ ip netns delete"):
        assert line in stopped.stderr, stopped.stderr
    again = minirt("start", "--explain", "web")
    assert "runtime → bridge   ADD eth0" in again.stderr
    removed = items(minirt("rm", "--force", "--explain=json", "web").stderr)
    assert [item["to"] for item in removed if item["kind"] == "call"] == ["portmap", "bridge", "host-local"]


@pytest.mark.parametrize("line", ["cni --explain add lab", "cni add --explain lab"])
def test_cni_tells_before_and_behind_its_verb(minirt: Command, line: str) -> None:
    minirt.network("lab", bridge("cni-lab", "10.50.0.0/24"))
    box = minirt.machine.netns("box")
    done = minirt(*line.split(), box)
    assert json.loads(done.stdout)["ips"]
    assert "$ ip link add cni-lab address" in done.stderr and "$ ip -n box addr add 10.50.0.2/24" in done.stderr
    gone = minirt("cni", "--explain", "del", "lab", box)
    assert "$ ip link del veth" in gone.stderr and gone.stdout == ""


def test_a_form_that_there_is_not_is_named(minirt: Command) -> None:
    assert "invalid --explain=long" in minirt.fails(125, "run", "--explain=long", "host", "true")


def test_a_plugin_that_has_nothing_to_do_says_so(minirt: Command) -> None:
    told = items(run(minirt, "--explain=json", "host", "true").stderr)
    idle = [(item["who"], item["text"]) for item in told if item["text"] == "nothing has to be changed"]
    assert idle == [("portmap", "nothing has to be changed")] * 2


def test_an_account_can_be_typed_into_shells_of_its_own(minirt: Command) -> None:
    """`unshare --fork` starts another shell: the id is known there, too."""
    stderr = run(minirt, "--explain", "host", "true").stderr
    (line,) = [line.strip() for line in stderr.splitlines() if "ID=" in line]
    assert re.fullmatch(r"\$ export ID=[0-9a-f]{64}", line)
